"""OCHuman (Zhang et al., "Pose2Seg: Detection Free Human Instance Segmentation", CVPR 2019): persons heavily occluded
by others, 17 joints of COCO, 2D only, for tests only.

    images/%06d.jpg
    ochuman_coco_format_{val,test}_range_0.00_1.00.json   COCO's style, beside images/ or in annotations/ (mmpose)
    ochuman.json                                          official; read where the other is absent

Both hold, for figures that compare, the 8,110 persons with joints and mask in 4,731 pictures: 2,500 pictures are val,
the others test. Use files of 2019-06-14 or later: the division was corrected. ``state`` is COCO's v, which the
official API makes of its own flags thus: visible and self-occluded 2, hidden by others 1, missing 0 (OCHumanApi,
toCocoFormart); ``area`` is the box's, there too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.readers.base import READERS
from datamodules.readers.coco import JOINTS, CocoStyleReader
from datamodules.readers.coco_style import Annotations, read_annotations
from datamodules.readers.files import read_json, safe_name, shaped
from datamodules.readers.indexed import Persons
from human.errors import PosesynError
from human.skeleton import COCO17

VAL_PICTURES = 2500
#: OCHuman's flag (missing, visible, self-occluded, occluded by others) to COCO's.
_FLAGS = np.array([0, 2, 2, 1])


@READERS.register("ochuman")
class OcHumanReader(CocoStyleReader):
    """Persons with joints and mask."""

    name = "ochuman"
    licence = "research use; cite Zhang et al., CVPR 2019"
    where = (
        "ask for images and annotations at https://cg.cs.tsinghua.edu.cn/dataset/form.html?dataset=ochuman; root is "
        "the folder that holds images/"
    )
    splits = ("val", "test")

    def picture_folder(self) -> str:
        return "images"

    def label_files(self) -> list[Path]:
        own = f"ochuman_coco_format_{self.split}_range_0.00_1.00.json"
        for path in (self.root / own, self.root / "annotations" / own, self.root / "ochuman.json"):
            if path.is_file():
                if not (self.root / "images").is_dir():
                    raise PosesynError(f"no pictures of ochuman at {(self.root / 'images').absolute()}: {self.where}")
                return [path]
        return []

    def scan(self, path: Path) -> Persons:
        found = self._official(path) if path.name == "ochuman.json" else read_annotations(path, JOINTS)
        # Numbers of annotations differ between the two forms; the place in the picture's list does not.
        place: dict[str, int] = {}
        numbers = []
        for name in found.files:
            numbers.append(place.setdefault(name, 0))
            place[name] += 1
        return self.persons(Annotations(**{**vars(found), "numbers": numbers}))

    def _official(self, path: Path) -> Annotations:
        content = read_json(path)
        files: list[str] = []
        size, points, boxes = [], [], []
        try:
            order = [content["keypoint_names"].index(joint) for joint in COCO17.joints]
            whole = 3 * len(content["keypoint_names"])
            pictures = []
            for image in content["images"]:
                usable = [a for a in image["annotations"] if a["keypoints"] and a["segms"]]
                if usable:
                    pictures.append((image, usable))
            part = pictures[:VAL_PICTURES] if self.split == "val" else pictures[VAL_PICTURES:]
            for image, usable in part:
                name = safe_name(image["file_name"], path)
                for annotation in usable:
                    files.append(name)
                    size.append([image["width"], image["height"]])
                    points.append(annotation["keypoints"])
                    boxes.append(annotation["bbox"])
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise PosesynError(
                f"{path} is not laid out as OCHuman's annotations ({type(error).__name__}: {error}): get it again"
            ) from None
        n = len(files)
        if not n:
            raise PosesynError(f"{path} has no persons of the split {self.split}: get the official file again")
        native = shaped(points, (n, whole), path, "keypoints").reshape(n, -1, 3)[:, order]
        flags = native[..., 2]
        if not np.isin(flags, range(len(_FLAGS))).all():
            raise PosesynError(f"{path} has joints with flags other than 0, 1, 2, 3: get the official file again")
        box = shaped(boxes, (n, 4), path, "bbox")
        xywh = np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], 1)
        keypoints = np.concatenate([native[..., :2], _FLAGS[flags.astype(int)][..., None]], -1)
        sides: Any = shaped(size, (n, 2), path, "width and height")
        area = xywh[:, 2] * xywh[:, 3]
        return Annotations(files, list(range(n)), sides, keypoints, xywh, area, np.zeros(n, bool), {})
