"""The losses that 4D-Humans trains with, on whatever labels a batch has.

Goel et al., ICCV 2023, §3.2: L1 on 2D and 3D joints, squared errors of rotation matrices and betas, each summed over
what a sample has. The adversary's terms are :mod:`lightning_modules.pose_discriminator`'s; without it ``limits`` and
``shape_prior`` hold a body with 2D labels alone to a human one.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from human.batch import PoseBatch, root_of
from human.rotations import rotvec_to_matrix
from lightning_modules.losses import LossWeights, excess_over_limits, labelled, labelled_betas, labelled_rotvec
from lightning_modules.ranks import rank_mean


@dataclass
class HMR2LossWeights(LossWeights):
    """4D-Humans' weights.

    Per sample, ``joints2d`` acts on crop fractions and ``joints3d`` on metres, summed over joints and axes, ``pose``
    on the elements of the 24 rotation matrices squared, ``betas`` on the coefficients squared. ``limits`` and
    ``shape_prior`` as in the base. ``seen`` and ``heat`` are not used.

    ``adversary``: 0 trains without one. 4D-Humans adds 0.0005 times the mean of its adversary to sums over the 48
    samples of a device; beside our means that is 0.0005 / 48, about 1e-5.
    """

    joints2d: float = 0.01
    joints3d: float = 0.05
    pose: float = 0.001
    betas: float = 0.0005
    limits: float = 0.005
    shape_prior: float = 0.00005
    adversary: float = 0.0


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

    weight = rank_mean(batch.weight.sum()).clamp_min(1e-6)

    def mean(error_B: Tensor) -> Tensor:
        return (error_B * batch.weight).sum() / weight

    error2d = (joints2d_BJ2 - labelled(batch.joints2d, batch.joints2d_conf)).abs().sum(-1) / batch.size
    root = root_of(joints3d_BJ3, batch.joints3d_conf)
    error3d = (joints3d_BJ3 - root[:, None] - labelled(batch.joints3d, batch.joints3d_conf)).abs().sum(-1)
    label_pose = rotvec_to_matrix(labelled_rotvec(batch))
    return {
        # A far-off point of an untrained network must not drown the batch.
        "joints2d": weights.joints2d * mean((error2d.clamp_max(2.0) * batch.joints2d_conf).sum(1)),
        "joints3d": weights.joints3d * mean((error3d * batch.joints3d_conf).sum(1)),
        "pose": weights.pose * mean((rotations_BK33 - label_pose).square().sum((1, 2, 3)) * batch.has_pose),
        "betas": weights.betas * mean((betas_B10 - labelled_betas(batch)).square().sum(1) * batch.has_betas),
        "limits": weights.limits * mean(excess_over_limits(rotations_BK33[:, 1:])),
        "shape_prior": weights.shape_prior * mean(betas_B10.square().sum(1)),
    }
