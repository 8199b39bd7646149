"""Several captions of one motion, by rule: the captions with which the embedded text-to-motion pair is trained.

HumanML3D's annotators tell a motion as a course of actions ("a person walks forward, turns left and sits down"). Told
here are the whole body's action, the pose it starts from and what each part does then, and one pose of it in the
describer's own words: what a generator is asked for at run time is such a sentence.
"""

from __future__ import annotations

import numpy as np

from human.rng import derive_seed
from synth.captions.describer import NOBODY, Pose, read_poses, sentence
from synth.captions.motion_facts import FPS, MotionFacts
from synth.captions.posecodes import as_joints, readable
from synth.captions.wording import WHO, Words, join

_LOW = ("kneeling", "one knee", "squatting", "sitting", "sitting on the floor")
_FLOOR = ("lying", "hands and knees", "plank")
_HANDS_UP = ("above the head", "raised")
_HANDS_OUT = ("to the side", "forward", *_HANDS_UP)
_HANGING = ("down", "away from the body", "down in front", "bent")


def describe_motion(joints_T22x3: object, fps: float = FPS, seed: int = 0, captions: int = 4) -> list[str]:
    """Up to ``captions`` different sentences of one motion; at least one.

    Args:
        joints_T22x3: (T, >=22, 3) array or tensor, SMPL24's order, y up, metres.
        fps: frames per second.
        seed: chooses the wording; same motion and seed, same captions.
        captions: how many are wanted.

    Returns:
        Distinct sentences. Frames that cannot be read are left out; of fewer than two ["a person"], or the one pose.
    """
    frames = np.asarray(as_joints(joints_T22x3))
    frames = frames[readable(frames)]
    if len(frames) < 2:
        return [sentence(read_poses(frames)[0], seed)] if len(frames) else [NOBODY]
    facts = MotionFacts.of(frames, fps)
    count = min(len(frames), max(3, round(facts.seconds * 4)))
    keys = np.linspace(0, len(frames) - 1, count).round().astype(int)
    poses = [p for p in read_poses(frames[keys]) if p is not None]
    told = []
    for number in range(4 * max(captions, 1)):
        kind = number % 4
        # Kinds take turns; the first of each in plain words, so that a few captions are much alike between motions.
        words = Words(derive_seed(seed, number))
        if kind == 0:
            text = _action(facts, poses, words)
        elif kind == 1:
            start = sentence(poses[0], derive_seed(seed, number, 1), details=2)
            text = f"{start}, then {_action(facts, poses, words, who=False)}"
        elif kind == 2:
            # What is asked of a generator is a motion that begins with the pose told.
            told_pose = _most_telling(poses) if number % 8 == 2 else poses[0]
            text = sentence(told_pose, derive_seed(seed, number, 2))
        else:
            changes = part_changes(poses, words)
            text = f"{words.pick(WHO)} {_course([*whole_body(facts, poses, words)[:1], *changes][:3])}"
        if text not in told:
            told.append(text)
        if len(told) >= max(captions, 1):
            break
    return told


def _action(facts: MotionFacts, poses: list[Pose], words: Words, who: bool = True) -> str:
    actions = whole_body(facts, poses, words)
    if len(actions) < 2:
        actions += part_changes(poses, words)[: 2 - len(actions)]
    told = _course(actions[:3])
    return f"{words.pick(WHO)} {told}" if who else told


def _course(actions: list[str]) -> str:
    return join(actions) if len(actions) < 3 else f"{actions[0]}, {actions[1]} and {actions[2]}"


def _most_telling(poses: list[Pose]) -> Pose:
    """The pose with most to say: not standing, or with limbs that are not at rest."""

    def interest(pose: Pose) -> float:
        arms = sum(a not in _HANGING for a in pose.arms)
        legs = sum(leg not in ("straight", "knee bent") for leg in pose.legs)
        return 2.0 * (pose.posture != "standing") + arms + legs + bool(pose.lean) + bool(pose.stance)

    return max(poses, key=interest)


# ----------------------------------------------------------------------------------------------------- the whole body
def whole_body(facts: MotionFacts, poses: list[Pose], words: Words) -> list[str]:
    """What the whole person does, in the order in which it is told; never empty."""
    actions: list[str] = []
    if somersault := _overturning(facts, poses, words):
        actions.append(somersault)
    changed = _posture_change(poses, words)
    moved = _travelling(facts, poses, words)
    if not somersault:
        if (kicked := facts.kick()) is not None:
            actions.append(
                words.pick(("kicks with the {0} leg", "does a {0} leg kick", "kicks the {0} leg up")).format(kicked[0])
            )
        elif facts.airborne > 0.12 and facts.rise > 0.12 and facts.speed < 2.1:
            actions.append(_jumping(facts, words))
            if facts.stepping < 3:
                moved = ""
        turned = _turning(facts, words)
        if moved:
            actions.insert(0, moved)
        if turned:
            actions.append(turned)
    punches = facts.punch()
    if punches and not somersault and facts.speed < 2.1 and not any("kick" in a for a in actions):
        side = "both hands" if len(punches) == 2 else f"the {punches[0]} hand"
        actions.append(
            words.pick(("punches with {0}", "throws a punch with {0}", "strikes forward with {0}")).format(side)
        )
    if not actions and (side := facts.waving()):
        actions.append(words.pick(("waves with the {0} hand", "waves the {0} hand")).format(side))
    if changed and not somersault:
        actions.append(changed)
    if not actions:
        actions.append(_staying(facts, poses, words))
    return actions


