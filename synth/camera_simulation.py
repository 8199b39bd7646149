"""Cameras as Pose++ (HumanWild, arXiv 2403.11111, §3) simulates them.

A person of scale s covers about s of half the picture per metre: with the focal length f in halves of the picture, the
body is moved to ``[tx, ty, f / s]``. Scales, shifts and fields of view are drawn; the result is data for any engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from human.errors import PosesynError
from human.rng import generator
from synth.scene import SceneSpec


@dataclass(frozen=True)
class CameraSimulation:
    """What is drawn, uniformly.

    Attributes:
        scale: of the person; 1 is 2 m over the whole side.
        shift: tx and ty lie within ±shift / scale metres: the middle of the body within ±shift halves of the picture.
        field_of_view: degrees.
    """

    scale: tuple[float, float] = (0.45, 1.1)
    shift: float = 0.4
    field_of_view: tuple[float, float] = (25.0, 65.0)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise PosesynError(f"camera simulation: scale is {self.scale}; give 0 < low <= high")
        if not 0 < self.field_of_view[0] <= self.field_of_view[1] < 180:
            raise PosesynError(f"camera simulation: field_of_view is {self.field_of_view}; give 0 < low <= high < 180")
        if not 0 <= self.shift < math.inf:
            raise PosesynError(f"camera simulation: shift is {self.shift}; give 0 or more")


def simulate_cameras(
    seeds: Sequence[int],
    betas_B10: Tensor,
    body_pose_B23x3: Tensor,
    global_orient_B3: Tensor,
    size: int,
    config: CameraSimulation | None = None,
) -> SceneSpec:
    """One scene per person, a function of its seed and pose alone.

    Args:
        seeds: of the scenes.
        global_orient_B3: rotation vectors, camera frame.
        size: side of the pictures, pixels.
    """
    config = config or CameraSimulation()
    if not len(seeds) == len(betas_B10) == len(body_pose_B23x3) == len(global_orient_B3):
        raise PosesynError(
            f"simulate_cameras got {len(seeds)} seeds, {len(betas_B10)} shapes, {len(body_pose_B23x3)} poses and "
            f"{len(global_orient_B3)} orientations: give as many of each"
        )
    transl = torch.zeros(len(seeds), 3, dtype=torch.float64)
    intrinsics = torch.zeros(len(seeds), 3, 3, dtype=torch.float64)
    for row, seed in enumerate(seeds):
        rng = generator("camera simulation", int(seed))
        scale = rng.uniform(*config.scale)
        tx, ty = rng.uniform(-config.shift, config.shift, 2) / scale
        focal = 1 / math.tan(math.radians(rng.uniform(*config.field_of_view)) / 2)
        transl[row] = torch.tensor([tx, ty, focal / scale])
        intrinsics[row, 0, 0] = intrinsics[row, 1, 1] = focal * size / 2
    intrinsics[:, :2, 2] = (size - 1) / 2
    intrinsics[:, 2, 2] = 1
    return SceneSpec(
        betas_B10.float(),
        body_pose_B23x3.float(),
        global_orient_B3.float(),
        transl.float(),
        intrinsics.float(),
        torch.tensor([int(s) for s in seeds], dtype=torch.int64),
    )


def simulate_group(
    seeds: Sequence[int], people: Sequence[SceneSpec], size: int, config: CameraSimulation | None = None
) -> tuple[SceneSpec, ...]:
    """One camera for several people who interact: ``Job(scene=out[0], others=out[1:])``.

    Args:
        people: each B rows: given parameters, as they stand to each other (``transl`` metres, camera axes, any origin).

    Returns:
        The same people before the cameras of :func:`simulate_cameras`, the middle of their roots where one person's
        would be, and farther away by 1 + the farthest root's distance from it (metres), so that all fit.
    """
    if not people or any(len(p) != len(seeds) for p in people):
        raise PosesynError(f"simulate_group got {len(seeds)} seeds and people of {[len(p) for p in people]} rows")
    first = people[0]
    camera = simulate_cameras(seeds, first.betas, first.body_pose, first.global_orient, size, config)
    places = torch.stack([p.transl.float() for p in people])  # (P,B,3)
    apart = places - places.mean(0)
    away = camera.transl * (1 + apart.norm(dim=-1).amax(0))[:, None]
    return tuple(
        replace(p, transl=away + where, intrinsics=camera.intrinsics, seed=camera.seed)
        for p, where in zip(people, apart, strict=True)
    )
