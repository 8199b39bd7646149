"""Joint regressors of the free body: sparse linear maps from vertices to joints (used by bake_free_body.py).

Two kinds: SMPL's J_regressor on the *rest* vertices, and per-skeleton regressors on *posed* vertices, fitted over
random people in random poses so that they keep to their joint when it bends.
"""

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.spatial import cKDTree

from human.lbs import SMPL_PARENTS, forward_kinematics, skin
from human.skeleton import SKELETONS

Array = NDArray[np.float64]
Regressor = dict[int, float]  # vertex -> weight, weights sum to 1

NUM_BETAS = 10
MAX_RING = 32
POLISH_RIDGE = 3e-4  # metres of joint error worth one unit of weight
SMPL24 = SKELETONS["smpl24"].joints
JOINT = {name: i for i, name in enumerate(SMPL24)}


def fit_nonnegative(points: Array, target: Array, candidates: NDArray[np.int64], ridge: float = 0.0) -> Regressor:
    """Sparse weights >= 0, summing to 1, with sum_v w_v points[:, v] close to target; points (M, C, 3), target (M, 3).

    `ridge` spreads the weights into a ring; at most MAX_RING vertices survive when it is used.
    """
    kept = np.arange(len(candidates))
    for _ in range(2 if ridge else 1):
        rows = points[:, kept] - target[:, None]  # weights sum to 1, so the target moves into the rows
        matrix = np.concatenate([rows.transpose(0, 2, 1).reshape(-1, len(kept)), np.full((1, len(kept)), 10.0)])
        wanted = np.zeros(len(matrix))
        wanted[-1] = 10.0
        if ridge:
            matrix = np.concatenate([matrix, ridge * np.eye(len(kept))])
            wanted = np.concatenate([wanted, np.zeros(len(kept))])
        weights, _ = nnls(matrix, wanted, maxiter=20 * len(kept))
        weights /= weights.sum()
        order = np.argsort(-weights)[: MAX_RING if ridge else len(weights)]
        order = order[weights[order] > 1e-7]
        kept, weights = kept[order], weights[order] / weights[order].sum()
    return {int(candidates[i]): float(w) for i, w in zip(kept, weights, strict=True)}


def polish(start: Regressor, points: Array, target: Array, candidates: NDArray[np.int64]) -> Regressor:
    """A small signed change of `start` that brings it within about 0.1 mm of `target` (shapes as above).

    Non-negative weights alone leave some joints 9 mm off per unit of beta: the rig's joints were placed by helper
    geometry that no convex combination of nearby skin follows.
    """
    kept = np.union1d(candidates, list(start))
    weights = np.array([start.get(int(v), 0.0) for v in kept])
    rows = (points[:, kept] - target[:, None]).transpose(0, 2, 1).reshape(-1, len(kept))
    matrix = np.concatenate([rows, np.full((1, len(kept)), 10.0), POLISH_RIDGE * np.eye(len(kept))])
    wanted = np.zeros(len(matrix))
    wanted[-1 - len(kept)] = 10.0
    wanted[: -len(kept)] -= matrix[: -len(kept)] @ weights
    weights += np.linalg.lstsq(matrix, wanted)[0]
    weights /= weights.sum()
    return {int(v): float(w) for v, w in zip(kept, weights, strict=True)}


def mirrored(regressor: Regressor, mirror: NDArray[np.int64]) -> Regressor:
    return {int(mirror[v]): w for v, w in regressor.items()}


def symmetric(regressor: Regressor, mirror: NDArray[np.int64]) -> Regressor:
    both: Regressor = {}
    for half in (regressor, mirrored(regressor, mirror)):
        for v, w in half.items():
            both[v] = both.get(v, 0.0) + w / 2
    return both


def other_side(name: str) -> str:
    return name.replace("left", "RIGHT").replace("right", "left").replace("RIGHT", "right")


