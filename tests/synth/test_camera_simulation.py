"""Cameras of Pose++."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from human.body import load_body
from human.camera import project
from human.errors import PosesynError
from synth.camera_simulation import CameraSimulation, simulate_cameras, simulate_group
from synth.scene import SceneSpec

N = 400


def simulated(seeds: range, size: int = 256, config: CameraSimulation | None = None) -> SceneSpec:
    n = len(seeds)
    return simulate_cameras(
        seeds, torch.zeros(n, 10), torch.zeros(n, 23, 3), torch.tensor([[math.pi, 0.0, 0.0]]).expand(n, 3), size, config
    )


def test_the_papers_ranges() -> None:
    spec = simulated(range(N))
    focal = spec.intrinsics[:, 0, 0] / 128
    scale = focal / spec.transl[:, 2]
    fov = 2 * torch.rad2deg(torch.atan(1 / focal))
    for value, low, high in ((scale, 0.45, 1.1), (fov, 25.0, 65.0)):
        assert low - 1e-3 <= float(value.min()) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < float(value.max()) <= high + 1e-3
    shift = spec.transl[:, :2] * scale[:, None]
    assert 0.38 < float(shift.abs().max()) <= 0.4 + 1e-5
    assert abs(float(shift.mean())) < 0.03
    origin = project(torch.zeros(N, 1, 3) + spec.transl[:, None], spec.intrinsics)[:, 0]
    assert torch.allclose(origin, 127.5 + 128 * shift, atol=1e-2)  # ±.4 halves of the picture from its middle


def test_one_metre_is_scale_halves_of_the_picture() -> None:
    spec = simulated(range(3), config=CameraSimulation((0.6, 0.6), 0.0))
    body = load_body("free")
    joints = body(spec.betas, spec.body_pose, spec.global_orient, spec.transl).joints
    drawn = project(joints, spec.intrinsics)
    height = drawn[..., 1].amax(1) - drawn[..., 1].amin(1)
    metres = joints[..., 1].amax(1) - joints[..., 1].amin(1)
    assert torch.allclose(height, 128 * 0.6 * metres, rtol=0.05)


def test_a_scene_is_a_function_of_its_seed() -> None:
    many, few = simulated(range(10)), simulated(range(7, 9))
    for one, other in zip(many[7:9].values(), few.values(), strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def test_settings_and_shapes_are_checked() -> None:
    for bad in ({"scale": (0.0, 1.0)}, {"field_of_view": (65.0, 25.0)}, {"shift": -1.0}):
        with pytest.raises(PosesynError, match="camera simulation"):
            CameraSimulation(**bad)  # type: ignore[arg-type]
    with pytest.raises(PosesynError, match="as many of each"):
        simulate_cameras([1, 2], torch.zeros(1, 10), torch.zeros(2, 23, 3), torch.zeros(2, 3), 64)


def test_people_who_interact_keep_their_places() -> None:
    one = simulated(range(50))
    left = replace(one, transl=torch.tensor([[7.0, 1.0, 3.0]]).expand(50, 3))
    right = replace(one, transl=torch.tensor([[7.8, 1.0, 3.6]]).expand(50, 3))
    first, second = simulate_group(range(50), [left, right], 256)
    assert torch.allclose(second.transl - first.transl, torch.tensor([[0.8, 0.0, 0.6]]), atol=1e-5)
    assert torch.allclose((first.transl + second.transl) / 2, 1.5 * one.transl, atol=1e-5)  # half a metre apart
    assert torch.equal(first.intrinsics, one.intrinsics)
    roots = torch.stack([project(p.transl[:, None], p.intrinsics)[:, 0] for p in (first, second)])
    assert ((roots > 0) & (roots < 255)).all()
    (alone,) = simulate_group(range(50), [one], 256)
    assert torch.allclose(alone.transl, one.transl)
    with pytest.raises(PosesynError, match="50 seeds"):
        simulate_group(range(50), [left, right[:2]], 256)
