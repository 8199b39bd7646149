"""Poses built by hand, 22 joints, y up, facing +z, for tests of captions."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from human.body import BodyModel, load_body
from human.motion import load_motion_bank
from human.skeleton import SMPL24

X, Y, Z = np.eye(3)


@cache
def body() -> BodyModel:
    return load_body("free")


def posed(root: object = (0, 0, 0), **rotations: object) -> np.ndarray:
    """(22,3) of the free body with rotation vectors in degrees by joint name; arms hang down unless they are named."""
    pose = np.zeros((23, 3))
    angles: dict[str, object] = {"left_shoulder": (0, 0, -80), "right_shoulder": (0, 0, 80), **rotations}
    for name, turn in angles.items():
        pose[SMPL24.index(name) - 1] = np.radians(np.asarray(turn, float))
    one = [
        torch.tensor(np.asarray(v, np.float32))[None] for v in (np.zeros(10), pose, np.radians(np.asarray(root, float)))
    ]
    return np.asarray(body().joints(*one)[0, :22])


def mirrored(joints: np.ndarray) -> np.ndarray:
    """Left and right exchanged."""
    swap = list(SMPL24.flip_permutation[:22])
    return joints[..., swap, :] * np.array([-1.0, 1, 1])


def turned(joints: np.ndarray, degrees: float) -> np.ndarray:
    """About the vertical."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.asarray(joints @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T)


def clip(name: str) -> np.ndarray:
    """(T,22,3) of a packaged clip at 20 poses per second."""
    bank = load_motion_bank("free")
    frames = np.arange(bank.frames(name).start, bank.frames(name).stop, 1.5).astype(int)
    values = [torch.tensor(v[frames]) for v in (bank.poses, bank.root, bank.position)]
    return np.asarray(body().joints(torch.zeros(len(frames), 10), *values)[:, :22])
