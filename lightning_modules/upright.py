"""Where estimators start that have no mean parameters: a person who stands upright before the camera, arms down."""

from __future__ import annotations

import torch
from torch import Tensor

from human.rotations import matrix_to_sixd, rotation_about
from human.skeleton import SMPL24


def upright_rotations() -> Tensor:
    """(24,3,3) SMPL rotations. SMPL is y up and the camera y down: upright is half a turn about x."""
    rotations = torch.eye(3).repeat(24, 1, 1)
    rotations[0] = rotation_about("x", torch.tensor(torch.pi))
    rotations[SMPL24.index("left_shoulder")] = rotation_about("z", torch.tensor(-1.0))
    rotations[SMPL24.index("right_shoulder")] = rotation_about("z", torch.tensor(1.0))
    return rotations


def upright_sixd() -> Tensor:
    """(24,6) the same in 6D."""
    return matrix_to_sixd(upright_rotations())
