"""Any skeleton's joint rotations to SMPL's, by rest pose and by name.

Let a source joint turn its bone by the world rotation S(t) from the source's rest pose. SMPL's joint then turns by
G(t) = W S(t) A: W stands the source's "up" upright, and the constant A carries SMPL's rest pose into the source's.
For the trunk A is the frame of the source's rest pose (left, up, forward); a limb's A turns its bone further by the
smallest rotation onto the source's bone. So limbs point exactly where the source's do, whether the source rests with
its arms spread (CMU's ASF) or hanging (CMU's BVH), and the zero pose of a standing source is SMPL's zero pose. A rest
pose that does not stand says nothing of the joints' axes; then the body is fitted to the joints' positions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from human.errors import PosesynError
from human.skeleton import SMPL24

# Names of the same limb joints in common rigs, lower case, side cut off; the first that a rig has and that is not yet
# taken is used. A rig speaks the dialect in which most joints are found. "palm" turns the hand where a rig splits the
# wrist into a twist and a bend.
DIALECTS: dict[str, dict[str, str]] = {
    "mixamo": {
        "hip": "upleg", "knee": "leg", "ankle": "foot", "foot": "toebase toe", "collar": "shoulder", "shoulder": "arm",
        "elbow": "forearm", "wrist": "hand",
    },
    "anatomy": {
        "hip": "hip thigh buttock", "knee": "knee shin", "ankle": "ankle foot", "foot": "toe foot toes",
        "collar": "collar", "shoulder": "shoulder shldr", "elbow": "elbow forearm", "wrist": "wrist hand",
        "palm": "hand",
    },
    "asf": {
        "hip": "femur", "knee": "tibia", "ankle": "foot", "foot": "toes", "collar": "clavicle",
        "shoulder": "humerus", "elbow": "radius", "wrist": "wrist", "palm": "hand",
    },
    "engine": {
        "hip": "thigh", "knee": "calf shin", "ankle": "foot", "foot": "ball toe toe0 toebase",
        "collar": "clavicle shoulder", "shoulder": "upperarm uarm", "elbow": "lowerarm forearm farm", "wrist": "hand",
    },
}  # fmt: skip
_NEEDED = ("hip", "knee", "ankle", "shoulder", "elbow")
_LIMBS = ("hip", "knee", "ankle", "shoulder", "elbow")  # joints whose bone is aimed; each with the joint it points to
_AIMED_AT = {"hip": "knee", "knee": "ankle", "ankle": "foot", "shoulder": "elbow", "elbow": "wrist"}
_LEG_METRES = 0.82  # hip to ankle of an adult
# Metres per unit that files use: metre, decimetre, inch, centimetre, millimetre, and CMU's 0.45 units to the inch.
_UNITS = (1.0, 0.1, 0.0254, 0.01, 0.001, 0.0254 / 0.45)


@dataclass(frozen=True)
class Rig:
    """A posed skeleton of J joints over N frames, parents before children.

    Attributes:
        names: as the file writes them; ``parents``: -1 at the root.
        offsets: (J, 3) from the parent's joint to this one in the rest pose, file units.
        ends: (J, 3) from a leaf joint to the tip of its bone, zero for others.
        rotations: (N, J, 3, 3) local; identity is the rest pose, in which all joints' axes are parallel.
        root_position: (N, 3) file units.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    ends: np.ndarray
    rotations: np.ndarray
    root_position: np.ndarray

    def world(self) -> tuple[np.ndarray, np.ndarray]:
        """Forward kinematics: rotations (N, J, 3, 3) and joint positions (N, J, 3) in the file's axes and units."""
        rotation, position = np.empty_like(self.rotations), np.empty(self.rotations.shape[:-1])
        for j, p in enumerate(self.parents):
            if p < 0:
                rotation[:, j], position[:, j] = self.rotations[:, j], self.root_position
            else:
                rotation[:, j] = rotation[:, p] @ self.rotations[:, j]
                position[:, j] = position[:, p] + rotation[:, p] @ self.offsets[j]
        return rotation, position

    def rest(self) -> np.ndarray:
        """(J, 3) joints of the rest pose, the root at the origin."""
        place = np.zeros((len(self.names), 3))
        for j, p in enumerate(self.parents):
            if p >= 0:
                place[j] = place[p] + self.offsets[j]
        return place

    def ancestors(self, joint: int) -> list[int]:
        """From the joint itself to the root."""
        chain = [joint]
        while self.parents[chain[-1]] >= 0:
            chain.append(self.parents[chain[-1]])
        return chain


