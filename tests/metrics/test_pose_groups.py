"""Kinds of poses, on stick figures drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from human.skeleton import POSE32
from metrics.pose_groups import POSE_GROUPS, pose_groups

# A person who stands and faces the camera; the torso is 50 px long.
STANDING = {
    "head_top": (50, 0), "left_shoulder": (67, 30), "right_shoulder": (33, 30), "left_elbow": (72, 55),
    "right_elbow": (28, 55), "left_wrist": (74, 78), "right_wrist": (26, 78), "left_hip": (58, 80),
    "right_hip": (42, 80), "left_knee": (58, 120), "right_knee": (42, 120), "left_ankle": (58, 160),
    "right_ankle": (42, 160),
}  # fmt: skip


def figure(*, turn: float = 0.0, mirror: bool = False, **moved: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """(1,32,2) and (1,32) of the person with joints moved, turned by degrees about the middle of the picture."""
    joints, conf = np.full((1, 32, 2), -999.0), np.zeros((1, 32))
    angle = np.deg2rad(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for name, at in {**STANDING, **moved}.items():
        x, y = at
        joints[0, POSE32.index(name)] = rotation @ np.array([100 - x if mirror else x, y], float) + 200
        conf[0, POSE32.index(name)] = 1
    return joints, conf


def groups_of(joints: np.ndarray, conf: np.ndarray) -> set[str]:
    found = pose_groups(joints, conf)
    assert list(found) == list(POSE_GROUPS)
    assert all(v.shape == (1,) and not np.isnan(v).any() for v in found.values())
    return {name for name, member in found.items() if member[0] == 1}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"upright", "from the front"}),
        ({"mirror": True}, {"upright", "from behind"}),
        ({"turn": 90}, {"lying or bent over"}),
        ({"turn": -100}, {"lying or bent over"}),
        ({"turn": 180}, {"upside down"}),
        ({"left_wrist": (80, -20)}, {"upright", "from the front", "arm above the head"}),
        ({"left_wrist": (30, 60), "right_wrist": (70, 60)}, {"upright", "from the front", "arms crossed over"}),
        ({"left_ankle": (90, 90)}, {"upright", "from the front", "leg raised", "legs apart"}),
        (
            {"left_ankle": (70, 125), "right_ankle": (30, 125)},
            {"upright", "from the front", "crouching or sitting"},
        ),
        ({"left_ankle": (100, 150), "right_ankle": (10, 150)}, {"upright", "from the front", "legs apart"}),
        (
            {"left_shoulder": (52, 30), "right_shoulder": (48, 30), "left_hip": (51, 80), "right_hip": (49, 80)},
            {"upright", "from the side"},
        ),
    ],
)
def test_stick_figures(changes: dict[str, object], expected: set[str]) -> None:
    assert groups_of(*figure(**changes)) == expected  # type: ignore[arg-type]


def test_a_torso_towards_the_camera() -> None:
    near = {"left_shoulder": (67.0, 72.0), "right_shoulder": (33.0, 72.0), "head_top": (50.0, 40.0)}
    assert "towards the camera" in groups_of(*figure(**near))  # type: ignore[arg-type]


def test_what_is_not_labelled_is_not_told() -> None:
    joints, conf = figure()
    conf[0, POSE32.index("left_ankle")] = 0
    found = pose_groups(joints, conf)
    assert np.isnan(found["legs apart"][0])
    assert np.isnan(found["leg raised"][0])  # the other leg is not raised, this one may be
    assert found["joints unlabelled"][0] == 1
    assert found["upright"][0] == 1
    conf[:] = 0
    found = pose_groups(joints, conf)
    assert all(np.isnan(v[0]) for name, v in found.items() if name != "joints unlabelled")
    assert all(len(v) == 0 for v in pose_groups(np.zeros((0, 32, 2)), np.zeros((0, 32))).values())


def test_without_the_top_of_the_head_the_shoulders_tell() -> None:
    joints, conf = figure(left_wrist=(80, -20))
    conf[0, POSE32.index("head_top")] = 0
    assert pose_groups(joints, conf)["arm above the head"][0] == 1
