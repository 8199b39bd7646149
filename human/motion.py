"""Banks of human motion in SMPL pose space, small enough to stay in memory.

The bank called "free" ships with the package: 20 clips of DeepMimic (Peng et al., SIGGRAPH 2018; zlib licence, an
altered version), retargeted to SMPL by scripts/bake_free_motion.py. It has no hand, toe or collar motion. Wherever a
bank is named, a path works too: a folder of motion capture files, one such file (see human.mocap), or a saved bank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import numpy as np

from human.errors import PosesynError
from human.registry import Registry
from human.skeleton import SMPL24

# Mirroring through the plane x = 0 swaps the sides and turns a rotation vector (x, y, z) into (x, -y, -z).
_BODY_FLIP = [i - 1 for i in SMPL24.flip_permutation[1:]]
_BODY_FLIP_SIGN = np.array([1.0, -1.0, -1.0], dtype=np.float32)


@dataclass(frozen=True)
class MotionBank:
    """N poses, clip after clip, at a steady rate, or single poses in no order (``fps`` 0).

    Attributes:
        poses: (N, 23, 3) float32 rotation vectors of SMPL's body joints (``SMPL24.joints[1:]``).
        root: (N, 3) float32 rotation vectors of the pelvis; y up, zero faces +z.
        position: (N, 3) float32 metres, pelvis above the ground plane y = 0 (of the actor, not of your body model).
        clip: (N,) index into ``clip_names``; poses of one clip are contiguous and in time order.
        clip_names: what each clip shows.
        fps: poses per second; 0 where the poses are single ones, whose ``position`` is zero.
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

    def save(self, path: str | Path) -> None:
        """Write the bank as an npz that ``load_motion_bank(path)`` reads (rotations to 0.02 degrees, float16)."""
        arrays = {k: getattr(self, k).astype(np.float16) for k in ("poses", "root", "position")}
        np.savez_compressed(
            path, **arrays, clip=self.clip, clip_names=np.array(self.clip_names, dtype=str), fps=np.float32(self.fps)
        )

    @classmethod
    def cat(cls, banks: Sequence[MotionBank]) -> MotionBank:
        """All banks' poses in order; they must agree on the rate, or be of single poses (then so is the result)."""
        if not banks:
            raise PosesynError("MotionBank.cat was given no banks")
        rates = {b.fps for b in banks}
        if len(rates - {0.0}) > 1:
            raise PosesynError(f"these motion banks have different rates, {sorted(rates)} poses per second: resample")
        first = np.cumsum([0, *(len(b.clip_names) for b in banks)])
        return cls(
            poses=np.concatenate([b.poses for b in banks]),
            root=np.concatenate([b.root for b in banks]),
            position=np.concatenate([b.position for b in banks]),
            clip=np.concatenate([b.clip + at for b, at in zip(banks, first, strict=False)]),
            clip_names=tuple(name for b in banks for name in b.clip_names),
            fps=min(rates),
        )


MOTION_BANKS: Registry[Callable[[], MotionBank]] = Registry("motion_bank")
MOTION_SCHEMES: Registry[Callable[[str], MotionBank]] = Registry("motion_scheme")
"""Banks made from a path: "pose_space:network.npz" calls what is registered as "pose_space"."""


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
    with (files("human") / "data" / "free_motion.npz").open("rb") as stream:
        return _read_bank(stream)


def _read_bank(file: IO[bytes] | Path) -> MotionBank:
    with np.load(file, allow_pickle=False) as data:
        bank = MotionBank(
            **{key: data[key].astype(np.float32) for key in ("poses", "root", "position")},
            clip=data["clip"].astype(np.int64),
            clip_names=tuple(str(n) for n in data["clip_names"]),
            fps=float(data["fps"]),
        )
    return _frozen(bank)


def _frozen(bank: MotionBank) -> MotionBank:
    for array in (bank.poses, bank.root, bank.position):
        array.setflags(write=False)  # the bank is shared by everyone in this process
    return bank


def load_motion_bank(name: str = "free", fps: float = 30.0) -> MotionBank:
    """A bank by name or path, read once per process.

    Args:
        name: a registered name, a folder of motion files, one motion file, a bank that ``MotionBank.save`` wrote, or
            a registered scheme, a colon and a path.
        fps: rate to which motion files are resampled; a registered or saved bank has its own.
    """
    scheme, colon, rest = name.partition(":")
    if colon and scheme in MOTION_SCHEMES.names():
        return _made_from(scheme, str(Path(rest).expanduser().resolve()))
    path = Path(name).expanduser()
    if name in MOTION_BANKS.names() or not (path.exists() or path.suffix or len(path.parts) > 1):
        return MOTION_BANKS.get(name)()
    if not path.exists():
        raise PosesynError(
            f"there is no motion at {path}; name a folder or file of motions, or one of {', '.join(MOTION_BANKS)}"
        )
    return _bank_at(path.resolve(), fps)


@lru_cache(maxsize=4)
def _made_from(scheme: str, path: str) -> MotionBank:
    return _frozen(MOTION_SCHEMES.get(scheme)(path))


@lru_cache(maxsize=4)
def _bank_at(path: Path, fps: float) -> MotionBank:
    from human.mocap import bank_from_motions, read_motion, read_motion_folder
    from human.mocap.amass import read_npz

    if path.is_dir():
        return _frozen(bank_from_motions(read_motion_folder(path), fps))
    if path.suffix.lower() == ".npz" and {"clip", "clip_names", "root"} <= read_npz(path).keys():
        bank = _read_bank(path)
        n = len(bank)
        if bank.poses.shape != (n, 23, 3) or bank.root.shape != (n, 3) or n == 0 or len(bank.clip) != n:
            raise PosesynError(f"{path} is not a motion bank: its poses are {bank.poses.shape}, (N, 23, 3) expected")
        if not (np.isfinite(bank.poses).all() and np.isfinite(bank.root).all()):
            raise PosesynError(f"{path}: this motion bank holds poses that are not finite")
        return bank
    return _frozen(bank_from_motions([read_motion(path)], fps))
