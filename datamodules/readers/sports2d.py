"""The Sports2D demo: an outdoor video of two people, 2D labels from a detector (docs/data/pose2sim.md)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS, PersonIndex, PoseReader, build_index
from datamodules.readers.video_cache import FrameCrop, VideoCache, person_crop
from human.assets import fetch
from human.crop import transform_points
from human.errors import PosesynError


@READERS.register("sports2d")
class Sports2DReader(PoseReader):
    """2D joints only; pictures are square crops about one person who is alone in the crop.

    Args:
        stride: keep every stride-th frame.
        root: the unpacked ``Demo`` folder (holds demo.mp4); fetched by default.
        cache: where the decoded crops are kept; the user's cache by default.
    """

    name = "sports2d"
    licence = "BSD-3-Clause (Sports2D demo data); labels made with MediaPipe Pose, Apache-2.0"
    skeleton = "coco17"

    def __init__(self, stride: int = 1, root: str | Path | None = None, cache: str | Path | None = None) -> None:
        self.index, crops = labelled_crops(stride)
        folder = Path(root) if root else fetch("sports2d_demo")
        self._pictures = VideoCache(self.name, folder, crops, Path(cache) if cache else None)

    def read_image(self, i: int) -> npt.NDArray[np.uint8]:
        return self._pictures.read(i)


def labelled_crops(stride: int = 1) -> tuple[PersonIndex, list[FrameCrop]]:
    """The persons, in px of their crops, and the crops; needs no video."""
    if stride < 1:
        raise PosesynError(f"sports2d needs a stride of at least 1, got {stride}.")
    with np.load(str(files("datamodules") / "data" / "sports2d_labels.npz")) as archive:
        label = dict(archive)
    rows = np.flatnonzero(label["frame"] % stride == 0)
    conf = (label["conf"][rows] > 0).astype(np.float64)
    ids, crops, joints2d = [], [], []
    for row, kept in zip(rows, conf > 0, strict=True):
        frame, who = int(label["frame"][row]), str(label["names"][label["person"][row]])
        points = label["joints2d"][row].astype(np.float64)
        box = np.concatenate([points[kept].min(0), points[kept].max(0)])
        crop = person_crop("demo.mp4", frame, f"{frame:03d}_{who}", box)
        ids.append(f"sports2d/{crop.name}")
        crops.append(crop)
        joints2d.append(transform_points(crop.A, points))
    index = build_index(ids, np.arange(len(ids)), "coco17", np.stack(joints2d), conf)
    return index, crops
