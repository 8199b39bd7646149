"""HybrIK's losses (Li et al., CVPR 2021, §3.3, and the released code), each masked by what a sample has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from human.batch import HIPS, PELVIS, PoseBatch
from human.body import BodyModel
from human.camera import project
from human.rotations import rotvec_to_matrix
from lightning_modules.hybrik_camera import fit_camera, pixels_to_uv
from lightning_modules.hybrik_kinematics import RestSkeleton, pose29, twists_of
from lightning_modules.losses import labelled, labelled_betas, labelled_rotvec, masked_mean


@dataclass
class HybrIKLoss:
    """Weight of each term; the defaults are the original's.

    ``uvd``: joints in the volume, L1 in cells of 1/64 or, for ``uvd_kind`` "laplace", the likelihood of a Laplace
    distribution whose width the network says too (null: "laplace" on an HRNet, else "l1", as the original trains).
    ``twist``: (cos, sin); ``pose``: rotation matrices; ``betas``: shape; ``camera``: the camera fitted to the labels.
    """

    uvd: float = 1.0
    twist: float = 1.0
    pose: float = 0.01
    betas: float = 1.0
    camera: float = 1.0
    uvd_kind: str | None = None


class Labels(NamedTuple):
    """Labels in HybrIK's coordinates: 0 with weight 0 where there are none.

    ``uvd``, ``uvd_weight`` (B,29,3); ``twist`` (B,23,2), ``twist_weight`` (B,23); ``rotations`` (B,24,3,3);
    ``betas`` (B,10); ``camera`` (B,3), ``has_camera`` (B,); ``from_hips`` (B,): depths are relative to the middle of
    the hips, not to the pelvis.
    """

    uvd: Tensor
    uvd_weight: Tensor
    twist: Tensor
    twist_weight: Tensor
    rotations: Tensor
    betas: Tensor
    camera: Tensor
    has_camera: Tensor
    from_hips: Tensor


@torch.no_grad()
def make_labels(batch: PoseBatch, body: BodyModel, skeleton: RestSkeleton, focal: float, extent: float) -> Labels:
    """What ``batch`` says. The five leaves follow from pose and shape, their pixels from the sample's own camera."""
    conf2d, conf3d = batch.joints2d_conf[:, :24], batch.joints3d_conf[:, :24]
    uv = pixels_to_uv(labelled(batch.joints2d[:, :24], conf2d), batch.size)
    joints = labelled(batch.joints3d[:, :24], conf3d)
    has_pose, has_both = batch.has_pose, batch.has_pose & batch.has_betas
    rotations = rotvec_to_matrix(labelled_rotvec(batch).float())
    betas = labelled_betas(batch).float()
    rest = skeleton(betas)
    twist, defined = twists_of(rotations, rest)

    posed = pose29(rotations, rest)
    leaves = posed[:, 24:] - posed[:, :1]
    placed = has_both & batch.has_transl
    transl = torch.where(placed[:, None], batch.transl, 0.0).float()
    pelvis = body.joints(betas, rotations[:, 1:], rotations[:, 0], transl)[:, :1]
    intrinsics = torch.where(placed[:, None, None], batch.intrinsics, torch.eye(3, device=betas.device))
    leaves_uv = pixels_to_uv(project(leaves + pelvis, intrinsics), batch.size)

    from_hips = conf3d[:, PELVIS] <= 0
    camera, fits = fit_camera(joints, uv, ((conf2d > 0) & (conf3d > 0)).to(uv.dtype), focal)
    # Depths of joints count from the labelled root; those of the leaves from the pelvis.
    leaf2d = placed.to(uv.dtype)[:, None].expand(-1, 5)
    leaf3d = (has_both & ~from_hips).to(uv.dtype)[:, None].expand(-1, 5)
    weight2d, weight3d = torch.cat([conf2d, leaf2d], 1), torch.cat([conf3d, leaf3d], 1)
    return Labels(
        uvd=torch.cat([torch.cat([uv, leaves_uv], 1), torch.cat([joints, leaves], 1)[..., 2:] / extent], -1),
        uvd_weight=torch.stack([weight2d, weight2d, weight3d], -1),
        twist=twist,
        twist_weight=(defined & has_pose[:, None]).to(uv.dtype),
        rotations=rotations,
        betas=betas,
        camera=torch.where(fits[:, None], camera, 0.0),
        has_camera=fits & ~from_hips,
        from_hips=from_hips,
    )


def hybrik_losses(
    batch: PoseBatch,
    labels: Labels,
    *,
    uvd_BJ3: Tensor,
    sigma_BJ1: Tensor | None,
    twist_B232: Tensor,
    rotations_B2433: Tensor,
    betas_B10: Tensor,
    camera_BC: Tensor,
    weights: HybrIKLoss,
) -> dict[str, Tensor]:
    """Every term, already weighted, by name; ``sigma_BJ1`` (the width of each joint's distribution) chooses the Laplace
    likelihood. ``camera_BC``: the scale, and the offset where the network says one.
    """
    w = batch.weight
    hips = uvd_BJ3[:, HIPS, 2].mean(1)
    shift = torch.where(labels.from_hips, hips, torch.zeros_like(hips))[:, None]
    uvd = torch.cat([uvd_BJ3[..., :2], uvd_BJ3[..., 2:] - shift[..., None]], -1)
    distance = (uvd - labels.uvd).abs()
    error = 64 * distance if sigma_BJ1 is None else laplace_nll(distance, sigma_BJ1)
    has_pose, has_betas = (x[:, None].to(w.dtype) for x in (batch.has_pose, batch.has_betas))
    has_camera = labels.has_camera[:, None].to(w.dtype)
    off_camera = (camera_BC - labels.camera[:, : camera_BC.shape[1]]).square()
    # Scale and offset are two terms of the same weight in the original; each is a mean over its numbers.
    camera = off_camera[:, 0] + (off_camera[:, 1:].mean(1) if camera_BC.shape[1] > 1 else 0.0)
    off_twist = (twist_B232 - labels.twist).square().mean(-1)
    off_pose = (rotations_B2433 - labels.rotations).square().mean((1, 2, 3))
    off_betas = (betas_B10 - labels.betas).square().mean(1)
    return {
        "uvd": weights.uvd * masked_mean(error.flatten(1), labels.uvd_weight.flatten(1), w),
        "twist": weights.twist * masked_mean(off_twist, labels.twist_weight, w),
        "pose": weights.pose * masked_mean(off_pose[:, None], has_pose, w),
        "betas": weights.betas * masked_mean(off_betas[:, None], has_betas, w),
        "camera": weights.camera * masked_mean(camera[:, None], has_camera, w),
    }


def laplace_nll(distance: Tensor, sigma: Tensor) -> Tensor:
    """Minus the log likelihood of the residual, as the original has it: log(sigma sqrt(2 pi)) + distance / (sqrt(2)
    sigma).
    """
    return torch.log(sigma * math.sqrt(2 * math.pi)) + distance / (math.sqrt(2) * sigma + 1e-5)
