"""Crops: geometry is exact, pixels land where points say, bad boxes are refused."""

from __future__ import annotations

import numpy as np
import pytest

from human.crop import (
    crop_affine,
    rotation_of,
    scale_of,
    square_box,
    transform_intrinsics,
    transform_points,
    warp_image,
)
from human.errors import PosesynError


def project(K: np.ndarray, points_N3: np.ndarray) -> np.ndarray:
    image = points_N3 @ K.T
    return image[:, :2] / image[:, 2:]


def test_square_box_takes_the_longer_side() -> None:
    assert square_box([10, 20, 30, 80], scale=1.5) == (20, 50, 90)


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [0, 0, np.nan, 4], [9, 9, 1, 1], [0, 0, np.inf, 4]])
def test_square_box_refuses_empty_and_non_finite_boxes(box: list[float]) -> None:
    with pytest.raises(PosesynError, match="box"):
        square_box(box)


@pytest.mark.parametrize(("side", "size"), [(0, 128), (-3, 128), (np.nan, 128), (10, 0)])
def test_crop_affine_refuses_empty_crops(side: float, size: int) -> None:
    with pytest.raises(PosesynError, match="positive"):
        crop_affine((0, 0), side, size)


def test_corners_of_the_square_are_the_outer_edges_of_the_crop() -> None:
    A = crop_affine((50, 40), 20, 128)
    np.testing.assert_allclose(transform_points(A, [[40, 30], [60, 50]]), [[-0.5, -0.5], [127.5, 127.5]])


def test_identity_crop_returns_the_same_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(warp_image(image, crop_affine((15.5, 15.5), 32, 32), 32), image)
    mirrored = warp_image(image, crop_affine((15.5, 15.5), 32, 32, flip=True), 32)
    np.testing.assert_array_equal(mirrored, image[:, ::-1])


def test_rotation_is_clockwise_on_screen() -> None:
    A = crop_affine((0, 0), 101, 101, rot_deg=90)
    np.testing.assert_allclose(transform_points(A, [10, 0]), [50, 60], atol=1e-9)  # right of the centre -> below it


@pytest.mark.parametrize("rot_deg", [0.0, 33.0, -170.0])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("focal", [(900.0, 900.0), (900.0, 870.0)])
def test_cropping_commutes_with_projection(rot_deg: float, flip: bool, focal: tuple[float, float]) -> None:
    K = np.array([[focal[0], 0, 310.2], [0, focal[1], 255.9], [0, 0, 1]])
    points = np.random.default_rng(1).normal([0, 0, 4], 0.5, (40, 3))
    A = crop_affine((333, 222), 180, 128, rot_deg, flip)
    expected = transform_points(A, project(K, points))
    got = project(transform_intrinsics(A, K), points @ rotation_of(A).T)
    np.testing.assert_allclose(got, expected, atol=1e-8)
    assert np.linalg.det(rotation_of(A)) == pytest.approx(-1 if flip else 1)
    assert (np.diag(transform_intrinsics(A, K)) > 0).all()


@pytest.mark.parametrize(("side", "size"), [(40, 128), (128, 128), (300, 64), (610, 32)])
@pytest.mark.parametrize("rot_deg", [0.0, 25.0])
def test_pixels_land_where_points_land(side: float, size: int, rot_deg: float) -> None:
    """The centroid of a bright disc in the crop is the transformed centre of the disc, to a tenth of a pixel."""
    yy, xx = np.mgrid[:600, :700]
    centre = np.array([352.3, 281.8])
    radius = side / 8
    distance = np.hypot(xx - centre[0], yy - centre[1])
    disc = (np.clip(radius + 0.5 - distance, 0, 1) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    A = crop_affine((centre[0] + side / 10, centre[1] - side / 12), side, size, rot_deg)
    crop = warp_image(disc, A, size)[..., 0].astype(float)
    rows, columns = np.mgrid[:size, :size]
    centroid = [(crop * columns).sum() / crop.sum(), (crop * rows).sum() / crop.sum()]
    np.testing.assert_allclose(centroid, transform_points(A, centre), atol=0.1)


def test_shrinking_averages_instead_of_aliasing() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    A = crop_affine((127.5, 127.5), 256, 32)
    assert scale_of(A) == pytest.approx(1 / 8)
    crop = warp_image(stripes, A, 32)
    assert np.abs(crop.astype(int) - 127).max() <= 2


def test_outside_the_picture_is_black() -> None:
    white = np.full((20, 20, 3), 255, np.uint8)
    crop = warp_image(white, crop_affine((-100, -100), 10, 16), 16)
    assert crop.max() == 0
