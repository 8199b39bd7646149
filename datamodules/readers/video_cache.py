"""Crops of video frames, decoded once and kept as small JPEG files, so that reading one takes about a millisecond."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from filelock import FileLock
from rich.console import Console
from rich.progress import Progress

from human.assets import cache_root
from human.crop import crop_affine, square_box, warp_image
from human.errors import PosesynError

CROP_SCALE = 1.6  # square side over the longer side of the person's box: room for augmentation
MAX_SIDE = 384  # px
QUALITY = 95


@dataclass(frozen=True)
class FrameCrop:
    """A person's square in one frame of a video. ``A`` (2,3) maps frame px to the kept picture of ``size`` px."""

    video: str
    frame: int
    name: str
    A: npt.NDArray[np.float64]
    size: int


def person_crop(video: str, frame: int, name: str, bbox_xyxy: npt.ArrayLike) -> FrameCrop:
    """The square that is kept of a frame; never enlarged."""
    cx, cy, side = square_box(bbox_xyxy, CROP_SCALE)
    size = max(1, min(MAX_SIDE, round(side)))
    return FrameCrop(video, frame, name, crop_affine((cx, cy), side, size), size)


class VideoCache:
    """Kept pictures of ``crops`` of the videos below ``root``; made on construction where they are missing.

    Several processes may construct the same cache: one makes it, the others wait; a crash leaves nothing half-made.

    Args:
        name: what the progress bar and the folder are called.
        root: folder that the ``video`` of each crop is relative to.
        cache: parent folder; the user's cache by default.
    """

    def __init__(self, name: str, root: Path, crops: Sequence[FrameCrop], cache: Path | None = None) -> None:
        self.crops = crops
        digest = hashlib.sha256(repr((CROP_SCALE, MAX_SIDE, QUALITY)).encode())
        for crop in crops:
            digest.update(repr((crop.video, crop.frame, crop.name, crop.A.round(6).tolist(), crop.size)).encode())
        for video in sorted({crop.video for crop in crops}):
            path = root / video
            if not path.is_file():
                raise PosesynError(f"{name}: no video at {path}: give the folder that holds {video} as root.")
            digest.update(str(path.stat().st_size).encode())
        parent = (cache or cache_root()) / "frames"
        self.folder = parent / f"{name}-{digest.hexdigest()[:12]}"
        if not self.folder.is_dir():
            parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.folder}.lock"):
                if not self.folder.is_dir():
                    self._make(name, root)

    def read(self, i: int) -> npt.NDArray[np.uint8]:
        """(size, size, 3) RGB of crop ``i``."""
        path = self.folder / f"{self.crops[i].name}.jpg"
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise PosesynError(f"cannot read {path}: delete the folder {self.folder}, it is made again.")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def _make(self, name: str, root: Path) -> None:
        todo: dict[str, dict[int, list[FrameCrop]]] = defaultdict(lambda: defaultdict(list))
        for crop in self.crops:
            todo[crop.video][crop.frame].append(crop)
        scratch = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder.parent))
        try:
            with Progress(console=Console(stderr=True), transient=True) as progress:
                task = progress.add_task(f"{name}: decoding frames", total=len(self.crops))
                for video, by_frame in todo.items():
                    for crop, picture in _decode(root / video, by_frame):
                        bgr = warp_image(picture, crop.A, crop.size)
                        cv2.imwrite(str(scratch / f"{crop.name}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                        progress.advance(task)
            scratch.replace(self.folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _decode(path: Path, by_frame: dict[int, list[FrameCrop]]) -> Iterator[tuple[FrameCrop, npt.NDArray[np.uint8]]]:
    """Every wanted crop with its BGR frame. Frames are read in order: seeking is inexact in many containers."""
    video = cv2.VideoCapture(str(path))
    try:
        for number in range(max(by_frame) + 1):
            ok, bgr = video.read()
            if not ok:
                needed = max(by_frame) + 1
                raise PosesynError(f"{path} ends or breaks at frame {number}, {needed} are needed: fetch it again.")
            for crop in by_frame.get(number, []):
                yield crop, np.asarray(bgr, dtype=np.uint8)
    finally:
        video.release()
