"""Does a generated motion stand on its feet, slide or jump? Checks and a gentle repair, batched.

Joints (B, T, 22, 3) are HumanML3D's, y up, metres. Frames of padding (from ``lengths`` on) and frames that are not
finite take no part. Thresholds lie beyond what motion capture does (the free bank, CMU, AMASS at 20 frames a second).
"""

from __future__ import annotations

import torch
from torch import Tensor

from human.errors import PosesynError
from human.motion_features import HUMANML3D

ANKLES, TOES = [7, 8], [10, 11]
TOE_LOW, ANKLE_LOW = 0.05, 0.12  # metres above the floor; a standing person's are at 0.02 and 0.07
PLANTED_SPEED, SWING_SPEED = 0.3, 1.5  # m/s: a foot that slides up to the one is planted, from the other on it swings
ROOT_JUMP, POSE_JUMP = 0.2, 0.5  # metres; the largest of real motion: 0.14 (a run of AMASS), 0.43 (a spin kick)


def floor_height(joints_BTJ3: Tensor, lengths: Tensor | None = None) -> Tensor:
    """(B,) metres, the lowest joint of each motion; NaN where no frame counts."""
    counts_BT = _counting(joints_BTJ3, lengths)
    if not joints_BTJ3.shape[1]:
        return joints_BTJ3.new_full((len(joints_BTJ3),), torch.nan)
    lowest = joints_BTJ3[..., 1].amin(-1).masked_fill(~counts_BT, torch.inf).amin(-1)
    return lowest.masked_fill(lowest.isinf(), torch.nan)


def foot_contacts(joints_BTJ3: Tensor, lengths: Tensor | None = None, fps: float = HUMANML3D.fps) -> Tensor:
    """(B, T, 4) bool: left ankle, left toes, right ankle, right toes are near the floor and hardly move in the step
    before or after (HumanML3D's speed, 0.9 m/s, with heights, which its own numbers leave out)."""
    counts_BT = _counting(joints_BTJ3, lengths)
    feet = joints_BTJ3[:, :, list(HUMANML3D.feet)]
    low = feet[..., 1] - floor_height(joints_BTJ3, lengths)[:, None, None] < feet.new_tensor([ANKLE_LOW, TOE_LOW] * 2)
    limit = HUMANML3D.contact_threshold**0.5 * HUMANML3D.fps / fps
    still = (feet.diff(dim=1).norm(dim=-1) < limit) & (counts_BT[:, 1:] & counts_BT[:, :-1])[..., None]
    none = torch.zeros_like(low[:, :1])
    return low & counts_BT[..., None] & (torch.cat([none, still], 1) | torch.cat([still, none], 1))[:, : low.shape[1]]


def foot_slide(joints_BTJ3: Tensor, lengths: Tensor | None = None, fps: float = HUMANML3D.fps) -> Tensor:
    """(B,) m/s, the mean speed over the ground of the foot that is on it, of the slower one where both are; NaN where
    none ever is. Walks of motion capture have 0.03 to 0.1, spins and dances up to 0.6."""
    speed, on_floor = _standing_foot(joints_BTJ3, lengths, fps)[1:]
    total = torch.where(on_floor, speed, 0).sum(1)
    return total / on_floor.sum(1)


def jumps(
    joints_BTJ3: Tensor, lengths: Tensor | None = None, *, root: float = ROOT_JUMP, pose: float = POSE_JUMP
) -> Tensor:
    """(B, T) bool: the step to this frame is another than those around it let expect, or the frame is not finite.

    Args:
        root, pose: metres, at 20 frames a second, that the step of the pelvis, and of any joint about it, may differ
            from the median of five steps. In motions of less than four frames: that the step may be long.
    """
    counts_BT = _counting(joints_BTJ3, lengths)
    broken = ~joints_BTJ3.isfinite().flatten(2).all(-1)
    if lengths is not None:
        broken &= _within(joints_BTJ3, lengths)
    if joints_BTJ3.shape[1] < 2:
        return broken
    steady = counts_BT[:, 1:] & counts_BT[:, :-1]
    pelvis = joints_BTJ3[:, :, :1]
    limits = ((pelvis, root), (joints_BTJ3[:, :, 1:] - pelvis, pose))
    jumped = torch.stack([_surprise(points, steady) > limit for points, limit in limits]).any(0)
    return broken | torch.cat([torch.zeros_like(jumped[:, :1]), jumped], 1)


