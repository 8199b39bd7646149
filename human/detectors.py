"""Who is in a picture, and where: person detectors by name, for pictures that come without labels.

A detector turns an RGB picture into boxes. "blazepose" needs no files of the user's; "torchvision" runs any of
torchvision's detectors on weights that the user has; "boxes" reads what another detector found; "whole" takes the
picture itself for the crop of one person.
"""

from __future__ import annotations

import csv
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.models import get_model, list_models
from torchvision.ops import nms

from human.blazepose import HIPS, SHOULDERS, Landmarks, PersonLandmarks, PersonProposals, Picture, Proposals
from human.crop import Array
from human.errors import PosesynError
from human.registry import Registry, make

#: Trunk and limbs between landmarks.
_BONES = ((11, 12), (23, 24), (11, 23), (12, 24), (11, 13), (13, 15), (12, 14), (14, 16), (23, 25), (25, 27), (24, 26),
          (26, 28))  # fmt: skip

DETECTORS: Registry[Callable[..., PersonDetector]] = Registry("detector")


@dataclass(frozen=True)
class Detections:
    """P people: ``boxes`` (P,4) xyxy px, tight about the visible body; ``score`` (P,) in 0..1. Larger people first."""

    boxes: Array
    score: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def of(cls, boxes: npt.ArrayLike, score: npt.ArrayLike, height: int, width: int) -> Detections:
        """Boxes cut at the picture's borders; those that have no area left are dropped."""
        xyxy = np.asarray(boxes, np.float64).reshape(-1, 4).clip(-0.5, [width - 0.5, height - 0.5] * 2)
        size = xyxy[:, 2:] - xyxy[:, :2]
        order = np.argsort(-size.prod(1), kind="stable")
        order = order[np.isfinite(xyxy[order]).all(1) & (size[order] >= 1).all(1)]
        return cls(xyxy[order], np.asarray(score, np.float64).reshape(-1)[order])


class PersonDetector(ABC):
    """``box_scale`` None means that the boxes are the crops; else a crop is so much larger, as the estimator's own."""

    crops_as_they_are = False

    @abstractmethod
    def __call__(self, image_HWC: Picture, file: str) -> Detections:
        """The people in an RGB picture, which is ``file`` in its folder (with / between folders)."""

    def describe(self) -> str:
        """Which boxes these are: another string means that other boxes may come out."""
        return f"{type(self).__name__}{sorted((k, v) for k, v in vars(self).items() if not k.startswith('_'))}"


def make_detector(name: str, options: dict[str, Any] | None = None) -> PersonDetector:
    """The detector ``name`` with arguments from a config; :class:`PosesynError` names what is wrong."""
    return make(DETECTORS, name, options)