def split_side(name: str) -> list[tuple[str, str]]:
    """Readings of a joint's name as (side, rest): "mixamorig:LeftUpLeg" -> ("left", "upleg"); "" for no side."""
    text = re.sub(r"^(bip\d+|mixamorig\d*)[ _]*", "", name.split(":")[-1].strip(), flags=re.IGNORECASE)
    words = re.sub(r"[^a-z0-9]+", " ", text.lower()).split()
    out = [("", "".join(words))]
    for side in ("left", "right"):
        for word in (side, side[0]):
            if words and words[0] == word:
                out.append((side, "".join(words[1:])))
            if words and words[-1] == word:
                out.append((side, "".join(words[:-1])))
            if words and words[0].startswith(word):
                out.append((side, "".join([words[0][len(word) :], *words[1:]])))
    return out


def name_joints(rig: Rig) -> dict[str, int]:
    """SMPL's names (and ``left_palm``, ``right_palm``) of the limb joints and the head -> joint number."""
    read = {pair: j for j, name in reversed(list(enumerate(rig.names))) for pair in split_side(name)}
    best: dict[str, int] = {}
    for dialect in DIALECTS.values():
        found: dict[str, int] = {}
        for side in ("left", "right"):
            for part, words in dialect.items():
                hits = [read[side, w] for w in words.split() if (side, w) in read]
                if hits := [h for h in hits if h not in found.values()]:
                    found[f"{side}_{part}"] = hits[0]
        best = max(best, found, key=len)
    missing = [f"{s}_{p}" for s in ("left", "right") for p in _NEEDED if f"{s}_{p}" not in best]
    if missing:
        raise PosesynError(
            f"no joint of this skeleton is known to be {', '.join(missing)}; its joints are called "
            f"{', '.join(rig.names)}: add their names to human.mocap.retarget.DIALECTS"
        )
    if ("", "head") in read:
        best["head"] = read["", "head"]
    return best


