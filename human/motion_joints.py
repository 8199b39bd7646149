"""From body parameters to the 22 joints that motion features are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from human.body import BodyModel
from human.errors import PosesynError
from human.lbs import forward_kinematics
from human.mocap.clip import Motion
from human.motion import MotionBank
from human.rotations import rotvec_to_matrix

JOINTS = 22  # SMPL24 without the hands


def body_to_joints22(
    body: BodyModel, betas: Tensor, body_pose: Tensor, root: Tensor, pelvis: Tensor | None = None
) -> Tensor:
    """Kinematic joints of a motion, without the mesh; has gradients.

    Args:
        betas: (10,) one shape, or (..., 10).
        body_pose: (..., 23, 3) rotation vectors.
        root: (..., 3) rotation vectors of the pelvis.
        pelvis: (..., 3) metres, where the pelvis lies; None: at the origin. With SMPL's `transl` add the rest pelvis.

    Returns:
        (..., 22, 3) metres, in the frame of ``root``.
    """
    shape = body_pose.shape[:-2]
    places = [root] if pelvis is None else [root, pelvis]
    if body_pose.shape[-2:] != (23, 3) or any(place.shape != (*shape, 3) for place in places):
        raise PosesynError(
            "body_to_joints22 needs body_pose (..., 23, 3) with root and pelvis (..., 3), got "
            f"{', '.join(str(tuple(x.shape)) for x in (body_pose, *places))}"
        )
    turns = torch.cat([root[..., None, :], body_pose[..., : JOINTS - 1, :]], -2).to(body.J_template)
    betas = betas.to(body.J_template).expand(*shape, body.num_betas).reshape(-1, body.num_betas)
    rest = body.J_template[:JOINTS] + torch.einsum("jcb,nb->njc", body.J_shapedirs[:JOINTS], betas)
    _, joints = forward_kinematics(rotvec_to_matrix(turns.reshape(-1, JOINTS, 3)), rest, body.parents[:JOINTS])
    joints = (joints - joints[:, :1]).reshape(*shape, JOINTS, 3)
    return joints if pelvis is None else joints + pelvis.to(joints)[..., None, :]


@torch.no_grad()
def bank_to_joints(
    bank: MotionBank, body: BodyModel, clip: str | int, fps: float = 20.0, *, betas: Tensor | None = None
) -> Tensor:
    """(T, 22, 3) a clip of a bank at another rate, on this body, y up, metres; its lowest joint touches y = 0.

    Args:
        clip: name or number.
        betas: (10,) the body's shape; None: the mean.
    """
    if bank.fps <= 0:
        raise PosesynError("this motion bank holds single poses in no order: they make no motion")
    if isinstance(clip, int):
        if not 0 <= clip < len(bank.clip_names):
            raise PosesynError(f"clips of this bank are numbered from 0 to {len(bank.clip_names) - 1}, got {clip}")
        clip = bank.clip_names[clip]
    rows = bank.frames(clip)
    motion = Motion(bank.poses[rows], bank.root[rows], bank.position[rows], bank.fps, clip).resampled(fps)
    pose, root, pelvis = (
        torch.tensor(x, device=body.J_template.device) for x in (motion.body_pose, motion.global_orient, motion.transl)
    )
    betas = body.J_template.new_zeros(body.num_betas) if betas is None else betas
    joints = body_to_joints22(body, betas, pose, root, pelvis)
    joints[..., 1] -= joints[..., 1].min()
    return joints
