"""Losses on 2D joints, 3D joints and body parameters, each masked by what a sample has.

The terms are those of HMR (Kanazawa et al., CVPR 2018, eq. 1-3) as SPIN and 4D-Humans train them: L1 on joints, squared
error on rotation matrices and shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from human.batch import PoseBatch, root_of
from human.joint_limits import JOINT_LIMITS
from human.rotations import matrix_to_rotvec, rotvec_to_matrix
from lightning_modules.ranks import rank_mean


@dataclass
class LossWeights:
    """Weight of each term.

    ``joints2d`` and ``seen`` (joints that a network finds in the picture by itself) act on crop fractions, ``heat``
    on the cross-entropy of its heat maps, ``joints3d`` on metres, ``pose`` on rotation matrices, ``betas`` on shape
    coefficients. ``limits`` (radians beyond the joint limits) and ``shape_prior`` (||betas||^2) act on every sample:
    they are all that holds a 2D-only sample to a human pose.
    """

    joints2d: float = 5.0
    seen: float = 5.0
    heat: float = 0.5
    joints3d: float = 5.0
    pose: float = 1.0
    betas: float = 0.02
    limits: float = 0.2
    shape_prior: float = 0.002


def labelled(values_BJC: Tensor, conf_BJ: Tensor) -> Tensor:
    """Labels of joints, 0 where there is none: what is there may be NaN, whose gradient a mask on the error lets
    through.
    """
    return torch.where(conf_BJ[..., None] > 0, values_BJC, values_BJC.new_zeros(()))


def labelled_rotvec(batch: PoseBatch) -> Tensor:
    """(B,24,3) labelled rotation vectors, the root first; 0 for samples without a pose."""
    rotvec = torch.cat([batch.global_orient[:, None], batch.body_pose], 1)
    return torch.where(batch.has_pose[:, None, None], rotvec, 0.0)


def labelled_betas(batch: PoseBatch) -> Tensor:
    """(B,10) labelled shapes; 0 for samples without one."""
    return torch.where(batch.has_betas[:, None], batch.betas, 0.0)


def masked_mean(error_BJ: Tensor, mask_BJ: Tensor, weight_B: Tensor) -> Tensor:
    """Mean of each sample over what it has, then over the samples of all ranks that have any; 0 with a gradient when
    none has.
    """
    # where, not a product: an error beside a masked label may be NaN or infinite.
    error = torch.where(mask_BJ > 0, error_BJ, error_BJ.new_zeros(())) * mask_BJ
    per_sample = error.sum(1) / mask_BJ.sum(1).clamp_min(1e-6)
    present = (mask_BJ.sum(1) > 0).to(weight_B.dtype) * weight_B
    return (per_sample * present).sum() / rank_mean(present.sum()).clamp_min(1e-6)


def excess_over_limits(body_pose_B2333: Tensor) -> Tensor:
    """(B,) mean over joints and components of the radians beyond the joint limits, squared."""
    limits = JOINT_LIMITS.to(body_pose_B2333)
    rotvec = matrix_to_rotvec(body_pose_B2333)
    beyond = (rotvec - limits[..., 1]).relu() + (limits[..., 0] - rotvec).relu()
    return beyond.square().mean((1, 2))


def heat_cross_entropy(log_heat_BJRC: Tensor, joints_BJ2: Tensor, size: int) -> Tensor:
    """(B,J) cross-entropy between heat maps over the crop and a Gaussian of one cell's width about each label
    (pixels).
    """
    rows, cols = log_heat_BJRC.shape[-2:]

    def bump(coordinate_BJ: Tensor, cells: int) -> Tensor:
        at = (coordinate_BJ + 0.5) * (cells / size) - 0.5  # in cells, pixel centres at integers on both grids
        return -0.5 * (torch.arange(cells, device=at.device) - at[..., None]).square()

    x, y = bump(joints_BJ2[..., 0], cols), bump(joints_BJ2[..., 1], rows)
    target = (y[..., :, None] + x[..., None, :]).flatten(2).softmax(-1)
    return -(target * log_heat_BJRC.flatten(2)).sum(-1)


def pose_losses(
    batch: PoseBatch,
    *,
    joints2d_BJ2: Tensor,
    joints3d_BJ3: Tensor,
    global_orient_B33: Tensor,
    body_pose_B2333: Tensor,
    betas_B10: Tensor,
    weights: LossWeights,
    seen_BJ2: Tensor | None = None,
    log_heat_BJRC: Tensor | None = None,
) -> dict[str, Tensor]:
    """Every term, already weighted, by name; all finite on a batch without any label of that kind.

    Predicted joints are in pixels of the crop (``seen_BJ2`` too, where the network has them) and in metres (any root);
    rotations are matrices.
    """
    label2d = labelled(batch.joints2d, batch.joints2d_conf)
    label3d = labelled(batch.joints3d, batch.joints3d_conf)
    err2d = (joints2d_BJ2 - label2d).abs().sum(-1) / batch.size
    # A far-off point of an untrained net must not drown the batch.
    err2d = err2d.clamp_max(2.0)
    root = root_of(joints3d_BJ3, batch.joints3d_conf)
    err3d = (joints3d_BJ3 - root[:, None] - label3d).abs().sum(-1)
    predicted = torch.cat([global_orient_B33[:, None], body_pose_B2333], 1)
    err_pose = (predicted - rotvec_to_matrix(labelled_rotvec(batch))).square().sum((-2, -1))
    has_pose = batch.has_pose[:, None].to(err_pose.dtype).expand_as(err_pose)
    err_betas = (betas_B10 - labelled_betas(batch)).square()
    has_betas = batch.has_betas[:, None].to(err_betas.dtype).expand_as(err_betas)
    everyone = torch.ones_like(batch.weight)[:, None]
    w = batch.weight
    terms = {
        "joints2d": weights.joints2d * masked_mean(err2d, batch.joints2d_conf, w),
        "joints3d": weights.joints3d * masked_mean(err3d, batch.joints3d_conf, w),
        "pose": weights.pose * masked_mean(err_pose, has_pose, w),
        "betas": weights.betas * masked_mean(err_betas, has_betas, w),
        "limits": weights.limits * masked_mean(excess_over_limits(body_pose_B2333)[:, None], everyone, w),
        "shape_prior": weights.shape_prior * masked_mean(betas_B10.square().sum(1, keepdim=True), everyone, w),
    }
    if seen_BJ2 is not None:
        err_seen = (seen_BJ2 - label2d).abs().sum(-1) / batch.size
        terms["seen"] = weights.seen * masked_mean(err_seen, batch.joints2d_conf, w)
    if log_heat_BJRC is not None:
        terms["heat"] = weights.heat * masked_mean(
            heat_cross_entropy(log_heat_BJRC, label2d, batch.size), batch.joints2d_conf, w
        )
    return terms
