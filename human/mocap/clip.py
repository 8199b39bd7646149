"""One motion clip in SMPL's pose space, whatever file it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from human.errors import PosesynError

if TYPE_CHECKING:
    from human.motion import MotionBank

_WIDEST_ORDINARY = 1e3  # metres and radians: beyond this a file holds junk


@dataclass(frozen=True)
class Motion:
    """N poses in time order.

    Attributes:
        body_pose: (N, 23, 3) float32 rotation vectors of SMPL's body joints (``SMPL24.joints[1:]``).
        global_orient: (N, 3) float32 rotation vectors of the pelvis; y up, zero faces +z.
        transl: (N, 3) float32 metres, the pelvis, y up; the actor's own ground, if the file has one, is y = 0.
        fps: poses per second.
        name: of the clip, mostly the file's.
        betas: (10,) or (16,) shape of the actor where the file has one; ``gender`` likewise, else "neutral".
    """

    body_pose: np.ndarray
    global_orient: np.ndarray
    transl: np.ndarray
    fps: float
    name: str
    betas: np.ndarray | None = field(default=None, compare=False)
    gender: str = "neutral"

    def __post_init__(self) -> None:
        n = len(self.body_pose)
        shapes = (self.body_pose.shape, self.global_orient.shape, self.transl.shape)
        if n == 0:
            raise PosesynError(f"motion {self.name!r} has no frames")
        if shapes != ((n, 23, 3), (n, 3), (n, 3)):
            raise PosesynError(f"motion {self.name!r}: expected shapes (N,23,3), (N,3), (N,3), got {shapes}")
        if not (np.isfinite(self.fps) and 0 < self.fps <= 10_000):
            raise PosesynError(f"motion {self.name!r}: the frame rate must be a positive number, got {self.fps}")
        for what in ("body_pose", "global_orient", "transl"):
            values = np.asarray(getattr(self, what), np.float32)
            bad = ~np.isfinite(values.reshape(n, -1)).all(1) | (np.abs(values.reshape(n, -1)).max(1) > _WIDEST_ORDINARY)
            if bad.any():
                raise PosesynError(
                    f"motion {self.name!r}: {what} of frame {int(bad.argmax())} is not finite or absurdly large "
                    f"({int(bad.sum())} of {n} frames)"
                )
            object.__setattr__(self, what, values)

    def __len__(self) -> int:
        return len(self.body_pose)

    def resampled(self, fps: float) -> Motion:
        """The clip at another rate: every k-th frame where that is exact (to 0.1 %), slerp between frames otherwise."""
        step = self.fps / fps
        if len(self) == 1:
            return self._replaced(slice(None), fps)
        if step >= 0.999 and abs(step - round(step)) < 1e-3 * step:
            return self._replaced(slice(None, None, round(step)), fps)
        time = np.arange(len(self)) / self.fps
        at = np.arange(0, time[-1] + 1e-6, 1 / fps).clip(max=time[-1])
        turns = np.concatenate([self.global_orient[:, None], self.body_pose], axis=1).astype(np.float64)
        out = np.stack([Slerp(time, Rotation.from_rotvec(r))(at).as_rotvec() for r in turns.swapaxes(0, 1)], axis=1)
        place = np.stack([np.interp(at, time, self.transl[:, k]) for k in range(3)], axis=1)
        return Motion(out[:, 1:], out[:, 0], place, fps, self.name, self.betas, self.gender)

    def _replaced(self, rows: slice, fps: float) -> Motion:
        arrays = (self.body_pose[rows], self.global_orient[rows], self.transl[rows])
        return Motion(*arrays, fps, self.name, self.betas, self.gender)


def bank_from_motions(motions: Sequence[Motion], fps: float = 30.0) -> MotionBank:
    """One bank of all clips at one rate; a name that occurs twice gets a number."""
    from human.motion import MotionBank

    if not motions:
        raise PosesynError("a motion bank needs at least one motion, got none")
    clips = [m.resampled(fps) for m in motions]
    names: list[str] = []
    taken: set[str] = set()
    for clip in clips:
        name, number = clip.name, 2
        while name in taken:
            name, number = f"{clip.name} ({number})", number + 1
        taken.add(name)
        names.append(name)
    return MotionBank(
        poses=np.concatenate([c.body_pose for c in clips]).astype(np.float32),
        root=np.concatenate([c.global_orient for c in clips]).astype(np.float32),
        position=np.concatenate([c.transl for c in clips]).astype(np.float32),
        clip=np.repeat(np.arange(len(clips)), [len(c) for c in clips]),
        clip_names=tuple(names),
        fps=fps,
    )
