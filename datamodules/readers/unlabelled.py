"""Any folder of pictures or videos, labelled by a detector or another estimator (PoseSyn's EEM without 2D truth, Table
7; docs/unlabelled.md): it can be mined, lend its people as references, and be trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from datamodules.images import SUFFIXES, picture_camera
from datamodules.images import read_picture as read_upright
from datamodules.readers.base import READERS
from datamodules.readers.indexed import IndexedReader, Persons
from datamodules.readers.label_cache import LabelCache, content_hash
from datamodules.readers.pictures import read_picture, split_name
from human.assets import cache_root, fetch
from human.errors import PosesynError
from human.labellers import Labeller, Labels, make_labeller
from human.skeleton import get_skeleton

VIDEOS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
Picture = npt.NDArray[np.uint8]


@READERS.register("unlabelled")
class UnlabelledReader(IndexedReader):
    """People that a labeller finds; the confidence of a joint is the labeller's.

    Args:
        root: folder of pictures and videos (with those below it), or one video; "asset:NAME" is the folder of an asset
            (``posesyn assets``).
        labeller, labeller_options: who labels (``human.labellers.LABELLERS``), and its arguments.
        min_confidence: joints below this are not labelled.
        min_joints: people with fewer labelled joints are left out.
        min_score: people whom the labeller is less sure of are left out.
        stride: of a video every ``stride``-th frame.
        workers: processes that label; 0: this one.
        split: there is only "all".
        cache: where labels and the index are kept; the user's cache by default. Labels are kept by the pictures'
            content, so that nothing is labelled twice.

    Pictures that cannot be read are counted and left out. Everyone found is listed with the number of people in the
    picture, so that the EEM's ``single_person`` holds as for any data set.

    Raises:
        PosesynError: no such folder, nothing in it, or nobody in any picture.
    """

    name = "unlabelled"
    licence = "the pictures' own; the labels' is their labeller's (blazepose: Apache-2.0)"
    skeleton = "coco17"
    where = "any folder of pictures or videos"
    splits: ClassVar[tuple[str, ...]] = ("all",)
    only = ""  # the video that is read alone

    def __init__(
        self,
        root: str | Path,
        labeller: str = "blazepose",
        labeller_options: dict[str, Any] | None = None,
        min_confidence: float = 0.5,
        min_joints: int = 6,
        min_score: float = 0.0,
        stride: int = 1,
        workers: int = 0,
        split: str | None = None,
        cache: str | Path | None = None,
    ) -> None:
        if not (0 <= min_confidence <= 1 and 0 <= min_score <= 1) or min_joints < 2 or stride < 1 or workers < 0:
            raise PosesynError(
                "unlabelled needs min_confidence and min_score in 0 .. 1, min_joints >= 2, stride >= 1 and "
                f"workers >= 0, got {min_confidence}, {min_score}, {min_joints}, {stride} and {workers}"
            )
        self.min_confidence, self.least_joints, self.min_score = min_confidence, min_joints, min_score  # type: ignore[misc]
        self.stride, self.workers = stride, workers
        self.made_by = make_labeller(labeller, labeller_options)
        self.skeleton = self.made_by.skeleton
        folder = (Path(cache) if cache else cache_root()) / "labels"
        digest = hashlib.sha256(self.made_by.describe().encode()).hexdigest()[:12]
        self.labels = LabelCache(folder / f"{labeller}-{digest}", len(get_skeleton(self.skeleton)))
        if str(root).startswith("asset:"):
            root = fetch(str(root).removeprefix("asset:"))
        if Path(root).is_file():
            root, self.only = Path(root).parent, Path(root).name
        super().__init__(root, split, cache)

    def __getstate__(self) -> dict[str, Any]:
        # Loaders' processes read pictures; they label nothing.
        return {k: v for k, v in super().__getstate__().items() if k != "made_by"}

    def facts(self) -> dict[str, Any]:
        limits = {"confidence": self.min_confidence, "joints": self.least_joints, "score": self.min_score}
        return {**super().facts(), "labeller": self.made_by.describe(), "stride": self.stride, "limits": limits}

    def label_files(self) -> list[Path]:
        """The pictures and videos."""
        if self.only:
            return [self.root / self.only]
        known = SUFFIXES | VIDEOS
        files = (p for p in self.root.rglob("*") if p.suffix.lower() in known and not p.name.startswith("."))
        found = sorted(p for p in files if p.is_file())
        if not found:
            raise PosesynError(
                f"unlabelled: no pictures or videos in {self.root.absolute()} or below it; they end in "
                f"{', '.join(sorted(known))}"
            )
        return found

    def _chunks(self, files: Any, people: list[int]) -> Iterator[dict[str, Any]]:
        if self.workers and self.made_by.parallel:
            self._label_in_processes(files)
        return super()._chunks(files, people)

    def _label_in_processes(self, files: list[Path]) -> None:
        loader: DataLoader[int] = DataLoader(
            _Todo(self, files), batch_size=None, num_workers=self.workers, multiprocessing_context="forkserver"
        )
        console = Console(stderr=True)
        for _ in track(loader, "labelling pictures", total=len(files), transient=True, console=console):
            pass

    def scan(self, path: Path) -> Iterator[Persons]:
        file = path.relative_to(self.root).as_posix()
        video = path.suffix.lower() in VIDEOS
        kind = "videos" if video else "pictures"
        seen = 0
        try:
            for name, labels, focal, shape in label_file(path, file, self.made_by, self.labels, self.stride):
                seen += 1
                if not len(labels):
                    self.skipped.add("frames with nobody in them" if video else "pictures with nobody in them", name)
                    continue
                yield self._persons(name, labels, focal, shape)
        except _Unreadable:
            self.skipped.add(f"{kind} that cannot be read", file)
            return
        if not seen:
            self.skipped.add(f"{kind} that cannot be read", file)

    def _persons(self, name: str, labels: Labels, focal: float | None, shape: tuple[int, int]) -> Persons:
        joints = labels.joints.copy()
        joints[joints[..., 2] < self.min_confidence] = 0.0
        joints[labels.score < self.min_score] = 0.0  # left out below, but in the picture they are
        count = len(labels)
        camera = None if focal is None else np.broadcast_to(picture_camera(*shape, focal), (count, 3, 3))
        return Persons(
            [f"{self.root.name}/{name}:{k}" for k in range(count)],
            [name] * count,
            native2d=joints,
            intrinsics=camera,
            people=np.full(count, count),
            more={"score": labels.score},
        )

    def read_image(self, i: int) -> Picture:
        """Upright, as it was labelled."""
        path, number = split_name(self.pictures[i])
        return read_upright(self.root / path)[0] if number is None else read_frame(self.root, path, number)


class _Unreadable(Exception):
    """A file that is no picture, or damaged."""


def label_file(
    path: Path, file: str, labeller: Labeller, cache: LabelCache, stride: int
) -> Iterator[tuple[str, Labels, float | None, tuple[int, int]]]:
    """Of a picture or of a video's frames: name, labels, focal length (px, where EXIF has one), (height, width)."""
    try:
        key = content_hash(path)
        if path.suffix.lower() not in VIDEOS:
            image, focal = read_upright(path)
            yield file, _labels(image, file, key, labeller, cache), focal, image.shape[:2]
            return
    except PosesynError as error:
        raise _Unreadable from error
    number = 0
    while True:
        try:
            image = read_frame(path.parent, path.name, number)
        except PosesynError:  # the end
            return
        name = f"{file}#{number}"
        yield name, _labels(image, name, f"{key}-{number:06d}", labeller, cache), None, image.shape[:2]
        number += stride