def rest_joint_regressors(
    template: Array, directions: Array, joints: Array, joint_directions: Array, mirror: NDArray[np.int64]
) -> list[Regressor]:
    """SMPL's J_regressor: rest vertices -> the rig's joints, within 0.5 mm over the whole shape space."""
    # rows: the mean body, and the mean body moved by +3 along each beta
    points = np.concatenate([template[None], template[None] + 3 * np.moveaxis(directions, -1, 0)])
    target = np.concatenate([joints[None], joints[None] + 3 * np.moveaxis(joint_directions, -1, 0)])
    fitted: dict[str, Regressor] = {}
    tree = cKDTree(template)
    for j, name in enumerate(SMPL24):
        if name.startswith("right"):
            fitted[name] = mirrored(fitted[other_side(name)], mirror)
            continue
        candidates = np.asarray(tree.query(joints[j], 800)[1])
        start = fit_nonnegative(points[:, candidates], target[:, j], candidates)
        fitted[name] = polish(start, points, target[:, j], candidates[::10])
        if not name.startswith("left"):
            fitted[name] = symmetric(fitted[name], mirror)
    return [fitted[name] for name in SMPL24]


def dense(regressors: list[Regressor], vertices: int) -> Array:
    matrix = np.zeros((len(regressors), vertices))
    for row, regressor in enumerate(regressors):
        matrix[row, list(regressor)] = list(regressor.values())
    return matrix


def sparse(regressors: list[Regressor]) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Padded (J, K) vertex indices and weights."""
    width = max(len(r) for r in regressors)
    index = np.zeros((len(regressors), width), np.uint16)
    weight = np.zeros((len(regressors), width), np.float32)
    for row, regressor in enumerate(regressors):
        index[row, : len(regressor)] = list(regressor)
        weight[row, : len(regressor)] = list(regressor.values())
    return index, weight


# Standard deviation (degrees) of random rotations about x, y, z for fitting regressors that must survive posing.
POSE_SPREAD = {
    "hip": (35, 12, 12), "knee": (30, 5, 3), "ankle": (15, 10, 8), "foot": (8, 2, 2), "spine": (10, 8, 6),
    "neck": (12, 15, 10), "head": (12, 15, 10), "collar": (4, 8, 8), "shoulder": (25, 30, 35), "elbow": (10, 40, 8),
    "wrist": (15, 12, 18), "hand": (5, 5, 10), "pelvis": (0, 0, 0),
}  # fmt: skip


def posed_people(
    template: Array, directions: Array, joint_matrix: Array, weights: Array, count: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Random shapes in random plausible poses: vertices (M, V, 3), joints (M, 24, 3), world rotations (M, 24, 3, 3)."""
    vectors = np.zeros((count, len(SMPL24), 3))
    for j, name in enumerate(SMPL24):
        spread = np.deg2rad(POSE_SPREAD[name.removeprefix("left_").removeprefix("right_").rstrip("123")])
        vectors[:, j] = rng.normal(size=(count, 3)) * spread
        if "knee" in name:
            vectors[:, j, 0] = np.abs(vectors[:, j, 0]) * 1.5
        if "elbow" in name:
            vectors[:, j, 1] = np.abs(vectors[:, j, 1]) * (-1.0 if "left" in name else 1.0)
        if "shoulder" in name:
            vectors[:, j, 2] += np.deg2rad(-30.0 if "left" in name else 30.0)
    shaped = template + np.einsum("vck,nk->nvc", directions, np.clip(rng.normal(size=(count, NUM_BETAS)), -2.5, 2.5))
    rest = torch.from_numpy(np.einsum("jv,nvc->njc", joint_matrix, shaped))
    rotations, joints = forward_kinematics(roma.rotvec_to_rotmat(torch.from_numpy(vectors)), rest, SMPL_PARENTS)
    vertices = skin(torch.from_numpy(shaped), torch.from_numpy(weights), rotations, joints, rest)
    return vertices.numpy(), joints.numpy(), rotations.numpy()