def ground_motion(joints_BTJ3: Tensor, lengths: Tensor | None = None, fps: float = HUMANML3D.fps) -> Tensor:
    """The motion with its lowest joint at y = 0 and without the sliding of its standing foot.

    Only the path of the whole person changes, never a pose: each step gives back what the standing foot slid, all of
    it for a slow foot and nothing for one that swings, evened out over five steps.
    """
    floor = floor_height(joints_BTJ3, lengths)
    up = torch.tensor([0.0, 1.0, 0.0]).to(joints_BTJ3)
    grounded = joints_BTJ3 - torch.where(floor.isnan(), 0, floor)[:, None, None, None] * up
    if joints_BTJ3.shape[1] < 3:
        return grounded
    step, speed, on_floor = _standing_foot(grounded, lengths, fps)
    share = ((SWING_SPEED - speed) / (SWING_SPEED - PLANTED_SPEED)).clamp(0, 1) * on_floor
    back = torch.where(on_floor[..., None], -step * share[..., None], 0)
    inside = torch.ones_like(share) if lengths is None else _within(joints_BTJ3, lengths)[:, 1:].to(share)
    near = torch.nn.functional.pad(torch.cat([back, inside[..., None]], -1).mT, (2, 2)).unfold(2, 5, 1).sum(-1).mT
    even = near[..., :2] / near[..., 2:].clamp_min(1) * inside[..., None]
    path = torch.cat([torch.zeros_like(even[:, :1]), even.cumsum(1)], 1)
    return grounded + torch.stack([path[..., 0], torch.zeros_like(path[..., 0]), path[..., 1]], -1)[:, :, None]


def _standing_foot(joints_BTJ3: Tensor, lengths: Tensor | None, fps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of the slower toes of those near the floor in both frames of a step: the step (B, T-1, 2) x and z, its speed
    (B, T-1) m/s, and where there is such a foot (B, T-1)."""
    counts_BT = _counting(joints_BTJ3, lengths)
    toes = joints_BTJ3[:, :, TOES]
    low = toes[..., 1] - floor_height(joints_BTJ3, lengths)[:, None, None] < TOE_LOW
    low &= counts_BT[..., None]
    step = toes[:, 1:, :, ::2] - toes[:, :-1, :, ::2]
    speed = (step.norm(dim=-1) * fps).masked_fill(~(low[:, 1:] & low[:, :-1]), torch.inf)
    slowest, which = speed.min(-1)
    on_floor = slowest.isfinite()
    step = step.gather(2, which[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
    return step, slowest, on_floor


def _surprise(points_BTN3: Tensor, steady: Tensor) -> Tensor:
    """(B, T-1) metres by which the largest step of any point differs from the median of the five steps around it, or
    from none where fewer than three of those are ``steady``; 0 where the step itself is not."""
    step = torch.where(steady[..., None, None], points_BTN3.diff(dim=1), 0)
    around = torch.where(steady[..., None, None], step, torch.nan)
    around = torch.nn.functional.pad(around, (0, 0, 0, 0, 2, 2), value=torch.nan).unfold(1, 5, 1)
    known = torch.nn.functional.pad(steady, (2, 2)).unfold(1, 5, 1).sum(-1)
    expected = torch.where((known >= 3)[..., None, None], around.nanmedian(-1).values, 0)
    return torch.where(steady[..., None, None], step - expected, 0).norm(dim=-1).amax(-1)


def _within(joints_BTJ3: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(joints_BTJ3.shape[1], device=joints_BTJ3.device) < lengths.to(joints_BTJ3.device)[:, None]


def _counting(joints_BTJ3: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, T) frames that are finite and no padding."""
    shape = tuple(joints_BTJ3.shape)
    if len(shape) != 4 or shape[2:] != (HUMANML3D.joints, 3):
        raise PosesynError(f"motion checks need joints of shape (B, T, {HUMANML3D.joints}, 3), got {shape}")
    if lengths is not None and lengths.shape != shape[:1]:
        raise PosesynError(f"lengths must be {shape[0]} numbers, one for each motion, got {tuple(lengths.shape)}")
    finite = joints_BTJ3.isfinite().flatten(2).all(-1)
    return finite if lengths is None else finite & _within(joints_BTJ3, lengths)
