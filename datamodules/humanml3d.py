"""HumanML3D's official folder (and KIT-ML's, which has the same layout).

``new_joint_vecs/NAME.npy`` (T, 263), ``texts/NAME.txt`` with lines ``caption#tokens#from#to`` (seconds; 0.0 and 0.0:
the whole motion; nan counts as 0), ``Mean.npy``, ``Std.npy``, and the splits ``train.txt``, ``val.txt``, ``test.txt``
with one name a line. Mirrored motions are files of their own. (EricGuo5513/HumanML3D:README.md;
Mael-zys/T2M-GPT:dataset/dataset_TM_train.py, dataset_VQ.py.)
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path

import numpy as np

from datamodules.motion_clips import Caption, MotionClip, MotionSet, usable
from human.errors import PosesynError
from human.motion_skeleton import get_layout

log = logging.getLogger(__name__)


def is_humanml3d(root: Path) -> bool:
    return (root / "new_joint_vecs").is_dir()


class HumanML3DSource:
    """The folder as it is made by HumanML3D's notebooks.

    Args:
        root: the folder.
        validate: split that is validated on: "val" or "test".
        layout: "humanml3d" or "kit".
        weight: share of the training draws; default: by the number of motions.
    """

    name = "humanml3d"

    def __init__(
        self, root: str, validate: str = "val", layout: str = "humanml3d", weight: float | None = None
    ) -> None:
        self.root, self.validate, self.weight = Path(root).expanduser(), validate, weight
        self.layout = get_layout(layout)
        if not is_humanml3d(self.root):
            raise PosesynError(
                f"{self.root} is no HumanML3D folder: it has no new_joint_vecs/ (made by the notebooks of "
                "EricGuo5513/HumanML3D)"
            )

    def read(self, seed: int) -> MotionSet:
        found = MotionSet()
        found.train = self._read_split("train", found.skipped)
        found.validation = self._read_split(self.validate, found.skipped) if self._split(self.validate) else []
        if not found.train:
            raise PosesynError(
                f"{self.root}: no motion of train.txt can be used ({found.describe_skipped() or 'it is empty'})"
            )
        statistics = [self.root / "Mean.npy", self.root / "Std.npy"]
        if all(path.is_file() for path in statistics):
            found.mean, found.std = (self._statistics(path) for path in statistics)
        return found

    def _split(self, split: str) -> list[str]:
        path = self.root / f"{split}.txt"
        if not path.is_file():
            if split == "train":
                raise PosesynError(f"{self.root} has no train.txt, which names the motions to train on, one a line")
            return []
        return [name for name in path.read_text(encoding="utf-8").split() if name]

    def _read_split(self, split: str, skipped: Counter[str]) -> list[MotionClip]:
        clips = []
        for name in self._split(split):
            path = self.root / "new_joint_vecs" / f"{name}.npy"
            if not path.is_file():
                skipped["missing"] += 1
                continue
            try:
                features = np.load(path, allow_pickle=False).astype(np.float32)
            except (OSError, ValueError, EOFError):
                skipped["unreadable"] += 1
                continue
            if reason := usable(features, self.layout):
                skipped[reason] += 1
                continue
            clips.append(MotionClip(name, features, tuple(self._captions(name, skipped))))
        return clips

    def _captions(self, name: str, skipped: Counter[str]) -> list[Caption]:
        path = self.root / "texts" / f"{name}.txt"
        if not path.is_file():
            skipped["without text"] += 1
            return []
        return read_captions(path, skipped)

    def _statistics(self, path: Path) -> np.ndarray:
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise PosesynError(f"{path} cannot be read as a numpy array: make it again") from error
        if values.shape != (self.layout.size,) or not np.isfinite(values).all():
            raise PosesynError(f"{path} holds {values.shape} numbers; ({self.layout.size},) finite ones expected")
        return values.astype(np.float32)


def read_captions(path: Path, skipped: Counter[str] | None = None) -> list[Caption]:
    """Captions of one motion: ``caption#tokens#from#to`` lines, or plain sentences, one a line. The tokens (HumanML3D's
    parts of speech) are not used; lines that make no sense are left out and counted."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text, *rest = line.strip().split("#")
        if not text.strip():
            continue
        try:
            start, end = (float(value) for value in rest[1:3]) if rest else (0.0, 0.0)
        except ValueError:
            if skipped is not None:
                skipped["caption lines without sense"] += 1
            continue
        start, end = (0.0 if math.isnan(value) else value for value in (start, end))
        if (start, end) != (0.0, 0.0) and not 0 <= start < end:
            if skipped is not None:
                skipped["caption lines without sense"] += 1
            continue
        found.append(Caption(text.strip(), start, end))
    return found