def named_regressors(
    template: Array, directions: Array, joint_matrix: Array, weights: Array, coco: dict[str, Array],
    mirror: NDArray[np.int64], seed: int,
) -> dict[str, dict[str, Regressor]]:  # fmt: skip
    """Posed vertices -> the joints of each 2D skeleton, as rings of at most 64 vertices (32 off the middle)."""
    rng = np.random.default_rng(seed)
    posed, joints, rotations = posed_people(template, directions, joint_matrix, weights, 150, rng)
    rest = np.einsum("jv,vc->jc", joint_matrix, template)

    def carried(point: Array, by: str) -> Array:
        """A rest-pose point that moves rigidly with joint `by`, scaled to nobody: the same offset for all shapes."""
        offset = (point - rest[JOINT[by]])[None, :, None]
        return joints[:, JOINT[by]] + (rotations[:, JOINT[by]] @ offset)[..., 0]

    def kinematic(name: str) -> Array:
        return joints[:, JOINT[name]]

    shoulders = (rest[JOINT["left_shoulder"]] + rest[JOINT["right_shoulder"]]) / 2
    limbs = {
        name: (kinematic(name), rest[JOINT[name]])
        for name in ("left_shoulder", "left_elbow", "left_wrist", "left_hip", "left_knee", "left_ankle")
    }
    thorax = (shoulders + rest[JOINT["neck"]]) / 2
    middle = {
        "pelvis": ((kinematic("left_hip") + kinematic("right_hip")) / 2, rest[[1, 2]].mean(0)),
        "spine_h36m": (kinematic("spine3"), rest[JOINT["spine3"]]),
        "thorax": (carried(thorax, "spine3"), thorax),
        "upper_neck": ((kinematic("neck") + kinematic("head")) / 2, rest[[12, 15]].mean(0)),
    }
    tree = cKDTree(template)

    def ring(target: Array, near: Array, count: int = 250) -> Regressor:
        candidates = np.asarray(tree.query(near, count)[1])
        return fit_nonnegative(posed[:, candidates], target, candidates, ridge=0.1)

    body: dict[str, Regressor] = {name: ring(*goal) for name, goal in limbs.items()}
    body |= {other_side(name): mirrored(regressor, mirror) for name, regressor in body.items()}
    body |= {name: symmetric(ring(*goal, 500), mirror) for name, goal in middle.items()}
    skull = template - template[np.argmax(template[:, 1])] * np.array([0.0, 1.0, 1.0])
    crown = np.flatnonzero(np.linalg.norm(skull, axis=1) < 0.03)
    crown = crown[np.argsort(np.linalg.norm(skull[crown], axis=1))[:MAX_RING]]
    body["head_top"] = symmetric({int(v): 1 / len(crown) for v in crown}, mirror)

    surface: dict[str, Regressor] = {}
    for name in SKELETONS["coco17"].joints:
        if name.startswith("right"):
            surface[name] = mirrored(surface[other_side(name)], mirror)
            continue
        surface[name] = ring(np.einsum("v,nvc->nc", coco[name], posed), coco[name] @ template)
    surface["nose"] = symmetric(surface["nose"], mirror)

    everything = {
        "coco17": surface,
        "lsp14": body,
        "mpii16": body,
        "h36m17": body | {"nose": surface["nose"]},
        "extra": body | surface,
    }
    wanted = {name: SKELETONS[name].joints for name in ("coco17", "lsp14", "mpii16", "h36m17")}
    wanted["extra"] = SKELETONS["pose32"].joints[24:]
    report(wanted, everything, posed, joints)
    return {name: {joint: everything[name][joint] for joint in names} for name, names in wanted.items()}


def report(
    wanted: dict[str, tuple[str, ...]], regressors: dict[str, dict[str, Regressor]], posed: Array, joints: Array
) -> None:
    for name, names in wanted.items():
        for joint in names:
            r = regressors[name][joint]
            if joint in JOINT:
                gap = np.einsum("v,nvc->nc", list(r.values()), posed[:, list(r)]) - joints[:, JOINT[joint]]
                error = 1000 * np.linalg.norm(gap, axis=1)
                print(f"{name:8s}{joint:16s} {len(r):3d} vertices, {error.mean():5.1f} mm mean, {error.max():5.1f} max")
