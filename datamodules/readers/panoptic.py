"""CMU Panoptic Studio (Joo et al., TPAMI 2017): people in a dome, here before its HD cameras.

``SEQ/calibration_SEQ.json``, ``SEQ/hdPose3d_stage1_coco19/body3DScene_00000168.json`` (also in a folder ``hd`` below,
or still in ``hdPose3d_stage1_coco19.tar``), pictures ``SEQ/hdImgs/00_16/00_16_00000168.jpg`` (or .png) or
``SEQ/hdVideos/hd_00_16.mp4``. Joints are in centimetres in the world's frame, y down, with a confidence; those of 0.1
or less count as unlabelled, as in isarandi/posepile and JiangWenPL/multiperson. A person is kept for a camera that sees
at least 6 labelled joints, all labelled ones before it. Pictures are as the lens bends them, and so are the 2D joints.

``sequence`` numbers the sequences by name, ``group`` is the activity (position in ``ACTIVITIES``, 0 for none of them),
``person`` the set's id of the track (one person may have several).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS
from datamodules.readers.files import read_json, read_tar, read_text, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

Array = npt.NDArray[np.float64]
ACTIVITIES = ("", "haggling", "mafia", "ultimatum", "pizza", "pose", "cello")
#: The four sequences that multi-person figures are of (JiangWenPL/multiperson:DATASETS.md, after Zanfir et al. 2018).
MULTIPERSON = ("160422_haggling1", "160422_mafia2", "160422_ultimatum1", "160906_pizza1")
_POSE = "hdPose3d_stage1_coco19"
_NAME = re.compile(r"body3DScene_(\d{8})\.json")
_LEAST_CONFIDENCE, _LEAST_VISIBLE = 0.1, 6


@READERS.register("panoptic")
class PanopticReader(IndexedReader):
    """See the module.

    Args:
        root: folder of the sequences' folders, as panoptic-toolbox makes it.
        split: "multiperson" (:data:`MULTIPERSON`, all four must be there), "pose" (the single-person sequences
            ``*_pose*`` and ``*_cello*`` that are there) or "all" that are there.
        cameras: numbers of HD cameras, 0 to 30; 16 and 30 are those of the multi-person protocols.
        every: frames whose number divides by it.
        frames: a folder with SEQ.txt, the numbers of frames to keep, as multiperson's test_sequences.
    """

    name = "panoptic"
    licence = "non-commercial research; cite Joo et al. and Simon et al."
    where = (
        "with scripts/getData.sh SEQ 0 31 and extractAll.sh of "
        "github.com/CMU-Perceptual-Computing-Lab/panoptic-toolbox; root is the folder that holds the sequences' folders"
    )
    skeleton = "panoptic19"
    splits = ("multiperson", "pose", "all")
    folders = ("cmu_panoptic", "panoptic-toolbox")
    cameras: Sequence[int] = (16, 30)
    every: int = 10
    frames: Path | None = None

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        cameras: list[int] | None = None,
        every: int = 10,
        frames: str | Path | None = None,
        cache: str | Path | None = None,
    ) -> None:
        if every < 1:
            raise PosesynError(f"panoptic: every={every} keeps no frame; pass 1 or more.")
        if unknown := sorted(set(cameras or ()) - set(range(31))):
            raise PosesynError(f"panoptic has no HD camera {unknown[0]}; it has 0 to 30.")
        self.cameras = sorted(cameras or (16, 30))
        self.every = every
        self.frames = Path(frames) if frames is not None else None
        super().__init__(root, split, cache)

    def label_files(self) -> list[Path]:
        if self.split == "multiperson":
            names = list(MULTIPERSON)
        else:
            names = sorted(p.parent.name for p in self.root.glob("*/calibration_*.json"))
            names = [n for n in names if self.split == "all" or "_pose" in n or "_cello" in n]
        return [self.root / name / f"calibration_{name}.json" for name in names]

    def facts(self) -> dict[str, Any]:
        kept: dict[str, Any] = {"cameras": self.cameras, "every": self.every, "frames": ""}
        if self.frames is not None:
            kept["frames"] = [(str(p), read_text(p)) for p in sorted(self.frames.glob("*.txt"))]
        scenes = [(path.parent.name, *_stamp(path.parent)) for path in self.label_files()]
        return {**super().facts(), **kept, "scenes": scenes}

    def scan(self, path: Path) -> Iterator[Persons]:
        folder, sequence = path.parent, path.parent.name
        views = read_calibration(path)
        numbers, tracks, bodies = self._bodies(folder)
        number = [p.parent.name for p in self.label_files()].index(sequence)
        group = next((i for i, a in enumerate(ACTIVITIES) if a and f"_{a}" in sequence), 0)
        for camera in self.cameras:
            name = f"00_{camera:02d}"
            if name not in views:
                raise PosesynError(f"{path} has no camera {name}: get it again")
            matrix, intrinsics, lens, size = views[name]
            points = bodies[..., :3] @ matrix[:3, :3].T + matrix[:3, 3]
            labelled = bodies[..., 3] > 0
            pixels = project(points, intrinsics, lens)
            inside = labelled & ((pixels >= 0) & (pixels < size)).all(-1) & (points[..., 2] > 0)
            front = ((points[..., 2] > 0) | ~labelled).all(1)
            rows = np.flatnonzero(front & (inside.sum(1) >= _LEAST_VISIBLE))
            pictures = self._pictures(folder, name, sorted(set(numbers[rows].tolist())))
            rows = rows[[numbers[i] in pictures for i in rows]] if len(rows) else rows
            n = len(rows)
            yield Persons(
                ids=[f"panoptic/{sequence}/{name}/{numbers[i]:08d}/{tracks[i]}" for i in rows],
                pictures=[pictures[int(numbers[i])] for i in rows],
                native2d=np.concatenate([pixels, inside[..., None] * bodies[..., 3:]], -1)[rows],
                native3d=np.concatenate([points, bodies[..., 3:]], -1)[rows],
                intrinsics=intrinsics,
                more={
                    "sequence": np.full(n, number),
                    "frame": numbers[rows],
                    "person": tracks[rows],
                    "group": np.full(n, group),
                    "camera": np.tile(matrix, (n, 1, 1)),
                    "distortion": np.tile(lens, (n, 1)),
                },
            )

    def _bodies(self, folder: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]:
        """Frame, track and (19,4) joints (metres, confidence) of every body in the frames that are kept."""
        wanted: set[int] | None = None
        if self.frames is not None:
            file = self.frames / f"{folder.name}.txt"
            try:
                wanted = {int(word) for word in read_text(file).split()}
            except ValueError:
                raise PosesynError(f"{file} must hold numbers of frames, one a line") from None
        numbers, tracks, bodies = [], [], []
        for number, name, content in _scenes(folder, self.where):
            if number not in wanted if wanted is not None else number % self.every:
                continue
            try:
                for body in json.loads(content())["bodies"]:
                    if "joints19" not in body:
                        raise PosesynError(f"{name} has no joints19 (an older kind of file): get {_POSE}.tar")
                    bodies.append(shaped(body["joints19"], (76,), name, "joints19").reshape(19, 4))
                    numbers.append(number)
                    tracks.append(int(body["id"]))
            except (KeyError, TypeError, ValueError) as error:
                raise PosesynError(
                    f"{name} is damaged ({type(error).__name__}: {error}): get {_POSE}.tar again"
                ) from None
        joints = np.array(bodies, np.float64).reshape(-1, 19, 4)
        joints[..., :3] /= 100
        joints[..., 3] = np.where(joints[..., 3] > _LEAST_CONFIDENCE, np.clip(joints[..., 3], 0, 1), 0)
        return np.array(numbers, np.int64), np.array(tracks, np.int64), joints

    def _pictures(self, folder: Path, camera: str, numbers: list[int]) -> dict[int, str]:
        """The picture of each frame that has one."""
        base = folder / "hdImgs" / camera
        if base.is_dir():
            there = set(os.listdir(base))
            names = {n: [f"{camera}_{n:08d}.{ext}" for ext in ("jpg", "png")] for n in numbers}
            found = {n: next((x for x in both if x in there), None) for n, both in names.items()}
            return {n: f"{folder.name}/hdImgs/{camera}/{x}" for n, x in found.items() if x is not None}
        video = f"{folder.name}/hdVideos/hd_{camera}.mp4"
        if not (self.root / video).is_file():
            raise PosesynError(f"neither {base} nor {self.root / video} is there: {self.where}")
        return {n: f"{video}#{n}" for n in numbers}


def read_calibration(path: Path) -> dict[str, tuple[Array, Array, Array, tuple[int, int]]]:
    """By name ("00_16"): (4,4) world to camera in metres, (3,3) px, k1 k2 p1 p2 k3, (width, height)."""
    content = read_json(path)
    views = {}
    try:
        for view in content["cameras"]:
            if view["type"] != "hd":
                continue
            matrix = np.eye(4)
            matrix[:3, :3] = shaped(view["R"], (3, 3), path, "R")
            matrix[:3, 3] = shaped(view["t"], (3, 1), path, "t")[:, 0] / 100
            lens = shaped(view["distCoef"], (5,), path, "distCoef")
            width, height = view["resolution"]
            views[str(view["name"])] = (matrix, shaped(view["K"], (3, 3), path, "K"), lens, (int(width), int(height)))
    except (KeyError, TypeError, ValueError) as error:
        raise PosesynError(
            f"{path} is no calibration of a dome ({type(error).__name__}: {error}): get it again"
        ) from None
    return views


def project(points: Array, intrinsics: Array, lens: Array) -> Array:
    """(...,3) metres in the camera's frame to (...,2) px, through OpenCV's lens."""
    if not points.size:
        return np.zeros((*points.shape[:-1], 2))
    zero = np.zeros(3)
    flat = np.ascontiguousarray(points.reshape(-1, 3))
    pixels = np.asarray(cv2.projectPoints(flat, zero, zero, intrinsics, lens)[0], np.float64)
    return pixels.reshape(*points.shape[:-1], 2)


def _folder(sequence: Path) -> Path | None:
    """Where the frames' files are, if they are unpacked."""
    for folder in (sequence / _POSE, sequence / _POSE / "hd"):
        if folder.is_dir() and any(_NAME.fullmatch(name) for name in os.listdir(folder)):
            return folder
    return None


def _scenes(sequence: Path, where: str) -> Iterator[tuple[int, str, Any]]:
    """(frame, name for errors, function that gives the content), in order."""
    folder, archive = _folder(sequence), sequence / f"{_POSE}.tar"
    if folder is not None:
        for name in sorted(os.listdir(folder)):
            if match := _NAME.fullmatch(name):
                yield int(match[1]), str(folder / name), (folder / name).read_bytes
    elif archive.is_file():
        for name, content in read_tar(archive):
            if match := _NAME.fullmatch(name.rsplit("/", 1)[-1]):
                yield int(match[1]), f"{archive} ({name})", lambda content=content: content
    else:
        raise PosesynError(f"neither {sequence / _POSE} (with body3DScene_*.json) nor {archive} is there: {where}")


def _stamp(sequence: Path) -> tuple[int, int, int]:
    """Number, bytes and newest change of the files that bodies are read from."""
    folder = _folder(sequence)
    files = (
        [sequence / f"{_POSE}.tar"] if folder is None else [f for f in os.scandir(folder) if _NAME.fullmatch(f.name)]
    )
    stats = [f.stat() for f in files if not isinstance(f, Path) or f.is_file()]
    return len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)
