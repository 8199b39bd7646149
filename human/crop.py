"""Square person crops: the affine map from picture to crop, and what it does to pixels, points and intrinsics.

Integer coordinates are pixel centres everywhere (cv2.warpAffine's convention), so the square of side ``side`` about
``(cx, cy)`` covers crop coordinates -0.5 .. size - 0.5. All functions are numpy and stateless.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from human.crop_scale import crop_side
from human.errors import PosesynError

Array = npt.NDArray[np.float64]


def square_box(
    bbox_xyxy: npt.ArrayLike, scale: float | str = 1.2, detected: bool = False
) -> tuple[float, float, float]:
    """Centre x, centre y and side (px) of the square about a box: ``scale`` times its longer side, or the side that a
    convention of :mod:`human.crop_scale` gives; ``detected``: the box is a detector's, not one of joints.
    """
    x1, y1, x2, y2 = (float(v) for v in np.asarray(bbox_xyxy, dtype=np.float64))
    side = crop_side(x2 - x1, y2 - y1, scale, detected)
    if not (np.isfinite([x1, y1, x2, y2, side]).all() and side > 0):
        raise PosesynError(f"a person box must have finite corners and a positive size, got {[x1, y1, x2, y2]} (xyxy).")
    return (x1 + x2) / 2, (y1 + y2) / 2, side


def crop_affine(center: Sequence[float], side: float, size: int, rot_deg: float = 0.0, flip: bool = False) -> Array:
    """(2, 3) map of picture px to crop px: the square of ``side`` px about ``center`` becomes ``size`` x ``size``.

    ``rot_deg`` turns the content clockwise as seen on screen (from +x towards +y); ``flip`` mirrors left-right after
    that. Swapping left and right joints of a mirrored crop is the caller's part (``Skeleton.flip_permutation``).
    """
    if not (side > 0 and size > 0):
        raise PosesynError(f"a crop needs a positive side and size, got side={side} and size={size}.")
    angle = np.deg2rad(rot_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if flip:
        turn[0] = -turn[0]
    linear = turn * (size / side)
    middle = (size - 1) / 2
    offset = middle - linear @ np.asarray(center, dtype=np.float64)
    return np.concatenate([linear, offset[:, None]], axis=1)


def scale_of(A: npt.ArrayLike) -> float:
    """Crop px per picture px."""
    return float(np.sqrt(abs(np.linalg.det(np.asarray(A, dtype=np.float64)[:, :2]))))


def rotation_of(A: npt.ArrayLike) -> Array:
    """(3, 3) matrix that turns camera-frame points the way the crop turns the picture, about the optical axis.

    A mirrored crop gives a reflection (determinant -1): apply it to joint positions together with the left-right swap,
    not to body rotations, which need the mirrored pose.
    """
    turn = np.eye(3)
    turn[:2, :2] = np.asarray(A, dtype=np.float64)[:, :2] / scale_of(A)
    return turn


def transform_intrinsics(A: npt.ArrayLike, K: npt.ArrayLike) -> Array:
    """(3, 3) intrinsics K' of the crop: ``A`` applied to ``project(K, X)`` equals ``project(K', rotation_of(A) @ X)``.

    Focal lengths stay positive, also for mirrored crops. With unequal focal lengths a rotated crop has small
    off-diagonal terms (exact, and zero when fx = fy).
    """
    full = np.eye(3)
    full[:2] = np.asarray(A, dtype=np.float64)
    return full @ np.asarray(K, dtype=np.float64) @ rotation_of(A).T


def transform_points(A: npt.ArrayLike, points: npt.ArrayLike) -> Array:
    """Map points (..., 2) in picture px to crop px."""
    affine = np.asarray(A, dtype=np.float64)
    return np.asarray(points, dtype=np.float64) @ affine[:, :2].T + affine[:, 2]


def warp_image(image_HWC: npt.NDArray[np.uint8], A: npt.ArrayLike, size: int) -> npt.NDArray[np.uint8]:
    """(size, size, C) uint8 crop, black outside the picture.

    Shrinking samples the crop on a k times finer grid, about one sample per picture pixel, and averages k x k blocks:
    bilinear sampling alone would alias.
    """
    affine = np.asarray(A, dtype=np.float64)
    k = max(1, round(1 / scale_of(affine)))
    fine = affine * k
    fine[:, 2] += (k - 1) / 2  # block i covers fine pixels k*i .. k*i + k-1, centred at k*i + (k-1)/2
    crop = cv2.warpAffine(image_HWC, fine, (size * k, size * k), flags=cv2.INTER_LINEAR)
    if k > 1:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, dtype=np.uint8)