def retarget(rig: Rig, unit: float | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A rig's motion as SMPL's.

    Args:
        unit: metres per file unit; None chooses the unit that gives the nearest to an adult's legs.

    Returns:
        body_pose (N, 23, 3), global_orient (N, 3) rotation vectors and pelvis position (N, 3) metres; y up.
    """
    joints = name_joints(rig)
    rest, (world, position) = rig.rest(), rig.world()
    common = _shared_ancestor(rig, joints["left_hip"], joints["right_hip"])
    upper = [joints[k] for k in ("left_shoulder", "right_shoulder")] + ([joints["head"]] if "head" in joints else [])
    chest = _shared_ancestor(rig, *upper)
    frame = _rest_frame(rest, joints)
    upright = _snap(frame, limit=180.0)[:, 1]  # the file's vertical axis
    stand = Rotation.align_vectors([[0, 1, 0]], [upright])[0].as_matrix()
    frame = _snap(frame, limit=30.0)
    metres = unit if unit is not None else _guess_unit(rest, joints)
    legs = [rest[joints[f"{s}_ankle"]] - rest[joints[f"{s}_hip"]] for s in ("left", "right")]
    if any(leg @ frame[:, 1] > -0.5 * np.linalg.norm(leg) for leg in legs):
        return _from_positions(position, joints, metres)

    turn: dict[str, np.ndarray] = {"pelvis": world[:, common]}
    spine = _chain(rig, chest, common)
    turn |= _spread(world[:, common], [world[:, j] for j in spine], ("spine1", "spine2", "spine3"))
    if "head" in joints:
        neck = _chain(rig, joints["head"], chest)
        turn |= _spread(world[:, chest], [world[:, j] for j in neck], ("neck", "head"))
    align = dict.fromkeys(turn, frame)
    smpl = _smpl_rest()
    for side in ("left", "right"):
        if f"{side}_collar" in joints:
            turn[f"{side}_collar"], align[f"{side}_collar"] = world[:, joints[f"{side}_collar"]], frame
        for part in _LIMBS:
            name, child = f"{side}_{part}", f"{side}_{_AIMED_AT[part]}"
            j = joints[name]
            bone = rest[joints[child]] - rest[j] if child in joints else rig.ends[j]
            turn[name] = world[:, j]
            align[name] = frame
            if np.linalg.norm(bone) > 1e-6:
                ours = frame @ (smpl[SMPL24.index(child)] - smpl[SMPL24.index(name)])
                align[name] = _smallest_turn(ours, bone) @ frame
        # Hands and toes have no bone of their own to aim; they follow the bone before them.
        for name, source in ((f"{side}_wrist", f"{side}_palm"), (f"{side}_foot", f"{side}_foot")):
            source = source if source in joints else name
            if source in joints:
                before = SMPL24.joints[SMPL24.parents[SMPL24.index(name)]]
                turn[name], align[name] = world[:, joints[source]], align[before]

    out = np.tile(np.eye(3), (len(world), 24, 1, 1))
    for j, (name, parent) in enumerate(zip(SMPL24.joints, SMPL24.parents, strict=True)):
        out[:, j] = stand @ turn[name] @ align[name] if name in turn else out[:, parent]
    local = out.copy()
    for j, parent in enumerate(SMPL24.parents):
        if parent >= 0:
            local[:, j] = np.swapaxes(out[:, parent], -1, -2) @ out[:, j]
    pose = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(len(world), 24, 3)
    pelvis = (position[:, joints["left_hip"]] + position[:, joints["right_hip"]]) / 2
    return pose[:, 1:], pose[:, 0], pelvis @ stand.T * metres


def _from_positions(
    position_NJ3: np.ndarray, joints: dict[str, int], metres: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The motion of a rig whose rest pose does not stand, from where its joints go: the free body fitted to them.

    Such rigs (LAFAN1's, many of Maya's) lay every bone along one axis at rest, so how a bone is twisted cannot be told.
    """
    import torch

    from human.body import load_body
    from human.fit import fit_joints3d

    head = [position_NJ3[:, joints[f"{s}_shoulder"]] for s in ("left", "right")]
    foot = [position_NJ3[:, joints[f"{s}_ankle"]] for s in ("left", "right")]
    rise = np.median((sum(head) - sum(foot)) / 2, axis=0)
    up = np.zeros(3)
    up[np.argmax(np.abs(rise))] = np.sign(rise[np.argmax(np.abs(rise))])
    stand = Rotation.align_vectors([[0, 1, 0]], [up])[0].as_matrix()
    n, known = len(position_NJ3), [name for name in SMPL24.joints if name in joints and "collar" not in name]
    target, seen = torch.zeros(n, 24, 3), torch.zeros(n, 24)
    for name in known:
        k = SMPL24.index(name)
        target[:, k] = torch.from_numpy(position_NJ3[:, joints[name]] @ stand.T * metres).float()
        seen[:, k] = 0.3 if name == "head" else 1.0  # rigs put the head's joint anywhere between neck and crown
    body = load_body("free")
    middle = target.mean((0, 1), keepdim=True)
    fit = fit_joints3d(body, target - middle, seen, group_B=torch.zeros(n, dtype=torch.long))
    pelvis = fit.joints(body)[:, 0] + middle[0, 0]
    return fit.body_pose.numpy(), fit.global_orient.numpy(), pelvis.numpy()


@cache
def _smpl_rest() -> np.ndarray:
    """(24, 3) rest joints of the free body; licensed bodies' limbs differ from it by a few degrees."""
    from human.body import load_body

    return load_body("free").J_template.double().numpy()


def _rest_frame(rest_J3: np.ndarray, joints: dict[str, int]) -> np.ndarray:
    """(3, 3), columns left, up and forward of the person in the rest pose."""
    left = rest_J3[joints["left_hip"]] - rest_J3[joints["right_hip"]]
    hips = (rest_J3[joints["left_hip"]] + rest_J3[joints["right_hip"]]) / 2
    up = (rest_J3[joints["left_shoulder"]] + rest_J3[joints["right_shoulder"]]) / 2 - hips
    if min(np.linalg.norm(left), np.linalg.norm(up)) < 1e-6 or np.linalg.norm(np.cross(left, up)) < 1e-9:
        raise PosesynError("hips and shoulders of this skeleton's rest pose coincide or lie on one line")
    left = left / np.linalg.norm(left)
    up = up - (up @ left) * left
    up /= np.linalg.norm(up)
    return np.stack([left, up, np.cross(left, up)], axis=1)


def _snap(frame: np.ndarray, limit: float) -> np.ndarray:
    """The nearest frame along the file's axes if it is within ``limit`` degrees: rest poses are built along axes."""
    snapped = np.zeros((3, 3))
    up = np.argmax(np.abs(frame[:, 1]))
    snapped[up, 1] = np.sign(frame[up, 1])
    side = np.where(np.arange(3) == up, 0, frame[:, 0])
    left = np.argmax(np.abs(side))
    snapped[left, 0] = np.sign(side[left])
    snapped[:, 2] = np.cross(snapped[:, 0], snapped[:, 1])
    cosine = (np.trace(snapped.T @ frame) - 1) / 2
    return snapped if np.degrees(np.arccos(np.clip(cosine, -1, 1))) <= limit else frame


def _smallest_turn(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return Rotation.align_vectors([target / np.linalg.norm(target)], [source / np.linalg.norm(source)])[0].as_matrix()


def _shared_ancestor(rig: Rig, *joints: int) -> int:
    chains = [rig.ancestors(j) for j in joints]
    shared = [j for j in chains[0] if all(j in c for c in chains[1:])]
    if not shared:
        raise PosesynError("hips, shoulders and head of this skeleton do not hang from one root")
    return shared[0]


def _chain(rig: Rig, joint: int, stop: int) -> list[int]:
    """Joints from below ``stop`` down to ``joint``, in that order."""
    above = set(rig.ancestors(stop))
    return [j for j in rig.ancestors(joint) if j not in above][::-1]


def _spread(start: np.ndarray, chain: list[np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """A chain of n world rotations (N, 3, 3) read at equal steps by another number of joints."""
    if not chain:
        return {}
    turns, out = [start, *chain], {}
    for k, name in enumerate(names, 1):
        at = k / len(names) * len(chain)
        low = min(int(at), len(chain) - 1)
        step = Rotation.from_matrix(np.swapaxes(turns[low], -1, -2) @ turns[low + 1]).as_rotvec() * (at - low)
        out[name] = turns[low] @ Rotation.from_rotvec(step).as_matrix()
    return out


def _guess_unit(rest_J3: np.ndarray, joints: dict[str, int]) -> float:
    bones = [(f"{s}_{a}", f"{s}_{b}") for s in ("left", "right") for a, b in (("hip", "knee"), ("knee", "ankle"))]
    leg = sum(float(np.linalg.norm(rest_J3[joints[a]] - rest_J3[joints[b]])) for a, b in bones) / 2
    return min(_UNITS, key=lambda u: abs(np.log(max(leg, 1e-9) * u / _LEG_METRES)))
