"""The Pose2Sim demo: one person, one take, four calibrated cameras; 3D labels triangulated from a 2D detector.

``docs/data/pose2sim.md`` says how the labels were made and what they are worth: a real, small, calibrated check, not
motion capture. The several-person demo of the same package is the same take with a person pasted in; it is not used.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS, PersonIndex, PoseReader, build_index
from datamodules.readers.video_cache import FrameCrop, VideoCache, person_crop
from human.assets import fetch
from human.crop import transform_intrinsics, transform_points
from human.errors import PosesynError

# Cameras and frames [first, end) of each part. No view and no moment is shared: the 10 frames between (0.17 s) are
# dropped. Cameras 1, 2 see the front of the athlete, 3, 4 the back: each part has one of both.
SPLITS = {"train": ((1, 3), (0, 55)), "eval": ((2, 4), (65, 100))}


@READERS.register("pose2sim")
class Pose2SimReader(PoseReader):
    """Absolute 3D joints in the camera frame, 2D joints and intrinsics; pictures are square crops about the athlete.

    Args:
        split: "train" (cameras 1, 3, frames 0-54) or "eval" (cameras 2, 4, frames 65-99).
        stride: keep every stride-th frame.
        root: the unpacked ``Demo_SinglePerson`` folder; fetched by default.
        cache: where the decoded crops are kept; the user's cache by default.
    """

    name = "pose2sim"
    licence = "BSD-3-Clause (Pose2Sim demo data); labels made with MediaPipe Pose, Apache-2.0"
    skeleton = "coco17"

    def __init__(
        self, split: str = "train", stride: int = 1, root: str | Path | None = None, cache: str | Path | None = None
    ) -> None:
        self.split = split
        self.index, crops = labelled_crops(split, stride)
        folder = Path(root) if root else fetch("pose2sim_single")
        self._pictures = VideoCache(f"{self.name}-{split}", folder, crops, Path(cache) if cache else None)

    def read_image(self, i: int) -> npt.NDArray[np.uint8]:
        return self._pictures.read(i)


def labelled_crops(split: str, stride: int = 1) -> tuple[PersonIndex, list[FrameCrop]]:
    """The persons of a part, in px of their crops, and the crops; needs no video."""
    if split not in SPLITS:
        raise PosesynError(f"pose2sim has no split {split!r}; known: {', '.join(SPLITS)}.")
    if stride < 1:
        raise PosesynError(f"pose2sim needs a stride of at least 1, got {stride}.")
    cameras, (first, end) = SPLITS[split]
    with np.load(str(files("datamodules") / "data" / "pose2sim_labels.npz")) as archive:
        label = dict(archive)
    ids, crops, joints2d, joints3d, conf, intrinsics = [], [], [], [], [], []
    for camera in cameras:
        c = list(label["cameras"]).index(camera)
        for t in range(first, end, stride):
            name = f"cam{camera:02d}_{t:03d}"
            kept = label["conf"][t] > 0
            points = label["joints2d"][t, c].astype(np.float64)
            box = np.concatenate([points[kept].min(0), points[kept].max(0)])
            crop = person_crop(f"videos/cam{camera:02d}.mp4", t, name, box)
            ids.append(f"pose2sim/{name}")
            crops.append(crop)
            joints2d.append(transform_points(crop.A, points))
            joints3d.append(label["joints3d"][t] @ label["R"][c].T + label["t"][c])
            conf.append(kept.astype(np.float64))
            intrinsics.append(transform_intrinsics(crop.A, label["K"][c]))
    confidence = np.stack(conf)
    index = build_index(
        ids,
        np.arange(len(ids)),
        "coco17",
        np.stack(joints2d),
        confidence,
        joints3d=np.stack(joints3d),
        conf3d=confidence,
        intrinsics=np.stack(intrinsics),
    )
    return index, crops
