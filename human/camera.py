"""Perspective cameras and the focal conventions of the papers' estimators.

OpenCV convention: metres, x right, y down, z forward; pixels with integer coordinates at pixel centres.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A point behind or on the image plane has no picture; its depth is held here so that a loss stays finite.
MIN_DEPTH = 1e-2


def make_intrinsics(focal_B: Tensor, size: int) -> Tensor:
    """(B,3,3) intrinsics with square pixels and the principal point in the middle of a ``size`` picture."""
    k = torch.zeros(focal_B.shape[0], 3, 3, dtype=focal_B.dtype, device=focal_B.device)
    k[:, 0, 0] = k[:, 1, 1] = focal_B
    k[:, 0, 2] = k[:, 1, 2] = (size - 1) / 2
    k[:, 2, 2] = 1
    return k


def project(points_BJ3: Tensor, intrinsics_B33: Tensor) -> Tensor:
    """(B,J,2) pixels of camera-frame points (metres); depth is clamped to 1 cm in front of the camera."""
    z = points_BJ3[..., 2:].clamp_min(MIN_DEPTH)
    xy1 = torch.cat([points_BJ3[..., :2] / z, torch.ones_like(z)], -1)
    return torch.einsum("bij,bkj->bki", intrinsics_B33[:, :2], xy1)


def weak_to_translation(weak_B3: Tensor, focal_B: Tensor, size: int) -> Tensor:
    """Weak-perspective (s, tx, ty) -> (B,3) translation in metres under the perspective camera.

    ``s`` is the scale that maps metres to half the crop side, ``tx, ty`` metres: the form that HMR (Kanazawa et al.
    2018) regresses; z = 2 f / (size s), as in SPIN and 4D-Humans.
    """
    s = weak_B3[:, 0].clamp_min(1e-3)
    return torch.stack([weak_B3[:, 1], weak_B3[:, 2], 2 * focal_B / (size * s)], -1)


def translation_to_weak(transl_B3: Tensor, focal_B: Tensor, size: int) -> Tensor:
    """Inverse of :func:`weak_to_translation`."""
    return torch.stack([2 * focal_B / (size * transl_B3[:, 2]), transl_B3[:, 0], transl_B3[:, 1]], -1)


def focal_3dcrowdnet(size: int) -> float:
    """3DCrowdNet and SPIN: 5000 pixels whatever the crop side."""
    return 5000.0


def focal_hmr2(size: int) -> float:
    """4D-Humans (HMR2): 5000 for a crop of 256, in proportion otherwise."""
    return 5000.0 / 256.0 * size


def focal_hybrik(size: int) -> float:
    """HybrIK: 1000 for a crop of 256, in proportion otherwise."""
    return 1000.0 / 256.0 * size


FOCAL_CONVENTIONS = {"3dcrowdnet": focal_3dcrowdnet, "hmr2": focal_hmr2, "hybrik": focal_hybrik}
