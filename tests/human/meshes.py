"""Meshes, cameras and what to compare fragments with, for tests of rasterising and shading."""

from __future__ import annotations

import numpy as np
import torch

from human.raster import Fragments

SIZE = (40, 52)


def intrinsics(batch: int = 1, focal: float = 60.0, size: tuple[int, int] = SIZE) -> torch.Tensor:
    height, width = size
    k = torch.tensor([[focal, 0.7, (width - 1) / 2], [0.0, focal * 1.1, (height - 1) / 2 + 0.3], [0.0, 0.0, 1.0]])
    return k.expand(batch, 3, 3).clone()


def soup(seed: int, batch: int = 1, triangles: int = 40, extent: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Unconnected random triangles, partly off screen."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform([-1.2, -1.0, 1.5], [1.2, 1.0, 4.0], (batch, triangles, 1, 3))
    verts = centres + rng.normal(0, extent, (batch, triangles, 3, 3)) * [1, 1, 0.5]
    faces = torch.arange(3 * triangles).view(-1, 3)
    return torch.tensor(verts.reshape(batch, -1, 3), dtype=torch.float32), faces


def sphere(rings: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Closed unit-radius sphere whose faces are counter-clockwise seen from outside."""
    theta, phi = torch.meshgrid(
        torch.linspace(0, torch.pi, rings), torch.linspace(0, 2 * torch.pi, rings), indexing="ij"
    )
    verts = torch.stack([theta.sin() * phi.cos(), theta.cos(), theta.sin() * phi.sin()], -1).view(-1, 3)
    at = torch.arange(rings * rings).view(rings, rings)
    a, b, c, d = (x.reshape(-1) for x in (at[:-1, :-1], at[1:, :-1], at[:-1, 1:], at[1:, 1:]))
    return verts, torch.cat([torch.stack([a, c, b], -1), torch.stack([c, d, b], -1)])


def same(a: Fragments, b: Fragments) -> bool:
    return torch.equal(a.face, b.face) and torch.equal(a.bary, b.bary) and torch.equal(a.depth, b.depth)