def _overturning(facts: MotionFacts, poses: list[Pose], words: Words) -> str:
    forward, sideways = facts.overturn
    if abs(sideways) > 200 and abs(sideways) > abs(forward):
        side = "left" if sideways > 0 else "right"
        return words.pick(("does a cartwheel", "does a cartwheel to the {0}", "performs a cartwheel")).format(side)
    if abs(forward) > 240:
        back = forward < 0
        if facts.airborne > 0.15 and facts.rise > 0.15:
            return words.pick(
                ("does a backflip", "jumps and flips backward") if back else ("does a front flip", "flips forward")
            )
        return words.pick(
            ("rolls backward", "does a backward roll")
            if back
            else ("rolls forward", "does a forward roll", "does a somersault")
        )
    return ""


def _travelling(facts: MotionFacts, poses: list[Pose], words: Words) -> str:
    straight, path = facts.travel
    if straight < 0.45 and path < 1.2:
        return ""
    where = {"forward": "forward", "backward": "backward", "left": "to the left", "right": "to the right"}[
        facts.direction
    ]
    share = {p: sum(pose.posture == p for pose in poses) / len(poses) for p in ("hands and knees", "lying", "plank")}
    if sum(share.values()) > 0.6:
        return words.pick(("crawls {0}", "crawls {0} on hands and knees", "moves {0} on all fours")).format(where)
    if facts.codes.tilt.mean() > 70:
        return ""
    if facts.speed > 2.1:
        return words.pick(("runs {0}", "jogs {0}", "is running {0}")).format(where)
    if facts.stepping < 1 and straight < 0.9:
        return words.pick(("steps {0}", "takes a step {0}")).format(where)
    if path > 2.5 * straight and path > 2 and abs(facts.turn) > 200:
        return words.pick(("walks in a circle", "walks around in a circle"))
    slow = facts.speed < 0.5 and facts.direction == "forward"
    if facts.direction in ("left", "right"):
        return words.pick(("steps {0}", "walks sideways {0}", "sidesteps {0}")).format(where)
    return words.pick(("walks slowly {0}",) if slow else ("walks {0}", "is walking {0}", "takes steps {0}")).format(
        where
    )


def _jumping(facts: MotionFacts, words: Words) -> str:
    if facts.travel[0] < 0.5:
        return words.pick(("jumps up", "jumps", "leaps into the air"))
    way = facts.direction if facts.direction in ("forward", "backward") else f"to the {facts.direction}"
    return words.pick(("jumps {0}", "leaps {0}", "takes a leap {0}")).format(way)


def _turning(facts: MotionFacts, words: Words) -> str:
    turn, side = facts.turn, "left" if facts.turn > 0 else "right"
    if abs(turn) > 300:
        return words.pick(("spins around", "spins to the {0}", "turns around in a full circle to the {0}")).format(side)
    if abs(turn) > 130:
        return words.pick(("turns around", "turns around to the {0}")).format(side)
    if abs(turn) > 25:
        return words.pick(("turns {0}", "turns to the {0}", "makes a {0} turn")).format(side)
    return ""


