"""Leeds Sports Pose (Johnson & Everingham, "Clustered Pose and Nonlinear Appearance Models for Human Pose Estimation",
BMVC 2010): 2,000 pictures of one athlete each, 14 joints, 2D only.

    images/im0001.jpg ... im2000.jpg
    joints.mat                          ``joints`` (3, 14, 2000): x, y, and 1 where the joint is occluded

Both archives have this layout, lsp_dataset (athletes some 150 px tall) and lsp_dataset_original (full size). Every
joint has a place, occluded ones too, so all are labels; ``state`` is the third number. In LSPET, the extended set, it
means the opposite and the axes are in another order. Coordinates are taken as pixel centres, as written.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS
from datamodules.readers.files import read_mat
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

#: First and last picture, from 1.
SPLITS = {"train": (1, 1000), "test": (1001, 2000)}


@READERS.register("lsp")
class LspReader(IndexedReader):
    """The athletes of pictures 1-1000 (train) or 1001-2000 (test)."""

    name = "lsp"
    licence = "Flickr pictures, research use; cite Johnson & Everingham, BMVC 2010"
    skeleton = "lsp14"
    where = (
        "get lsp_dataset.zip (small, for tests) or lsp_dataset_original.zip from "
        "http://sam.johnson.io/research/lsp.html; root is the folder that holds images/ and joints.mat"
    )
    splits = tuple(SPLITS)

    def label_files(self) -> list[Path]:
        path = self.root / "joints.mat"
        if path.is_file() and not (self.root / "images").is_dir():
            raise PosesynError(f"no pictures of lsp at {(self.root / 'images').absolute()}: {self.where}")
        return [path] if path.is_file() else []

    def scan(self, path: Path) -> Persons:
        joints = read_joints(path, (3, 14), "LSP", "LSPET").transpose(2, 1, 0)
        first, last = SPLITS[self.split]
        numbers = np.arange(first, min(last, len(joints)) + 1)
        part = joints[numbers - 1]
        return Persons(
            ids=[f"lsp/{number:04d}" for number in numbers],
            pictures=[f"images/im{number:04d}.jpg" for number in numbers],
            native2d=np.concatenate([part[..., :2], np.ones_like(part[..., :1])], -1),
            more={"state": part[..., 2]},
        )


def read_joints(path: Path, layout: tuple[int, int], own: str, other: str) -> npt.NDArray[np.float64]:
    """``joints`` of a joints.mat, (*layout, N)."""
    joints = np.asarray(read_mat(path, ["joints"], simplify=False)["joints"])
    if joints.ndim != 3 or joints.dtype.kind not in "fiu" or joints.shape[:2] != layout:
        hint = f" That is the layout of {other}, another data set." if joints.shape[:2] == layout[::-1] else ""
        wanted = f"({layout[0]}, {layout[1]}, N)"
        raise PosesynError(f"{path} holds joints of shape {joints.shape}, {own} has {wanted}.{hint}")
    return joints.astype(np.float64)
