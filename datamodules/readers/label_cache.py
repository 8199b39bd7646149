"""Pseudo-labels kept by what is in a picture, so that no picture is looked at twice: not after a killed run, not where
it has been moved, not with another threshold."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from human.errors import PosesynError
from human.labellers import Labels

_BLOCK = 1 << 20


def content_hash(path: Path) -> str:
    """sha256 (hex) of a file; :class:`PosesynError` where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise PosesynError(f"{path} cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


class LabelCache:
    """One small file per picture, each written whole or not at all; any number of processes may share a folder.

    Args:
        folder: of one labeller's labels.
        joints: how many joints its skeleton has.
    """

    def __init__(self, folder: Path, joints: int) -> None:
        self.folder, self.joints = folder, joints

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"

    def get(self, key: str) -> Labels | None:
        """None where there are none yet, or the file is damaged."""
        try:
            with np.load(self.path(key), allow_pickle=False) as file:
                labels = Labels(file["joints"].astype(np.float64), file["score"].astype(np.float64))
        # numpy raises a different type for each way a file can be broken
        except Exception:
            return None
        fits = labels.joints.shape == (len(labels), self.joints, 3) and np.isfinite(labels.joints).all()
        return labels if fits else None

    def put(self, key: str, labels: Labels) -> None:
        path = self.path(key)
        partial = path.with_name(f".{key}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.savez(file, joints=labels.joints.astype(np.float32), score=labels.score.astype(np.float32))
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise PosesynError(
                f"cannot keep labels in {self.folder} ({error}): make room or set the cache to a folder that you may "
                "write"
            ) from error
