"""What HybrIK's reference script and its test agree on: reduced sizes, seeds, and how its outputs look like people.

Seeded weights alone put joints anywhere, and bones between them that point against the body's own: there the smallest
swing is half a turn about an axis that float32 rounding decides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from human.body import load_body
from lightning_modules.hybrik_kinematics import RestSkeleton
from tests.lightning_modules.seeded import seeded_tensor

SEED, BATCH, SIZE, CELLS = 4, 3, 64, 16
RESNET: dict[str, Any] = {"layers": 18, "deconv": (32, 32, 32)}
HRNET_CHANNELS = (8, 16, 32, 64)
#: What the original keeps in its state and one would not draw at random.
START_SCALE = 0.9


def adjusted(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The seeded weights called ``prefix``/name, with scales about 0.9, some joints sure, and twists
    of less than a right angle."""
    state = {k.removeprefix(f"{prefix}/"): v for k, v in state.items() if k.startswith(f"{prefix}/")}
    state["deccam.weight"] = 0.05 * state["deccam.weight"]
    state["decsigma.bias"] = state["decsigma.bias"] - 3.5
    state["decphi.bias"] = state["decphi.bias"] + torch.tensor([2.0, 0.0]).repeat(23)
    state["init_cam"] = torch.zeros_like(state["init_cam"])
    state["init_cam"][0] = START_SCALE
    return state


def person_volumes(joints_J3: Tensor) -> Tensor:
    """(1, J D, H, W) logits of a person: what both networks' last layers get added, picture by picture alike.

    ``joints_J3``: 29 joints at rest, metres; the person stands upright and moves its bones a little.
    """
    joints = joints_J3 * torch.tensor([1.0, -1.0, -1.0]) + 0.02 * seeded_tensor((29, 3), SEED, "person")
    uvd = (joints - joints[:1]) * torch.tensor([0.5, 0.5, 1 / 2.2])
    at = (uvd + 0.5) * CELLS
    cells = torch.arange(CELLS, dtype=torch.float32)
    x, y, z = (-0.5 * (cells - at[:, k, None]).square() for k in range(3))
    return (z[:, :, None, None] + y[:, None, :, None] + x[:, None, None, :]).reshape(1, -1, CELLS, CELLS)


def hrnet_stages() -> list[tuple[int, list[int], list[int]]]:
    """(modules, blocks, channels) of the stages 2 to 4."""
    return [(1, [1] * n, list(HRNET_CHANNELS[:n])) for n in (2, 3, 4)]


def centres() -> tuple[Tensor, Tensor]:
    """(B,2) centres of square boxes of 200 px, and of their pictures."""
    return 300 + 60 * seeded_tensor((BATCH, 2), SEED, "centre"), torch.tensor([[320.0, 240.0]]).expand(BATCH, 2)


#: Metres of noise on joints, for each way of inverse kinematics.
NOISE = {"adaptive": 0.02, "naive": 0.005, "train": 0.005}


def skeletons() -> dict[str, Tensor]:
    """Joints at rest (B,29,3) in metres, rotation vectors (B,24,3), noise (B,29,3) and twists (B,23,2).

    The hips lie as far below the pelvis as SMPL's, 8 cm, not 2 cm as the free body's. The nearer they are, the less is
    the original's naive root a rotation: it adds 1e-8 to the product of two distances from the spine's axis.
    """
    rest = RestSkeleton(load_body())(0.5 * seeded_tensor((8, 10), SEED, "betas"))
    rest[:, [1, 2, 4, 5, 7, 8, 10, 11, 27, 28], 1] -= 0.06
    return {
        "rest": rest,
        "pose": 0.5 * seeded_tensor((8, 24, 3), SEED, "pose"),
        "noise": seeded_tensor((8, 29, 3), SEED, "noise"),
        "twist": seeded_tensor((8, 23, 2), SEED, "twist"),
    }


def loss_inputs() -> dict[str, Tensor]:
    """What a network may say of a batch, and its labels, every one of them present."""
    b = 5
    draw = {
        "uvd": (b, 29, 3), "betas": (b, 10), "twist": (b, 23, 2), "rotations": (b, 24, 3, 3), "camera": (b, 3),
    }  # fmt: skip
    said = {k: 0.3 * seeded_tensor(shape, SEED, "said", k) for k, shape in draw.items()}
    label = {f"label_{k}": 0.3 * seeded_tensor(shape, SEED, "label", k) for k, shape in draw.items()}
    return said | label | {"sigma": seeded_tensor((b, 29, 1), SEED, "sigma").sigmoid()}
