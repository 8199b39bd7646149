"""Label files in COCO's style: ``images``, and ``annotations`` of persons with key points and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.readers.files import read_json, safe_name, shaped
from human.errors import PosesynError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Annotations:
    """N annotations of persons. ``files``: names of their pictures; ``size`` (N,2) px: width, height of these;
    ``keypoints`` (N,J,3): x, y, flag as written; ``bbox`` (N,4): x, y, width, height as written; ``area`` (N,) px^2,
    NaN where not given; ``crowd`` (N,) bool. ``pictures``: file name of every picture by its number."""

    files: list[str]
    numbers: list[int]
    size: Array
    keypoints: Array
    bbox: Array
    area: Array
    crowd: Array
    pictures: dict[int, str]

    def __len__(self) -> int:
        return len(self.files)

    def rows(self, keep: Array) -> Annotations:
        """Those where a boolean (N,) is true."""
        index = np.flatnonzero(keep).tolist()
        columns = (self.size[keep], self.keypoints[keep], self.bbox[keep], self.area[keep], self.crowd[keep])
        return Annotations([self.files[i] for i in index], [self.numbers[i] for i in index], *columns, self.pictures)


def read_annotations(path: Path, joints: int) -> Annotations:
    """Every annotation of a person that has key points (a list of 3 ``joints`` numbers), in the file's order."""
    content = read_json(path)
    try:
        images = {int(image["id"]): image for image in content["images"]}
        persons = [a for a in content["annotations"] if a.get("category_id", 1) == 1 and a.get("keypoints")]
        own = [images[int(a["image_id"])] for a in persons]
        names = {number: safe_name(image["file_name"], path) for number, image in images.items()}
        files = [names[int(a["image_id"])] for a in persons]
        numbers = [int(a["id"]) for a in persons]
        size = [[image.get("width", np.nan), image.get("height", np.nan)] for image in own]
        flat, boxes = [a["keypoints"] for a in persons], [a["bbox"] for a in persons]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise PosesynError(
            f"{path} is not laid out as COCO's person key points ({type(error).__name__}: {error}): get the official "
            "file again"
        ) from None
    n = len(persons)
    return Annotations(
        files,
        numbers,
        shaped(size, (n, 2), path, "width and height") if n else np.zeros((0, 2)),
        (shaped(flat, (n, 3 * joints), path, "keypoints") if n else np.zeros((0, 3 * joints))).reshape(n, joints, 3),
        shaped(boxes, (n, 4), path, "bbox") if n else np.zeros((0, 4)),
        shaped([a.get("area", np.nan) for a in persons], (n,), path, "area"),
        shaped([a.get("iscrowd", 0) for a in persons], (n,), path, "iscrowd") > 0,
        names,
    )


def corners(bbox_xywh: Array) -> Array:
    """(N,4) xyxy."""
    return np.concatenate([bbox_xywh[:, :2], bbox_xywh[:, :2] + bbox_xywh[:, 2:]], 1)


def in_picture(files: Sequence[str], weight: Array | None = None) -> Array:
    """(N,) annotations in each one's picture; those with a ``weight`` count as that many."""
    _, inverse = np.unique(np.asarray(files), return_inverse=True)
    return np.asarray(np.bincount(inverse, weight))[inverse].astype(int)
