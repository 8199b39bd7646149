"""A pose as body parts: the nodes of the pose network, and the distance between two configurations of a part."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from human.skeleton import SMPL24

# "tilt" is the pelvis's rotation without its heading: standing, lying, upside down. The others are local rotations.
PARTS: dict[str, tuple[str, ...]] = {
    "tilt": ("pelvis",),
    "torso": ("spine1", "spine2", "spine3"),
    "head": ("neck", "head"),
    **{
        f"{side}_{part}": tuple(f"{side}_{joint}" for joint in joints)
        for side in ("left", "right")
        for part, joints in (
            ("upper_arm", ("collar", "shoulder")),
            ("lower_arm", ("elbow", "wrist", "hand")),
            ("upper_leg", ("hip",)),
            ("lower_leg", ("knee", "ankle", "foot")),
        )
    },
}
PART_JOINTS: tuple[tuple[int, ...], ...] = tuple(tuple(SMPL24.indices(*joints)) for joints in PARTS.values())


def without_heading(root_N3: np.ndarray) -> np.ndarray:
    """Pelvis rotations (N, 3) with the turn about the vertical (y, applied last) taken out: swing-twist."""
    return (_twist(root_N3).inv() * Rotation.from_rotvec(np.asarray(root_N3, np.float64).reshape(-1, 3))).as_rotvec()


def heading_of(root_N3: np.ndarray) -> np.ndarray:
    """(N,) radians, -pi to pi: what :func:`without_heading` takes out; 0 where it is not defined, as for one who hangs
    head down.
    """
    return _twist(root_N3).as_rotvec()[:, 1]


def _twist(root_N3: np.ndarray) -> Rotation:
    q = Rotation.from_rotvec(np.asarray(root_N3, np.float64).reshape(-1, 3)).as_quat()
    twist = q * [0.0, 1.0, 0.0, 1.0]
    length = np.linalg.norm(twist, axis=1, keepdims=True)
    return Rotation.from_quat(np.where(length > 1e-6, twist / np.maximum(length, 1e-6), [0.0, 0.0, 0.0, 1.0]))


def features(pose_N24x3: np.ndarray) -> np.ndarray:
    """(N, 24, 9) in which the Euclidean distance of two joints is nearly the angle between them, in radians.

    Entries of the rotation matrices over sqrt 2: their distance is 2 sin(angle / 2).
    """
    n = len(pose_N24x3)
    matrix = Rotation.from_rotvec(np.asarray(pose_N24x3, np.float64).reshape(-1, 3)).as_matrix()
    return matrix.reshape(n, 24, 9) / np.sqrt(2)


def part_features(features_N24x9: np.ndarray, part: int) -> np.ndarray:
    """(N, 9 * joints of the part)."""
    return features_N24x9[:, list(PART_JOINTS[part])].reshape(len(features_N24x9), -1)


def between(a_N_3: np.ndarray, b_N_3: np.ndarray, share_N: np.ndarray) -> np.ndarray:
    """Rotation vectors (N, J, 3) on the shortest way from ``a`` to ``b``: ``a`` at share 0, ``b`` at 1."""
    shape = a_N_3.shape
    a, b = (Rotation.from_rotvec(np.asarray(x, np.float64).reshape(-1, 3)) for x in (a_N_3, b_N_3))
    step = (a.inv() * b).as_rotvec() * np.repeat(share_N, shape[1])[:, None]
    return (a * Rotation.from_rotvec(step)).as_rotvec().reshape(shape)