def _labels(image: Picture, name: str, key: str, labeller: Labeller, cache: LabelCache) -> Labels:
    labels = cache.get(key) if labeller.cached else None
    if labels is None:
        labels = labeller(image, name)
        if labeller.cached:
            cache.put(key, labels)
    return labels


def read_frame(root: Path, path: str, number: int) -> Picture:
    """(H,W,3) RGB of a video's frame, upright as its container says."""
    turn = _quarter_turns(str(root / path))
    return np.ascontiguousarray(np.rot90(read_picture(root, f"{path}#{number}"), -turn))


@lru_cache(maxsize=64)
def _quarter_turns(path: str) -> int:
    """Clockwise, that a player makes."""
    video = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    angle = video.get(cv2.CAP_PROP_ORIENTATION_META)
    video.release()
    return round(angle / 90) % 4


class _Todo(Dataset[int]):
    """Files to label; what comes of them lies in the cache."""

    def __init__(self, reader: UnlabelledReader, files: list[Path]) -> None:
        self.files, self.root = files, reader.root
        self.labeller, self.cache, self.stride = reader.made_by, reader.labels, reader.stride

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> int:
        path = self.files[number]
        try:
            return sum(
                1
                for _ in label_file(
                    path, path.relative_to(self.root).as_posix(), self.labeller, self.cache, self.stride
                )
            )
        except _Unreadable:
            return 0
