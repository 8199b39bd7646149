"""What an annotator of a 2D data set would have written of persons whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from human.skeleton import POSE32, get_skeleton
from tests.datasets.people import Array, People

# Joints that POSE32 lacks, from those it has: weights that sum to 1.
_MADE: dict[str, dict[str, float]] = {
    "mid_hip": {"left_hip": 0.5, "right_hip": 0.5},
    "mid_shoulders": {"left_shoulder": 0.5, "right_shoulder": 0.5},
    "throat": {"neck": 1.0},
    "belly": {"spine2": 1.0},
    "face": {"nose": 0.5, "head": 0.5},
    "spine_h36m": {"spine2": 1.0},
    **{f"{side}_big_toe": {f"{side}_foot": 1.3, f"{side}_ankle": -0.3} for side in ("left", "right")},
    **{f"{side}_small_toe": {f"{side}_foot": 1.2, f"{side}_ankle": -0.2} for side in ("left", "right")},
    **{f"{side}_heel": {f"{side}_foot": -0.3, f"{side}_ankle": 1.3} for side in ("left", "right")},
}


def native_joints(people: People, camera: int, person: int, skeleton: str) -> Array:
    """(F,J,3) metres in the camera's frame."""
    joints = people.joints(camera, person)
    weights = np.zeros((len(get_skeleton(skeleton)), len(POSE32)))
    for row, name in enumerate(get_skeleton(skeleton).joints):
        for source, weight in (_MADE.get(name, {name: 1.0})).items():
            weights[row, POSE32.index(source)] = weight
    return np.einsum("jk,fkc->fjc", weights, joints)


def native_pixels(people: People, camera: int, person: int, skeleton: str) -> Array:
    """(F,J,2) px, pixel centres at whole numbers."""
    return people.project(camera, native_joints(people, camera, person, skeleton))


def tight_box(pixels_J2: Array) -> Array:
    """(4,) xyxy."""
    return np.concatenate([pixels_J2.min(0), pixels_J2.max(0)])


def views(people: People) -> Iterator[tuple[int, int, int]]:
    """(number, camera, frame) of each picture."""
    for camera in range(len(people.intrinsics)):
        for frame in range(people.frames):
            yield camera * people.frames + frame, camera, frame


def write_picture(path: Path, people: People, camera: int, frame: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(people.picture(camera, frame), cv2.COLOR_RGB2BGR))
