"""Arrays that ``scripts/metric_reference.py`` and the known-answer test both make, from counters alone."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from human.rng import generator

PERSONS, JOINTS, VERTICES, FRAMES = 12, 24, 60, 130


def known_arrays() -> dict[str, np.ndarray]:
    """float64: bodies in metres, rotations of 24 joints, keypoints in pixels, a sequence of joints in the world."""
    rng = generator("tests.metrics.known")

    def draw(*shape: int) -> np.ndarray:
        return 2 * rng.random(shape) - 1

    size = np.array([0.3, 0.8, 0.2])
    joints, verts = size * draw(PERSONS, JOINTS, 3), size * draw(PERSONS, VERTICES, 3)
    turn = Rotation.from_rotvec(0.15 * draw(PERSONS, 3)).as_matrix()
    rotations = Rotation.from_rotvec(draw(PERSONS * JOINTS, 3)).as_matrix().reshape(PERSONS, JOINTS, 3, 3)
    wobble = Rotation.from_rotvec(0.3 * draw(PERSONS * JOINTS, 3)).as_matrix().reshape(PERSONS, JOINTS, 3, 3)
    time = np.arange(FRAMES)[:, None, None] / 30
    moving = joints[0] + np.array([1.0, 0.1, 0.4]) * time + 0.2 * np.sin(5 * time + 3 * joints[1])
    drift = np.array([0.1, 0.0, 0.05]) * time
    keypoints = 120 + 100 * draw(PERSONS, 16, 2)
    feet = np.where(rng.random((FRAMES, 4)) < 0.6, 0, 0.05)[..., None] * draw(FRAMES, 4, 3)
    return {
        "target_joints": joints + draw(PERSONS, 1, 3),
        "pred_joints": 1.1 * (joints + 0.08 * draw(PERSONS, JOINTS, 3)) @ turn.swapaxes(1, 2) + draw(PERSONS, 1, 3),
        "target_verts": verts,
        "pred_verts": 0.9 * (verts + 0.05 * draw(PERSONS, VERTICES, 3)) @ turn.swapaxes(1, 2) + 0.1,
        "target_rotations": rotations,
        "pred_rotations": turn[:, None] @ wobble @ rotations,
        "target_moving": moving,
        "pred_moving": 1.05 * (moving + drift) @ turn[2].T + 0.01 * draw(FRAMES, JOINTS, 3),
        "target_feet": np.cumsum(feet, 0),
        "pred_feet": np.cumsum(feet + 0.004 * draw(FRAMES, 4, 3), 0),
        "target_keypoints": keypoints,
        "pred_keypoints": keypoints + 25 * draw(PERSONS, 16, 2) * rng.random((PERSONS, 16, 1)) ** 2,
        "visible": (rng.random((PERSONS, 16)) < 0.8).astype(np.int64),
        "head_size": 20 + 10 * draw(PERSONS),
        "box": np.concatenate([keypoints.min(1), keypoints.max(1)], 1),
    }


def short_torso(keypoints: np.ndarray) -> np.ndarray:
    """The first 15 keypoints as JHMDB's, where the torso (4 to 5) of person 0 is shorter than 1 px."""
    out = keypoints[:, :15].copy()
    out[0, 5] = out[0, 4] + 0.3
    return out
