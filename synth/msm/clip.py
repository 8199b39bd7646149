"""The motion around the frame that a slot shows, as bodies before the camera, for engines that make videos."""

from __future__ import annotations

import torch
from torch import Tensor

from human.body import BodyModel
from human.fit import fit_joints3d
from human.rotations import matrix_to_rotvec, rotvec_to_matrix
from synth.scene import in_fixed_batches

_BATCH = 64


def window(frame_S: Tensor, first: int, stop_S: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """(S, length) numbers of the frames about ``frame_S``, and (S,) where among them it is.

    Windows lie in ``first`` .. ``stop_S - 1`` with the frame as near to their middle as that allows; a motion shorter
    than its window stands still at its end.
    """
    start_S = torch.minimum(frame_S - length // 2, stop_S - length).clamp_min(first)
    start_S = torch.minimum(start_S, frame_S)
    index = start_S[:, None] + torch.arange(length)
    return torch.minimum(index, (stop_S - 1).clamp_min(frame_S)[:, None]), frame_S - start_S


def fit_window(
    joints_SFJ3: Tensor, betas_S10: Tensor, turn_S33: Tensor, keep_S: Tensor, body: BodyModel, worst: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Bodies of every frame: pose (S,F,23,3), orientation (S,F,3) and offset from the kept frame (S,F,3), camera axes.

    Args:
        joints_SFJ3: metres, the motion's axes.
        turn_S33: from those to the camera's.
        worst: metres; frames whose bodies lie further from the joints are NaN.
    """
    slots, frames = joints_SFJ3.shape[:2]

    def fit(joints: Tensor, betas: Tensor) -> tuple[Tensor, ...]:
        found = fit_joints3d(body, joints, betas=betas, tolerance=0.0, on_bad="mask")
        good = found.valid & (found.error < worst)
        return found.body_pose, found.global_orient, found.transl, good

    pose, orient, transl, good = in_fixed_batches(
        fit, joints_SFJ3.flatten(0, 1), betas_S10.repeat_interleave(frames, 0), size=_BATCH
    )
    orient = matrix_to_rotvec(turn_S33.repeat_interleave(frames, 0) @ rotvec_to_matrix(orient))
    pose, orient, transl = (
        torch.where(good.view(-1, *[1] * (v.ndim - 1)), v, torch.nan).unflatten(0, (slots, frames))
        for v in (pose, orient, transl)
    )
    offset = (transl - transl[torch.arange(slots), keep_S][:, None]) @ turn_S33.mT
    return pose, orient, offset
