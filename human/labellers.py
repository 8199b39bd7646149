"""Pseudo-labels: 2D joints for pictures that have none, as a detector or another program sees them (PoseSyn, Table 7).

A labeller turns an RGB picture into people with joints and confidences. "blazepose" needs no files of the user's;
"keypoints" is any keypoint detector; "coco" reads what another program found; "estimator" asks any target pose
estimator (:mod:`lightning_modules.labeller`, known once ``lightning_modules`` is imported).
"""

from __future__ import annotations

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

from human.blazepose import Landmarks, Picture
from human.crop import Array
from human.detectors import BlazePoseDetector, make_detector
from human.errors import PosesynError
from human.keypoints import make_keypoint_detector
from human.registry import Registry, make
from human.skeleton import COCO17, get_skeleton

LABELLERS: Registry[Callable[..., Labeller]] = Registry("labeller")

#: COCO's 17 joints among BlazePose's 33 landmarks.
BLAZEPOSE_COCO17 = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)


@dataclass(frozen=True)
class Labels:
    """P people of a picture: ``joints`` (P,J,3) px and confidence in 0..1, ``score`` (P,) in 0..1 of the person."""

    joints: Array
    score: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def of(cls, joints: npt.ArrayLike, score: npt.ArrayLike, count: int, height: int, width: int) -> Labels:
        """Of ``count`` joints each. Those outside the picture or not finite get confidence 0; the best people first."""
        points = np.array(joints, np.float64).reshape(-1, count, 3)
        scores = np.nan_to_num(np.asarray(score, np.float64).reshape(-1)).clip(0, 1)
        with np.errstate(invalid="ignore"):
            inside = ((points[..., :2] >= -0.5) & (points[..., :2] <= [width - 0.5, height - 0.5])).all(-1)
        good = np.asarray(inside & np.isfinite(points).all(-1))
        points = np.where(good[..., None], points, 0.0)
        points[..., 2] = points[..., 2].clip(0, 1)
        order = np.argsort(-scores, kind="stable")
        return cls(points[order], scores[order])


class Labeller(ABC):
    """``skeleton``: whose joints these are. ``name``: as registered. ``parallel``: loader processes may run copies.
    ``cached``: the labels are a function of the pixels alone, and worth keeping."""

    name: str
    skeleton: str = COCO17.name
    parallel: bool = True
    cached: bool = True

    @abstractmethod
    def __call__(self, image_HWC: Picture, file: str) -> Labels:
        """The people in an RGB picture, which is ``file`` in its folder (with / between folders)."""

    def describe(self) -> str:
        """Whose labels these are: another string means that other labels may come out."""
        return f"{type(self).__name__}{sorted((k, v) for k, v in vars(self).items() if not k.startswith('_'))}"


def make_labeller(name: str, options: dict[str, Any] | None = None) -> Labeller:
    """The labeller ``name`` with arguments from a config; :class:`PosesynError` names what is wrong."""
    return make(LABELLERS, name, options)


@LABELLERS.register("blazepose")
class BlazePoseLabeller(Labeller):
    """MediaPipe's person detector and landmark network (:class:`human.detectors.BlazePoseDetector`, whose options
    these are); a joint's confidence is the network's belief that it can be seen."""

    name = "blazepose"

    def __init__(self, levels: int = 2, threshold: float = 0.5, present: float = 0.6) -> None:
        self.levels, self.threshold, self.present = levels, threshold, present
        self._people = BlazePoseDetector(levels, threshold, present)

    def __call__(self, image_HWC: Picture, file: str = "") -> Labels:
        people = self._people.people(image_HWC)
        joints = [_coco17(person) for person in people]
        return Labels.of(joints, [p.present for p in people], len(COCO17), *image_HWC.shape[:2])


def _coco17(person: Landmarks) -> Array:
    rows = list(BLAZEPOSE_COCO17)
    return np.concatenate([person.points[rows], person.visible[rows, None]], 1)


@LABELLERS.register("keypoints")
class KeypointLabeller(Labeller):
    """Any keypoint detector (``human.keypoints.KEYPOINT_DETECTORS``: ViTPose, RTMPose, BlazePose).

    Args:
        keypoints, keypoints_options: the detector of points by name, and its arguments.
        detector, detector_options: who finds the people (``human.detectors.DETECTORS``); default: the detector of
            points itself.
    """

    name = "keypoints"
    parallel = False  # it may hold a GPU

    def __init__(
        self,
        keypoints: str = "blazepose",
        keypoints_options: dict[str, Any] | None = None,
        detector: str | None = None,
        detector_options: dict[str, Any] | None = None,
    ) -> None:
        self._points = make_keypoint_detector(keypoints, keypoints_options)
        self._people = None if detector is None else make_detector(detector, detector_options)
        self.points = json.dumps(self._points.config(), sort_keys=True)
        self.finder = "" if self._people is None else self._people.describe()

    def __call__(self, image_HWC: Picture, file: str = "") -> Labels:
        boxes = None if self._people is None else [self._people(image_HWC, file).boxes]
        picture = torch.from_numpy(np.ascontiguousarray(image_HWC)).permute(2, 0, 1)
        (found,) = self._points.detect(picture[None], boxes)
        joints = np.concatenate([found.points, found.conf[..., None]], -1)
        return Labels.of(joints, found.score, len(COCO17), *image_HWC.shape[:2])


@LABELLERS.register("coco")
class CocoFile(Labeller):
    """Joints that another program found, in COCO's format.

    Args:
        path: a .json with ``images`` (``id``, ``file_name`` relative to the folder of pictures) and ``annotations``
            (``image_id``, ``keypoints`` of 3 numbers each, perhaps ``score``). The third number is a confidence in 0..1
            or COCO's flag (0: not labelled). Of a video, ``file_name`` is PATH#FRAME, from 0.
        skeleton: whose joints ``keypoints`` are.
    """

    name = "coco"
    cached = False  # it goes by the pictures' names

    def __init__(self, path: str, skeleton: str = COCO17.name) -> None:
        self.skeleton, self.path = get_skeleton(skeleton).name, str(Path(path).absolute())
        self._count = len(get_skeleton(skeleton))
        try:
            content = Path(path).read_bytes()
            self._rows = _coco_people(json.loads(content), self._count)
        except FileNotFoundError:
            raise PosesynError(f"labeller coco: there is no file {self.path}") from None
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise PosesynError(
                f"labeller coco: {self.path} cannot be read ({type(error).__name__}: {error}): give a COCO .json with "
                f"images, annotations and {self._count} keypoints each"
            ) from error
        self.content = hashlib.sha256(content).hexdigest()[:16]

    def __call__(self, image_HWC: Picture, file: str) -> Labels:
        people = self._rows.get(file, [])
        return Labels.of([j for j, _ in people], [s for _, s in people], self._count, *image_HWC.shape[:2])

    def describe(self) -> str:
        return f"CocoFile({self.content}, {self.skeleton})"  # wherever it lies


def _coco_people(coco: dict[str, Any], count: int) -> dict[str, list[tuple[Array, float]]]:
    files = {image["id"]: str(image["file_name"]) for image in coco["images"]}
    out: dict[str, list[tuple[Array, float]]] = {}
    for person in coco["annotations"]:
        if person.get("iscrowd", 0) or not any(person["keypoints"][2::3]):
            continue
        points = np.array(person["keypoints"], np.float64).reshape(count, 3)
        if points[:, 2].max() > 1:  # flags: 1 hidden, 2 seen; both are labelled
            points[:, 2] = points[:, 2] > 0
        out.setdefault(files[person["image_id"]], []).append((points, float(person.get("score", 1))))
    return out
