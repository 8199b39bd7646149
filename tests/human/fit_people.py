"""People to fit, of whom everything is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from human.body import BodyModel
from human.fit import FitResult
from human.motion import load_motion_bank
from human.rotations import rotation_about, rotvec_to_matrix


def loosened_people() -> dict[str, Tensor]:
    """48 poses of the motion bank, loosened, on different bodies, anywhere and turned any way."""
    rng = torch.Generator().manual_seed(3)
    bank = load_motion_bank()
    pose, root = bank.sample(torch.randperm(len(bank), generator=rng)[:48].numpy())
    turn = rotation_about("y", 2 * math.pi * torch.rand(48, generator=rng)) @ rotvec_to_matrix(torch.from_numpy(root))
    return {
        "betas": torch.randn(48, 10, generator=rng),
        "body_pose": torch.from_numpy(pose) + 0.1 * torch.randn(48, 23, 3, generator=rng),
        "global_orient": turn,
        "transl": torch.randn(48, 3, generator=rng),
    }


def error_mm(body: BodyModel, result: FitResult, joints: Tensor) -> Tensor:
    return 1000 * (result.joints(body)[:, : joints.shape[1]] - joints).norm(dim=-1)
