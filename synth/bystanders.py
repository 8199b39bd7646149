"""Other people in the picture, behind the person or partly before them: who the labels are not about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from human.errors import PosesynError
from human.motion import MotionBank
from synth.lighting import world_to_camera

BEHIND, IN_FRONT = 1, 2


@dataclass(frozen=True)
class BystanderConfig:
    """``probability`` of a second person, ``front`` the share of those who stand before the first one; ``aside`` and
    ``depth`` (low, high) metres, uniform, between the two: to the left or right, and along the line of sight.
    """

    probability: float = 0.08
    front: float = 0.35
    aside: tuple[float, float] = (0.35, 1.3)
    depth: tuple[float, float] = (0.25, 2.0)

    def __post_init__(self) -> None:
        if not (0 <= self.probability <= 1 and 0 <= self.front <= 1 and self.depth[0] >= 0):
            raise PosesynError("bystander: probability and front are shares from 0 to 1, and depth is not negative")


@dataclass(frozen=True)
class Bystander:
    """``place`` 1 behind, 2 in front; ``betas`` (10,), ``body_pose`` (23,3), ``global_orient`` (3,) rotation
    vectors, ``transl`` (3,) metres, camera frame.
    """

    place: int
    betas: np.ndarray
    body_pose: np.ndarray
    global_orient: np.ndarray
    transl: np.ndarray


def draw_bystander(
    rng: np.random.Generator, config: BystanderConfig, bank: MotionBank, up_3: np.ndarray, transl_3: np.ndarray
) -> Bystander | None:
    """Who stands near a person at ``transl_3``, upright along ``up_3``; None for nobody.

    Nobody stands nearer to the camera than half the person's own distance.
    """
    if rng.random() >= config.probability:
        return None
    front, left = rng.random() < config.front, rng.random() < 0.5
    turn, aside, depth = rng.uniform(-np.pi, np.pi), rng.uniform(*config.aside), rng.uniform(*config.depth)
    pose, root = bank.sample(np.array([rng.integers(len(bank))]), np.array([rng.random() < 0.5]))
    upright = Rotation.from_matrix(world_to_camera(up_3, turn))
    depth = max(transl_3[2] - depth, 0.5 * transl_3[2]) if front else transl_3[2] + depth
    # On the person's line of sight and then aside: what is nearer moves less in the picture.
    ray = transl_3 * (depth / transl_3[2])
    return Bystander(
        IN_FRONT if front else BEHIND,
        rng.standard_normal(10).clip(-2, 2).astype(np.float32),
        pose[0].astype(np.float32),
        (upright * Rotation.from_rotvec(root[0])).as_rotvec().astype(np.float32),
        (ray + np.array([-aside if left else aside, 0, 0])).astype(np.float32),
    )