@DETECTORS.register("blazepose")
class BlazePoseDetector(PersonDetector):
    """MediaPipe's person detector on overlapping tiles of the picture, each find confirmed by its landmark network.

    Alone the detector sees one or two people who fill much of a square picture. Tiles of half the size (``levels`` 2),
    a quarter (3), … find those who are smaller; each level costs about four times as much as the one before it.

    Args:
        levels: sizes of tiles; the first is the whole picture.
        threshold: of the proposal's score.
        present: of the landmark network's belief that there is a person.
    """

    def __init__(self, levels: int = 2, threshold: float = 0.5, present: float = 0.6) -> None:
        if levels < 1 or not (0 < threshold < 1 and 0 < present < 1):
            raise PosesynError(
                "detector blazepose: levels is 1 or more, threshold and present lie between 0 and 1, got "
                f"{levels}, {threshold} and {present}"
            )
        self.levels, self.threshold, self.present = levels, threshold, present
        self._propose, self._landmarks = PersonProposals(threshold), PersonLandmarks()

    def __call__(self, image_HWC: Picture, file: str = "") -> Detections:
        kept = self.people(image_HWC)
        return Detections.of([p.box() for p in kept], [p.present for p in kept], *image_HWC.shape[:2])

    def people(self, image_HWC: Picture) -> list[Landmarks]:
        """Everybody in an RGB picture, the surest first."""
        found = self._proposals(image_HWC)
        people: list[Landmarks] = []
        for hips, reach in zip(found.hips, found.reach, strict=True):
            one = self._landmarks(image_HWC, hips, reach)
            # Again, about where the body turned out to be: the first circle is a guess.
            one = self._landmarks(image_HWC, *circle_of(one)) if one.present >= self.present / 2 else one
            if one.present >= self.present:
                people.append(one)
        people.sort(key=lambda p: -p.present)
        kept: list[Landmarks] = []
        for one in people:
            if all(_apart(one, other) for other in kept):
                kept.append(one)
        return kept

    def _proposals(self, image_HWC: Picture) -> Proposals:
        found = Proposals.cat([self._propose(image_HWC, (x, y), side) for x, y, side in self.tiles(image_HWC)])
        keep = nms(torch.from_numpy(found.boxes), torch.from_numpy(found.score), 0.6).numpy()
        return found[keep]

    def tiles(self, image_HWC: Picture) -> list[tuple[float, float, float]]:
        """Centre x, y and side (px) of the squares that are looked at; neighbours overlap by half or more."""
        height, width = image_HWC.shape[:2]
        out = [((width - 1) / 2, (height - 1) / 2, float(max(height, width)))]
        for level in range(1, self.levels):
            side = max(height, width) / 2**level
            grids = []
            for length in (width, height):
                count = 1 if length <= side else 1 + int(np.ceil((length - side) / (side / 2)))
                middle = (length - 1) / 2
                grids.append(
                    middle + np.linspace(-1, 1, count) * max(0, (length - side) / 2) if count > 1 else [middle]
                )
            out += [(float(x), float(y), side) for y in grids[1] for x in grids[0]]
        return out


def circle_of(person: Landmarks) -> tuple[Array, Array]:
    """The hips' middle, and a point along the trunk as far from it as the farthest landmark."""
    hips, shoulders = person.points[list(HIPS)].mean(0), person.points[list(SHOULDERS)].mean(0)
    trunk = shoulders - hips
    radius = np.linalg.norm(person.points - hips, axis=1).max()
    return hips, hips + trunk / max(float(np.linalg.norm(trunk)), 1e-6) * radius


def _apart(one: Landmarks, kept: Landmarks) -> bool:
    """Whether two finds are two people: the first one's points lie off the second's body, by a quarter of its reach on
    average. (A find of half a body has its points on that body too, though not where the same points of it are.)"""
    bones = kept.points[np.array(_BONES)]
    body = np.concatenate([kept.points, bones.mean(1)])
    distance = np.linalg.norm(one.points[:, None] - body, axis=-1).min(1).mean()
    return float(distance) > 0.25 * float(np.linalg.norm(np.subtract(*circle_of(one))))


