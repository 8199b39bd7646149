"""Where the arms and legs of a pose are: one named state for each limb, from its posecodes.

Directions are the person's own: up is up for one who stands, sits or bends, and where the head is for
one who lies or is upside down.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from synth.captions.posecodes import ANKLE, ELBOW, HIP, KNEE, OUT, SHOULDER, UP, Bools, Floats, PoseCodes, unit

#: Postures whose directions are the trunk's, not the world's.
OF_THE_TRUNK = frozenset({"lying", "handstand", "headstand", "upside down", "bridge"})
#: Postures whose hands carry the body: the arms need no word.
ON_HANDS = frozenset({"handstand", "headstand", "on hands", "hands and knees", "plank", "bridge"})
#: Postures that say already where the legs are.
LEGS_SAID = frozenset(
    {"hands and knees", "plank", "bridge", "kneeling", "one knee", "squatting", "sitting", "lunging", "crouching"}
)


def axes(codes: PoseCodes, postures: list[str]) -> tuple[Floats, Floats, Floats]:
    """(B,3) up, front and left by which the limbs of each pose are told."""
    own = _among(postures, OF_THE_TRUNK)
    return (
        np.where(own, codes.trunk_up, UP),
        np.where(own, codes.trunk_front, codes.forward),
        np.where(own, codes.trunk_left, codes.left),
    )


def _among(postures: list[str], names: Collection[str]) -> Bools:
    """(B,1)"""
    return np.array([p in names for p in postures], bool)[:, None]


def _along(vectors_B2x3: Floats, up: Floats, front: Floats, left: Floats) -> Floats:
    """(B,2,3) components up, front and outwards (to the limb's own side)."""
    parts = [(vectors_B2x3 * axis[:, None]).sum(-1) for axis in (up, front, left)]
    return np.stack([parts[0], parts[1], parts[2] * OUT], -1)


def arms(codes: PoseCodes, postures: list[str]) -> list[tuple[str, str]]:
    """The state of the (left, right) arm of each pose: a key of :data:`synth.captions.wording.ARMS`."""
    if not postures:
        return []
    up, front, left = axes(codes, postures)
    joints = codes.joints_BJ3
    shoulder, elbow, wrist = joints[:, SHOULDER], joints[:, ELBOW], codes.wrists
    reach = _along(wrist - shoulder, up, front, left)
    length = np.linalg.norm(elbow - shoulder, axis=-1) + np.linalg.norm(wrist - elbow, axis=-1)
    extended = np.linalg.norm(wrist - shoulder, axis=-1) / np.maximum(length, 1e-6)
    toward = unit(reach)
    upper = unit(_along(elbow - shoulder, up, front, left))
    head = codes.joints_BJ3[:, 15]
    over_head = ((wrist - head[:, None]) * up[:, None]).sum(-1)
    face = head + 0.08 * codes.trunk_up
    to_face = np.linalg.norm(wrist - face[:, None], axis=-1)
    to_hip = np.linalg.norm(wrist - joints[:, HIP] - 0.08 * codes.trunk_up[:, None], axis=-1)
    # Past the middle of the chest, to the other side, in front of it.
    middle = 0.5 * (shoulder[:, :1] + shoulder[:, 1:])
    beyond = _along(wrist - middle, codes.trunk_up, codes.trunk_front, codes.trunk_left)
    bent = codes.elbow_bend > 50
    floor = codes.hands_on_floor & ~_among(postures, OF_THE_TRUNK)
    states = np.full(bent.shape, "down", dtype=object)

    def put(where: np.ndarray, state: str) -> None:
        where = np.broadcast_to(where, states.shape) & ~settled
        states[where] = state
        settled[where] = True

    settled = np.zeros(bent.shape, bool)
    put(floor, "on the floor")
    put((_nearest(wrist, codes.ankles) < 0.2) | (_nearest(wrist, joints[:, [10, 11]]) < 0.2), "at the feet")
    put((to_face < 0.24) & (over_head < 0.22) & bent, "at the head")
    put((over_head > 0.12) & (toward[..., 0] > 0.5), "above the head")
    put((to_hip < 0.2) & (codes.elbow_bend > 55) & (np.maximum(upper[..., 2], -upper[..., 1]) > 0.25), "on the hip")
    put((beyond[..., 2] < 0.02) & (beyond[..., 1] > 0.05) & (np.abs(beyond[..., 0] + 0.2) < 0.2) & bent, "folded")
    put(_nearest(wrist, codes.knees) < 0.2, "on the knee")
    put((toward[..., 0] > 0.35) & (extended > 0.6), "raised")
    level = (toward[..., 0] > -0.55) & (extended > 0.5)
    side, fore = toward[..., 2], toward[..., 1]
    straight = extended > 0.85
    put(level & (side > 0.6) & (side >= np.abs(fore)) & straight, "to the side")
    put(level & (side > 0.6) & (side >= np.abs(fore)), "bent to the side")
    put(level & (fore > 0.4) & straight, "forward")
    put(level & (fore > 0.4), "bent in front")
    put((fore < -0.4) & (toward[..., 0] < 0.35), "behind")
    put((codes.elbow_bend > 100) & (upper[..., 0] > -0.35), "bent high")
    put(codes.elbow_bend > 65, "bent")
    put((toward[..., 0] > -0.84) & (fore > 0.45), "down in front")
    put((toward[..., 0] > -0.84) & (side > 0.45), "away from the body")
    return [(str(one), str(two)) for one, two in states]


def _nearest(points_B2x3: Floats, targets_B2x3: Floats) -> Floats:
    """(B,2) distance from each point to the nearer of two targets."""
    return np.linalg.norm(points_B2x3[:, :, None] - targets_B2x3[:, None], axis=-1).min(-1)


def hands_together(codes: PoseCodes) -> np.ndarray:
    """(B,) the wrists nearly meet."""
    return np.linalg.norm(codes.wrists[:, 0] - codes.wrists[:, 1], axis=-1) < 0.17


def legs(codes: PoseCodes, postures: list[str]) -> list[tuple[str, str]]:
    """The state of the (left, right) leg of each pose: a key of :data:`synth.captions.wording.LEGS`."""
    if not postures:
        return []
    up, front, left = axes(codes, postures)
    joints, states = codes.joints_BJ3, np.full((len(postures), 2), "straight", dtype=object)
    leg = unit(_along(codes.ankles - joints[:, HIP], up, front, left))
    thigh = unit(_along(codes.knees - joints[:, HIP], up, front, left))
    higher = joints[:, ANKLE, 1] - joints[:, ANKLE[::-1], 1]
    lifted = (higher > 0.14) & ~codes.feet_on_floor
    settled = np.zeros(states.shape, bool)

    def put(where: np.ndarray, state: str) -> None:
        where = np.broadcast_to(where, states.shape) & ~settled
        states[where] = state
        settled[where] = True

    said = _among(postures, LEGS_SAID)
    lies = _among(postures, ("lying",))
    floor = _among(postures, ("sitting on the floor",))
    over = _among(postures, ("handstand", "headstand", "upside down"))
    stands = ~(said | lies | floor | over)
    away = np.abs(leg[..., 1:]).max(-1) > 0.42  # 25 degrees from under the hip
    forward, back = leg[..., 1] >= np.abs(leg[..., 2]), -leg[..., 1] > np.abs(leg[..., 2])
    knee = codes.knee_bend
    hip_height = joints[:, HIP, 1]
    high = (joints[:, ANKLE, 1] > hip_height - 0.15) & lifted & (knee < 70)
    put(stands & high & forward, "kicked high forward")
    put(stands & high & back, "kicked high back")
    put(stands & high, "kicked high sideways")
    put(stands & lifted & away & (knee < 45) & forward, "raised forward")
    put(stands & lifted & away & (knee < 45) & back, "raised back")
    put(stands & lifted & away & (knee < 45), "raised sideways")
    put(stands & lifted & (thigh[..., 0] > -0.7) & (knee >= 45) & (thigh[..., 2] > 0.75), "knee raised sideways")
    put(stands & lifted & (thigh[..., 0] > -0.8) & (knee >= 45) & (thigh[..., 1] > 0), "knee raised")
    put(stands & lifted & (knee >= 40), "foot lifted behind")
    put(stands & lifted, "lifted")
    put(stands & (knee > 38), "knee bent")
    hips = codes.hip_bend
    put(lies & (knee > 70) & (hips > 60), "pulled up")
    put(lies & (hips > 50), "raised")
    put(lies & (knee > 45), "knee bent")
    put(floor & (knee < 45), "stretched out")
    put(floor & (codes.knees[..., 1] > 0.3), "knee up")
    put(floor, "folded")
    put(over & (knee > 50), "knee bent")
    return [(str(one), str(two)) for one, two in states]


def stance(codes: PoseCodes, postures: list[str]) -> list[str]:
    """How the feet stand to each other: a key of :data:`synth.captions.wording.STANCES`, or ""."""
    out = []
    feet = np.asarray(codes.feet_on_floor.all(1))
    ahead = np.linalg.norm(codes.knees - codes.joints_BJ3[:, KNEE[::-1]], axis=-1)[:, 0]
    for i, posture in enumerate(postures):
        side, fore = codes.feet_apart[i]
        gap = float(np.hypot(side, fore))
        name = ""
        if posture in ("standing", "bent", "bent to the floor", "crouching") and feet[i]:
            if gap > 1.05:
                name = "split"
            elif side > 0.42 and side >= abs(fore):
                name = "wide apart" if side > 0.65 else "apart"
            elif side < -0.04:
                name = "crossed"
            elif abs(fore) > 0.32:
                name = "left in front" if fore > 0 else "right in front"
        elif posture in ("handstand", "headstand", "upside down", "lying"):
            gap = float(np.linalg.norm(codes.ankles[i, 0] - codes.ankles[i, 1]))
            if gap > 0.95:
                name = "split"
            elif gap > 0.55 and ahead[i] > 0.3:
                name = "spread"
        out.append(name)
    return out
