"""HumanML3D's motion features (263 numbers a frame; KIT's 251) from joints and back, batched and differentiable.

A row tells of one frame and of the step to the next: T frames give T-1 rows, and `features_to_joints(..., last=True)`
gives all T frames back. Frame: y up, metres; the heading is taken out of each frame, the first one faces +z.

After HumanML3D's motion_representation.ipynb, to whose numbers these are equal (its `process_file` and
`recover_from_ric`), with two exceptions. Upstream turns the wrong way in the one step in which the heading passes
through 180 degrees from the start's (the arcsine of a quaternion on the wrong hemisphere): here the turn is right.
And a bone that points exactly against its rest direction, NaN upstream, gets one of the rotations that do it.

What upstream does is kept also where it looks odd, since networks are trained on it: the heading of a frame is
smoothed over +-4 seconds while that of frame 0 is not (the first turn is a jump), and it comes from the shoulders'
line minus the hips'. It depends on frames up to 80 later: the last rows of a clip change where the clip goes on.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from human.errors import PosesynError
from human.motion_skeleton import (
    HUMANML3D,
    KIT,
    FeatureLayout,
    bone_lengths,
    get_layout,
    uniform_skeleton,
)

__all__ = [
    "HUMANML3D",
    "KIT",
    "Canonical",
    "FeatureLayout",
    "bone_lengths",
    "canonicalise",
    "features_to_joints",
    "get_layout",
    "heading",
    "joints_to_features",
    "root_path",
    "uniform_skeleton",
]

_SIGMA, _RADIUS = 20.0, 80  # frames; scipy's gaussian_filter1d cuts at 4 sigma


class Canonical(NamedTuple):
    """A motion whose first frame stands over the origin and faces +z, lowest joint at y = 0.

    ``joints`` (B, T, J, 3); the motion as it was: ``turn_about_y(joints, heading_B) + offset_B3``.
    """

    joints: Tensor
    heading_B: Tensor
    offset_B3: Tensor


def turn_about_y(vectors: Tensor, angle: Tensor) -> Tensor:
    """(..., 3) turned about +y by ``angle`` radians (one dimension less, or fewer that broadcast from the left); a
    quarter turn takes +z to +x."""
    angle = angle.reshape(*angle.shape, *[1] * (vectors.ndim - 1 - angle.ndim))
    x, y, z = vectors.unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x + sin * z, y, cos * z - sin * x], -1)


def heading(joints: Tensor, layout: FeatureLayout = HUMANML3D) -> Tensor:
    """(..., J, 3) -> (...) radians about y from +z towards +x, of what is square to the hips' and shoulders' lines."""
    right_hip, left_hip, right_shoulder, left_shoulder = joints[..., list(layout.across), :].unbind(-2)
    return _angle(_forward(right_hip - left_hip + right_shoulder - left_shoulder))


def canonicalise(joints_BTJ3: Tensor, layout: FeatureLayout = HUMANML3D, *, lengths: Tensor | None = None) -> Canonical:
    """Stand the first frame over the origin, facing +z, and put the lowest joint of each motion at y = 0."""
    layout.check_joints(joints_BTJ3)
    valid_BT = _valid(joints_BTJ3, lengths)
    lowest = joints_BTJ3[..., 1].amin(-1).masked_fill(~valid_BT, torch.inf).amin(-1)
    start = joints_BTJ3[:, 0, 0]
    offset = torch.stack([start[:, 0], torch.where(lowest.isinf(), 0, lowest), start[:, 2]], -1)
    facing = heading(joints_BTJ3[:, 0], layout)
    return Canonical(turn_about_y(joints_BTJ3 - offset[:, None, None], -facing), facing, offset)


def joints_to_features(
    joints_BTJ3: Tensor,
    layout: FeatureLayout = HUMANML3D,
    *,
    lengths: Tensor | None = None,
    canonical: bool = True,
    uniform: bool | Tensor = False,
) -> Tensor:
    """Features of motions at ``layout.fps``.

    Args:
        joints_BTJ3: y up, metres (KIT: its files' unit), the first 22 joints of SMPL24 or KIT's 21. A frame that is
            not finite makes all rows of its motion within 80 frames NaN.
        lengths: (B,) frames of each motion that count, 1 to T; None: all.
        canonical: move the motion to where features expect it (see `canonicalise`). Without, heights stay, and the
            first turn goes from +z to the heading.
        uniform: retarget to the layout's own bone lengths, or to the (J,) or (B, J) ones given, first.

    Returns:
        (B, T-1, F), not normalised; rows from ``lengths - 1`` on are 0. All but the contacts have gradients.
    """
    layout.check_joints(joints_BTJ3)
    valid_BT = _valid(joints_BTJ3, lengths)
    joints = joints_BTJ3 if lengths is None else torch.where(valid_BT[..., None, None], joints_BTJ3, 0)
    if isinstance(uniform, Tensor) or uniform:
        joints = uniform_skeleton(joints, _target(uniform, layout, joints), layout)
    if canonical:
        joints = canonicalise(joints, layout, lengths=lengths).joints
    steps = joints[:, 1:] - joints[:, :-1]
    with torch.no_grad():
        contacts = (steps[:, :, list(layout.feet)].square().sum(-1) < layout.contact_threshold).to(joints.dtype)
        contacts = contacts.masked_fill(steps[:, :, list(layout.feet)].sum(-1).isnan(), torch.nan)

    facing_BT = _smooth_heading(joints, valid_BT, layout)
    turn = _wrap(facing_BT[:, :-1] - facing_BT[:, 1:])
    root = joints[:, :, 0]
    root_step = turn_about_y(steps[:, :, 0], -facing_BT[:, 1:])
    on_ground = joints[:, :, 1:] - root[:, :, None] * root.new_tensor([1.0, 0.0, 1.0])
    positions = turn_about_y(on_ground, -facing_BT)
    rows = [
        torch.stack([turn / 2, root_step[..., 0], root_step[..., 2], root[:, :-1, 1]], -1),
        positions[:, :-1].flatten(2),
        _rotations(joints[:, :-1], facing_BT[:, :-1], layout).flatten(2),
        turn_about_y(steps, -facing_BT[:, :-1]).flatten(2),
        contacts,
    ]
    features = torch.cat(rows, -1)
    return features if lengths is None else torch.where(valid_BT[:, 1:, None], features, 0)


def features_to_joints(features_BTF: Tensor, layout: FeatureLayout = HUMANML3D, *, last: bool = False) -> Tensor:
    """Joints of features that are not normalised: HumanML3D's `recover_from_ric`.

    Only the groups "root" and "positions" are read, with ``last`` also the last row's "velocities": the frame after
    the last row is added.

    Returns:
        (B, T, J, 3), or T+1 frames; y up, metres; the first frame over the origin.
    """
    facing_BT, root = root_path(features_BTF, layout)
    positions = features_BTF[..., layout.slices["positions"]].unflatten(-1, (layout.joints - 1, 3))
    ground = root * root.new_tensor([1.0, 0.0, 1.0])
    joints = torch.cat([root[:, :, None], turn_about_y(positions, facing_BT) + ground[:, :, None]], 2)
    if last and joints.shape[1]:
        step = features_BTF[:, -1, layout.slices["velocities"]].unflatten(-1, (layout.joints, 3))
        joints = torch.cat([joints, (joints[:, -1] + turn_about_y(step, facing_BT[:, -1]))[:, None]], 1)
    return joints


def root_path(features_BTF: Tensor, layout: FeatureLayout = HUMANML3D) -> tuple[Tensor, Tensor]:
    """The heading (B, T), radians about y from +z towards +x, and the root's place (B, T, 3), metres."""
    layout.check_features(features_BTF)
    half_turn, step_x, step_z, height = features_BTF[..., layout.slices["root"]].unbind(-1)
    start = torch.zeros_like(half_turn[:, :1])
    facing_BT = -2 * torch.cat([start, half_turn[:, :-1].cumsum(1)], 1)[:, : half_turn.shape[1]]
    step = torch.stack([step_x, torch.zeros_like(step_x), step_z], -1)[:, :-1]
    path = turn_about_y(step, facing_BT[:, 1:]).cumsum(1)
    path = torch.cat([torch.zeros_like(features_BTF[:, :1, :3]), path], 1)[:, : half_turn.shape[1]]
    return facing_BT, torch.stack([path[..., 0], height, path[..., 2]], -1)


def _valid(joints_BTJ3: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, T) which frames count."""
    batch, frames = joints_BTJ3.shape[:2]
    if lengths is None:
        return torch.ones(batch, frames, dtype=torch.bool, device=joints_BTJ3.device)
    lengths = lengths.to(joints_BTJ3.device)
    if lengths.shape != (batch,) or (batch and not bool(((lengths >= 1) & (lengths <= frames)).all())):
        raise PosesynError(
            f"lengths must be {batch} numbers from 1 to {frames} (the frames of the longest motion), "
            f"got {lengths.flatten()[:8].tolist()} of shape {tuple(lengths.shape)}"
        )
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def _target(uniform: bool | Tensor, layout: FeatureLayout, like: Tensor) -> Tensor:
    if isinstance(uniform, Tensor):
        return uniform
    if layout.bone_lengths is None:
        raise PosesynError(f"the bone lengths of the {layout.name} data are not known here: pass them as `uniform`")
    return like.new_tensor(layout.bone_lengths)


def _forward(across: Tensor) -> Tensor:
    """(..., 3) towards the person's right, any length -> (..., 2) the x and z of what is square to it and level, of
    length 1 where it is level itself and shorter where it leans."""
    unit = torch.nn.functional.normalize(across, dim=-1)
    return torch.stack([unit[..., 2], -unit[..., 0]], -1)


def _angle(forward: Tensor) -> Tensor:
    """(..., 2) x and z -> (...) radians; 0 with gradient 0 where no direction is left (the lines stand upright)."""
    none = (forward.square().sum(-1) < 1e-20)[..., None]
    x, z = torch.where(none, forward.new_tensor([0.0, 1.0]), forward).unbind(-1)
    return torch.atan2(x, z)


def _wrap(angle: Tensor) -> Tensor:
    """To [-pi, pi)."""
    return torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi


def _smooth_heading(joints: Tensor, valid_BT: Tensor, layout: FeatureLayout) -> Tensor:
    """(B, T) radians: 0 for the first frame, else the angle of the forward vectors after a Gaussian over time (beyond
    its ends each motion goes on as it is there)."""
    right_hip, left_hip, right_shoulder, left_shoulder = joints[:, :, list(layout.across)].unbind(2)
    # Upstream's inverse kinematics exchanges the hips, and only them: the hips' line counts against the shoulders'.
    forward = _forward(left_hip - right_hip + right_shoulder - left_shoulder)
    at = torch.arange(-_RADIUS, forward.shape[1] + _RADIUS, device=joints.device).clamp_min(0)
    at = torch.minimum(at, valid_BT.sum(1, keepdim=True) - 1)
    padded_B2T = forward.gather(1, at[..., None].expand(-1, -1, 2)).mT
    away = torch.arange(-_RADIUS, _RADIUS + 1, device=joints.device, dtype=joints.dtype)
    weight = torch.softmax(-0.5 * (away / _SIGMA).square(), 0)
    smooth = torch.nn.functional.conv1d(padded_B2T, weight.expand(2, 1, -1), groups=2).mT
    facing = _angle(smooth)
    return torch.cat([torch.zeros_like(facing[:, :1]), facing[:, 1:]], 1)


def _rotations(joints: Tensor, facing_BT: Tensor, layout: FeatureLayout) -> Tensor:
    """(B, T, J-1, 6): of each bone the least rotation from its rest direction, in the frame of the bone before it in
    its chain (of the heading, for the first); the first column, then the second."""
    outs: list[Tensor] = [facing_BT] * layout.joints
    facing = _about_y(facing_BT)
    for chain in layout.chains:
        parent_rotation = facing.mT  # upstream's root rotation takes the motion to +z: the inverse of the heading
        for parent, child in pairwise(chain):
            rotation = _least_rotation(layout.directions[child], joints[:, :, child] - joints[:, :, parent])
            local = parent_rotation.mT @ rotation
            outs[child] = torch.cat([local[..., 0], local[..., 1]], -1)
            parent_rotation = rotation
    return torch.stack(outs[1:], 2)


def _about_y(angle: Tensor) -> Tensor:
    """(...) -> (..., 3, 3)."""
    return torch.stack([turn_about_y(axis.expand(*angle.shape, 3), angle) for axis in torch.eye(3).to(angle)], -1)


def _least_rotation(rest: tuple[int, int, int], bone: Tensor) -> Tensor:
    """(..., 3) -> (..., 3, 3) the rotation of the smallest angle that takes the unit vector ``rest`` to the bone: a
    half turn about ``rest``, then one about the middle of both (exact also where they are nearly opposite)."""
    u = bone.new_tensor(rest)
    middle = u + torch.nn.functional.normalize(bone, dim=-1)
    opposite = middle.square().sum(-1, keepdim=True) < 1e-12
    middle = torch.nn.functional.normalize(torch.where(opposite, u.roll(1), middle), dim=-1)
    eye = torch.eye(3).to(bone)
    return (2 * middle[..., :, None] * middle[..., None, :] - eye) @ (2 * u[:, None] * u - eye)
