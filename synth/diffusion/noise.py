"""The noise that a picture starts from: a function of the job's seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from human.rng import derive_seed


def job_generator(seed: int, *purpose: int | str) -> torch.Generator:
    """A CPU generator named by the job's seed and a purpose: for what a schedule draws on its way."""
    return torch.Generator("cpu").manual_seed(derive_seed("diffusion", seed, *purpose))


def latent_noise(
    seed: int,
    shape: Sequence[int],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    purpose: str = "",
) -> Tensor:
    """Standard normal noise of one job, ``shape`` without a batch dimension.

    Drawn in float32 on the CPU, so that it is the same whatever device, dtype and batch the picture is made in.
    """
    rng = job_generator(seed, purpose) if purpose else job_generator(seed)
    return torch.randn(tuple(shape), generator=rng, dtype=torch.float32).to(device, dtype)
