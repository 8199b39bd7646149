"""JHMDB (Jhuang et al., "Towards Understanding Action Recognition", ICCV 2013): 928 clips of 21 actions, 15 joints of a
puppet fitted to one person in every frame, 2D only; sub-JHMDB: the clips in which the whole body is seen.

    Rename_Images/<action>/<clip>/00001.png ...                           320x240
    joint_positions/<action>/<clip>/joint_positions.mat                   ``pos_img`` (2, 15, F), counted from 1
    puppet_mask/<action>/<clip>/puppet_mask.mat                           ``part_mask`` (240, 320, F); optional
    splits/<action>_test_split{1,2,3}.txt                                 "<clip>.avi 1" trains, "<clip>.avi 2" tests
    annotations/Sub{1,2,3}_{train,test}.json                              sub-JHMDB in COCO's style, by mmpose

Coordinates and boxes count from 1 as written; here 1 is subtracted. Boxes: of the puppet's mask where that archive is
there, else tight about the joints; in sub-JHMDB the file's, cut to the picture as mmpose does. ``sequence`` numbers the
clips, ``frame`` counts from 0, ``group`` is the action's place in :data:`ACTIONS`.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS
from datamodules.readers.coco_style import corners, read_annotations
from datamodules.readers.files import read_mat, read_text, safe_name
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

Array = npt.NDArray[Any]
JOINTS = 15
PICTURES = "Rename_Images"
ACTIONS = (
    "brush_hair", "catch", "clap", "climb_stairs", "golf", "jump", "kick_ball", "pick", "pour", "pullup", "push", "run",
    "shoot_ball", "shoot_bow", "shoot_gun", "sit", "stand", "swing_baseball", "throw", "walk", "wave",
)  # fmt: skip
_PARTS = {"1": "train", "2": "test"}


@READERS.register("jhmdb")
class JhmdbReader(IndexedReader):
    """Every frame's person; splits "split1_train" ... of the whole set, "sub1_train" ... of sub-JHMDB."""

    name = "jhmdb"
    licence = "research use; cite Jhuang et al., ICCV 2013"
    skeleton = "jhmdb15"
    where = (
        "get Rename_Images.tar.gz, joint_positions.zip, splits.zip, puppet_mask.zip from http://jhmdb.is.tue.mpg.de; "
        "sub-JHMDB: https://download.openmmlab.com/mmpose/datasets/jhmdb_annotations.tar"
    )
    splits = tuple(f"{kind}{k}_{part}" for kind in ("split", "sub") for k in (1, 2, 3) for part in ("train", "test"))

    _clip = -1  # the one that is scanned

    def label_files(self) -> list[Path]:
        kind, part = self.split.split("_")
        if kind.startswith("sub"):
            path = self.root / "annotations" / f"Sub{kind[3:]}_{part}.json"
            files = [path] if path.is_file() else []
        else:
            lists = sorted((self.root / "splits").glob(f"*_test_{kind}.txt"))
            clips = [clip for path in lists for clip in self._clips(path, part)]
            masks = [self._mask(clip) for clip in clips]
            files = [*lists, *(self._labels(clip) for clip in clips), *(m for m in masks if m.is_file())]
        if files and not (self.root / PICTURES).is_dir():
            raise PosesynError(f"no pictures of jhmdb at {(self.root / PICTURES).absolute()}: {self.where}")
        return files

    def _clips(self, path: Path, part: str) -> list[str]:
        """ "action/clip" of a split's list."""
        action = path.name.rsplit("_test_", 1)[0]
        out = []
        for line in read_text(path).splitlines():
            if not line.strip():
                continue
            name, _, number = line.strip().rpartition(" ")
            if number not in ("0", *_PARTS) or not name.endswith(".avi"):
                raise PosesynError(f"{path}: {line!r} is not '<clip>.avi 1|2': get splits.zip again")
            if _PARTS.get(number) == part:
                out.append(safe_name(f"{action}/{name[:-4]}", path))
        return out

    def _labels(self, clip: str) -> Path:
        return self.root / "joint_positions" / clip / "joint_positions.mat"

    def _mask(self, clip: str) -> Path:
        return self.root / "puppet_mask" / clip / "puppet_mask.mat"

    def scan(self, path: Path) -> Persons:
        if path.suffix == ".json":
            return self._sub(path)
        if path.name != "joint_positions.mat":
            return Persons([], [])  # lists and masks are read with the clips
        clip = path.parent.relative_to(self.root / "joint_positions").as_posix()
        if not (self.root / PICTURES / clip).is_dir():
            raise PosesynError(f"no pictures of the clip at {self.root / PICTURES / clip}: {self.where}")
        points = frames_last(read_mat(path, ["pos_img"], simplify=False)["pos_img"], (2, JOINTS), path, "pos_img")
        joints = points.transpose(2, 1, 0) - 1
        native2d = np.concatenate([joints, np.ones_like(joints[..., :1])], -1)
        bbox, area = None, np.full(len(joints), np.nan)
        if self._mask(clip).is_file():
            bbox, area = self._boxes(self._mask(clip), joints)
        frames = np.arange(len(joints))
        self._clip += 1
        return Persons(
            ids=[f"jhmdb/{clip}/{frame + 1:05d}" for frame in frames],
            pictures=[f"{PICTURES}/{clip}/{frame + 1:05d}.png" for frame in frames],
            native2d=native2d,
            bbox=tight(joints) if bbox is None else bbox,
            more={
                "area": area,
                "sequence": np.full(len(frames), self._clip),
                "frame": frames,
                "group": np.full(len(frames), action_number(clip, path)),
            },
        )

    def _boxes(self, path: Path, joints: Array) -> tuple[Array, Array]:
        """(F,4) px xyxy and (F,) px^2 of the puppet's masks; tight about the joints where a mask is empty."""
        mask = read_mat(path, ["part_mask"], simplify=False)["part_mask"]
        mask = frames_last(mask, (None, None), path, "part_mask") > 0
        if mask.shape[2] != len(joints):
            raise PosesynError(f"{path} has {mask.shape[2]} frames, joint_positions.mat {len(joints)}: get both again")
        boxes = tight(joints)
        for frame in np.flatnonzero(mask.any((0, 1))).tolist():
            rows, columns = (np.flatnonzero(mask[..., frame].any(axis)) for axis in (1, 0))
            boxes[frame] = columns[0], rows[0], columns[-1], rows[-1]
        return boxes, mask.sum((0, 1)).astype(float)

    def _sub(self, path: Path) -> Persons:
        found = read_annotations(path, JOINTS)
        names = [name.removeprefix(f"{PICTURES}/") for name in found.files]
        clips = [str(PurePosixPath(name).parent) for name in names]
        number = {clip: i for i, clip in enumerate(dict.fromkeys(clips))}
        try:
            frames = np.array([int(PurePosixPath(name).stem) - 1 for name in names], int)
        except ValueError as error:
            raise PosesynError(f"{path} names a picture that is no frame ({error}): get it again") from None
        box = corners(found.bbox) - 1
        high = np.where(np.isfinite(found.size), found.size, np.inf) - 1
        box = np.clip(box, 0, np.concatenate([high, high], 1))
        flags = found.keypoints[..., 2]
        return Persons(
            ids=[f"jhmdb/{name.rsplit('.', 1)[0]}" for name in names],
            pictures=[f"{PICTURES}/{name}" for name in names],
            native2d=np.concatenate([found.keypoints[..., :2] - 1, flags[..., None] > 0], -1),
            bbox=box,
            more={
                "state": flags,
                "sequence": np.array([number[clip] for clip in clips], int),
                "frame": frames,
                "group": np.array([action_number(clip, path) for clip in clips], int),
            },
        )


