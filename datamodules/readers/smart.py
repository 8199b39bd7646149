"""SMART (Chen et al., "SportsCap: Monocular 3D Human Motion Capture and Fine-Grained Understanding in Challenging
Sports Videos", IJCV 2021): athletes in broadcast video, 25 hand-labelled joints in OpenPose's order, 2D only.

    images/<img_name>
    annotations/Table_VideoInfo_diving.json
    annotations/Table_VideoInfo_gym.json
    annotations/Table_VideoInfo_polevalut_highjump_badminton.json      (spelled so)

``state`` is the set's: 0 visible, 1 occluded, 2 cannot be inferred (no label): the reverse of COCO. Boxes are tight
about the labels; the set's own are not, in gym not even near the person. ``crop`` is the square that Diffusion-HPC
cuts (downstream_utils/parse_from_real/parse_data_from_sportscap.py); ``sequence`` is the clip's place in its file,
``activity`` the sport by Diffusion-HPC's name ("polevault"), "" for others.

Splits: the three files whole, "all" of them, and Diffusion-HPC's sports: the first clips of each train, the others
test; it drops the last 5 frames of each clip of pole vault and high jump, and takes every 10th of diving with a torso.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS, coded
from datamodules.readers.files import read_json, safe_name, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError
from human.skeleton import BODY25

Array = npt.NDArray[Any]
JOINTS = 25
FILES = {
    "diving": "annotations/Table_VideoInfo_diving.json",
    "gym": "annotations/Table_VideoInfo_gym.json",
    "field": "annotations/Table_VideoInfo_polevalut_highjump_badminton.json",
}
UNKNOWN = 2


@dataclass(frozen=True)
class Sport:
    """One of Diffusion-HPC's: clips of ``file`` whose ``action_labels`` is one of ``labels``, or begins with ``start``;
    the first ``train`` of them train; the last ``cut`` frames of a clip are dropped, every ``step``-th is taken."""

    file: str
    train: int
    labels: tuple[str, ...] = ()
    start: str = ""
    cut: int = 0
    step: int = 1

    def has(self, label: str) -> bool:
        return label in self.labels if self.labels else label.startswith(self.start)


SPORTS = {
    # The comment in the parser speaks of 20 clips, those of 184; its test lets 204 through too.
    "balancebeam": Sport("gym", 5, ("184", "204")),
    "vault": Sport("gym", 4, ("vt",)),
    "unevenbars": Sport("gym", 3, ("271",)),
    "polevault": Sport("field", 2, start="cgt", cut=5),
    "highjump": Sport("field", 2, start="tg", cut=5),
    "diving": Sport("diving", 15, step=10),
}
_LIMBS = BODY25.indices(*(f"{side}_{part}" for part in ("shoulder", "hip") for side in ("right", "left")))


@READERS.register("smart")
class SmartReader(IndexedReader):
    """Athletes with at least two labelled joints.

    Args:
        root: the folder ``SportsCap_Dataset_SMART_v1``.
        split, cache: see :class:`IndexedReader`.
    """

    name = "smart"
    licence = "CC BY-NC-SA 4.0"
    skeleton = "body25"
    where = (
        "get SMART_part01 and SMART_part02 from the links in https://github.com/ChenFengYe/SportsCap; root is "
        "SportsCap_Dataset_SMART_v1"
    )
    splits = ("all", *FILES, *(f"{sport}_{part}" for sport in SPORTS for part in ("train", "test")))

    def label_files(self) -> list[Path]:
        sport = self.split.rpartition("_")[0]
        wanted = list(FILES) if self.split == "all" else [SPORTS[sport].file if sport else self.split]
        if not (self.root / "annotations").is_dir():
            return []
        if not (self.root / "images").is_dir():
            raise PosesynError(f"no pictures of smart at {(self.root / 'images').absolute()}: {self.where}")
        return [self.root / FILES[file] for file in wanted]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "activity": 1}

    def scan(self, path: Path) -> Persons:
        clips = read_json(path)
        if not isinstance(clips, list):
            raise PosesynError(f"{path} is no list of clips as SMART's tables are: get the official file again")
        file = next(name for name, own in FILES.items() if path == self.root / own)
        try:
            chosen = list(self._frames(clips))
            names = [safe_name(frame["img_name"], path) for _, frame in chosen]
            table = [frame["joints"] for _, frame in chosen]
            frames = [int(frame["frame_id"]) for _, frame in chosen]
            sports = [_sport(file, str(clips[number]["action_labels"])) for number, _ in chosen]
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise PosesynError(
                f"{path} is not laid out as SMART's tables ({type(error).__name__}: {error}): get it again"
            ) from None
        if not chosen:
            return Persons([], [])
        joints = shaped(table, (len(chosen), JOINTS, 3), path, "joints")
        state = joints[..., 2]
        if not np.isin(state, (0, 1, UNKNOWN)).all():
            raise PosesynError(f"{path} has joints with states other than 0, 1, 2: get the official file again")
        labelled = state != UNKNOWN
        crop = square(joints, labelled) if file == "diving" else square(joints, np.ones_like(labelled), state)
        keep = np.ones(len(chosen), bool)
        if self.split.startswith("diving_"):
            torso = labelled[:, _LIMBS]
            keep = (labelled.sum(1) >= 4) & ((torso[:, 0] & torso[:, 2]) | (torso[:, 1] & torso[:, 3]))
            keep &= crop[:, 2] >= 100
        rows = np.flatnonzero(keep).tolist()
        native2d = np.concatenate([joints[..., :2], labelled[..., None]], -1)
        clip_numbers = np.array([number for number, _ in chosen])
        return Persons(
            ids=[f"smart/{names[i].rsplit('.', 1)[0]}" for i in rows],
            pictures=[f"images/{names[i]}" for i in rows],
            native2d=native2d[keep],
            more={
                "state": state[keep],
                "crop": crop[keep],
                "sequence": clip_numbers[keep],
                "frame": np.array(frames)[keep],
                "group": np.full(len(rows), list(FILES).index(file)),
                "activity": coded([sports[i] for i in rows]),
            },
        )

    def _frames(self, clips: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(clip's number, frame) of the split, those with joints."""
        sport, _, part = self.split.rpartition("_")
        numbered = list(enumerate(clips))
        cut, step = 0, 1
        if sport:
            own = SPORTS[sport]
            numbered = [(n, clip) for n, clip in numbered if own.has(str(clip["action_labels"]))]
            numbered = numbered[: own.train] if part == "train" else numbered[own.train :]
            cut, step = own.cut, own.step
        for number, clip in numbered:
            frames = clip["frames"]
            for frame in frames[: len(frames) - cut : step]:
                if len(frame["joints"]):
                    yield number, frame


