"""The losses that SPIN's regressor is trained with, on whatever labels a batch has.

Kolotouros et al., ICCV 2019, §3.2-3.4: squared errors of 2D and 3D joints, rotation matrices and betas. Fits made
in the loop (:mod:`lightning_modules.spin_fits`) come as labels of the batch; without them ``limits`` and
``shape_prior``, which SPIN has not, hold a body with 2D labels alone to a human one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from human.batch import HIPS, PoseBatch
from human.rotations import rotvec_to_matrix
from lightning_modules.losses import LossWeights, excess_over_limits, labelled, labelled_betas, labelled_rotvec
from lightning_modules.ranks import rank_mean

#: SPIN's means run over joints that a sample lacks, too: of 49 slots in 2D and of 24 in 3D.
SLOTS_2D, SLOTS_3D = 49, 24


@dataclass
class SpinLossWeights(LossWeights):
    """SPIN's weights (its common factor of 60, which Adam does not see, left out).

    ``joints2d`` acts on half crops squared, ``joints3d`` on metres squared, ``pose`` on the elements of rotation
    matrices, ``camera`` on exp(-10 s)^2, which keeps people before the camera. ``seen`` and ``heat`` are not used.
    """

    joints2d: float = 5.0
    joints3d: float = 5.0
    pose: float = 1.0
    betas: float = 0.001
    limits: float = 0.02
    shape_prior: float = 0.0002
    camera: float = 1.0


def spin_losses(
    batch: PoseBatch,
    *,
    joints2d_BJ2: Tensor,
    joints3d_BJ3: Tensor,
    rotations_BK33: Tensor,
    betas_B10: Tensor,
    scale_B: Tensor,
    weights: SpinLossWeights,
) -> dict[str, Tensor]:
    """Every term, already weighted, by name; finite, with finite gradients, on a batch without labels of that kind.

    Joints are in pixels of the crop and in metres (any root), ``scale_B`` is the camera's s.
    """
    everyone = torch.ones_like(batch.weight, dtype=torch.bool)
    error2d = (joints2d_BJ2 - labelled(batch.joints2d, batch.joints2d_conf)) * (2 / batch.size)
    error2d = batch.joints2d_conf[..., None] * error2d.square() / (2 * SLOTS_2D)

    label3d = labelled(batch.joints3d, batch.joints3d_conf)
    # Both relative to the middle of the hips; labels without a hip keep the root they came with.
    hips = (batch.joints3d_conf[:, HIPS] > 0).all(1)[:, None]
    label_root = torch.where(hips, label3d[:, HIPS].mean(1), 0.0)
    own_root = torch.where(hips, joints3d_BJ3[:, HIPS].mean(1), joints3d_BJ3[:, 0])
    error3d = (joints3d_BJ3 - own_root[:, None]) - (label3d - label_root[:, None])
    error3d = batch.joints3d_conf[..., None] * error3d.square() / (3 * SLOTS_3D)

    label_pose = rotvec_to_matrix(labelled_rotvec(batch))

    def mean(error_B: Tensor, present_B: Tensor) -> Tensor:
        w = batch.weight * present_B
        return (torch.where(present_B, error_B, 0.0) * w).sum() / rank_mean(w.sum()).clamp_min(1e-6)

    return {
        "joints2d": weights.joints2d * mean(error2d.sum((1, 2)), everyone),
        "joints3d": weights.joints3d * mean(error3d.sum((1, 2)), (batch.joints3d_conf > 0).any(1)),
        "pose": weights.pose * mean((rotations_BK33 - label_pose).square().mean((1, 2, 3)), batch.has_pose),
        "betas": weights.betas * mean((betas_B10 - labelled_betas(batch)).square().mean(1), batch.has_betas),
        "camera": weights.camera * mean(torch.exp(-10 * scale_B).square(), everyone),
        "limits": weights.limits * mean(excess_over_limits(rotations_BK33[:, 1:]), everyone),
        "shape_prior": weights.shape_prior * mean(betas_B10.square().sum(1), everyone),
    }
