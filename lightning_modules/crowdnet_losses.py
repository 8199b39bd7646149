"""The loss of 3DCrowdNet (CVPR 2022, §5 and eq. 1-2, in the released code's form): L1, everywhere.

The original's loss acts twice on a joint, on its annotation and on that of the fitted body; here a sample has one set
of labels. Sums run over what is labelled and are divided by the size of the whole batch, as there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from human.batch import PoseBatch, root_of
from human.rotations import matrix_to_rotvec
from lightning_modules.crowdnet_conventions import EXTREMITIES, GUIDE_STRIDE, IN_POSE32, inside, label_cells
from lightning_modules.losses import (
    LossWeights,
    excess_over_limits,
    labelled,
    labelled_betas,
    labelled_rotvec,
    masked_mean,
)
from lightning_modules.ranks import rank_mean

#: The paper's weights; the two last terms stand in for VPoser, which keeps the original's poses human.
PAPER_WEIGHTS = LossWeights(1.0, 1.0, 0.0, 1.0, 1.0, 1.0, limits=0.0, shape_prior=0.0)
SIXD_WEIGHTS = LossWeights(1.0, 1.0, 0.0, 1.0, 1.0, 1.0, limits=0.2, shape_prior=0.002)
#: Of both terms in the picture, which are in cells of the input heat maps.
PICTURE = 1 / 8


def mean_l1(said: Tensor, label: Tensor, known: Tensor, weight_B: Tensor) -> Tensor:
    """Mean of |said - label| over all elements (B,...), those that are not ``known`` counting as 0."""
    error = torch.where(known, (said - label).abs(), said.new_zeros(()))
    share = (weight_B / rank_mean(weight_B.mean()).clamp_min(1e-6)).view(-1, *[1] * (error.ndim - 1))
    return (error * share).mean()


def nearest_rotvec(label: Tensor, said: Tensor) -> Tensor:
    """(...,3) the rotation vector of the same rotation as ``label`` that is nearer to ``said``: itself or the one that
    goes round the other way. A person who faces the camera is half a turn from SMPL's frame, where one is as good as
    the other.
    """
    angle = label.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    other = label * (1 - 2 * torch.pi / angle)
    nearer = (other - said).square().sum(-1, keepdim=True) < (label - said).square().sum(-1, keepdim=True)
    return torch.where(nearer & (angle > 0.1), other, label)


def crowdnet_losses(
    batch: PoseBatch,
    *,
    cells_B153: Tensor,
    feature_cells: int,
    depth_cells: int,
    joints2d_B32: Tensor,
    joints3d_B32: Tensor,
    rotations_B24: Tensor,
    betas: Tensor,
    weights: LossWeights,
    extremities: bool = True,
) -> dict[str, Tensor]:
    """The weighted terms by name.

    Args:
        batch: labels.
        cells_B153: joints found in the picture, in cells of ``feature_cells`` x ``feature_cells`` x ``depth_cells``.
        joints2d_B32, joints3d_B32: of the body; pixels, and metres relative to the pelvis.
        rotations_B24: (B,24,3,3).
        betas: (B,10).
        extremities: whether the pose loss acts on ankles, feet, wrists and hands.
    """
    w, size, fine = batch.weight, batch.size, batch.size // GUIDE_STRIDE // feature_cells
    target, known = label_cells(batch, fine * feature_cells, fine * depth_cells)
    seen, solid = batch.joints2d_conf[:, IN_POSE32] > 0, batch.joints3d_conf[:, IN_POSE32] > 0
    pixels = labelled(batch.joints2d, batch.joints2d_conf)[:, IN_POSE32]
    metres = labelled(batch.joints3d, batch.joints3d_conf)[:, IN_POSE32]
    seen = seen & inside(pixels, size)
    relative = (joints3d_B32 - root_of(joints3d_B32, batch.joints3d_conf)[:, None])[:, IN_POSE32]

    rotvec = matrix_to_rotvec(rotations_B24)
    label = nearest_rotvec(labelled_rotvec(batch), rotvec.detach())
    posed = batch.has_pose[:, None, None].repeat(1, 24, 1)
    if not extremities:
        posed[:, EXTREMITIES] = False

    terms = {
        "seen": weights.seen * PICTURE * mean_l1(cells_B153 * fine, target, known, w),
        "joints2d": weights.joints2d
        * PICTURE
        * mean_l1(joints2d_B32[:, IN_POSE32] / GUIDE_STRIDE, pixels / GUIDE_STRIDE, seen[..., None], w),
        "joints3d": weights.joints3d * mean_l1(relative, metres, solid[..., None], w),
        "pose": weights.pose * mean_l1(rotvec, label, posed, w),
        "betas": weights.betas * mean_l1(betas, labelled_betas(batch), batch.has_betas[:, None], w),
    }
    everyone = torch.ones_like(w)[:, None]
    if weights.limits:
        terms["limits"] = weights.limits * masked_mean(excess_over_limits(rotations_B24[:, 1:])[:, None], everyone, w)
    if weights.shape_prior:
        terms["shape_prior"] = weights.shape_prior * masked_mean(betas.square().sum(1, keepdim=True), everyone, w)
    return terms
