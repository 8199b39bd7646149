"""Perspective cameras and the camera conventions of the papers' estimators.

OpenCV convention: metres, x right, y down, z forward; pixels with integer coordinates at pixel centres. The papers'
codes put the middle of a picture of width W at W / 2, half a pixel to the right of ours at (W - 1) / 2.
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


def level_flip(vectors: Tensor, dim: int = -1) -> Tensor:
    """From a level camera's frame (y down, z forward) to the world's before it (y up, z towards the camera), or back:
    half a turn about x.

    Args:
        vectors: (..., 3); or, with ``dim=-2``, rotation matrices (..., 3, 3) from a body's frame to one of the two.
    """
    signs = vectors.new_tensor([1.0, -1.0, -1.0])
    return vectors * (signs if dim == -1 else signs[:, None])


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


def focal_spin(size: int) -> float:
    """SPIN (Kolotouros et al., ICCV 2019): 5000 pixels; its crops are of 224."""
    return 5000.0


def focal_3dcrowdnet(size: int) -> float:
    """3DCrowdNet: 5000 pixels whatever the crop side."""
    return 5000.0


def focal_hmr2(size: int) -> float:
    """4D-Humans (HMR2): 5000 for a crop of 256, in proportion otherwise."""
    return 5000.0 / 256.0 * size


def focal_hybrik(size: int) -> float:
    """HybrIK: 1000 for a crop of 256, in proportion otherwise."""
    return 1000.0 / 256.0 * size


FOCAL_CONVENTIONS = {
    "spin": focal_spin,
    "3dcrowdnet": focal_3dcrowdnet,
    "hmr2": focal_hmr2,
    "hybrik": focal_hybrik,
}


# -- CLIFF (Li et al., ECCV 2022, §3.2): the crop is a window of the whole picture, whose camera is kept --------------
#: What CLIFF's code subtracts from box side / focal length and divides it by, and multiplies the slope of the box's
#: direction by: they bring the box information to about -1 .. 1.
CLIFF_BOX_MEAN, CLIFF_BOX_SPREAD, CLIFF_OFF_AXIS = 0.24, 0.06, 2.8


def focal_cliff(height: int, width: int) -> float:
    """CLIFF's focal length of a whole picture whose camera is not known: its diagonal (55 degrees across), pixels."""
    return float((width * width + height * height) ** 0.5)


def guess_intrinsics(height: int, width: int) -> Tensor:
    """(3,3) of a whole picture whose camera is not known: :func:`focal_cliff`, principal point in the middle."""
    k = torch.eye(3)
    k[0, 0] = k[1, 1] = focal_cliff(height, width)
    k[0, 2], k[1, 2] = (width - 1) / 2, (height - 1) / 2
    return k


def known_intrinsics(intrinsics_B33: Tensor, size: int) -> Tensor:
    """The cameras of crops of ``size`` pixels; one that is not known (identity, or not finite) is replaced by a camera
    that looks at the crop's middle with the focal length for which the box information is zero.
    """
    k = intrinsics_B33
    known = k.isfinite().all(-1).all(-1) & (k[:, 0, 0] * k[:, 1, 1] - k[:, 0, 1] * k[:, 1, 0] > 1.5)
    blind = make_intrinsics(k.new_full((len(k),), size / CLIFF_BOX_MEAN), size)
    return torch.where(known[:, None, None], k, blind)


def crop_ray(intrinsics_B33: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What a crop's intrinsics tell of its place in the whole picture: (B,2) slope x/z, y/z of the ray through the
    crop's middle, and (B,) focal length in crop pixels (geometric mean of both axes).

    With a crop of side b about (cx, cy) of a picture with focal length f and principal point (px, py), the slope is
    ((cx - px) / f, (cy - py) / f) and the focal length f size / b, also for turned and mirrored crops, as turned and
    mirrored pictures.
    """
    (a, b, u), (c, d, v) = intrinsics_B33[:, 0].unbind(-1), intrinsics_B33[:, 1].unbind(-1)
    u, v = (size - 1) / 2 - u, (size - 1) / 2 - v
    area = a * d - b * c
    return torch.stack([d * u - b * v, a * v - c * u], -1) / area[:, None], area.sqrt()


def cliff_box_info(intrinsics_B33: Tensor, size: int) -> Tensor:
    """(B,3) CLIFF's box information of square crops: place of the crop's middle and side of the crop in the whole
    picture, over the focal length; normalised as CLIFF's code does it. Free of any picture's size.
    """
    slope_B2, focal_B = crop_ray(intrinsics_B33, size)
    side_B = (size / focal_B - CLIFF_BOX_MEAN) / CLIFF_BOX_SPREAD
    return torch.cat([CLIFF_OFF_AXIS * slope_B2, side_B[:, None]], -1)


def weak_to_full_translation(weak_B3: Tensor, intrinsics_B33: Tensor, size: int) -> Tensor:
    """Weak-perspective (s, tx, ty) of a crop -> (B,3) translation, metres, before the camera of the whole picture.

    CLIFF: z = 2 f / (b s), and tx, ty are measured from the ray through the crop's middle. Projection with the crop's
    own ``intrinsics_B33`` is projection into the whole picture followed by the crop's map.
    """
    slope_B2, focal_B = crop_ray(intrinsics_B33, size)
    z_B = 2 * focal_B / (size * weak_B3[:, 0].clamp_min(1e-3))
    return torch.cat([weak_B3[:, 1:] + slope_B2 * z_B[:, None], z_B[:, None]], -1)
