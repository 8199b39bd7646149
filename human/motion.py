"""Banks of human motion in SMPL pose space, small enough to stay in memory.

The bank called "free" ships with the package: 20 clips of DeepMimic (Peng et al., SIGGRAPH 2018; zlib licence, an
altered version), retargeted to SMPL by scripts/bake_free_motion.py. It has no hand, toe or collar motion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from human.errors import PosesynError
from human.registry import Registry
from human.skeleton import SMPL24

# Mirroring through the plane x = 0 swaps the sides and turns a rotation vector (x, y, z) into (x, -y, -z).
_BODY_FLIP = [i - 1 for i in SMPL24.flip_permutation[1:]]
_BODY_FLIP_SIGN = np.array([1.0, -1.0, -1.0], dtype=np.float32)


@dataclass(frozen=True)
class MotionBank:
    """N poses, clip after clip, at a steady rate.

    Attributes:
        poses: (N, 23, 3) float32 rotation vectors of SMPL's body joints (``SMPL24.joints[1:]``).
        root: (N, 3) float32 rotation vectors of the pelvis; y up, zero faces +z.
        position: (N, 3) float32 metres, pelvis above the ground plane y = 0 (of the actor, not of your body model).
        clip: (N,) index into ``clip_names``; poses of one clip are contiguous and in time order.
        clip_names: what each clip shows.
        fps: poses per second.
    """

    poses: np.ndarray
    root: np.ndarray
    position: np.ndarray
    clip: np.ndarray
    clip_names: tuple[str, ...]
    fps: float

    def __len__(self) -> int:
        return len(self.poses)

    def sample(self, index_B: np.ndarray, mirror_B: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Poses by number, left and right exchanged where ``mirror_B`` is true.

        Returns:
            body_pose (B, 23, 3) and root (B, 3) rotation vectors (copies).
        """
        index_B = np.asarray(index_B)
        if wrong := [int(i) for i in index_B.flat if not 0 <= i < len(self)]:
            raise PosesynError(f"pose numbers of this bank run from 0 to {len(self) - 1}, got {wrong[0]}")
        poses, root = self.poses[index_B], self.root[index_B]
        if mirror_B is None:
            return poses, root
        mirror_B = np.asarray(mirror_B, dtype=bool)
        return (
            np.where(mirror_B[..., None, None], mirror_pose(poses), poses),
            np.where(mirror_B[..., None], mirror_root(root), root),
        )

    def frames(self, clip_name: str) -> slice:
        """Where the poses of one clip lie."""
        if clip_name not in self.clip_names:
            raise PosesynError(f"no clip is called {clip_name!r}; this bank has {', '.join(self.clip_names)}")
        where = np.flatnonzero(self.clip == self.clip_names.index(clip_name))
        return slice(int(where[0]), int(where[-1]) + 1)


MOTION_BANKS: Registry[Callable[[], MotionBank]] = Registry("motion_bank")


def mirror_pose(body_pose: Any) -> Any:
    """Exchange left and right: (..., 23, 3) rotation vectors, numpy or torch; its own inverse."""
    return body_pose[..., _BODY_FLIP, :] * _sign_like(body_pose)


def mirror_root(root: Any) -> Any:
    """Mirror (..., 3) rotation vectors through x = 0 (the person's own frame, and also a camera's left-right flip)."""
    return root * _sign_like(root)


def _sign_like(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return _BODY_FLIP_SIGN.astype(values.dtype)
    return values.new_tensor(_BODY_FLIP_SIGN)


@MOTION_BANKS.register("free")
@cache
def _free_bank() -> MotionBank:
    with (files("human") / "data" / "free_motion.npz").open("rb") as stream, np.load(stream) as data:
        arrays = {key: data[key].astype(np.float32) for key in ("poses", "root", "position")}
        for array in arrays.values():
            array.setflags(write=False)  # the bank is shared by everyone in this process
        return MotionBank(
            **arrays,
            clip=data["clip"].astype(np.int64),
            clip_names=tuple(str(n) for n in data["clip_names"]),
            fps=float(data["fps"]),
        )


def load_motion_bank(name: str = "free") -> MotionBank:
    """The bank registered as ``name`` (read once per process)."""
    return MOTION_BANKS.get(name)()
