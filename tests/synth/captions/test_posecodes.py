"""Posecodes are measured angles and places; each posture's rule holds for its pose and no earlier one does."""

from __future__ import annotations

import numpy as np
import pytest

from synth.captions.limbs import arms, legs
from synth.captions.posecodes import PoseCodes, readable
from synth.captions.postures import RULES, posture
from synth.captions.wording import ARMS, LEGS, STANCES, Words
from tests.synth.captions.poses import clip, mirrored, posed

UP = {"left_shoulder": (0, 0, 80), "right_shoulder": (0, 0, -80)}
FORWARD = {"left_shoulder": (0, -90, 0), "right_shoulder": (0, 90, 0)}
SHOWN = {
    "handstand": posed(root=(180, 0, 0), **UP),
    "headstand": posed(root=(180, 0, 0)),
    "lying": posed(root=(-90, 0, 0)),
    "plank": posed(root=(75, 0, 0), **FORWARD),
    "sitting on the floor": posed(left_hip=(-90, 0, 0), right_hip=(-90, 0, 0)),
    "bent": posed(root=(80, 0, 0), left_hip=(-80, 0, 0), right_hip=(-80, 0, 0)),
    "bent to the floor": posed(root=(140, 0, 0), left_hip=(-140, 0, 0), right_hip=(-140, 0, 0), **UP),
    "crouching": posed(
        root=(35, 0, 0), left_hip=(-80, 0, 0), right_hip=(-80, 0, 0), left_knee=(80, 0, 0), right_knee=(80, 0, 0),
        left_ankle=(-35, 0, 0), right_ankle=(-35, 0, 0),
    ),
    "standing": posed(),
}  # fmt: skip


def codes(*poses: np.ndarray) -> PoseCodes:
    return PoseCodes.of(np.stack(poses).astype(float))


@pytest.mark.parametrize("degrees", [0, 30, 75, 120])
def test_bends_are_degrees_from_straight(degrees: float) -> None:
    rest = codes(posed())
    bent = codes(posed(left_knee=(degrees, 0, 0), right_elbow=(0, degrees, 0)))
    assert bent.knee_bend[0, 0] - degrees == pytest.approx(0, abs=12)  # the body's knees are not quite straight at rest
    assert bent.knee_bend[0, 1] == pytest.approx(rest.knee_bend[0, 1], abs=1e-3)
    assert bent.elbow_bend[0, 0] == pytest.approx(rest.elbow_bend[0, 0], abs=1e-3)
    assert bent.elbow_bend[0, 1] == pytest.approx(degrees, abs=12)


def test_tilt_lean_and_twist_have_the_signs_they_say() -> None:
    rest, forward, back, left, right = codes(
        posed(), posed(root=(40, 0, 0)), posed(root=(-40, 0, 0)), posed(root=(0, 0, -40)), posed(root=(0, 0, 40))
    ).lean
    assert forward[0] > 30 > abs(rest[0])
    assert back[0] < -30
    assert left[1] > 30 > abs(rest[1])
    assert right[1] < -30
    assert codes(posed(root=(180, 0, 0))).tilt[0] > 165
    assert codes(posed(spine1=(0, 30, 0))).twist[0] == pytest.approx(30, abs=6)
    assert codes(mirrored(posed(spine1=(0, 30, 0)))).twist[0] == pytest.approx(-30, abs=6)


def test_size_and_place_do_not_count() -> None:
    pose = clip("dance_a")[10]
    one, two = codes(pose), codes(0.6 * pose + np.array([5.0, 3.0, -2.0]))
    np.testing.assert_allclose(one.joints_BJ3, two.joints_BJ3, atol=1e-6)


@pytest.mark.parametrize("name", list(SHOWN))
def test_the_first_rule_that_holds_names_the_posture(name: str) -> None:
    shown = codes(SHOWN[name])
    assert posture(shown) == [name]
    for rule, holds in RULES.items():
        if rule == name:
            break
        assert not holds(shown).any(), rule


def test_every_state_has_words_and_every_word_is_formatted() -> None:
    """All packaged poses: a state without words would be a KeyError at some refresh."""
    frames = np.concatenate([clip(n) for n in ("backflip", "cartwheel", "dance_b", "getup_faceup", "roll", "spin")])
    every = codes(*frames)
    names = posture(every)
    assert {s for pair in arms(every, names) for s in pair} <= set(ARMS)
    assert {s for pair in legs(every, names) for s in pair} <= set(LEGS) | {"straight"}
    assert all(salience > 0 and words for salience, words in (*ARMS.values(), *LEGS.values(), *STANCES.values()))


def test_readable_poses() -> None:
    good = posed()
    assert readable(np.stack([good, good * 1e-3, good + np.nan, good * 1e9])).tolist() == [True, False, False, False]


def test_words_are_drawn_by_the_seed() -> None:
    choices = ["a", "b", "c"]
    assert Words(None).pick(choices) == "a"
    drawn = [Words(seed).pick(choices) for seed in range(300)]
    assert {c: drawn.count(c) > 60 for c in choices} == dict.fromkeys(choices, True)
    assert drawn == [Words(seed).pick(choices) for seed in range(300)]
