"""HybrIK's camera and joint coordinates (the released code; Li et al., CVPR 2021, §4.1).

A joint is (u, v, d): u, v in crop widths from the crop's middle (so -0.5 .. 0.5), d its depth relative to the pelvis in
units of ``extent`` metres (2.2). The focal length is fixed at 1000 pixels for a crop of 256 (3.90625 crop widths,
``human.camera.focal_hybrik``); a scale s puts the origin of depths at focal / s metres, with the focal in crop widths:
one metre there is s crop widths.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Metres per unit of d: the original's ``BBOX_3D_SHAPE`` of 2200 mm.
DEPTH_EXTENT = 2.2


def pixels_to_uv(pixels: Tensor, size: int) -> Tensor:
    """Pixels of the crop to crop widths from its middle, which HybrIK has at pixel ``size / 2``."""
    return pixels / size - 0.5


def uv_to_pixels(uv: Tensor, size: int) -> Tensor:
    """Inverse of :func:`pixels_to_uv`."""
    return (uv + 0.5) * size


def back_project(uvd_BJ3: Tensor, scale_B1: Tensor, principal_B2: Tensor, focal: float, extent: float) -> Tensor:
    """(B,J,3) metres in the camera frame.

    Args:
        uvd_BJ3: see above.
        scale_B1: crop widths per metre at the origin of depths.
        principal_B2: (u, v) of the principal point: 0 for a camera that looks at the middle of the crop; for the
            camera of the whole picture, minus the crop's centre relative to the picture's, in crop widths.
        focal: crop widths.
        extent: metres per unit of d.
    """
    z_BJ1 = uvd_BJ3[..., 2:] * extent + depth_of(scale_B1, focal)[:, None]
    return torch.cat([(uvd_BJ3[..., :2] - principal_B2[:, None]) / focal * z_BJ1, z_BJ1], -1)


def depth_of(scale_B1: Tensor, focal: float) -> Tensor:
    """(B,1) metres from the camera at which one metre is ``scale`` crop widths."""
    return focal / (scale_B1 + 1e-9)


def fit_camera(joints_BJ3: Tensor, uv_BJ2: Tensor, weight_BJ: Tensor, focal: float) -> tuple[Tensor, Tensor]:
    """Scale and offset (s, x, y) (B,3) by which joints relative to the pelvis (metres) come closest to pixels.

    Least squares on u (z + focal / s) / focal = x + t over joints with weight (0 or 1): what the original trains its
    camera with (``calc_cam_scale_trans2``), whatever camera took the picture. Second value (B,) bool: at least four
    joints, which do not coincide, and a positive scale.
    """
    weight = weight_BJ[..., None]
    count = weight.sum(1).clamp_min(1)
    uv, target = uv_BJ2, joints_BJ3[..., :2] - uv_BJ2 * joints_BJ3[..., 2:] / focal
    uv_mean, target_mean = (uv * weight).sum(1) / count, (target * weight).sum(1) / count
    du, dt = (uv - uv_mean[:, None]) * weight, (target - target_mean[:, None]) * weight
    spread, common = du.square().sum((1, 2)), (du * dt).sum((1, 2))
    usable = (weight.sum((1, 2)) >= 4) & (spread > 1e-4) & (common > 1e-4)
    metres = torch.where(usable, common, 1.0) / torch.where(usable, spread, 1.0)  # 1 / s
    return torch.cat([1 / metres[:, None], uv_mean * metres[:, None] - target_mean], 1), usable


def refine_scale(
    body_BJ3: Tensor, uv_BJ2: Tensor, weight_BJ: Tensor, principal_B2: Tensor, scale_B1: Tensor, focal: float
) -> Tensor:
    """(B,1) the scale at which the solved body projects closest to the joints found in the picture.

    ``body_BJ3``: metres, the pelvis where :func:`back_project` had it with ``scale_B1``, but depths relative to the
    origin of depths. Where no joint has weight, or the best scale would be negative, the scale stays as it is.
    (``HRNetSMPLCam.update_scale``)
    """
    uv = (uv_BJ2 - principal_B2[:, None]) * weight_BJ[..., None]
    rest = body_BJ3[..., :2] * weight_BJ[..., None] - uv * body_BJ3[..., 2:] / focal
    spread, common = uv.square().sum((1, 2)), (uv * rest).sum((1, 2))
    usable = (spread > 1e-8) & (common > 1e-8)
    refined = torch.where(usable, spread, 1.0) / torch.where(usable, common, 1.0)
    return torch.where(usable[:, None], refined[:, None], scale_B1)
