"""A tiny COCO: two splits' layout, crowds, persons too small for joints, a detector's boxes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from human.skeleton import COCO17
from tests.datasets.labels2d import native_pixels, tight_box, views, write_picture
from tests.datasets.people import Array, People

#: (row among the persons, joint): nobody labelled it; it is hidden.
MISSING = ((0, 1), (3, 4))
OCCLUDED = ((1, 9), (2, 13))


@dataclass(frozen=True)
class Written:
    """Persons in the file's order: ``names`` of pictures, (N,17,2) px, (N,17) v, (N,4) xywh, (N,) px^2."""

    names: list[str]
    joints: Array
    visible: Array
    bbox: Array
    area: Array


def labels(people: People, pattern: str = "{:012d}.jpg", first: int = 785) -> Written:
    names, joints = [], []
    for number, camera, frame in views(people):
        for p in range(len(people.genders)):
            names.append(pattern.format(first + number))
            joints.append(native_pixels(people, camera, p, "coco17")[frame])
    points = np.stack(joints)
    visible = np.full(points.shape[:2], 2)
    for row, joint in MISSING:
        visible[row, joint] = 0
    for row, joint in OCCLUDED:
        visible[row, joint] = 1
    boxes = np.stack([tight_box(p) for p in points])
    boxes = np.round(boxes + np.array([-4, -4, 4, 4]), 2)
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    return Written(names, points, visible, xywh, 0.4 * xywh[:, 2] * xywh[:, 3])


def annotations(truth: Written, images: dict[str, int], first: int = 442619) -> list[dict[str, Any]]:
    out = []
    for i, name in enumerate(truth.names):
        points = np.where(truth.visible[i, :, None] > 0, truth.joints[i], 0)
        keypoints = np.concatenate([points, truth.visible[i, :, None]], 1)
        x, y, w, h = truth.bbox[i].tolist()
        out.append(
            {
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                "num_keypoints": int((truth.visible[i] > 0).sum()),
                "area": float(truth.area[i]),
                "iscrowd": 0,
                "keypoints": [int(v) if k % 3 == 2 else float(v) for k, v in enumerate(keypoints.ravel())],
                "image_id": images[name],
                "bbox": [x, y, w, h],
                "category_id": 1,
                "id": first + i,
            }
        )
    return out


def category() -> dict[str, Any]:
    return {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(COCO17.joints), "skeleton": []}


def write(root: Path, people: People, split: str = "val") -> Written:
    """The persons, and in the first picture a crowd and somebody too small for joints, in the second a detector's
    false alarm (``COCO_val2017_detections_AP_H_56_person.json``)."""
    truth = labels(people)
    width, height = people.size
    numbers = {name: int(name.split(".")[0]) for name in truth.names}
    for number, camera, frame in views(people):
        write_picture(root / f"{split}2017" / f"{785 + number:012d}.jpg", people, camera, frame)
    own = annotations(truth, numbers)
    first = {"image_id": own[0]["image_id"], "category_id": 1, "keypoints": [0] * 51, "num_keypoints": 0}
    crowd = {"segmentation": {"counts": [1, 2], "size": [height, width]}, "area": 900.0, "iscrowd": 1}
    own.append({**first, **crowd, "bbox": [0.0, 0.0, 30.0, 30.0], "id": 900100000785})
    own.append({**first, "segmentation": [], "area": 40.0, "iscrowd": 0, "bbox": [300.0, 2.0, 5.0, 8.0], "id": 99})
    content = {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": number, "file_name": name, "width": width, "height": height, "license": 4}
            for name, number in numbers.items()
        ],
        "annotations": own,
        "categories": [category()],
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"person_keypoints_{split}2017.json").write_text(json.dumps(content))
    found = [
        {"bbox": truth.bbox[i].tolist(), "category_id": 1, "image_id": numbers[name], "score": 0.99 - 0.01 * i}
        for i, name in enumerate(truth.names)
    ]
    found.append(
        {"bbox": [5.0, 100.0, 40.0, 90.0], "category_id": 1, "image_id": numbers[truth.names[2]], "score": 0.5}
    )
    (root / "COCO_val2017_detections_AP_H_56_person.json").write_text(json.dumps(found))
    return truth
