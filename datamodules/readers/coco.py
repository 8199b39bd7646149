"""COCO key points (Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014): some 150,000 persons with 17
labelled joints in train2017, 6,352 in val2017; 2D only, pictures of everyday life with several people.

    annotations/person_keypoints_{train,val}2017.json
    train2017/%012d.jpg  val2017/%012d.jpg             (or below images/)
    COCO_val2017_detections_AP_H_56_person.json        HRNet's detector boxes, by the option ``detections``

``state`` is COCO's v (0 not labelled, 1 occluded, 2 visible); coordinates as written. The truth of an evaluation holds
every annotation, also persons without labelled joints and crowds, which COCO's evaluator excuses detections by.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.readers.base import READERS
from datamodules.readers.coco_style import Annotations, corners, in_picture, read_annotations
from datamodules.readers.files import read_json, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

if TYPE_CHECKING:
    from metrics.truth import Truth

JOINTS = 17


class CocoStyleReader(IndexedReader):
    """What COCO and the sets labelled like it share: their boxes are the set's own, and there may be crowds."""

    skeleton = "coco17"
    least_joints = 0
    #: Whether persons without a labelled joint, and crowds, are in the index.
    everyone: bool = False

    @abstractmethod
    def picture_folder(self) -> str:
        """Below the root."""

    def persons(self, found: Annotations) -> Persons:
        everybody = in_picture(found.files, 1 + found.crowd)  # a crowd is more than one
        labelled = found.keypoints[..., 2] > 0
        keep = labelled.any(1) & ~found.crowd
        if self.everyone:
            keep = np.ones(len(found), bool)
        found, everybody = found.rows(keep), everybody[keep]
        points = found.keypoints
        folder = self.picture_folder()
        return Persons(
            ids=[
                f"{self.name}/{name.rsplit('.', 1)[0]}/{number}"
                for name, number in zip(found.files, found.numbers, strict=True)
            ],
            pictures=[f"{folder}/{name}" for name in found.files],
            native2d=np.concatenate([points[..., :2], points[..., 2:] > 0], -1),
            bbox=corners(found.bbox),
            people=everybody,
            more={"state": points[..., 2], "area": found.area, "crowd": found.crowd},
        )


@READERS.register("coco")
class CocoReader(CocoStyleReader):
    """Persons with at least one labelled joint, or the boxes of a detector.

    Args:
        root, split, cache: see :class:`IndexedReader`.
        detections: a detector's JSON (list of ``image_id``, ``bbox`` xywh, ``score``, ``category_id``), below the root:
            its boxes take the place of the labelled persons; they have no labels, only the truth of evaluations has.
        everyone: also persons without labelled joints, and crowds.
    """

    name = "coco"
    licence = "annotations CC BY 4.0; pictures: Flickr's terms"
    where = (
        "get annotations_trainval2017.zip, train2017.zip and val2017.zip from https://cocodataset.org/#download; "
        "HRNet's detections are linked in https://github.com/leoxiaobin/deep-high-resolution-net.pytorch"
    )
    splits = ("train", "val")

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        detections: str | Path | None = None,
        everyone: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        self.detections, self.everyone, self._cache = detections, everyone, cache
        super().__init__(root, split, cache)

    def label_files(self) -> list[Path]:
        path = self._annotations()
        if path.is_file() and not (self.root / self.picture_folder()).is_dir():
            raise PosesynError(f"no pictures of coco at {(self.root / self.picture_folder()).absolute()}: {self.where}")
        if self.detections is None:
            return [path] if path.is_file() else []
        return [path, self.root / self.detections]

    def _annotations(self) -> Path:
        return self.root / "annotations" / f"person_keypoints_{self.split}2017.json"

    def picture_folder(self) -> str:
        plain = f"{self.split}2017"
        return f"images/{plain}" if (self.root / "images" / plain).is_dir() else plain

    def facts(self) -> dict[str, Any]:
        own = {"detections": str(self.detections), "everyone": self.everyone, "pictures": self.picture_folder()}
        return {**super().facts(), **own}

    def scan(self, path: Path) -> Persons:
        if self.detections is None:
            return self.persons(read_annotations(path, JOINTS))
        if path == self._annotations():
            return Persons([], [])
        return self._detected(path)

    def _detected(self, path: Path) -> Persons:
        pictures = read_annotations(self._annotations(), JOINTS).pictures
        entries = read_json(path)
        try:
            found = [e for e in entries if e.get("category_id", 1) == 1]
            names = [pictures[int(e["image_id"])] for e in found]
            boxes, scores = [e["bbox"] for e in found], [e["score"] for e in found]
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise PosesynError(
                f"{path} is no list of detections in COCO's pictures ({error!r}): get it again"
            ) from None
        n = len(found)
        folder = self.picture_folder()
        return Persons(
            ids=[f"coco/{name.rsplit('.', 1)[0]}/d{k}" for k, name in enumerate(names)],
            pictures=[f"{folder}/{name}" for name in names],
            native2d=np.zeros((n, JOINTS, 3)),
            bbox=corners(shaped(boxes, (n, 4), path, "bbox")),
            more={"score": shaped(scores, (n,), path, "score")},
        )

    def truth(self) -> Truth:
        if self.everyone:
            return super().truth()
        return type(self)(self.root, self.split, everyone=True, cache=self._cache).truth()
