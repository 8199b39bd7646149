"""A tiny MPII in each form that it is spread in (datamodules/readers/mpii.py names them)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import savemat

from tests.datasets.labels2d import native_pixels, views, write_picture
from tests.datasets.people import Array, People

#: (row among the persons, joint) that nobody labelled.
MISSING = ((1, 0), (1, 5), (4, 9))
OCCLUDED = ((0, 10), (2, 3))
#: In the .mat: a labelled person (as in the last picture) beside somebody without joints.
BYSTANDER = "000009001.jpg"


@dataclass(frozen=True)
class Written:
    """What the files say, counted from 0. ``head_box`` (N,4) xyxy px, ``position`` (N,2) px, ``scale`` (N,)."""

    names: list[str]
    person: list[int]
    joints: Array
    labelled: Array
    visible: Array
    head_box: Array
    position: Array
    scale: Array


def labels(people: People) -> Written:
    names, person, joints = [], [], []
    for number, camera, frame in views(people):
        for p in range(len(people.genders)):
            names.append(f"{5000 + number:09d}.jpg")
            person.append(p)
            joints.append(native_pixels(people, camera, p, "mpii16")[frame])
    points = np.stack(joints)
    labelled, visible = np.ones(points.shape[:2], bool), np.ones(points.shape[:2], int)
    for row, joint in MISSING:
        labelled[row, joint] = False
    for row, joint in OCCLUDED:
        visible[row, joint] = 0
    neck, top = points[:, 8], points[:, 9]
    centre, half = (neck + top) / 2, np.linalg.norm(top - neck, axis=1)[:, None] * [0.4, 0.5]
    low, high = points.min(1), points.max(1)
    return Written(
        names,
        person,
        points,
        labelled,
        visible,
        np.round(np.concatenate([centre - half, centre + half], 1)),
        np.round((low + high) / 2),
        (high - low)[:, 1] / 200,
    )


def write(root: Path, people: People, form: str = "mat", split: str = "val", mmpose: bool = False) -> Written:
    """``form``: "mat" (official), "json" (HRNet's, or mmpose's) or "h5" (whole px, as that one is)."""
    truth = labels(people)
    for number, camera, frame in views(people):
        write_picture(root / "images" / f"{5000 + number:09d}.jpg", people, camera, frame)
    if form == "mat":
        write_picture(root / "images" / BYSTANDER, people, 0, 0)
        _mat(root / "mpii_human_pose_v1_u12_1.mat", truth)
    elif form == "json":
        stem = {"train": "train", "val": "valid", "trainval": "trainval"}[split]
        folder, own, heads = root / "annot", f"{stem}.json", "gt_valid.mat"
        if mmpose:
            folder, own, heads = root / "annotations", f"mpii_{split}.json", "mpii_gt_val.mat"
        folder.mkdir(parents=True, exist_ok=True)
        _json(folder / own, truth)
        if split == "val":
            _heads(folder / heads, truth)
    else:
        truth = Written(
            **{**vars(truth), "joints": np.where(truth.labelled[..., None], np.trunc(truth.joints + 1) - 1, 0)}
        )
        (root / "annot").mkdir(parents=True, exist_ok=True)
        _h5(root / "annot" / {"train": "train.h5", "val": "valid.h5"}[split], truth)
    return truth


def _json(path: Path, truth: Written) -> None:
    entries = []
    for i, name in enumerate(truth.names):
        joints = np.where(truth.labelled[i, :, None], truth.joints[i] + 1, -1)
        entries.append(
            {
                "joints_vis": truth.labelled[i].astype(int).tolist(),
                "joints": joints.tolist(),
                "image": name,
                "scale": float(truth.scale[i]),
                "center": (truth.position[i] + 1).tolist(),
            }
        )
    path.write_text(json.dumps(entries))


def _heads(path: Path, truth: Written) -> None:
    """gt_valid.mat: (2,2,N) corners, (16,2,N) joints, (16,N) missing, (1,16) names."""
    parts = "rank rkne rhip lhip lkne lank pelv thor neck head rwri relb rsho lsho lelb lwri"
    savemat(
        path,
        {
            "pos_gt_src": (truth.joints + 1).transpose(1, 2, 0),
            "jnt_missing": (~truth.labelled).T.astype(np.uint8),
            "dataset_joints": np.array([parts.split(" ")], dtype=object),
            "headboxes_src": (truth.head_box + 1).reshape(-1, 2, 2).transpose(1, 2, 0),
        },
    )


def _h5(path: Path, truth: Written) -> None:
    n = len(truth.names)
    with h5py.File(path, "w") as file:
        file.attrs["name"] = "mpii"
        file["imgname"] = np.array(truth.names, dtype="S13")
        file["index"] = np.arange(n, dtype=np.float64)
        file["person"] = np.array(truth.person, np.float64)
        file["part"] = np.where(truth.labelled[..., None], truth.joints + 1, 0)
        file["visible"] = (truth.labelled * truth.visible).astype(np.float64)
        file["center"] = truth.position + 1 + np.stack([np.zeros(n), 15 * truth.scale], 1)
        file["scale"] = 1.25 * truth.scale
        file["normalize"] = 0.6 * np.linalg.norm(truth.head_box[:, 2:] - truth.head_box[:, :2], axis=1)
        file["torsoangle"] = np.zeros(n)


def _structs(rows: Sequence[dict[str, Any]]) -> Array:
    """A MATLAB structure array (1,N)."""
    out = np.empty((1, len(rows)), dtype=[(key, object) for key in rows[0]])
    for i, row in enumerate(rows):
        for key, value in row.items():
            out[0, i][key] = value
    return out


def _mat(path: Path, truth: Written) -> None:
    """RELEASE with the official file's quirks: test pictures without joints, flags of several types, bystanders."""
    empty = np.zeros((0, 0))
    pictures, training = [], []
    for name in dict.fromkeys(truth.names):
        rectangles = []
        for i in (i for i, n in enumerate(truth.names) if n == name):
            points = []
            for joint in np.flatnonzero(truth.labelled[i]):
                # The official flags of heads and necks are empty; others are numbers or, in some pictures, text.
                flag: Any = truth.visible[i, joint]
                flag = empty if joint in (8, 9) else str(flag) if i % 2 else np.uint8(flag)
                x, y = truth.joints[i, joint] + 1
                points.append({"x": x, "y": y, "id": np.uint8(joint), "is_visible": flag})
            corners = dict(zip(("x1", "y1", "x2", "y2"), truth.head_box[i] + 1, strict=True))
            position = _structs([{"x": truth.position[i, 0] + 1, "y": truth.position[i, 1] + 1}])
            rectangles.append(
                {
                    **corners,
                    "annopoints": _structs([{"point": _structs(points)}]),
                    "scale": truth.scale[i],
                    "objpos": position,
                }
            )
        pictures.append(_picture(name, _structs(rectangles)))
        training.append(1)
    bystander = {**dict.fromkeys(rectangles[0], empty), "x1": 3.0, "y1": 4.0, "x2": 9.0, "y2": 12.0}
    pictures.append(_picture(BYSTANDER, _structs([{**rectangles[0]}, bystander])))
    pictures.append(_picture("000009002.jpg", _structs([{"scale": 1.5, "objpos": _structs([{"x": 50.0, "y": 60.0}])}])))
    pictures.append(_picture("000009003.jpg", empty))
    training += [1, 0, 1]
    release = {
        "annolist": _structs(pictures),
        "img_train": np.array([training], np.uint8),
        "version": "12",
        "single_person": np.array([[empty]] * len(pictures), dtype=object),
        "act": _structs([_activity(number if train else -1) for number, train in enumerate(training)]),
        "video_list": np.array([["lIcC8yjG7eM"]], dtype=object),
    }
    savemat(path, {"RELEASE": _structs([release])})


#: Of the first training pictures, as the release names them; the rest have none.
ACTIVITIES = ("tennis, hitting balls, non-game play, moderate", "bicycling, BMX")


def _activity(number: int) -> dict[str, Any]:
    empty = np.zeros((0, 0))
    if not 0 <= number < len(ACTIVITIES):
        return {"act_name": empty, "cat_name": empty, "act_id": -1}
    return {"act_name": ACTIVITIES[number], "cat_name": "sports", "act_id": number + 1}


def _picture(name: str, rectangles: Array) -> dict[str, Any]:
    empty = np.zeros((0, 0))
    return {"image": _structs([{"name": name}]), "annorect": rectangles, "frame_sec": empty, "vididx": empty}
