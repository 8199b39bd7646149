"""Cameras: projection, its inverses, and points that have no picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from human.camera import (
    FOCAL_CONVENTIONS,
    MIN_DEPTH,
    make_intrinsics,
    project,
    translation_to_weak,
    weak_to_translation,
)

coordinate = st.floats(-5, 5)
focal = st.floats(10, 5000)


@given(st.tuples(coordinate, coordinate, st.floats(0.1, 50)), focal, st.integers(8, 512))
def test_a_projected_point_lifts_back(point: tuple[float, float, float], f: float, size: int) -> None:
    x = torch.tensor([[point]], dtype=torch.float64)
    k = make_intrinsics(torch.tensor([f], dtype=torch.float64), size)
    uv = project(x, k)
    ray = torch.linalg.inv(k[0]) @ torch.cat([uv[0, 0], torch.ones(1, dtype=torch.float64)])
    torch.testing.assert_close(ray * point[2], x[0, 0], atol=1e-6, rtol=1e-6)


def test_the_optical_axis_hits_the_middle_between_pixel_centres() -> None:
    k = make_intrinsics(torch.tensor([100.0]), 64)
    assert project(torch.tensor([[[0.0, 0.0, 2.0]]]), k).tolist() == [[[31.5, 31.5]]]
    right_and_down = project(torch.tensor([[[0.1, 0.2, 2.0]]]), k)[0, 0]
    torch.testing.assert_close(right_and_down, torch.tensor([36.5, 41.5]))


def test_skew_of_a_rotated_crop_is_used() -> None:
    k = torch.tensor([[[100.0, 7, 30], [3, 90, 40], [0, 0, 1]]])
    np.testing.assert_allclose(project(torch.tensor([[[1.0, 2, 4]]]), k)[0, 0], [25 + 3.5 + 30, 0.75 + 45 + 40])


@pytest.mark.parametrize("depth", [0.0, -3.0, MIN_DEPTH / 2])
def test_points_behind_the_camera_stay_finite_with_finite_gradient(depth: float) -> None:
    point = torch.tensor([[[0.3, -0.2, depth]]], requires_grad=True)
    uv = project(point, make_intrinsics(torch.tensor([500.0]), 128))
    (gradient,) = torch.autograd.grad(uv.sum(), point)
    assert uv.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient[0, 0, 2] == 0  # no pull on a depth that has no picture


@given(st.floats(0.01, 5), coordinate, coordinate, focal, st.integers(8, 512))
def test_weak_camera_and_translation_are_inverse(s: float, tx: float, ty: float, f: float, size: int) -> None:
    weak, f_B = torch.tensor([[s, tx, ty]], dtype=torch.float64), torch.tensor([f], dtype=torch.float64)
    transl = weak_to_translation(weak, f_B, size)
    torch.testing.assert_close(translation_to_weak(transl, f_B, size), weak, rtol=1e-9, atol=1e-9)


def test_a_weak_scale_maps_metres_to_half_the_crop() -> None:
    """A flat body at the root's depth: a point 1/s metres aside lies half a crop from the middle."""
    size, f = 128, torch.tensor([5000.0, 640.0])
    transl = weak_to_translation(torch.tensor([[0.9, 0, 0], [0.5, 0, 0]]), f, size)
    points = torch.tensor([[[1 / 0.9, 0, 0]], [[1 / 0.5, 0, 0]]]) + transl[:, None]
    aside = project(points, make_intrinsics(f, size))[:, 0, 0] - (size - 1) / 2
    torch.testing.assert_close(aside, torch.full((2,), 64.0), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("s", [0.0, -1.0])
def test_a_scale_that_is_not_positive_still_stands_before_the_camera(s: float) -> None:
    weak = torch.tensor([[s, 0.0, 0.0]])
    transl = weak_to_translation(weak, torch.tensor([1000.0]), 256)
    assert transl.isfinite().all()
    assert transl[0, 2] > 0


def test_focal_conventions_of_the_papers() -> None:
    at_256 = {name: function(256) for name, function in FOCAL_CONVENTIONS.items()}
    assert at_256 == {"3dcrowdnet": 5000, "hmr2": 5000, "hybrik": 1000}
    assert FOCAL_CONVENTIONS["3dcrowdnet"](128) == 5000
    assert FOCAL_CONVENTIONS["hmr2"](128) == 2500
