"""What happens in a motion, as named facts: travel, turns, leaps, overturns, kicks, and what each part does.

Joints are (T,22,3), y up, metres. Every fact is measured on the whole motion; thresholds are those of a person
with legs of 0.82 m, as in :mod:`synth.captions.posecodes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import uniform_filter1d

from synth.captions.posecodes import LEG, Floats, PoseCodes, leg_length, unit

FPS = 20.0
_PELVIS, _NECK, _HEAD = 0, 12, 15
ANKLES, WRISTS, SHOULDERS, HIPS = (7, 8), (20, 21), (16, 17), (1, 2)
SIDES = ("left", "right")


def _floor(joints_T22x3: Floats) -> float:
    """Height under the feet where the person is up, else under whatever is lowest."""
    lowest = joints_T22x3[..., 1].min(1)
    up = joints_T22x3[:, _PELVIS, 1] - joints_T22x3[:, ANKLES, 1].min(1) > 0.55
    return float(np.percentile(lowest[up] if up.sum() >= 5 else lowest, 10))


@dataclass(frozen=True)
class MotionFacts:
    """One motion of T >= 2 readable frames.

    Attributes:
        codes: posecodes of every frame, over the motion's own floor.
        joints: (T,22,3) of standard size.
        fps: frames per second.
    """

    codes: PoseCodes
    joints: Floats
    fps: float

    @classmethod
    def of(cls, joints_T22x3: Floats, fps: float = FPS) -> MotionFacts:
        joints = joints_T22x3 * (LEG / max(float(np.median(leg_length(joints_T22x3))), 1e-6))
        width = max(1, round(fps * 0.15)) | 1
        joints = uniform_filter1d(joints, width, axis=0, mode="nearest")
        floor = _floor(joints)
        return cls(PoseCodes.of(joints, np.full(len(joints), floor)), joints, fps)

    @property
    def seconds(self) -> float:
        return (len(self.joints) - 1) / self.fps

    def velocity(self, points_T3: Floats) -> Floats:
        """(T,3) metres per second."""
        return np.gradient(points_T3, axis=0) * self.fps

    # ------------------------------------------------------------------------------------------------ travel
    @property
    def travel(self) -> tuple[float, float]:
        """Metres from start to end on the ground, and along the path, of :attr:`steady` frames.

        Getting up, lying down and overturning carry the pelvis about, but nobody calls that walking.
        """
        path = self.joints[self.steady, _PELVIS][:, [0, 2]]
        if len(path) < 2:
            return 0.0, 0.0
        return float(np.linalg.norm(path[-1] - path[0])), float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())

    @cached_property
    def steady(self) -> slice:
        """The longest stretch of frames on the feet, or on hands and knees."""
        codes = self.codes
        pelvis, ankle = codes.joints_BJ3[:, _PELVIS, 1], codes.ankles[..., 1].min(1)
        on_feet = (pelvis - ankle > 0.5) & (codes.tilt < 70)
        low = (codes.tilt > 50) & (codes.tilt < 120) & (pelvis < 0.62)
        flags = on_feet if on_feet.mean() >= low.mean() else low
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
        if len(edges) == 0:
            return slice(0, 0)
        starts, ends = edges[::2], edges[1::2]
        longest = int((ends - starts).argmax())
        return slice(int(starts[longest]), int(ends[longest]))

    @property
    def speed(self) -> float:
        """Metres per second along the path."""
        frames = self.steady.stop - self.steady.start
        return self.travel[1] * self.fps / max(frames - 1, 1)

    @property
    def direction(self) -> str:
        """Of the travel against where the person faces: "forward", "backward", "left" or "right"."""
        velocity = self.velocity(self.joints[:, _PELVIS])
        along = float((velocity * self.codes.forward).sum(-1)[self.steady].sum())
        across = float((velocity * self.codes.left).sum(-1)[self.steady].sum())
        if abs(along) >= abs(across):
            return "forward" if along >= 0 else "backward"
        return "left" if across > 0 else "right"

    @property
    def turn(self) -> float:
        """Degrees that the hips turn to the left in all, of the frames in which they are level and not overhead."""
        heading = self.codes.forward
        hips = unit(self.joints[:, HIPS[0]] - self.joints[:, HIPS[1]])
        up = (self.codes.tilt < 110) & (np.abs(hips[:, 1]) < 0.8) & (self.codes.joints_BJ3[:, _PELVIS, 1] > 0.35)
        step = np.arctan2(np.cross(heading[:-1], heading[1:])[:, 1], (heading[:-1] * heading[1:]).sum(-1))
        return float(np.degrees(step[up[:-1] & up[1:]].sum()))

    # ------------------------------------------------------------------------------------------------ leaps
    @property
    def airborne(self) -> float:
        """Seconds in which every joint is clear of the floor, and the hips well above it."""
        clear = (self.codes.joints_BJ3[..., 1].min(1) > 0.09) & (self.codes.joints_BJ3[:, _PELVIS, 1] > 0.6)
        return float(clear.sum() / self.fps)

    @property
    def rise(self) -> float:
        """Metres from where the pelvis starts up to its highest."""
        height = self.codes.joints_BJ3[:, _PELVIS, 1]
        return float(height.max() - height[0])

    @property
    def overturn(self) -> tuple[float, float]:
        """Degrees that the trunk turns over forward (about its left) and to its left (about its front), in all."""
        up, left, front = self.codes.trunk_up, self.codes.trunk_left, self.codes.trunk_front
        turned = np.cross(up[:-1], up[1:])
        size = np.arcsin(np.clip(np.linalg.norm(turned, axis=-1), 0, 1))
        axis = unit(turned)
        if self.codes.tilt.max() < 115:  # never upside down: leaning about is no overturning
            return 0.0, 0.0
        forward = (axis * left[:-1]).sum(-1) * size
        sideways = -(axis * front[:-1]).sum(-1) * size
        return float(np.degrees(forward.sum())), float(np.degrees(sideways.sum()))

    # ------------------------------------------------------------------------------------------------ limbs
    @property
    def stepping(self) -> int:
        """How often the foot in front changes."""
        ahead = self.codes.feet_apart[:, 1]
        clear = ahead[np.abs(ahead) > 0.12]
        return int((np.diff(np.sign(clear)) != 0).sum())

    def kick(self) -> tuple[str, float] | None:
        """The side and time of a kick: a foot thrown up above the other knee, fast, with a straightening leg."""
        best: tuple[float, str, float] | None = None
        for side, ankle, hip in zip(SIDES, ANKLES, HIPS, strict=True):
            away = self.joints[:, ankle] - self.joints[:, hip]
            speed = np.linalg.norm(self.velocity(away), axis=-1)
            high = (self.codes.joints_BJ3[:, ankle, 1] > 0.62) & (self.codes.tilt < 80)
            straight = self.codes.knee_bend[:, SIDES.index(side)] < 60
            hit = speed * (high & straight)
            if hit.max() > 2.2 and (best is None or hit.max() > best[0]):
                best = (float(hit.max()), side, float(hit.argmax() / max(len(hit) - 1, 1)))
        return None if best is None else best[1:]

    def punch(self) -> tuple[str, ...]:
        """The sides of hands that are thrown out in front."""
        out = []
        for side, wrist, shoulder in zip(SIDES, WRISTS, SHOULDERS, strict=True):
            reach = self.joints[:, wrist] - self.joints[:, shoulder]
            ahead = (reach * self.codes.forward).sum(-1)
            speed = np.gradient(ahead) * self.fps
            level = np.abs(reach[:, 1]) < 0.3
            straight = self.codes.elbow_bend[:, SIDES.index(side)] < 50
            if ((speed > 2.4) & level).any() and (ahead[level & straight]).max(initial=0) > 0.4:
                out.append(side)
        return tuple(out)

    def waving(self) -> str:
        """The side of a raised hand that goes to and fro sideways at least three times, or ""."""
        for side, wrist, elbow in zip(SIDES, WRISTS, (18, 19), strict=True):
            over = self.joints[:, wrist] - self.joints[:, elbow]
            across = (over * self.codes.left).sum(-1)
            velocity = np.gradient(across) * self.fps
            fast = velocity[(np.abs(velocity) > 0.4) & (over[:, 1] > 0.05)]
            if (np.diff(np.sign(fast)) != 0).sum() >= 3:
                return side
        return ""

    @property
    def stillness(self) -> float:
        """Metres per second of the fastest joint at the 90th percentile of time."""
        speed = np.linalg.norm(np.gradient(self.joints, axis=0), axis=-1) * self.fps
        return float(np.percentile(speed.max(1), 90))

    @property
    def head_height(self) -> Floats:
        return np.asarray(self.codes.joints_BJ3[:, _HEAD, 1])
