"""From posed, dressed bodies, paint and light to pictures: the renderer's last step, on the CPU or on CUDA.

    raster (sun's view and camera's) -> shadows on the ground -> colour, relief and light per pixel -> over background

A picture depends on its own row only: it has the same bytes in any batch. The kernels are in
:mod:`synth.shadow_kernels`, :mod:`synth.shading_kernels`, :mod:`synth.paint_kernels` (cloth) and
:mod:`synth.skin_kernels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.errors import PosesynError
from human.shading import SH_COSINE, SH_FACTORS, supersampled_intrinsics
from synth.colours import linear_to_srgb, srgb_to_linear
from synth.lighting import Lighting
from synth.outfit import Outfit
from synth.paint import Banks, Paint, anatomy
from synth.surface import BodySurface

#: Balls that stand for limbs when the ground's share of sky is counted: SMPL joints whose skin they are put into.
_BALLS = (0, 3, 9, 15, 1, 2, 4, 5, 7, 8, 10, 11, 18, 19, 22, 23)
_TONE_STEPS, _TONE_TOP = 1024, 4.0


class Dressed(Protocol):
    """A body with its garments' shells as one mesh (:class:`synth.dressed.DressedBody`)."""

    faces: Tensor  # (F,3) int32
    layer_F: Tensor  # (F,) int32, 0 body, 1 bottom, 2 top, 3 skirt, 4 hair; the body's faces come first
    fields_V6: Tensor  # (V,6) synth.surface.FIELDS
    uv_F32: Tensor  # (F,3,2) v down
    skin_N: Tensor  # (N,) which of the body's vertices the first N are
    body: BodyModel


@dataclass(frozen=True)
class Shaded:
    """Pictures and what they show.

    Attributes:
        image: (B,H,W,3) float32, display values 0..255.
        coverage: (B,H,W) float32, share of each pixel that the person covers.
        depth: (B,H,W) float32, metres to the nearest covered sample; 0 where there is none.
        layer: (B,H,W) int32, layer of the first covered sample; -1 where there is none.
    """

    image: Tensor
    coverage: Tensor
    depth: Tensor
    layer: Tensor


