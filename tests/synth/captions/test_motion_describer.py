"""What the describer says of the packaged clips, whose names say what they show."""

from __future__ import annotations

import numpy as np
import pytest

from synth.captions import describe_motion
from tests.synth.captions.poses import clip, mirrored, posed, turned

SHOWN = {
    "backflip": ("backflip", "flips backward"),
    "cartwheel": ("cartwheel",),
    "crawl": ("crawls forward", "moves forward on all fours"),
    "getup_facedown": ("gets up", "stands up"),
    "getup_faceup": ("gets up", "stands up"),
    "jump": ("jumps", "leap"),
    "kick": ("kick",),
    "roll": ("roll", "somersault"),
    "run": ("runs forward", "jogs forward", "running forward"),
    "spin": ("spins", "full circle"),
    "spinkick": ("kick",),
    "turn_left0": ("left",),
    "turn_left1": ("left",),
    "turn_right0": ("right",),
    "turn_right1": ("right",),
    "walk": ("walk", "takes steps forward"),
    "walk_forward": ("walk", "takes steps forward"),
}


@pytest.mark.parametrize("name", list(SHOWN))
@pytest.mark.parametrize("seed", [0, 5])
def test_a_clip_is_told_by_what_it_shows(name: str, seed: int) -> None:
    first = describe_motion(clip(name), seed=seed)[0]
    assert any(word in first for word in SHOWN[name]), first
    if name.startswith("walk"):
        assert "turn" not in first


def test_mirror_image_and_heading() -> None:
    joints = clip("turn_left1")
    told = describe_motion(joints)
    assert describe_motion(turned(joints, 130.0) + np.array([5.0, 0.0, -7.0])) == told
    assert "right" in describe_motion(mirrored(joints))[0]


def test_captions_differ_and_are_the_same_again() -> None:
    joints = clip("jump")
    told = describe_motion(joints, seed=3, captions=6)
    assert 1 <= len(told) <= 6
    assert len(set(told)) == len(told)
    assert told == describe_motion(joints, seed=3, captions=6)
    assert told != describe_motion(joints, seed=4, captions=6)
    assert all(t.isascii() and "{" not in t for t in told)


def test_changes_of_posture_and_of_arms() -> None:
    stand, up = posed(), posed(left_shoulder=(0, 0, 80))
    raised = np.linspace(0, 1, 30)[:, None, None] * (up - stand) + stand
    assert "left arm" in describe_motion(raised)[0]
    assert "right" not in describe_motion(raised)[0]
    seat = posed(left_hip=(-90, 0, 0), right_hip=(-90, 0, 0), left_knee=(90, 0, 0), right_knee=(90, 0, 0))
    seat = seat - np.array([0, 0.4, 0])
    down = np.linspace(0, 1, 30)[:, None, None] * (seat - stand) + stand
    first = describe_motion(down)[0]
    assert "sits down" in first or "takes a seat" in first


def test_one_held_pose_is_told_as_that_pose() -> None:
    told = describe_motion(np.repeat(posed(left_shoulder=(0, 0, 80))[None], 40, 0))
    assert "left arm raised above the head" in told[0]


def test_short_and_broken_motions() -> None:
    stand = posed()
    assert describe_motion(np.zeros((0, 22, 3))) == ["a person"]
    assert describe_motion(np.full((20, 22, 3), np.nan)) == ["a person"]
    assert len(describe_motion(stand[None])) == 1
    walk = clip("walk")
    holed = walk.copy()
    holed[5] = np.nan
    assert "walk" in " ".join(describe_motion(holed))