def _posture_change(poses: list[Pose], words: Words) -> str:
    first, last = poses[0].posture, poses[-1].posture
    up = ("standing", "bent", "lunging", "crouching")
    if first == last:
        lowest = next((p.posture for p in poses if p.posture in _LOW), "")
        if first in up and lowest == "squatting":
            return words.pick(("squats down and stands back up", "does a squat"))
        if (
            first == "standing"
            and not poses[0].lean
            and any(p.posture == "bent" and p.lean == "forward" for p in poses)
        ):
            return words.pick(("bends forward and straightens up again", "bends down and comes back up"))
        return ""
    if first in (*_FLOOR, "sitting on the floor") and last in up:
        return words.pick(("gets up from the floor", "stands up from the ground", "gets up"))
    if first in _LOW and last in up:
        return words.pick(("stands up", "gets up", "rises to the feet"))
    if first in up:
        down = {
            "sitting": ("sits down", "takes a seat"),
            "sitting on the floor": ("sits down on the floor", "sits on the ground"),
            "squatting": ("squats down", "goes down into a squat"),
            "kneeling": ("kneels down", "goes down on both knees"),
            "one knee": ("goes down on one knee", "kneels on one knee"),
            "lying": ("lies down", "goes down to the floor and lies down"),
            "hands and knees": ("gets down on hands and knees", "goes down on all fours"),
            "plank": ("gets down into a push-up position",),
            "handstand": ("goes up into a handstand", "kicks up into a handstand"),
            "bent to the floor": ("bends down to touch the floor", "reaches down to the ground"),
        }
        if last in down:
            return words.pick(down[last])
        if first == "standing" and last == "bent" and poses[-1].lean == "forward":
            return words.pick(("bends forward", "bends over"))
        if first == "standing" and last == "crouching":
            return words.pick(("bends the knees", "crouches down"))
        if last == "standing" and first in ("bent", "crouching"):
            return words.pick(("straightens up", "stands up straight"))
        return ""
    if first == "lying" and last == "sitting on the floor":
        return words.pick(("sits up", "sits up from the floor"))
    if first == "sitting on the floor" and last == "lying":
        return words.pick(("lies back", "lies down on the floor"))
    if first == "lying" and last in ("hands and knees", "plank"):
        return words.pick(("pushes up from the floor", "comes up onto hands and knees"))
    return ""


def _staying(facts: MotionFacts, poses: list[Pose], words: Words) -> str:
    if facts.stillness < 0.35:
        held = sentence(poses[len(poses) // 2], None, who=False, details=1)
        return words.pick((held, f"{held} and holds still", f"{held} without moving"))
    arms = np.linalg.norm(np.gradient(facts.joints[:, 20:22] - facts.joints[:, :1], axis=0), axis=-1).mean() * facts.fps
    legs = np.linalg.norm(np.gradient(facts.joints[:, 7:9], axis=0), axis=-1).mean() * facts.fps
    if facts.stillness > 2 and arms > 0.7 and legs > 0.4:
        return words.pick(("dances in place", "moves the whole body", "dances"))
    if arms > 0.35:
        return words.pick(("moves the arms", "moves both arms around"))
    return (
        words.pick(("stands in place", "shifts the weight", "moves a little in place"))
        if poses[0].posture == "standing"
        else words.pick(("moves a little", "shifts slightly"))
    )


# ----------------------------------------------------------------------------------------------------- arms and legs
def part_changes(poses: list[Pose], words: Words) -> list[str]:
    """What arms, legs and trunk do between the first pose, the middle and the last, most telling first."""
    out: list[str] = []
    first, last = poses[0], poses[-1]
    peak = _most_telling(poses)
    moves = [_arm_change(first.arms[i], last.arms[i], peak.arms[i], words) for i in (0, 1)]
    if moves[0] and moves[0] == moves[1]:
        out.append(moves[0].format("both arms", them="them"))
    else:
        out += [m.format(f"the {side} arm", them="it") for m, side in zip(moves, ("left", "right"), strict=True) if m]
    for i, side in enumerate(("left", "right")):
        up = [
            p.legs[i] not in ("straight", "knee bent", "folded") and p.posture == "standing"
            for p in (first, peak, last)
        ]
        if up[1] and not up[0]:
            out.append(words.pick(("lifts the {0} leg", "raises the {0} leg")).format(side))
        elif up[0] and not up[2]:
            out.append(words.pick(("puts the {0} foot down", "lowers the {0} leg")).format(side))
    if first.posture == last.posture == "standing" and first.lean != last.lean:
        if last.lean:
            way = {"forward": "forward", "backward": "back", "left": "to the left", "right": "to the right"}[last.lean]
            out.append(f"leans {way}")
        else:
            out.append("straightens up")
    return out


def _arm_change(first: str, last: str, peak: str, words: Words) -> str:
    """ "raises {}" with a place for the arm; "" where nothing telling happens."""
    if first in _HANDS_UP and last not in _HANDS_UP:
        return words.pick(("lowers {}", "brings {} down"))
    if last in _HANDS_UP and first not in _HANDS_UP:
        return words.pick(("raises {} above the head", "lifts {} up")) if last == "above the head" else "raises {}"
    if last == "to the side" and first not in _HANDS_OUT:
        return words.pick(("stretches {} out to the side", "raises {} sideways"))
    if last == "forward" and first not in _HANDS_OUT:
        return words.pick(("stretches {} forward", "reaches forward with {}"))
    if first in _HANDS_OUT and last in _HANGING:
        return words.pick(("lowers {}", "brings {} down to the side"))
    if first == last and peak in _HANDS_OUT and first in _HANGING:
        return words.pick(("raises {} and lowers {them} again", "lifts {} up and down"))
    return ""
