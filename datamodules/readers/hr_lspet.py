"""LSPET whole (Johnson & Everingham, "Learning Effective Human Pose Estimation from Inaccurate Annotation", CVPR 2011):
10,000 athletes, 14 joints, 2D only, as 4D-Humans evaluates on them; reader ``lspet`` has a division for training.

    joints.mat                                 ``joints`` (14, 3, 10000): x, y, and 1 where the joint is labelled
    im00001.png ... or images/im00001.jpg ...  HR-LSPET (full size), or the official archive

``state`` is the third number. Split "all" has the labelled joints; the coordinates of others are junk, often
negative. Split "hmr2" counts these too, because 4D-Humans does (hmr2/datasets/preprocess/lspet_to_npz.py gives all 14
joints confidence 1, and takes the box of all of them): for its protocol, never for training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.readers.base import READERS
from datamodules.readers.indexed import IndexedReader, Persons
from datamodules.readers.lsp import read_joints
from human.errors import PosesynError


@READERS.register("hr_lspet")
class HrLspetReader(IndexedReader):
    """Every athlete with at least two joints of the split's reckoning."""

    name = "hr_lspet"
    licence = "Flickr pictures, research use; cite Johnson & Everingham, CVPR 2011"
    skeleton = "lsp14"
    where = (
        "get hr-lspet.zip (full size) from http://datasets.d2.mpi-inf.mpg.de/hr-lspet/hr-lspet.zip or "
        "lspet_dataset.zip from http://sam.johnson.io/research/lspet.html; root is the folder that holds joints.mat"
    )
    splits = ("all", "hmr2")

    def label_files(self) -> list[Path]:
        path = self.root / "joints.mat"
        if path.is_file() and self._pattern() is None:
            raise PosesynError(
                f"no pictures of hr_lspet: neither {self.root.absolute()}/im00001.png nor images/: {self.where}"
            )
        return [path] if path.is_file() else []

    def _pattern(self) -> str | None:
        if (self.root / "images").is_dir():
            return "images/im{:05d}.jpg"
        return "im{:05d}.png" if next(self.root.glob("im[0-9]*.png"), None) else None

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "pictures": self._pattern()}

    def scan(self, path: Path) -> Persons:
        joints = read_joints(path, (14, 3), "LSPET", "LSP").transpose(2, 0, 1)
        numbers = np.arange(1, len(joints) + 1)
        pattern = self._pattern() or ""
        labelled = joints[..., 2:] == 1 if self.split == "all" else np.ones_like(joints[..., 2:])
        return Persons(
            ids=[f"hr_lspet/{number:05d}" for number in numbers],
            pictures=[pattern.format(number) for number in numbers],
            native2d=np.concatenate([joints[..., :2], labelled], -1),
            more={"state": joints[..., 2]},
        )
