"""The rule-based describer: a pose in one sentence, in the manner of HumanML3D's captions. The embedded captioner.

It says what PoseScript (Delmas et al., ECCV 2022) calls posecodes, but only the few that make a pose this pose: how the
body is held (:mod:`synth.captions.postures`) and up to three things of limbs and trunk
(:mod:`synth.captions.limbs`), the most striking first chosen, then told from the arms downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from human.camera import level_flip
from human.rng import key_hash
from synth.captions.activities import doing
from synth.captions.base import CAPTIONERS, CaptionRequest
from synth.captions.limbs import LEGS_SAID, ON_HANDS, arms, hands_together, legs, stance
from synth.captions.posecodes import JOINTS, PoseCodes, as_joints, readable
from synth.captions.postures import posture as posture_names
from synth.captions.wording import (
    ARMS,
    BEND,
    CROSS_LEGGED,
    LEAN,
    LEGS,
    LUNGE,
    LYING,
    ONE_KNEE,
    ONE_LEG,
    POSTURES,
    STANCES,
    STANDS,
    TOGETHER,
    TWIST,
    WHO,
    Words,
    join,
    limb,
)

#: Counted up when the same pose gets another caption.
VERSION = 1
#: What is said of a pose that cannot be read.
NOBODY = "a person"
SIDES = ("left", "right")
DETAILS = 3


@dataclass(frozen=True)
class Pose:
    """The named states of one pose, in which a caption is told."""

    posture: str
    lean: str
    side: str
    arms: tuple[str, str]
    together: bool
    legs: tuple[str, str]
    stance: str
    twist: str


def read_poses(joints_BJ3: object) -> list[Pose | None]:
    """The states of each pose; None where its joints are not finite or of no size. See :class:`PoseCodes`."""
    joints = as_joints(joints_BJ3)
    fine = readable(joints)
    codes = PoseCodes.of(joints[fine])
    postures = posture_names(codes)
    arms_B2, legs_B2, stances = arms(codes, postures), legs(codes, postures), stance(codes, postures)
    together = hands_together(codes)
    read = [
        Pose(
            posture=posture,
            lean=_lean(codes, i, posture),
            side=_side(codes, i, posture),
            arms=arms_B2[i],
            together=bool(together[i]),
            legs=legs_B2[i],
            stance=stances[i],
            twist="" if abs(codes.twist[i]) < 28 else "left" if codes.twist[i] > 0 else "right",
        )
        for i, posture in enumerate(postures)
    ]
    filled = iter(read)
    return [next(filled) if ok else None for ok in fine]


def _lean(codes: PoseCodes, i: int, posture: str) -> str:
    """Where the trunk tends: "forward", "backward", "left", "right" or ""; of one who lies how."""
    if posture == "lying":
        if abs(codes.chest_faces_up[i]) > 0.5:
            if codes.chest_faces_up[i] > 0:
                return "back"
            return "raised" if codes.tilt[i] < 70 and codes.height("neck")[i] > 0.3 else "stomach"
        return "left" if codes.trunk_left[i, 1] < 0 else "right"
    if codes.tilt[i] < 20:
        return ""
    flat = codes.trunk_up[i]
    forward, left = float(flat @ codes.forward[i]), float(flat @ codes.left[i])
    if abs(forward) >= abs(left):
        return "forward" if forward > 0 else "backward"
    return "left" if left > 0 else "right"


def _side(codes: PoseCodes, i: int, posture: str) -> str:
    """The knee one kneels on, or the leg in front of a lunge."""
    if posture == "one knee":
        return SIDES[int(codes.knees[i, 1, 1] < codes.knees[i, 0, 1])]
    return SIDES[int(codes.feet_apart[i, 1] < 0)]


def sentence(pose: Pose | None, seed: int | None = None, *, who: bool = True, details: int = DETAILS) -> str:
    """A caption of one pose: synonyms by ``seed``, at most ``details`` clauses of limbs and trunk."""
    if pose is None:
        return NOBODY
    words = Words(seed)
    subject = words.pick(WHO) + " " if who else ""
    legs_told = pose.legs
    action = _action(pose, words)
    if pose.posture == "standing" and (lifted := _lifted(pose)) is not None and not pose.lean:
        action = words.pick(ONE_LEG).format(side=SIDES[1 - lifted])
    clauses = _arm_clauses(pose, words) + _leg_clauses(pose, legs_told, words)
    if pose.twist and pose.posture not in ("lying", "handstand", "headstand", "upside down"):
        clauses.append((TWIST[pose.twist][0], words.pick(TWIST[pose.twist][1])))
    told = [text for _, text in _most_striking(clauses, details)]
    return f"{subject}{action} with {join(told)}" if told else f"{subject}{action}"


def _most_striking(clauses: list[tuple[float, str]], count: int) -> list[tuple[float, str]]:
    """The ``count`` most salient in their own order; what is hardly worth a word only where nothing else is said."""
    telling = [c for c in clauses if c[0] >= 1] or clauses
    keep = sorted(range(len(telling)), key=lambda i: -telling[i][0])[:count]
    return [telling[i] for i in sorted(keep)]


def _lifted(pose: Pose) -> int | None:
    """The one leg that is off the ground."""
    up = [i for i, state in enumerate(pose.legs) if state not in ("straight", "knee bent")]
    return up[0] if len(up) == 1 else None


def _action(pose: Pose, words: Words) -> str:
    posture = pose.posture
    if posture == "lying":
        return words.pick(LYING[pose.lean])
    if posture == "one knee":
        return words.pick(ONE_KNEE).format(side=pose.side)
    if posture == "lunging":
        return words.pick(LUNGE).format(side=pose.side)
    if posture == "bent":
        return words.pick(BEND[pose.lean])
    if posture == "standing":
        return words.pick(LEAN[pose.lean] if pose.lean else STANDS)
    told = words.pick(POSTURES[posture])
    if pose.lean and posture in ("kneeling", "sitting on the floor", "squatting", "sitting", "crouching"):
        return f"{told}, leaning {'back' if pose.lean == 'backward' else pose.lean}".replace(
            f"leaning {pose.lean}", f"leaning to the {pose.lean}" if pose.lean in SIDES else f"leaning {pose.lean}"
        )
    return told


def _arm_clauses(pose: Pose, words: Words) -> list[tuple[float, str]]:
    left, right = pose.arms
    if pose.posture in ON_HANDS or pose.lean == "raised":
        return []
    if pose.posture == "bent to the floor":
        return [] if left == right else _one_by_one(pose.arms, ARMS, words, skip=("on the floor", "at the feet"))
    if left == right:
        if pose.together and left in TOGETHER:
            return [(ARMS[left][0] + 0.3, words.pick(TOGETHER[left]))]
        if left == "folded":
            return [(ARMS[left][0], words.pick(TOGETHER[left]))]
        return [(ARMS[left][0] + (0.5 if left != "down" else 0), limb(words.pick(ARMS[left][1]), "both"))]
    return _one_by_one(pose.arms, ARMS, words, skip=("down",))


def _one_by_one(
    states: tuple[str, str], table: dict[str, tuple[float, tuple[str, ...]]], words: Words, skip: tuple[str, ...]
) -> list[tuple[float, str]]:
    return [
        (table[state][0], limb(words.pick(table[state][1]), side))
        for side, state in zip(SIDES, states, strict=True)
        if state not in skip
    ]


def _leg_clauses(pose: Pose, states: tuple[str, str], words: Words) -> list[tuple[float, str]]:
    if pose.posture in LEGS_SAID and not pose.stance:
        return []
    clauses = []
    if pose.stance:
        clauses.append((STANCES[pose.stance][0], words.pick(STANCES[pose.stance][1])))
    if pose.posture in LEGS_SAID:
        return clauses
    left, right = states
    if left == right == "folded" and pose.posture == "sitting on the floor":
        return [(1.8, words.pick(CROSS_LEGGED))]
    if left == right and left != "straight":
        return [*clauses, (LEGS[left][0] + 0.2, limb(words.pick(LEGS[left][1]), "both"))]
    return clauses + _one_by_one(states, LEGS, words, skip=("straight",))


def describe_poses(
    joints_BJ3: object, activities: Sequence[str] | None = None, seeds: Sequence[int] | None = None
) -> list[str]:
    """One sentence for each pose.

    Args:
        joints_BJ3: (B, >=22, 3) array or tensor, SMPL24's order, y up, metres; where the person is does not matter.
        activities: MPII's name of what each person does, or "".
        seeds: choose the synonyms; without them every state has one wording.

    Returns:
        B sentences; "a person" for joints that are not finite.
    """
    poses = read_poses(joints_BJ3)
    labels = list(activities) if activities is not None else [""] * len(poses)
    out = []
    for i, (pose, label) in enumerate(zip(poses, labels, strict=True)):
        told = sentence(pose, None if seeds is None else int(seeds[i]))
        phrase = doing(label)
        if phrase:
            told = f"a person {phrase}" if pose is None else f"a person {phrase}; the person {told.split(' ', 2)[2]}"
        out.append(told)
    return out


def joints_of(joints3d_BJ3: object) -> np.ndarray:
    """(B,22,3) y up from joints in a camera's frame (x right, y down, z forward), the camera held level."""
    return level_flip(torch.from_numpy(as_joints(joints3d_BJ3)[:, :JOINTS])).numpy()


@CAPTIONERS.register("describer")
class Describer:
    """Captions from the predicted poses alone.

    Args:
        vary: choose synonyms by the request's seeds; otherwise one wording for each state.
    """

    name = "describer"

    def __init__(self, vary: bool = False) -> None:
        self.vary = vary
        self.replaced = 0

    def caption(self, request: CaptionRequest) -> list[str]:
        """Poses that are not finite are called "a person" (or by their activity), and counted."""
        joints = joints_of(request.prediction.joints3d)
        self.replaced += int((~readable(joints)).sum())
        seeds = list(request.seeds) if self.vary and len(request.seeds) else None
        return describe_poses(joints, list(request.activities) or None, seeds)

    def config_hash(self) -> str:
        return f"{key_hash('describer', VERSION, int(self.vary)):032x}"[:12]
