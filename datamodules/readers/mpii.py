"""MPII Human Pose (Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis", CVPR
2014): 16 joints of some 29,000 labelled persons in 17,000 pictures, 2D only.

Three forms of the same labels are read, whichever lies below the root:

    images/*.jpg
    mpii_human_pose_v1_u12_1.mat                     official: all that is public, no division (split "trainval")
    annot/{train,valid,trainval}.json, gt_valid.mat  HRNet's; mmpose's: annotations/mpii_{train,val,trainval}.json,
                                                     mpii_gt_val.mat
    annot/{train,valid}.h5                           of stacked hourglass networks: whole px, so heads differ by up to 1

Joints, head boxes and squares count from 1 as written; here 1 is subtracted. ``crop`` is HRNet's square: the set's
``objpos`` 15 ``scale`` px lower, 250 ``scale`` px wide (the .h5 files hold it already). ``state`` is ``is_visible`` or
``visible`` (1 seen, 0 occluded, -1 not said or no joint); the JSON's ``joints_vis`` is 1 for every labelled joint.
``activity`` is the name of the picture's activity ("tennis, singles"), which only the official file holds.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS, coded
from datamodules.readers.files import read_h5, read_json, read_mat, safe_name, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

JOINTS = 16
#: Where each split's labels may lie, by form; the first form that is there is read.
FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "json": ("annot/train.json", "annotations/mpii_train.json"),
        "h5": ("annot/train.h5",),
    },
    "val": {
        "json": ("annot/valid.json", "annotations/mpii_val.json"),
        "h5": ("annot/valid.h5",),
    },
    "trainval": {
        "mat": ("mpii_human_pose_v1_u12_1.mat", "mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat"),
        "json": ("annot/trainval.json", "annotations/mpii_trainval.json"),
    },
}
#: Head boxes of the JSON's validation persons, which the JSON lacks.
HEADS = {"annot/valid.json": "annot/gt_valid.mat", "annotations/mpii_val.json": "annotations/mpii_gt_val.mat"}


@READERS.register("mpii")
class MpiiReader(IndexedReader):
    """Persons with labelled joints.

    Args:
        root, split, cache: see :class:`IndexedReader`.
        labels: "mat", "json" or "h5"; by default the first of these that the split has below the root.
    """

    name = "mpii"
    licence = "Simplified BSD licence; cite Andriluka et al., CVPR 2014"
    skeleton = "mpii16"
    where = (
        "get mpii_human_pose_v1.tar.gz and mpii_human_pose_v1_u12_2.zip from http://human-pose.mpi-inf.mpg.de; the "
        "division into train and val is in HRNet's annot/*.json or mmpose's mpii_annotations.tar"
    )
    splits = ("train", "val", "trainval")
    version = 2

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        labels: str | None = None,
        cache: str | Path | None = None,
    ) -> None:
        if labels not in (None, "mat", "json", "h5"):
            raise PosesynError(f"mpii has no labels of the form {labels!r}; known: mat, json, h5.")
        self.labels = labels
        super().__init__(root, split, cache)

    def label_files(self) -> list[Path]:
        forms = FILES[self.split]
        chosen = forms if self.labels is None else {self.labels: forms.get(self.labels, ())}
        for name in (name for names in chosen.values() for name in names):
            if (self.root / name).is_file():
                if not (self.root / "images").is_dir():
                    raise PosesynError(f"no pictures of mpii at {(self.root / 'images').absolute()}: {self.where}")
                return [self.root / n for n in (name, HEADS.get(name)) if n]
        return []

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "labels": self.labels}

    def scan(self, path: Path) -> Persons:
        if path.name in {Path(name).name for name in HEADS.values()}:
            return Persons([], [])  # read with its JSON
        if path.suffix == ".json":
            heads = HEADS.get(path.relative_to(self.root).as_posix())
            return from_json(path, self.root / heads if heads else None)
        return from_h5(path) if path.suffix == ".h5" else from_mat(path)


def persons(
    names: list[str],
    numbers: list[int],
    joints_N16x2: npt.NDArray[np.float64],
    labelled_N16: npt.NDArray[np.bool_],
    state_N16: npt.NDArray[Any],
    crop_N3: npt.NDArray[np.float64],
    **more: Any,
) -> Persons:
    """What all forms say, in px that count from 1."""
    native2d = np.concatenate([joints_N16x2 - 1, labelled_N16[..., None]], -1)
    extras = {
        "state": state_N16,
        "crop": crop_N3 - [1, 1, 0],
        "person": np.array(numbers),
        **{name: value for name, value in more.items() if name != "people" and value is not None},
    }
    stems = [name.rsplit(".", 1)[0] for name in names]
    return Persons(
        ids=[f"mpii/{stem}/{number}" for stem, number in zip(stems, numbers, strict=True)],
        pictures=[f"images/{name}" for name in names],
        native2d=native2d,
        people=more.get("people"),
        more=extras,
    )


def head_size(boxes_N4: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """PCKh's unit: 0.6 of the head box's diagonal (evalMPII's SC_BIAS)."""
    return np.asarray(0.6 * np.linalg.norm(boxes_N4[:, 2:] - boxes_N4[:, :2], axis=1))


def square(position_N2: npt.NDArray[np.float64], scale_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.stack([position_N2[:, 0], position_N2[:, 1] + 15 * scale_N, 250 * scale_N], 1)


def running(names: list[str]) -> list[int]:
    """0, 1, ... within each picture."""
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        out.append(seen[name])
        seen[name] += 1
    return out


# ------------------------------------------------------------------------------------------------- HRNet's and mmpose's
def from_json(path: Path, heads: Path | None) -> Persons:
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise PosesynError(f"{path} is no list of persons as HRNet's MPII annotations are: get it again")
    try:
        names = [safe_name(entry["image"], path) for entry in entries]
        columns = {key: [entry[key] for entry in entries] for key in ("joints", "joints_vis", "center", "scale")}
    except (TypeError, KeyError) as error:
        raise PosesynError(f"{path} has a person without {error}: get it again from the official archive") from None
    n = len(entries)
    joints = shaped(columns["joints"], (n, JOINTS, 2), path, "joints")
    visible = shaped(columns["joints_vis"], (n, JOINTS), path, "joints_vis")
    crop = square(
        shaped(columns["center"], (n, 2), path, "center"),
        shaped(columns["scale"], (n,), path, "scale"),
    )
    boxes = None
    if heads is not None:
        corners = read_mat(heads, ["headboxes_src"], simplify=False)["headboxes_src"]
        boxes = shaped(corners, (2, 2, None), heads, "headboxes_src").transpose(2, 0, 1).reshape(-1, 4)
        if len(boxes) != n:
            raise PosesynError(f"{heads} has {len(boxes)} head boxes, {path} {n} persons: get both from one archive")
    return persons(
        names,
        running(names),
        joints,
        visible > 0,
        visible,
        crop,
        head_box=None if boxes is None else boxes - 1,
        head_size=None if boxes is None else head_size(boxes),
    )


# ------------------------------------------------------------------------------------------------- stacked hourglass
def from_h5(path: Path) -> Persons:
    content = read_h5(path, ["imgname", "person", "part", "visible", "center", "scale", "normalize"])
    names = [safe_name(_text(name), path) for name in content["imgname"]]
    n = len(names)
    part = shaped(content["part"], (n, JOINTS, 2), path, "part")
    # A joint that is not labelled is (0, 0); above the picture y is negative, left of it x would be.
    labelled = part[..., 0] > 0
    visible = np.where(labelled, shaped(content["visible"], (n, JOINTS), path, "visible"), -1)
    centre = shaped(content["center"], (n, 2), path, "center")
    scale = shaped(content["scale"], (n,), path, "scale")
    return persons(
        names,
        shaped(content["person"], (n,), path, "person").astype(int).tolist(),
        part,
        labelled,
        visible,
        np.concatenate([centre, 200 * scale[:, None]], 1),
        head_size=shaped(content["normalize"], (n,), path, "normalize"),
    )


def _text(name: Any) -> str:
    """A name as bytes, or as the numbers of its characters with zeros behind."""
    if isinstance(name, np.ndarray):
        name = bytes(name.astype(np.uint8))
    return name.rstrip(b"\0").decode("latin1") if isinstance(name, bytes) else str(name)


# ------------------------------------------------------------------------------------------------- official
def from_mat(path: Path) -> Persons:
    """Persons of training pictures; a rectangle without joints, position or head box only counts as somebody there."""
    release = read_mat(path, ["RELEASE"])["RELEASE"]
    try:
        pictures, training = _many(release["annolist"]), np.atleast_1d(release["img_train"])
        names: list[str] = []
        numbers: list[int] = []
        people: list[int] = []
        activities: list[str] = []
        named = _activities(release, len(pictures))
        points: list[Any] = []
        rows: list[list[float]] = []
        for picture, activity, train in zip(pictures, named, training, strict=True):
            if not train:
                continue
            rectangles = _many(picture["annorect"])
            for number, rectangle in enumerate(rectangles):
                row = _numbers(rectangle)
                if row is None:
                    continue
                names.append(safe_name(picture["image"]["name"], path))
                numbers.append(number)
                people.append(len(rectangles))
                activities.append(activity)
                points.append(_many(rectangle["annopoints"]["point"]))
                rows.append(row)
        joints = np.zeros((len(names), JOINTS, 2))
        state = np.full((len(names), JOINTS), -1)
        labelled = np.zeros((len(names), JOINTS), bool)
        for i, own in enumerate(points):
            for point in own:
                joint = int(point["id"])
                if not 0 <= joint < JOINTS:
                    raise ValueError(f"a joint of number {joint}")
                joints[i, joint] = float(point["x"]), float(point["y"])
                labelled[i, joint] = True
                if np.size(point.get("is_visible", ())) and str(point["is_visible"]):
                    state[i, joint] = int(point["is_visible"])
    except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise PosesynError(
            f"{path} is not laid out as MPII's release ({error!r}): get the official file again"
        ) from None
    if not names:
        raise PosesynError(f"{path} names no labelled training person: get the official file again")
    table = np.array(rows)
    return persons(
        names,
        numbers,
        joints,
        labelled,
        state,
        square(table[:, :2], table[:, 2]),
        head_box=table[:, 3:] - 1,
        head_size=head_size(table[:, 3:]),
        people=np.array(people),
        activity=coded(activities),
    )


def _activities(release: dict[str, Any], count: int) -> list[str]:
    """The activity's name of each picture, "" where none is given (test pictures) or the list does not fit."""
    acts = _many(release.get("act", ()))
    if len(acts) != count:
        return [""] * count
    names = [act.get("act_name") if isinstance(act, dict) else None for act in acts]
    return [name.strip() if isinstance(name, str) else "" for name in names]


def _many(value: Any) -> list[Any]:
    """A MATLAB structure array as a list, however long it was."""
    if isinstance(value, dict):
        return [value]
    return [] if np.size(value) == 0 else list(np.atleast_1d(np.asarray(value, dtype=object)))


def _numbers(rectangle: Any) -> list[float] | None:
    """objpos x, y, scale and the head box, or None where the person lacks one of these or joints."""
    if not isinstance(rectangle, dict) or not isinstance(rectangle.get("annopoints"), dict):
        return None
    position, box = rectangle.get("objpos"), [rectangle.get(key, ()) for key in ("scale", "x1", "y1", "x2", "y2")]
    if not isinstance(position, dict) or any(np.size(value) != 1 for value in box):
        return None
    return [float(position["x"]), float(position["y"]), *(float(value) for value in box)]
