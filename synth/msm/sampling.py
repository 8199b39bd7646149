"""Drawing the next code: temperature, top-k, nucleus, greedy; every draw named by its row's own seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from human.errors import PosesynError
from human.rng import derive_seed, philox_uniform


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest code.
        top_k: only the k likeliest codes.
        top_p: only the likeliest codes that together have this probability (Holtzman et al., "The curious case of
            neural text degeneration", ICLR 2020), at least one.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise PosesynError(f"sampling: temperature={self.temperature} is not a number >= 0 (0: the likeliest code)")
        if self.top_k is not None and self.top_k < 1:
            raise PosesynError(f"sampling: top_k={self.top_k} is not at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise PosesynError(f"sampling: top_p={self.top_p} is not in (0, 1]")

    def draw(self, logits_BV: Tensor, uniform_B: Tensor) -> Tensor:
        """(B,) codes. ``uniform_B``: a number in [0, 1) per row, where in the sum of probabilities its code lies."""
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        logits_BV = logits_BV.float()
        logits_BV = (logits_BV - logits_BV.amax(-1, keepdim=True)) / self.temperature  # small ones: never infinite
        if self.top_k is not None and self.top_k < logits_BV.shape[-1]:
            least_B1 = logits_BV.topk(self.top_k).values[:, -1:]
            logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
        share_BV = logits_BV.softmax(-1)
        if self.top_p is not None and self.top_p < 1:
            sorted_BV = share_BV.sort(descending=True).values
            # A code stays where those before it do not reach top_p yet.
            stays_BV = sorted_BV.cumsum(-1) - sorted_BV < self.top_p
            least_B1 = sorted_BV.masked_fill(~stays_BV, torch.inf).amin(-1, keepdim=True)
            share_BV = share_BV.masked_fill(share_BV < least_B1, 0)
        reached_BV = share_BV.cumsum(-1)
        # Below the whole sum, whatever the rounding: the first code whose sum exceeds the target has a share.
        target_B1 = torch.minimum(uniform_B[:, None] * reached_BV[:, -1:], reached_BV[:, -1:] * (1 - 2**-23))
        return (reached_BV <= target_B1).sum(-1)


def code_draws(seeds: Sequence[int], codes: int) -> Tensor:
    """(B, codes) float32 numbers in [0, 1): row b's are a function of ``seeds[b]`` alone."""
    draws = [philox_uniform(derive_seed(int(seed), "motion codes"), np.arange(codes))[:, 0] for seed in seeds]
    return torch.from_numpy(np.array(draws).reshape(len(seeds), codes)).float()


def row_groups(rows_N: Tensor, size: int | None = None) -> Iterator[tuple[Tensor, int]]:
    """Row numbers in groups of one size, the last filled up with its first, and how many of each count.

    The rounding of a matrix product depends on how many rows it has: what always comes in equal groups is computed
    to the bit alike, whatever else is in the batch.

    Args:
        size: default 128 on a GPU, 16 on the CPU.
    """
    size = size or (16 if rows_N.device.type == "cpu" else 128)
    for some in rows_N.split(size) if len(rows_N) else ():
        yield torch.cat([some, some[:1].expand(size - len(some))]), len(some)
