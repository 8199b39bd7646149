"""Leeds Sports Pose (Johnson & Everingham, "Clustered Pose and Nonlinear Appearance Models for Human Pose Estimation",
BMVC 2010): 2,000 pictures of one athlete each, 14 joints, 2D only.

    images/im0001.jpg ... im2000.jpg
    joints.mat                          ``joints`` (3, 14, 2000): x, y, and 1 where the joint is occluded

Both archives have this layout, lsp_dataset (athletes some 150 px tall) and lsp_dataset_original (full size). Every
joint has a place, occluded ones too, so all are labels; ``state`` is the third number. In LSPET, the extended set, it
means the opposite and the axes are in another order. Coordinates are taken as pixel centres, as written.

With ``masks=True`` also UPi-S1h's labels of the pictures' pixels (Lassner et al., "Unite the People", CVPR 2017), as
SPIN evaluates on them (nkolot/SPIN:datasets/preprocess/lsp_dataset.py); small pictures only:

    upi-s1h/data/lsp/im0001_segmentation.png        not 0 where the athlete is
    upi-s1h/data/lsp/im0001_part_segmentation.png   1 head, 2 trunk, 3 and 4 right and left arm, 5 and 6 legs, 255 open
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
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
    """The athletes of pictures 1-1000 (train) or 1001-2000 (test).

    Args:
        masks: also read UPi-S1h's silhouettes and parts; its folder ``data/lsp`` is in ``root`` or in ``root/upi-s1h``.
    """

    name = "lsp"
    licence = "Flickr pictures, research use; cite Johnson & Everingham, BMVC 2010"
    skeleton = "lsp14"
    where = (
        "get lsp_dataset.zip (small, for tests) or lsp_dataset_original.zip from "
        "http://sam.johnson.io/research/lsp.html; root is the folder that holds images/ and joints.mat"
    )
    splits = tuple(SPLITS)
    masks: bool = False

    def __init__(
        self, root: str | Path, split: str | None = None, masks: bool = False, cache: str | Path | None = None
    ) -> None:
        self.masks = masks
        super().__init__(root, split, cache)

    def label_files(self) -> list[Path]:
        path = self.root / "joints.mat"
        if path.is_file() and not (self.root / "images").is_dir():
            raise PosesynError(f"no pictures of lsp at {(self.root / 'images').absolute()}: {self.where}")
        if not path.is_file():
            return []
        return [path, *sorted(self._mask_folder().glob("im[0-9]*_segmentation.png"))] if self.masks else [path]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), **({"masks": True} if self.masks else {})}

    def _mask_folder(self) -> Path:
        folders = [self.root / "upi-s1h" / "data" / "lsp", self.root / "data" / "lsp"]
        if found := next((f for f in folders if f.is_dir()), None):
            return found
        raise PosesynError(
            f"no folder {folders[0].absolute()} of UPi-S1h: unpack upi-s1h.zip of "
            "http://files.is.tuebingen.mpg.de/classner/up beside LSP's images, or read lsp without masks"
        )

    def scan(self, path: Path) -> Persons:
        if path.suffix == ".png":  # read with the labels
            return Persons([], [])
        joints = read_joints(path, (3, 14), "LSP", "LSPET").transpose(2, 1, 0)
        first, last = SPLITS[self.split]
        numbers = np.arange(first, min(last, len(joints)) + 1)
        part = joints[numbers - 1]
        return Persons(
            ids=[f"lsp/{number:04d}" for number in numbers],
            pictures=[f"images/im{number:04d}.jpg" for number in numbers],
            native2d=np.concatenate([part[..., :2], np.ones_like(part[..., :1])], -1),
            more={"state": part[..., 2], **(self._read_masks(numbers) if self.masks else {})},
        )

    def _read_masks(self, numbers: npt.NDArray[np.int_]) -> dict[str, npt.NDArray[Any]]:
        """Columns ``silhouette``, ``parts`` and ``size``; the first two as large as the largest picture."""
        folder, pairs = self._mask_folder(), []
        for number in numbers.tolist():
            files = [folder / f"im{number:04d}_{what}.png" for what in ("segmentation", "part_segmentation")]
            whole, parts = (_read_mask(file) for file in files)
            if whole.shape != parts.shape:
                raise PosesynError(f"{files[1]} is of another size than {files[0].name}: get upi-s1h.zip again")
            if not set(np.unique(parts).tolist()) <= {*range(7), 255}:
                raise PosesynError(f"{files[1]} has other values than 0 to 6 and 255: get upi-s1h.zip again")
            pairs.append((whole > 0, parts))
        sizes = np.array([parts.shape[::-1] for _, parts in pairs], np.int32).reshape(-1, 2)
        width, height = -(-sizes.max(0) // 8) * 8
        silhouette, part = np.zeros((len(pairs), height, width), bool), np.zeros((len(pairs), height, width), np.uint8)
        for i, (mask, parts) in enumerate(pairs):
            silhouette[i, : mask.shape[0], : mask.shape[1]] = mask
            part[i, : mask.shape[0], : mask.shape[1]] = parts
        return {"silhouette": np.packbits(silhouette, axis=-1), "parts": part, "size": sizes}


def _read_mask(path: Path) -> npt.NDArray[np.uint8]:
    """(H,W) as cv2 reads it: palettes and colours become grey, as in SPIN."""
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        there = "it is damaged or cut short" if path.is_file() else "there is no such file"
        raise PosesynError(f"cannot read the mask {path}: {there}; restore it from upi-s1h.zip")
    return np.asarray(mask, np.uint8)


def read_joints(path: Path, layout: tuple[int, int], own: str, other: str) -> npt.NDArray[np.float64]:
    """``joints`` of a joints.mat, (*layout, N)."""
    joints = np.asarray(read_mat(path, ["joints"], simplify=False)["joints"])
    if joints.ndim != 3 or joints.dtype.kind not in "fiu" or joints.shape[:2] != layout:
        hint = f" That is the layout of {other}, another data set." if joints.shape[:2] == layout[::-1] else ""
        wanted = f"({layout[0]}, {layout[1]}, N)"
        raise PosesynError(f"{path} holds joints of shape {joints.shape}, {own} has {wanted}.{hint}")
    return joints.astype(np.float64)