def _sport(file: str, label: str) -> str:
    """The sport that a clip shows, by its name in :data:`SPORTS`; "" where it is none of them."""
    return next((name for name, own in SPORTS.items() if own.file == file and own.has(label)), "")


def square(joints_NJ3: Array, counted_NJ: Array, state_NJ: Array | None = None) -> Array:
    """(N,3) px: middle and side of Diffusion-HPC's crop: three torsos, or 1.2 of the box of the ``counted`` joints.

    With ``state`` the length of a torso side is taken in three dimensions, the third being 1 - state, as the parser
    for gym and field does; without, sides of which an end is not counted are left out, as it does for diving.
    """
    points = joints_NJ3[..., :2]
    low = np.where(counted_NJ[..., None], points, np.inf).min(1)
    high = np.where(counted_NJ[..., None], points, -np.inf).max(1)
    right, left = (_LIMBS[0], _LIMBS[2]), (_LIMBS[1], _LIMBS[3])
    sides, usable = [], []
    for shoulder, hip in (right, left):
        difference = points[:, hip] - points[:, shoulder]
        if state_NJ is not None:
            third = state_NJ[:, shoulder] - state_NJ[:, hip]
            difference = np.concatenate([difference, third[:, None]], 1)
        sides.append(np.linalg.norm(difference, axis=1))
        usable.append(counted_NJ[:, shoulder] & counted_NJ[:, hip])
    weight = np.stack(usable, 1).astype(float)
    torso = (np.stack(sides, 1) * weight).sum(1) / np.maximum(weight.sum(1), 1)
    with np.errstate(invalid="ignore"):
        size, middle = (high - low).max(1), (high + low) / 2
    return np.concatenate([middle, np.maximum(3 * torso, 1.2 * size)[:, None]], 1)
