"""BlazePose as a keypoint detector: the default, because its networks come with a package."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from human.blazepose import Landmarks, PersonLandmarks, Picture
from human.crop import Array
from human.detectors import BlazePoseDetector, circle_of
from human.errors import PosesynError
from human.keypoints.base import KEYPOINT_DETECTORS, KeypointDetector, People
from human.skeleton import COCO17

_NAMES = """nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear
mouth_left mouth_right left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_pinky right_pinky
left_index right_index left_thumb right_thumb left_hip right_hip left_knee right_knee left_ankle right_ankle left_heel
right_heel left_foot_index right_foot_index"""
#: The network's 33 points; those that COCO has go by COCO's names. Its eye is the middle of the eye, as COCO's is.
NAMES: tuple[str, ...] = tuple(_NAMES.split())
_LIMBS = slice(11, 29)
_SHOULDERS, _HIPS = COCO17.indices("left_shoulder", "right_shoulder"), COCO17.indices("left_hip", "right_hip")


@KEYPOINT_DETECTORS.register("blazepose")
class BlazePoseKeypoints(KeypointDetector):
    """MediaPipe's landmark network.

    It wants people upright and whole. With a hint the picture is turned by that, else a box is looked at upright; then
    again about the body that was found. Where that is not sure and there was no hint, it also tries lying on either
    side and upside down.

    Args:
        sure: belief (present times mean visibility of the limbs) from which the first look is enough.
        levels, threshold, present: of the person detector (:class:`human.detectors.BlazePoseDetector`), for pictures
            that come without boxes.
        threads: CPU threads of the network.
    """

    name: ClassVar[str] = "blazepose"

    def __init__(
        self, sure: float = 0.7, levels: int = 2, threshold: float = 0.5, present: float = 0.6, threads: int = 1
    ) -> None:
        if not 0 <= sure <= 1 or threads < 1:
            raise PosesynError(f"blazepose keypoints need sure from 0 to 1 and threads >= 1, got {sure} and {threads}")
        self.sure, self.levels, self.threshold, self.present, self.threads = sure, levels, threshold, present, threads

    def config(self) -> dict[str, Any]:
        options = {"sure": self.sure, "levels": self.levels, "threshold": self.threshold, "present": self.present}
        return {"name": self.name, "version": 1, **options}

    @cached_property
    def _landmarks(self) -> PersonLandmarks:
        return PersonLandmarks(self.threads)

    @cached_property
    def _people(self) -> BlazePoseDetector:
        return BlazePoseDetector(self.levels, self.threshold, self.present)

    def _look(self, pictures: list[Picture], boxes: list[Array], hints: list[Array]) -> list[People]:
        return [
            _people([self._one(picture, box, hint) for box, hint in zip(table, guesses, strict=True)])
            for picture, table, guesses in zip(pictures, boxes, hints, strict=True)
        ]

    def _find(self, pictures: list[Picture]) -> list[People]:
        return [_people(self._people.people(picture)) for picture in pictures]

    def _one(self, picture: Picture, box: Array, hint: Array) -> Landmarks:
        best: Landmarks | None = None
        for hips, reach in _starts(box, hint):
            found = self._landmarks(picture, hips, reach)
            # Again, about where the body turned out to be: the first circle is a guess.
            again = self._landmarks(picture, *circle_of(found))
            found = again if _belief(again) >= 0.9 * _belief(found) else found
            best = found if best is None or _belief(found) > _belief(best) else best
            if _belief(best) >= self.sure:
                break
        assert best is not None
        return best


def _starts(box: Array, hint: Array) -> list[tuple[Array, Array]]:
    """Circles to look at: middle and a point of each, upwards along the body. With a hint it is one."""
    hips, shoulders = hint[_HIPS].mean(0), hint[_SHOULDERS].mean(0)
    trunk = shoulders - hips
    length = float(np.linalg.norm(trunk))
    if np.isfinite(length) and length > 1e-3 * float((box[2:] - box[:2]).max()):
        radius = np.linalg.norm(hint[np.isfinite(hint).all(1)] - hips, axis=1).max()
        return [(hips, hips + trunk / length * radius)]
    centre, radius = (box[:2] + box[2:]) / 2, 0.55 * float((box[2:] - box[:2]).max())
    return [(centre, centre + radius * np.array(up)) for up in ((0.0, -1.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0))]


def _belief(person: Landmarks) -> float:
    return person.present * float(person.visible[_LIMBS].mean())


def _people(found: list[Landmarks]) -> People:
    if not found:
        return People.none()
    conf = np.stack([p.visible * p.present for p in found])
    return People.named(np.stack([p.points for p in found]), conf, [p.present for p in found], NAMES)