def shade_shot(
    dressed: Dressed,
    verts_BV3: Tensor,
    normals_BV3: Tensor,
    cut_BV: Tensor | None,
    intrinsics_B33: Tensor,
    outfit: Outfit,
    paint: Paint,
    lighting: Lighting,
    backgrounds_BHW3: Tensor,
    banks: Banks,
    size: int,
    supersample: int = 2,
    *,
    tone_curve: bool = True,
    sun_side: int | None = None,
    maps: bool = True,
) -> Shaded:
    """Draw B people over their backgrounds.

    Args:
        dressed: mesh and rest-pose fields, on the vertices' device, as are all other arguments.
        verts_BV3, normals_BV3: camera frame, metres; unit normals.
        cut_BV: the surface is drawn where this is 0 or more (:func:`human.raster.rasterise`); None draws all of it.
        intrinsics_B33: of the picture's pixels; square pixels or not, without skew.
        backgrounds_BHW3: uint8 sRGB, ``size`` by ``size``.
        size: side of the pictures, pixels.
        supersample: samples per pixel each way that decide coverage.
        tone_curve: False gives 255 x linear radiance instead of display values (backgrounds stay as they are).
        sun_side: side of the sun's shadow map, pixels; None suits ``size``.
        maps: False leaves depth and layer empty, (B,0,0).

    Raises:
        PosesynError: a shape does not fit.
    """
    batch, count = verts_BV3.shape[:2]
    device = verts_BV3.device
    if backgrounds_BHW3.shape != (batch, size, size, 3) or backgrounds_BHW3.dtype != torch.uint8:
        raise PosesynError(
            f"shade_shot: backgrounds are {tuple(backgrounds_BHW3.shape)} {backgrounds_BHW3.dtype}; "
            f"give ({batch}, {size}, {size}, 3) uint8"
        )
    rows = {
        "outfit": len(outfit.kind),
        "paint": len(paint),
        "lighting": len(lighting.sh),
        "cameras": len(intrinsics_B33),
    }
    for name, length in rows.items():
        if length != batch:
            raise PosesynError(f"shade_shot: {batch} bodies but {length} rows of {name}; give one each")
    if not 1 <= supersample <= 4:
        raise PosesynError(f"shade_shot: supersample is {supersample}; give 1, 2, 3 or 4")
    if normals_BV3.shape != verts_BV3.shape or count != len(dressed.fields_V6):
        raise PosesynError(
            f"shade_shot: vertices {tuple(verts_BV3.shape)}, normals {tuple(normals_BV3.shape)}; "
            f"this body has {len(dressed.fields_V6)} vertices"
        )
    from synth import shading_warp

    cut = torch.zeros(batch, count, device=device) if cut_BV is None else cut_BV
    cameras = supersampled_intrinsics(intrinsics_B33.detach().float(), supersample)
    factors = torch.tensor([a * y for a, y in zip(SH_COSINE, SH_FACTORS, strict=True)], device=device)
    return Shaded(
        *shading_warp.draw(
            shading_warp.mesh_of(dressed, _places(dressed)),
            _plain(verts_BV3),
            _plain(normals_BV3),
            _plain(cut),
            cameras,
            outfit,
            paint,
            (_plain(lighting.sh * factors[:, None]), _plain(lighting.sun), _plain(lighting.up)),
            tuple(_plain(getattr(lighting, k)) for k in ("occlusion", "gloss", "shadow", "softness")),
            backgrounds_BHW3.contiguous(),
            banks,
            (_decoding(device), _display(device, tone_curve)),
            size,
            supersample,
            sun_side or max(96, 3 * size // 4),
            maps,
        )
    )


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous()


@dataclass(frozen=True)
class Places:
    """What is known of a body at rest: feature places and the balls in its limbs."""

    anatomy: np.ndarray  # (16,)
    balls: np.ndarray  # (K,2) int32: a ball's centre is midway between two vertices
    radii: np.ndarray  # (K,) metres


_known: WeakKeyDictionary[Any, Places] = WeakKeyDictionary()


def _places(dressed: Dressed) -> Places:
    if dressed not in _known:
        surface = BodySurface(dressed.body)
        points = np.stack([surface.vertices.x, surface.vertices.y, surface.vertices.z], 1)
        drawn = dressed.skin_N.cpu().numpy()
        part = dressed.body.part.cpu().numpy()[drawn]
        balls = [_ball(points[drawn], np.flatnonzero(part == p)) for p in _BALLS]
        _known[dressed] = Places(
            anatomy(surface), np.array([b[:2] for b in balls], np.int32), np.array([b[2] for b in balls], np.float32)
        )
    return _known[dressed]


def _ball(points_V3: np.ndarray, part_N: np.ndarray) -> tuple[int, int, float]:
    """Two vertices of a part whose middle is nearest to the part's, and the radius of a ball as wide as the part."""
    own = points_V3[part_N]
    centre = own.mean(0)
    some = np.arange(0, len(own), -(-len(own) // 200))  # pairs of all vertices would be a million
    opposite = np.linalg.norm(2 * centre - own[some, None] - own[None, some], axis=-1)
    i, j = np.unravel_index(int(opposite.argmin()), opposite.shape)
    return int(part_N[some[i]]), int(part_N[some[j]]), float(1.3 * np.sqrt(own.var(0).mean()))


@cache
def _decoding(device: torch.device) -> Tensor:
    """(256,) sRGB value -> linear light."""
    return torch.from_numpy(srgb_to_linear(np.arange(256)).astype(np.float32)).to(device)


@cache
def _display(device: torch.device, curve: bool) -> Tensor:
    """(1024,) display value by the square root of radiance: straight, then a soft shoulder, as cameras have."""
    light = np.linspace(0, 1, _TONE_STEPS) ** 2 * _TONE_TOP
    rolled = np.where(light < 0.6, light, 0.6 + 0.4 * np.tanh((light - 0.6) / 0.4))
    values: Any = linear_to_srgb(rolled) if curve else 255 * light
    return torch.from_numpy(values.astype(np.float32)).to(device)
