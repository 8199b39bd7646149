"""Poses around a mis-predicted one: where the true pose of a challenge may be.

The predicted pose is wrong and the true one unknown. Candidates are drawn from the ways in which estimators err
(joints off by some angle, left and right confused, front and back confused, a limb unlike anything predicted), and,
since the challenge's 2D joints are known, the candidate that explains them best is kept. With ``best_of=1`` nothing
is compared and the candidates stand as drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.errors import PosesynError
from human.joint_limits import clamp_pose
from human.motion import MotionBank, mirror_pose
from human.prediction import Prediction
from human.rng import generator
from human.rotations import matrix_to_rotvec, rotation_about, rotvec_to_matrix
from human.skeleton import SMPL24
from synth.eem import JOINT_WEIGHTS, extraction_error, joint_weights

_ARMS = [SMPL24.index(j) - 1 for s in ("left", "right") for j in (f"{s}_shoulder", f"{s}_elbow", f"{s}_wrist")]
_LEGS = [SMPL24.index(j) - 1 for s in ("left", "right") for j in (f"{s}_hip", f"{s}_knee", f"{s}_ankle")]


@dataclass
class VariationConfig:
    """How candidates are drawn, angles in degrees.

    Args:
        best_of: candidates for each sample; the one whose 2D joints fit the challenge's labels best is used.
        joint_noise: largest standard deviation of the noise on each joint; each candidate draws its own below it.
        orient_noise: likewise of the body's orientation.
        mocap_p: limbs (arms, legs or both) taken, in part, from a frame of free motion.
        mirror_p: limbs taken from the mirrored prediction (left-right confusion).
        turn_p: the body turned by half about its own vertical (front-back confusion).
        beta_noise: standard deviation added to the predicted shape.
    """

    best_of: int = 64
    joint_noise: float = 25.0
    orient_noise: float = 20.0
    mocap_p: float = 0.35
    mirror_p: float = 0.15
    turn_p: float = 0.15
    beta_noise: float = 1.0

    def __post_init__(self) -> None:
        if self.best_of < 1:
            raise PosesynError(f"variation.best_of must be at least 1, got {self.best_of}")


@dataclass(frozen=True)
class Variations:
    """S poses: ``betas`` (S,10), ``body_pose`` (S,23,3), ``global_orient`` (S,3); ``fit`` (S,) pixels, the 2D error
    of the chosen, NaN where nothing was compared.
    """

    betas: Tensor
    body_pose: Tensor
    global_orient: Tensor
    fit: Tensor


def vary(
    prediction: Prediction,
    joints2d_SJ2: Tensor,
    conf_SJ: Tensor,
    seeds: list[int],
    body: BodyModel,
    bank: MotionBank,
    config: VariationConfig,
) -> Variations:
    """One pose per seed around each of the S predictions; a function of prediction, labels and seed alone.

    Args:
        prediction: S predictions (a challenge appears once for each sample made of it).
        joints2d_SJ2, conf_SJ: the challenges' POSE32 labels, pixels of the crop.
        seeds: S integers.
    """
    drawn = [
        _candidates(prediction.body_pose[i], prediction.global_orient[i], int(s), bank, config)
        for i, s in enumerate(seeds)
    ]
    pose_SM, orient_SM = torch.stack([p for p, _ in drawn]), torch.stack([o for _, o in drawn])
    count, many = pose_SM.shape[:2]
    betas = torch.stack([_shape(prediction.betas[i], int(s), config) for i, s in enumerate(seeds)])
    pose_SM = clamp_pose(pose_SM.flatten(0, 1)).unflatten(0, (count, many))
    if many == 1:
        return Variations(betas, pose_SM[:, 0], orient_SM[:, 0], torch.full((count,), torch.nan))
    with torch.inference_mode():
        joints = body.joints(betas.repeat_interleave(many, 0), pose_SM.flatten(0, 1), orient_SM.flatten(0, 1), None)
    error_SM = image_error(joints.unflatten(0, (count, many)), joints2d_SJ2, conf_SJ)
    best = error_SM.argmin(1)
    rows = torch.arange(count)
    return Variations(betas, pose_SM[rows, best], orient_SM[rows, best], error_SM[rows, best])


def _shape(betas_10: Tensor, seed: int, config: VariationConfig) -> Tensor:
    noise = generator("shape", seed).standard_normal(10) * config.beta_noise
    return (betas_10 + torch.from_numpy(noise).float()).clamp(-2.5, 2.5)


def _candidates(
    pose_23x3: Tensor, orient_3: Tensor, seed: int, bank: MotionBank, config: VariationConfig
) -> tuple[Tensor, Tensor]:
    """(M,23,3) and (M,3) candidates."""
    rng = generator("variation", seed)
    many = config.best_of
    pose = pose_23x3.repeat(many, 1, 1)
    mirrored = mirror_pose(pose_23x3)
    frames, _ = bank.sample(rng.integers(len(bank), size=many), rng.random(many) < 0.5)
    limbs = [_ARMS, _LEGS, _ARMS + _LEGS]
    u = rng.random((many, 3))
    turn = torch.zeros(many)
    for m in range(many):
        if u[m, 0] < config.mocap_p:
            chosen = limbs[rng.integers(3)]
            share = rng.uniform(0.4, 1.0)
            pose[m, chosen] = (1 - share) * pose[m, chosen] + share * torch.from_numpy(frames[m, chosen]).float()
        if u[m, 1] < config.mirror_p:
            chosen = limbs[rng.integers(3)]
            pose[m, chosen] = mirrored[chosen]
        if u[m, 2] < config.turn_p:
            turn[m] = torch.pi
    spread = np.deg2rad(config.joint_noise) * rng.random((many, 1, 1))
    pose = pose + torch.from_numpy(spread * rng.standard_normal((many, 23, 3))).float()
    tilt = torch.from_numpy(
        np.deg2rad(config.orient_noise) * rng.random((many, 1)) * rng.standard_normal((many, 3))
    ).float()
    # The turn is about the body's own vertical, the tilt in the camera's frame.
    orient = rotvec_to_matrix(tilt) @ rotvec_to_matrix(orient_3.repeat(many, 1)) @ rotation_about("y", turn)
    return pose, matrix_to_rotvec(orient)


def image_error(joints_SMJ3: Tensor, target_SJ2: Tensor, conf_SJ: Tensor) -> Tensor:
    """(S,M) pixels: equation 1 of the EEM between a candidate under the best-fitting weak-perspective camera and the
    labels.
    """
    weights = joint_weights(JOINT_WEIGHTS)
    count, many = joints_SMJ3.shape[:2]
    w = (conf_SJ > 0).float() * weights
    w = (w / w.sum(1, keepdim=True).clamp_min(1e-6))[:, None, :, None]
    # where, not the weights: coordinates of unlabelled joints may be junk.
    target_SJ2 = torch.where(conf_SJ[..., None] > 0, target_SJ2, 0.0)
    flat, target = joints_SMJ3[..., :2], target_SJ2[:, None]
    flat_c, target_c = flat - (w * flat).sum(2, keepdim=True), target - (w * target).sum(2, keepdim=True)
    scale = (w * flat_c * target_c).sum((2, 3)) / (w * flat_c.square()).sum((2, 3)).clamp_min(1e-9)
    placed = flat * scale.clamp_min(1.0)[..., None, None]
    error = extraction_error(
        placed.flatten(0, 1), target_SJ2.repeat_interleave(many, 0), conf_SJ.repeat_interleave(many, 0), weights
    )
    return error.nan_to_num(torch.inf).unflatten(0, (count, many))
