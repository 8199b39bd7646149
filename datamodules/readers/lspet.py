"""Leeds Sports Pose Extended (Johnson & Everingham, "Learning Effective Human Pose Estimation from Inaccurate
Annotation", CVPR 2011): one annotated person per picture, 14 joints, 2D only."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from datamodules.readers.base import READERS, PoseReader, build_index
from human.errors import PosesynError

# First and last picture (1-based) of each part; the rest is kept aside for a final check.
SPLITS = {"train": (1, 5000), "val": (5001, 6000)}
MIN_LABELLED = 12


@READERS.register("lspet")
class LspetReader(PoseReader):
    """Persons with at least 12 of 14 joints labelled.

    The third number of ``joints.mat`` means 1 = labelled here (in LSP it means occluded); the coordinates of the others
    are junk, often negative, and never used. Coordinates are taken as pixel centres, as written.

    Args:
        root: folder with ``images/im00001.jpg`` ... and ``joints.mat`` of shape (14, 3, N).
        split: "train" (pictures 1-5000) or "val" (5001-6000).
    """

    name = "lspet"
    licence = "Flickr pictures, research use; cite Johnson & Everingham, CVPR 2011"
    skeleton = "lsp14"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.root = Path(root)
        self.source = str(self.root.resolve())
        if split not in SPLITS:
            raise PosesynError(f"lspet has no split {split!r}; known: {', '.join(SPLITS)}.")
        if not (self.root / "images").is_dir():
            raise PosesynError(f"no LSPET pictures at {self.root / 'images'}: root is the folder that holds images/.")
        joints = _read_joints(self.root / "joints.mat")
        first, last = SPLITS[split]
        numbers = np.arange(first, min(last, joints.shape[2]) + 1)
        part_NJ3 = joints[:, :, numbers - 1].transpose(2, 0, 1)
        labelled = (part_NJ3[..., 2] == 1) & np.isfinite(part_NJ3[..., :2]).all(-1)
        keep = labelled.sum(1) >= MIN_LABELLED
        self.split = split
        self.numbers = numbers[keep]
        self.pictures = [f"images/im{number:05d}.jpg" for number in self.numbers]
        ids = [f"lspet/{number:05d}" for number in self.numbers]
        self.index = build_index(
            ids, self.numbers, self.skeleton, part_NJ3[keep][..., :2], labelled[keep].astype(np.float64)
        )

    def read_image(self, i: int) -> npt.NDArray[np.uint8]:
        path = self.root / "images" / f"im{self.numbers[i]:05d}.jpg"
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise PosesynError(f"cannot read the picture {path}: restore it from the LSPET archive.")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _read_joints(path: Path) -> npt.NDArray[np.float64]:
    """(14, 3, N) of a joints.mat."""
    try:
        joints = np.asarray(loadmat(path)["joints"], dtype=np.float64)
    except FileNotFoundError:
        raise PosesynError(f"no LSPET labels at {path}: copy joints.mat beside images/.") from None
    except Exception as error:  # scipy raises a different type for each way a MATLAB file can be broken
        raise PosesynError(f"cannot read {path} ({error}): copy joints.mat from the LSPET archive again.") from error
    if joints.ndim != 3 or joints.shape[:2] != (14, 3):
        hint = " That is the layout of LSP, another dataset." if joints.shape[:2] == (3, 14) else ""
        raise PosesynError(f"{path} holds joints of shape {joints.shape}, LSPET has (14, 3, N).{hint}")
    return joints