@DETECTORS.register("torchvision")
class TorchvisionDetector(PersonDetector):
    """A detector of torchvision on weights of the user's: person is label 1, as in COCO.

    Args:
        weights: file of a state dict, for instance torchvision's own ``fasterrcnn_resnet50_fpn_v2_coco-….pth``.
        model: its name in torchvision.
        threshold: of the score.
        device: "cpu", "cuda", …
        classes: that the weights know, the background included.
    """

    def __init__(
        self,
        weights: str,
        model: str = "fasterrcnn_resnet50_fpn_v2",
        threshold: float = 0.5,
        device: str = "cpu",
        classes: int = 91,
    ) -> None:
        from torchvision.models import detection

        known = list_models(detection)
        if model not in known:
            raise PosesynError(f"torchvision has no detector {model!r}; it has {', '.join(known)}")
        self.weights, self.model, self.threshold, self.classes = (
            str(Path(weights).absolute()),
            model,
            threshold,
            classes,
        )
        self._device = device
        # Options that keep a constructor from the network.
        network = get_model(model, weights=None, weights_backbone=None, num_classes=classes)
        try:
            network.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises a different type for each way a file can be wrong
            raise PosesynError(
                f"detector torchvision: {self.weights} does not hold weights of {model} for {classes} classes "
                f"({type(error).__name__}: {str(error).splitlines()[0][:200]})"
            ) from error
        self._network = network.eval().to(device)

    @torch.inference_mode()
    def __call__(self, image_HWC: Picture, file: str = "") -> Detections:
        pixels = torch.from_numpy(np.ascontiguousarray(image_HWC)).permute(2, 0, 1).to(self._device).float() / 255
        out = self._network([pixels])[0]
        keep = (out["labels"] == 1) & (out["scores"] >= self.threshold)
        # torchvision counts from the corner of the first pixel, posesyn from its centre.
        boxes, score = out["boxes"][keep].cpu().numpy() - 0.5, out["scores"][keep].cpu().numpy()
        return Detections.of(boxes, score, *image_HWC.shape[:2])


@DETECTORS.register("boxes")
class BoxesFile(PersonDetector):
    """Boxes that are known already.

    Args:
        path: a ``.csv`` with a header and the columns file, x1, y1, x2, y2 and perhaps score (px, the file relative to
            the folder of pictures); or a COCO ``.json`` with ``images`` and ``annotations``, whose persons (category 1)
            are taken.
        threshold: of the score, where there is one.
    """

    def __init__(self, path: str, threshold: float = 0.0) -> None:
        self.path, self.threshold = str(Path(path).absolute()), threshold
        try:
            content = Path(path).read_bytes()
            rows = _coco_rows(content) if Path(path).suffix == ".json" else _csv_rows(content)
        except FileNotFoundError:
            raise PosesynError(f"detector boxes: there is no file {self.path}") from None
        except (KeyError, ValueError, TypeError, csv.Error) as error:
            raise PosesynError(
                f"detector boxes: {self.path} cannot be read ({type(error).__name__}: {error}): give a .csv with the "
                "columns file,x1,y1,x2,y2[,score] or a COCO .json"
            ) from error
        self.content = hashlib.sha256(content).hexdigest()[:16]
        self._rows: dict[str, list[tuple[float, ...]]] = {}
        for file, row in rows:
            if row[4] >= threshold:
                self._rows.setdefault(file, []).append(row)

    def __call__(self, image_HWC: Picture, file: str) -> Detections:
        table = np.array(self._rows.get(file, []), np.float64).reshape(-1, 5)
        return Detections.of(table[:, :4], table[:, 4], *image_HWC.shape[:2])


def _csv_rows(content: bytes) -> list[tuple[str, tuple[float, ...]]]:
    table = csv.DictReader(content.decode("utf-8-sig").splitlines())
    names = ("x1", "y1", "x2", "y2")
    return [(row["file"], (*(float(row[n]) for n in names), float(row.get("score") or 1))) for row in table]


def _coco_rows(content: bytes) -> list[tuple[str, tuple[float, ...]]]:
    coco = json.loads(content)
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    out: list[tuple[str, tuple[float, ...]]] = []
    for person in coco["annotations"]:
        if person.get("category_id", 1) == 1 and not person.get("iscrowd", 0):
            x, y, width, height = (float(v) for v in person["bbox"])
            # COCO counts from the corner of the first pixel, posesyn from its centre.
            box = (x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5, float(person.get("score", 1)))
            out.append((files[person["image_id"]], box))
    return out


@DETECTORS.register("whole")
class WholePicture(PersonDetector):
    """Every picture is the crop of one person; where it is not square, black makes it so."""

    crops_as_they_are = True

    def __call__(self, image_HWC: Picture, file: str = "") -> Detections:
        height, width = image_HWC.shape[:2]
        return Detections.of([[-0.5, -0.5, width - 0.5, height - 0.5]], [1.0], height, width)
