"""From an estimator's crop back to the whole picture."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from human.blazepose import invert_affine
from human.crop import Array


def crop_to_picture(affine_23: Array) -> Tensor:
    """(3,3) map of homogeneous crop px to picture px."""
    return torch.from_numpy(np.concatenate([invert_affine(affine_23), [[0, 0, 1]]])).float()


def joints_in_picture(joints_BJ2: Tensor, back_B33: Tensor) -> Tensor:
    """Crop px to picture px, with the maps of :func:`crop_to_picture`."""
    return joints_BJ2 @ back_B33[:, :2, :2].mT + back_B33[:, None, :2, 2]


def transl_in_picture(transl_B3: Tensor, intrinsics_B33: Tensor, back_B33: Tensor, camera_B33: Tensor) -> Tensor:
    """Where the pelvis is before the camera of the whole picture, (B,3) metres.

    The pelvis is seen at the pixel, and a metre there as long, as under the estimator's own camera of the crop
    (``intrinsics_B33``): for cameras behind the middle of the crop this is the conversion that CLIFF (Li et al., ECCV
    2022) and 4D-Humans use; an estimator whose camera is the picture's own keeps its translation.
    """
    focal = intrinsics_B33[:, 0, 0] / transl_B3[:, 2]  # crop px per metre
    ray = torch.einsum("bij,bj->bi", intrinsics_B33, transl_B3 / transl_B3[:, 2:])
    scale = back_B33[:, :2, :2].det().abs().sqrt()  # picture px per crop px
    depth = camera_B33[:, 0, 0] / (focal * scale)
    pixel = torch.einsum("bij,bj->bi", back_B33, ray)
    return torch.linalg.solve(camera_B33, pixel) * depth[:, None]
