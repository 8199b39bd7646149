"""How far each joint of SMPL's body bends: boxes on the rotation vectors of `body_pose`.

Signs in SMPL's T-pose frame (y up, facing +z, left = +x): a knee bends about +x; the left elbow about -y, the right
about +y; a hip swings the leg forward about -x; the left shoulder lowers the arm about -z and brings it forward
about -y. The ranges are set by hand, a little wider than clinical tables of healthy adults' motion, and wider still
where SMPL spreads one anatomical motion over several joints or a twist mixes into a bend.
"""

import math

import torch
from torch import Tensor

from human.errors import PosesynError
from human.skeleton import SMPL24

# degrees: (low, high) about x, y, z; of a pair, the left joint
_DEGREES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "left_hip": ((-130, 35), (-50, 60), (-35, 65)),
    "spine1": ((-25, 45), (-30, 30), (-25, 25)),
    "left_knee": ((-5, 155), (-15, 15), (-10, 10)),
    "spine2": ((-20, 40), (-30, 30), (-25, 25)),
    "left_ankle": ((-35, 55), (-30, 30), (-30, 30)),
    "spine3": ((-20, 35), (-30, 30), (-25, 25)),
    "left_foot": ((-65, 35), (-10, 10), (-10, 10)),
    "neck": ((-40, 45), (-50, 50), (-35, 35)),
    "left_collar": ((-25, 25), (-35, 30), (-20, 40)),
    "head": ((-35, 40), (-50, 50), (-35, 35)),
    "left_shoulder": ((-100, 100), (-140, 60), (-100, 110)),
    "left_elbow": ((-95, 95), (-155, 5), (-50, 50)),
    "left_wrist": ((-40, 40), (-40, 40), (-85, 80)),
    "left_hand": ((-15, 15), (-20, 20), (-95, 30)),
}


def _limits() -> Tensor:
    rows = []
    for name in SMPL24.joints[1:]:
        x, y, z = _DEGREES[name.replace("right_", "left_")]
        if name.startswith("right_"):  # mirrored in x: rotations about y and z change sign
            y, z = (-y[1], -y[0]), (-z[1], -z[0])
        rows.append((x, y, z))
    return torch.tensor(rows) * (math.pi / 180)


JOINT_LIMITS: Tensor = _limits()
"""(23, 3, 2) radians: low and high of each component of `body_pose`'s rotation vectors."""


def clamp_pose(body_pose: Tensor) -> Tensor:
    """The nearest pose (..., 23, 3) inside `JOINT_LIMITS`; rotation vectors of at most half a turn.

    A box on rotation vectors is coarse: it stops knees and elbows from bending backwards and limbs from turning
    through themselves, it does not know that a raised arm can twist less.
    """
    if body_pose.ndim < 2 or tuple(body_pose.shape[-2:]) != (23, 3):
        raise PosesynError(f"clamp_pose: body_pose must have shape (..., 23, 3), got {tuple(body_pose.shape)}")
    limits = JOINT_LIMITS.to(body_pose)
    return body_pose.clamp(limits[..., 0], limits[..., 1])
