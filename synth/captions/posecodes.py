"""What a pose is like, as named facts: angles, heights and directions of 22 joints, and the posture they make.

In the spirit of PoseScript's posecodes (Delmas et al., ECCV 2022, §3.2): every fact is a number of the joints alone,
in degrees or in units of the person's size, and every word of a caption rests on one of them. Joints are the first 22
of SMPL24, metres, y up; where the floor is not known, the lowest joint is on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from human.errors import PosesynError
from human.skeleton import SMPL24

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

JOINTS = 22
#: Thigh and shank of a person 1.75 m tall; distances below are as of such a person.
LEG = 0.82
UP = np.array([0.0, 1.0, 0.0])

_at = SMPL24.index
HIP, KNEE, ANKLE, FOOT, SHOULDER, ELBOW, WRIST = (
    np.array(SMPL24.indices(f"left_{j}", f"right_{j}"))
    for j in ("hip", "knee", "ankle", "foot", "shoulder", "elbow", "wrist")
)
OUT = np.array([1.0, -1.0])  # a person's left is its left side's outside


def unit(vectors: Floats) -> Floats:
    """(..., 3) of length 1; a zero vector stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def angle(a: Floats, b: Floats) -> Floats:
    """(...,) degrees between (..., 3) vectors, 0 to 180."""
    return np.degrees(np.arccos(np.clip((unit(a) * unit(b)).sum(-1), -1.0, 1.0)))


def readable(joints_BJ3: Floats) -> Bools:
    """(B,) bool: finite, and of a size that a person can have."""
    finite = np.asarray(np.isfinite(joints_BJ3).all((1, 2)))
    safe = np.where(finite[:, None, None], joints_BJ3, 0.0)
    return finite & (leg_length(safe) > 0.05) & (np.abs(safe).max((1, 2), initial=0.0) < 1e4)


def as_joints(joints: object) -> Floats:
    """(B,22,3) float64 from an array or tensor of 22 or more joints (SMPL24 or POSE32 begin with the same 22)."""
    detach = getattr(joints, "detach", None)
    array = np.asarray(detach().cpu().float() if detach is not None else joints, dtype=np.float64)
    if array.size == 0 and array.ndim < 3:
        return np.zeros((0, JOINTS, 3))
    if array.ndim != 3 or array.shape[1] < JOINTS or array.shape[2] != 3:
        raise PosesynError(f"captions need joints of shape (B, {JOINTS}, 3), y up, metres; got {array.shape}")
    return array[:, :JOINTS]


def leg_length(joints_BJ3: Floats) -> Floats:
    thigh = np.linalg.norm(joints_BJ3[:, KNEE] - joints_BJ3[:, HIP], axis=-1)
    shank = np.linalg.norm(joints_BJ3[:, ANKLE] - joints_BJ3[:, KNEE], axis=-1)
    return (thigh + shank).mean(1)


