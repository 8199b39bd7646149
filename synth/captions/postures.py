"""The posture of a pose: one word for how the whole body is held; the first rule that holds names it.

A picture shows no floor, so that rules speak of heights above the lowest joint. Thresholds are in degrees and in metres
of a person with legs of 0.82 m.
"""

from __future__ import annotations

import numpy as np

from synth.captions.posecodes import Bools, PoseCodes


def upside_down(codes: PoseCodes) -> Bools:
    """The trunk hangs from the hips and the feet are above them."""
    return (codes.tilt > 115) & (codes.ankles[..., 1].mean(1) > codes.height("pelvis") + 0.1)


def handstand(codes: PoseCodes) -> Bools:
    """Upside down, on the hands with the arms about straight."""
    on_hands = (codes.wrists[..., 1].min(1) < 0.12) & (codes.elbow_bend.min(1) < 75)
    return upside_down(codes) & on_hands & (codes.height("head") > 0.15)


def headstand(codes: PoseCodes) -> Bools:
    """Upside down with the head or the neck lowest."""
    return upside_down(codes) & (np.minimum(codes.height("head"), codes.height("neck")) < 0.2)


def lying(codes: PoseCodes) -> Bools:
    """The hips are on the floor and the trunk is level, or raised from legs that it continues."""
    level = (codes.tilt > 55) & (codes.tilt < 125) & (codes.height("neck") < 0.45)
    raised = (codes.tilt > 25) & (codes.hip_bend.max(1) < 50) & (codes.thigh_raise.min(1) > 55)
    return (level | raised) & (codes.height("pelvis") < 0.28)


def on_hands_and_knees(codes: PoseCodes) -> Bools:
    """Both knees and at least one hand on the floor, chest down, the hips above the floor."""
    down = codes.hands_on_floor.any(1) & codes.knees_on_floor.all(1) & (codes.chest_faces_up < -0.4)
    return down & (codes.tilt > 45) & (codes.height("pelvis") > 0.28)


def plank(codes: PoseCodes) -> Bools:
    """On hands and feet, chest down, hips and knees about straight."""
    straight = (codes.hip_bend.max(1) < 45) & (codes.knee_bend.max(1) < 45) & ~codes.knees_on_floor.all(1)
    return codes.hands_on_floor.all(1) & straight & (codes.tilt > 45) & (codes.chest_faces_up < -0.4)


def on_hands(codes: PoseCodes) -> Bools:
    """A hand on the floor, and neither knee nor foot: the body is held up by the arms."""
    free = (codes.foot_height.min(1) > 0.2) & (codes.knees[..., 1].min(1) > 0.2)
    return codes.hands_on_floor.any(1) & free & (codes.height("pelvis") > 0.28)


def bridge(codes: PoseCodes) -> Bools:
    """On hands and feet, chest up, the hips above the floor."""
    held = codes.hands_on_floor.any(1) & codes.feet_on_floor.any(1) & (codes.height("pelvis") > 0.28)
    return held & (codes.tilt > 50) & (codes.chest_faces_up > 0.35)


def bent_to_the_floor(codes: PoseCodes) -> Bools:
    """Feet and at least one hand on the floor, the trunk far down."""
    return codes.hands_on_floor.any(1) & codes.feet_on_floor.any(1) & (codes.tilt > 60)


def kneeling(codes: PoseCodes) -> Bools:
    """Both knees on the floor, knees bent, the trunk above them."""
    return codes.knees_on_floor.all(1) & (codes.knee_bend.min(1) > 50) & (codes.height("pelvis") > 0.28)


def kneeling_on_one_knee(codes: PoseCodes) -> Bools:
    """One knee on the floor under the body, the other foot stands."""
    low = codes.knees_on_floor & (codes.knee_bend > 60)
    other = codes.feet_on_floor[:, ::-1] & (codes.knees[:, ::-1, 1] > 0.3)
    return (low & other).any(1) & (codes.height("pelvis") > 0.28)


def sitting_on_the_floor(codes: PoseCodes) -> Bools:
    """The pelvis is on the floor and the trunk is up."""
    return (codes.height("pelvis") < 0.28) & (codes.tilt <= 60)


def squatting(codes: PoseCodes) -> Bools:
    """Both knees far bent and the body above the feet."""
    return (codes.knee_bend.min(1) > 85) & (codes.thigh_raise.min(1) > 50) & (np.abs(codes.balance) < 0.28)


def sitting(codes: PoseCodes) -> Bools:
    """Both thighs about level, the body behind the feet, which are about equally low: something else carries it."""
    even = np.abs(codes.ankles[:, 0, 1] - codes.ankles[:, 1, 1]) < 0.35
    return (codes.thigh_raise.min(1) > 55) & (codes.balance < -0.22) & (codes.tilt < 60) & even


def bent(codes: PoseCodes) -> Bools:
    """The trunk is more than half-way down, on the legs."""
    return codes.tilt > 45


def lunging(codes: PoseCodes) -> Bools:
    """A long step, with the front knee bent and the trunk low between the feet."""
    front = np.where(codes.feet_apart[:, 1] > 0, 0, 1)
    bend = codes.knee_bend[np.arange(len(front)), front]
    return (np.abs(codes.feet_apart[:, 1]) > 0.6) & (bend > 45) & codes.feet_on_floor.all(1)


def crouching(codes: PoseCodes) -> Bools:
    """Both knees clearly bent on both feet."""
    return (codes.knee_bend.min(1) > 50) & (codes.foot_height.max(1) < 0.2)


#: Rules in the order in which they are asked; a pose that fits none stands.
RULES = {
    "handstand": handstand,
    "headstand": headstand,
    "upside down": upside_down,
    "lying": lying,
    "hands and knees": on_hands_and_knees,
    "plank": plank,
    "on hands": on_hands,
    "bridge": bridge,
    "bent to the floor": bent_to_the_floor,
    "kneeling": kneeling,
    "one knee": kneeling_on_one_knee,
    "sitting on the floor": sitting_on_the_floor,
    "squatting": squatting,
    "sitting": sitting,
    "bent": bent,
    "lunging": lunging,
    "crouching": crouching,
}
POSTURES = (*RULES, "standing")


def posture(codes: PoseCodes) -> list[str]:
    """The name of each pose's posture."""
    if len(codes.joints_BJ3) == 0:
        return []
    holds = np.stack([rule(codes) for rule in RULES.values()] + [np.ones(len(codes.joints_BJ3), bool)])
    return [POSTURES[i] for i in holds.argmax(0)]
