"""A tiny OCHuman, official or in COCO's style; val is the first 2,500 usable pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from human.skeleton import COCO17
from tests.datasets.coco import Written, annotations, category, labels
from tests.datasets.labels2d import views, write_picture
from tests.datasets.people import People

# The official order: limbs, then head and neck, then the face.
NAMES = [
    *(f"{side}_{part}" for side in ("right", "left") for part in ("shoulder", "elbow", "wrist")),
    *(f"{side}_{part}" for side in ("right", "left") for part in ("hip", "knee", "ankle")),
    *("head", "neck", "right_ear", "left_ear", "nose", "right_eye", "left_eye"),
]


def write(root: Path, people: People, form: str = "coco", split: str = "val") -> Written:
    """``form``: "coco", "mmpose" (the same in annotations/) or "official"."""
    truth = labels(people, "{:06d}.jpg", 817)
    truth = Written(**{**vars(truth), "bbox": np.round(truth.bbox)})
    truth = Written(**{**vars(truth), "area": truth.bbox[:, 2] * truth.bbox[:, 3]})
    for number, camera, frame in views(people):
        write_picture(root / "images" / f"{817 + number:06d}.jpg", people, camera, frame)
    if form == "official":
        (root / "ochuman.json").write_text(json.dumps(_official(truth, people.size, split)))
        return truth
    folder = root / "annotations" if form == "mmpose" else root
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {name: i + 1 for i, name in enumerate(dict.fromkeys(truth.names))}
    images = [
        {"file_name": name, "width": people.size[0], "height": people.size[1], "id": i} for name, i in numbers.items()
    ]
    content = {"categories": [category()], "images": images, "annotations": annotations(truth, numbers, 1)}
    (folder / f"ochuman_coco_format_{split}_range_0.00_1.00.json").write_text(json.dumps(content))
    return truth


def _official(truth: Written, size: tuple[int, int], split: str) -> dict[str, Any]:
    flag = {0: 0, 2: 1, 1: 3}
    images = []
    for name in dict.fromkeys(truth.names):
        persons: list[dict[str, Any]] = [
            {"bbox": [1, 2, 30, 40], "keypoints": None, "segms": None, "max_iou": 0.1}  # only a box
        ]
        for i in (i for i, n in enumerate(truth.names) if n == name):
            keypoints = []
            for joint in NAMES:
                if joint in ("head", "neck"):
                    keypoints += [3, 4, 1]
                    continue
                j = COCO17.index(joint)
                x, y = truth.joints[i, j] if truth.visible[i, j] else (0, 0)
                # What COCO calls visible is here visible or hidden by the person itself.
                v = flag[int(truth.visible[i, j])]
                keypoints += [float(x), float(y), 2 if v == 1 and joint == "left_hip" else v]
            x, y, w, h = truth.bbox[i].tolist()
            outline = {"outer": [[x, y, x + w, y, x + w, y + h]], "inner": [], "height": size[1], "width": size[0]}
            persons.append({"bbox": [x, y, x + w, y + h], "keypoints": keypoints, "segms": outline, "max_iou": 0.6})
        images.append(_image(name, size, persons))
    other = {**persons[-1]}
    without_mask = _image("000001.jpg", size, [{**other, "segms": None}])
    if split == "test":
        images = [_image(f"9{k:05d}.jpg", size, [other]) for k in range(2500)] + images
    return {
        "keypoint_names": NAMES,
        "keypoint_visible": {"missing": 0, "vis": 1, "self_occluded": 2, "others_occluded": 3},
        "images": [without_mask, *images],
    }


def _image(name: str, size: tuple[int, int], persons: list[dict[str, Any]]) -> dict[str, Any]:
    width, height = size
    return {"image_id": name[:-4], "file_name": name, "width": width, "height": height, "annotations": persons}
