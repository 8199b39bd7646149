"""Cameras: projection, its inverses, and points that have no picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from human.camera import (
    FOCAL_CONVENTIONS,
    MIN_DEPTH,
    cliff_box_info,
    crop_ray,
    focal_cliff,
    guess_intrinsics,
    known_intrinsics,
    make_intrinsics,
    project,
    translation_to_weak,
    weak_to_full_translation,
    weak_to_translation,
)
from human.crop import crop_affine, rotation_of, transform_intrinsics, transform_points
from tests.lightning_modules.seeded import assert_parity, load_reference

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
    assert at_256 == {"spin": 5000, "3dcrowdnet": 5000, "hmr2": 5000, "hybrik": 1000}
    assert FOCAL_CONVENTIONS["spin"](224) == 5000
    assert FOCAL_CONVENTIONS["3dcrowdnet"](128) == 5000
    assert FOCAL_CONVENTIONS["hmr2"](128) == 2500


# -- CLIFF: values of the original's code (python -m scripts.tpe_reference.cliff CHECKOUT) ---------------------------
@pytest.fixture(scope="module")
def cliff() -> dict[str, torch.Tensor]:
    return load_reference("cliff_camera").arrays


def crop_cameras(cliff: dict[str, torch.Tensor], size: int, **turn: Any) -> tuple[list[np.ndarray], torch.Tensor]:
    """Maps to, and intrinsics of, the original's crops. It measures pixels from the corner of the first, we from its
    middle."""
    maps, cameras = [], []
    for k in range(len(cliff["side"])):
        maps.append(crop_affine((cliff["center"][k] - 0.5).tolist(), float(cliff["side"][k]), size, **turn))
        whole = guess_intrinsics(int(cliff["height"][k]), int(cliff["width"][k]))
        cameras.append(torch.from_numpy(transform_intrinsics(maps[-1], whole.numpy())).float())
    return maps, torch.stack(cameras)


def test_focal_length_of_a_whole_picture_is_cliffs(cliff: dict[str, torch.Tensor]) -> None:
    ours = [focal_cliff(int(h), int(w)) for h, w in zip(cliff["height"], cliff["width"], strict=True)]
    assert_parity(torch.tensor(ours), cliff["focal"], "focal length")
    k = guess_intrinsics(480, 640)
    assert k.tolist() == [[800, 0, 319.5], [0, 800, 239.5], [0, 0, 1]]


@pytest.mark.parametrize("size", [256, 64])
def test_box_information_is_cliffs(cliff: dict[str, torch.Tensor], size: int) -> None:
    _, intrinsics = crop_cameras(cliff, size)
    assert_parity(cliff_box_info(intrinsics, size), cliff["box"], "box information")


@pytest.mark.parametrize("size", [256, 64])
def test_translation_in_the_whole_picture_is_cliffs(cliff: dict[str, torch.Tensor], size: int) -> None:
    _, intrinsics = crop_cameras(cliff, size)
    assert_parity(weak_to_full_translation(cliff["weak"], intrinsics, size), cliff["transl"], "translation")


def test_projection_into_the_crop_is_cliffs_into_the_picture(cliff: dict[str, torch.Tensor]) -> None:
    maps, intrinsics = crop_cameras(cliff, 256)
    transl = weak_to_full_translation(cliff["weak"], intrinsics, 256)
    ours = project(cliff["points"] + transl[:, None], intrinsics)
    theirs = [transform_points(a, p - 0.5) for a, p in zip(maps, cliff["pixels"].numpy(), strict=True)]
    assert_parity(ours, torch.from_numpy(np.stack(theirs)).float(), "pixels of the picture, in the crop")
    # The original's crop is the middle 192 of our 256 columns.
    assert_parity(ours + torch.tensor([0.5 - 32, 0.5]), cliff["crop"], "pixels of the crop")


@given(st.floats(-180, 180), st.booleans())
def test_a_turned_or_mirrored_crop_is_a_crop_of_a_turned_picture(degrees: float, flip: bool) -> None:
    """The ray through the crop's middle turns with it, and the focal length stays."""
    cliff = load_reference("cliff_camera").arrays
    _, straight = crop_cameras(cliff, 128)
    maps, turned = crop_cameras(cliff, 128, rot_deg=degrees, flip=flip)
    (slope, focal), (new_slope, new_focal) = crop_ray(straight, 128), crop_ray(turned, 128)
    torch.testing.assert_close(new_focal, focal, rtol=1e-5, atol=0)
    expected = torch.from_numpy(np.stack([rotation_of(a)[:2, :2] for a in maps])).float() @ slope[..., None]
    torch.testing.assert_close(new_slope, expected[..., 0], rtol=0, atol=1e-5)


def test_unequal_focal_lengths_and_skew_keep_the_ray() -> None:
    k = torch.tensor([[[300.0, 12, 80], [-7, 500, 20], [0, 0, 1]]])
    slope, focal = crop_ray(k, 65)
    torch.testing.assert_close(
        project(torch.cat([slope, torch.ones(1, 1)], 1)[:, None], k), torch.full((1, 1, 2), 32.0)
    )
    assert focal.item() == pytest.approx((300 * 500 + 7 * 12) ** 0.5)


@pytest.mark.parametrize("unknown", [torch.eye(3), torch.zeros(3, 3), torch.full((3, 3), float("nan"))])
def test_a_camera_that_is_not_known_has_no_box_information(unknown: torch.Tensor) -> None:
    k = torch.stack([unknown, make_intrinsics(torch.tensor([90.0]), 64)[0]])
    known = known_intrinsics(k, 64)
    assert torch.equal(known[1], k[1])
    torch.testing.assert_close(cliff_box_info(known, 64)[0], torch.zeros(3), rtol=0, atol=1e-5)