def tight(joints_FJ2: Array) -> Array:
    """(F,4) xyxy; a joint that is not finite is not in it."""
    known = np.isfinite(joints_FJ2).all(-1, keepdims=True)
    low = np.where(known, joints_FJ2, np.inf).min(1)
    return np.concatenate([low, np.where(known, joints_FJ2, -np.inf).max(1)], 1)


def frames_last(value: Any, shape: tuple[int | None, int | None], path: Path, what: str) -> Array:
    """(*shape, F) numbers; MATLAB drops the last axis of a single frame."""
    array = np.asarray(value)
    array = array[..., None] if array.ndim == 2 else array
    wrong = array.ndim != 3 or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=False))
    if wrong or array.dtype.kind not in "buif":
        raise PosesynError(f"{path}: {what} has the shape {np.shape(value)}: get it from the official archive again")
    return array


def action_number(clip: str, path: Path) -> int:
    """Place in :data:`ACTIONS` of "action/clip"; -1 for a clip that does not say its action."""
    action = clip.rsplit("/", 1)[0] if "/" in clip else ""
    if action and action not in ACTIONS:
        raise PosesynError(
            f"{path}: {clip!r} is of no action of JHMDB ({', '.join(ACTIONS)}): check the folders' names"
        )
    return ACTIONS.index(action) if action else -1
