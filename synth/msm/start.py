"""Where a challenge's motions begin: the predicted pose held still, as codes (PoseSyn §3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from human.body import BodyModel
from human.camera import level_flip
from human.motion_features import HUMANML3D, canonicalise, joints_to_features
from human.motion_joints import body_to_joints22
from human.motion_skeleton import bone_lengths, uniform_skeleton
from human.prediction import Prediction
from human.record import Record
from human.rotations import matrix_to_rotvec, rotation_about, rotvec_to_matrix
from synth.msm.pair import MotionPair
from synth.scene import in_fixed_batches


@dataclass(frozen=True)
class Starts(Record):
    """K poses in the motion frame: y up, metres, over the origin, facing +z.

    Attributes:
        codes: (K, P) the pose held for T frames, P = (T - 1) // 4.
        orient: (K, 3) rotation vector of the pelvis in the pose.
        heading: (K,) radians by which the person is turned about y away from +z. The camera is taken for level.
        bones: (K, 22) metres, the person's bone lengths; the codes tell of a skeleton of mean ones.
        betas: (K, 10) the person's shape.
    """

    codes: Tensor
    orient: Tensor
    heading: Tensor
    bones: Tensor
    betas: Tensor


@torch.no_grad()
def start_poses(predictions: Prediction, body: BodyModel, pair: MotionPair, frames: int) -> Starts:
    """The starts of finite predictions.

    Args:
        frames: how long the pose is held (the paper's T); at least one code's and one more.
    """
    betas = predictions.betas.clamp(-2.5, 2.5)
    seen = body_to_joints22(body, betas, predictions.body_pose, predictions.global_orient).cpu()
    upright = level_flip(seen)[:, None]
    standing = canonicalise(uniform_skeleton(upright, upright.new_tensor(HUMANML3D.bone_lengths)))

    def encode(joints_B1J3: Tensor) -> tuple[Tensor]:
        features = joints_to_features(joints_B1J3.expand(-1, frames, -1, -1))
        return (pair.encode(features.to(pair.mean_F)).cpu(),)

    (codes,) = in_fixed_batches(encode, standing.joints)
    facing = rotation_about("y", -standing.heading_B) @ level_flip(rotvec_to_matrix(predictions.global_orient), -2)
    return Starts(codes, matrix_to_rotvec(facing), standing.heading_B, bone_lengths(seen), betas)