@dataclass(frozen=True)
class PoseCodes:
    """Facts of B readable poses; arrays of (B,), of (B,2) for (left, right).

    Args:
        joints_BJ3: (B,22,3), made ready by :meth:`of`: of standard size, the pelvis at x = z = 0, the floor at y = 0.
    """

    joints_BJ3: Floats

    @classmethod
    def of(cls, joints_BJ3: Floats, floor_B: Floats | None = None) -> PoseCodes:
        """Args: (B,22,3) readable joints; ``floor_B`` heights of the ground, by default each pose's lowest joint."""
        floor = joints_BJ3[..., 1].min(1) if floor_B is None else floor_B
        pelvis = joints_BJ3[:, 0]
        origin = np.stack([pelvis[:, 0], floor, pelvis[:, 2]], -1)
        size = LEG / np.maximum(leg_length(joints_BJ3), 1e-6)
        return cls((joints_BJ3 - origin[:, None]) * size[:, None, None])

    # ------------------------------------------------------------------------------------------------ places
    def _of(self, joint: str) -> Floats:
        return self.joints_BJ3[:, _at(joint)]

    def height(self, joint: str) -> Floats:
        """Above the lowest joint."""
        return self._of(joint)[:, 1]

    @cached_property
    def ankles(self) -> Floats:
        return self.joints_BJ3[:, ANKLE]

    @cached_property
    def knees(self) -> Floats:
        return self.joints_BJ3[:, KNEE]

    @cached_property
    def wrists(self) -> Floats:
        return self.joints_BJ3[:, WRIST]

    @cached_property
    def foot_height(self) -> Floats:
        """(B,2) of the lower of ankle and ball; about 0.02 where the foot stands flat."""
        return np.minimum(self.ankles[..., 1] - 0.06, self.joints_BJ3[:, FOOT, 1])

    # ------------------------------------------------------------------------------------------------ angles
    @cached_property
    def knee_bend(self) -> Floats:
        """(B,2) 0 straight."""
        return angle(self.knees - self.joints_BJ3[:, HIP], self.ankles - self.knees)

    @cached_property
    def elbow_bend(self) -> Floats:
        """(B,2) 0 straight."""
        elbow = self.joints_BJ3[:, ELBOW]
        return angle(elbow - self.joints_BJ3[:, SHOULDER], self.wrists - elbow)

    @cached_property
    def hip_bend(self) -> Floats:
        """(B,2) between the trunk's axis and the thigh; 0 where the leg continues the trunk."""
        return angle(self.knees - self.joints_BJ3[:, HIP], -self.trunk_up[:, None])

    @cached_property
    def thigh_raise(self) -> Floats:
        """(B,2) from hanging straight down; 90 is horizontal."""
        return angle(self.knees - self.joints_BJ3[:, HIP], np.broadcast_to(-UP, self.knees.shape))

    @cached_property
    def leg_raise(self) -> Floats:
        """(B,2) of hip to ankle, from hanging straight down."""
        return angle(self.ankles - self.joints_BJ3[:, HIP], np.broadcast_to(-UP, self.ankles.shape))

    # ------------------------------------------------------------------------------------------------ the trunk
    @cached_property
    def trunk_up(self) -> Floats:
        return unit(self._of("neck") - self._of("pelvis"))

    @cached_property
    def trunk_left(self) -> Floats:
        hips = unit(self.joints_BJ3[:, HIP[0]] - self.joints_BJ3[:, HIP[1]])
        shoulders = unit(self.joints_BJ3[:, SHOULDER[0]] - self.joints_BJ3[:, SHOULDER[1]])
        across = hips + shoulders
        return unit(across - (across * self.trunk_up).sum(-1, keepdims=True) * self.trunk_up)

    @cached_property
    def trunk_front(self) -> Floats:
        return np.cross(self.trunk_left, self.trunk_up)

    @cached_property
    def tilt(self) -> Floats:
        """Of the trunk: 0 upright, 90 horizontal, 180 upside down."""
        return angle(self.trunk_up, np.broadcast_to(UP, self.trunk_up.shape))

    @cached_property
    def forward(self) -> Floats:
        """Horizontal direction that the hips face."""
        hips = self.joints_BJ3[:, HIP[0]] - self.joints_BJ3[:, HIP[1]]
        flat = np.cross(hips * [1, 0, 1], UP)
        lost = np.linalg.norm(flat, axis=-1) < 0.02  # on the side: where the chest looks
        return unit(np.where(lost[:, None], self.trunk_front * [1, 0, 1], flat))

    @cached_property
    def left(self) -> Floats:
        return np.cross(np.broadcast_to(UP, self.forward.shape), self.forward)

    @cached_property
    def lean(self) -> Floats:
        """(B,2) degrees that the trunk leans forward and to its left; of a trunk that is not upside down."""
        up = self.trunk_up[:, 1]
        return np.degrees(
            np.stack([np.arctan2((self.trunk_up * axis).sum(-1), up) for axis in (self.forward, self.left)], -1)
        )

    @cached_property
    def twist(self) -> Floats:
        """Degrees that the shoulders are turned to the left against the hips, about the trunk's axis."""
        across = []
        for pair in (HIP, SHOULDER):
            line = self.joints_BJ3[:, pair[0]] - self.joints_BJ3[:, pair[1]]
            across.append(line - (line * self.trunk_up).sum(-1, keepdims=True) * self.trunk_up)
        signed = (np.cross(across[0], across[1]) * self.trunk_up).sum(-1)
        return np.degrees(np.arctan2(signed, (across[0] * across[1]).sum(-1)))

    @cached_property
    def chest_faces_up(self) -> Floats:
        """1 the chest looks at the sky, -1 at the floor."""
        return self.trunk_front[:, 1]

    # ------------------------------------------------------------------------------------------------ what touches
    @cached_property
    def hands_on_floor(self) -> Bools:
        """(B,2)"""
        return self.wrists[..., 1] < 0.2

    @cached_property
    def knees_on_floor(self) -> Bools:
        """(B,2); a knee joint is half a knee above the ground."""
        return self.knees[..., 1] < 0.2

    @cached_property
    def feet_on_floor(self) -> Bools:
        """(B,2)"""
        return self.foot_height < 0.12

    # ------------------------------------------------------------------------------------------------ the feet
    @cached_property
    def feet_apart(self) -> Floats:
        """(B,2) left ankle from the right one: to the left (negative: crossed), and forward."""
        between = self.ankles[:, 0] - self.ankles[:, 1]
        return np.stack([(between * self.left).sum(-1), (between * self.forward).sum(-1)], -1)

    @cached_property
    def balance(self) -> Floats:
        """How far the middle of the trunk is in front of the ankles."""
        middle = 0.5 * (self._of("pelvis") + self._of("spine3")) - self.ankles.mean(1)
        return (middle * self.forward).sum(-1)
