"""The losses that 4D-Humans trains with, on whatever labels a batch has.

Goel et al., ICCV 2023, §3.2: L1 on 2D and 3D joints, squared errors of rotation matrices and betas, each summed over
what a sample has. Its adversary, for which motion capture would have to be read beside the pictures, is not here:
``limits`` and ``shape_prior`` hold a body with 2D labels alone to a human one in its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from human.batch import PoseBatch, root_of
from human.rotations import rotvec_to_matrix
from lightning_modules.losses import LossWeights, excess_over_limits


@dataclass
class HMR2LossWeights(LossWeights):
    """4D-Humans' weights.

    Per sample, ``joints2d`` acts on crop fractions and ``joints3d`` on metres, summed over joints and axes, ``pose``
    on the elements of the 24 rotation matrices squared, ``betas`` on the coefficients squared. ``limits`` and
    ``shape_prior`` as in the base. ``seen`` and ``heat`` are not used.
    """

    joints2d: float = 0.01
    joints3d: float = 0.05
    pose: float = 0.001
    betas: float = 0.0005
    limits: float = 0.005
    shape_prior: float = 0.00005


def hmr2_losses(
    batch: PoseBatch,
    *,
    joints2d_BJ2: Tensor,
    joints3d_BJ3: Tensor,
    rotations_BK33: Tensor,
    betas_B10: Tensor,
    weights: HMR2LossWeights,
) -> dict[str, Tensor]:
    """Every term, already weighted, by name; finite, with finite gradients, on a batch without labels of that kind.

    Joints are in pixels of the crop and in metres (any root). The mean over the samples, weighted, stands for
    4D-Humans' sum: a factor that Adam does not see.
    """

    def mean(error_B: Tensor) -> Tensor:
        return (error_B * batch.weight).sum() / batch.weight.sum().clamp_min(1e-6)

    error2d = (joints2d_BJ2 - _labelled(batch.joints2d, batch.joints2d_conf)).abs().sum(-1) / batch.size
    root = root_of(joints3d_BJ3, batch.joints3d_conf)
    error3d = (joints3d_BJ3 - root[:, None] - _labelled(batch.joints3d, batch.joints3d_conf)).abs().sum(-1)
    rotvec = torch.cat([batch.global_orient[:, None], batch.body_pose], 1)
    label_pose = rotvec_to_matrix(torch.where(batch.has_pose[:, None, None], rotvec, 0.0))
    label_betas = torch.where(batch.has_betas[:, None], batch.betas, 0.0)
    return {
        # A far-off point of an untrained network must not drown the batch.
        "joints2d": weights.joints2d * mean((error2d.clamp_max(2.0) * batch.joints2d_conf).sum(1)),
        "joints3d": weights.joints3d * mean((error3d * batch.joints3d_conf).sum(1)),
        "pose": weights.pose * mean((rotations_BK33 - label_pose).square().sum((1, 2, 3)) * batch.has_pose),
        "betas": weights.betas * mean((betas_B10 - label_betas).square().sum(1) * batch.has_betas),
        "limits": weights.limits * mean(excess_over_limits(rotations_BK33[:, 1:])),
        "shape_prior": weights.shape_prior * mean(betas_B10.square().sum(1)),
    }


def _labelled(values_BJC: Tensor, conf_BJ: Tensor) -> Tensor:
    """Labels with 0 where there is none: what is there instead may be NaN, whose gradient a mask would let through."""
    return torch.where(conf_BJ[..., None] > 0, values_BJC, 0.0)
