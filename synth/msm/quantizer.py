"""Vector quantisation with a codebook that follows its vectors: moving averages, and unused codes set anew.

T2M-GPT's ``QuantizeEMAReset`` (Mael-zys/T2M-GPT: models/quantize_cnn.py; Zhang et al., CVPR 2023, §3.1), but for these:

* the averages, whether the codebook has begun, and the number of updates are buffers: a checkpoint continues exactly
  (upstream's loses them and starts the codebook over);
* a code that is set anew takes its average along (upstream's still holds the old place, and once the code is used
  pulls it back there);
* the vectors that unused codes are set to are drawn from the batch by a generator keyed by seed and update
  (upstream takes the batch's first ones);
* with several processes the sums are those of all, so that every process keeps the same codebook;
* everything is float32, also under autocast; vectors that are not finite move no code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from human.rng import generator


class Quantized(NamedTuple):
    """``vectors_ND``: codes in the place of vectors, gradients passed straight through. ``perplexity``: exp of the
    entropy of the codes' use in this batch, between 1 (collapsed) and the number of codes."""

    vectors_ND: Tensor
    codes_N: Tensor
    commit_loss: Tensor
    perplexity: Tensor


class Quantizer(nn.Module):
    """Codebook of ``codes`` vectors of ``dim`` numbers.

    Args:
        decay: of the moving averages, per update.
        seed: names the draws of :meth:`_candidates`.
    """

    codebook: Tensor
    code_sum: Tensor
    code_count: Tensor
    begun: Tensor
    updates: Tensor

    def __init__(self, codes: int, dim: int, decay: float = 0.99, seed: int = 0) -> None:
        super().__init__()
        self.codes, self.dim, self.decay, self.seed = codes, dim, decay, seed
        self.register_buffer("codebook", torch.zeros(codes, dim, dtype=torch.float32))
        self.register_buffer("code_sum", torch.zeros(codes, dim, dtype=torch.float32))
        self.register_buffer("code_count", torch.ones(codes, dtype=torch.float32))
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Quantizer:
        """Moved, but never made bfloat16: an average that changes by a hundredth would stand still."""
        before = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, value in before.items():
            moved = getattr(self, name)
            if moved.dtype != value.dtype:
                setattr(self, name, value.to(moved.device))
        return self

    def set_codebook(self, codebook_VD: Tensor) -> None:
        """Begin with this codebook, each code as if used once."""
        with torch.no_grad():
            self.codebook.copy_(codebook_VD)
            self.code_sum.copy_(codebook_VD)
            self.code_count.fill_(1)
            self.begun.fill_(True)

    @property
    def dead(self) -> int:
        """Codes that the moving average finds used less than once per batch: the next update sets them anew."""
        return int((self.code_count < 1).sum())

    def quantize(self, vectors_ND: Tensor) -> Tensor:
        """(N,) numbers of the nearest codes."""
        with _no_autocast(vectors_ND):
            x, book = vectors_ND.float(), self.codebook.float()
            distance_NV = x.square().sum(-1, keepdim=True) - 2 * x @ book.T + book.square().sum(-1)
            return distance_NV.argmin(-1)

    def dequantize(self, codes: Tensor) -> Tensor:
        """(..., D) vectors of codes."""
        return F.embedding(codes, self.codebook)

    def forward(self, vectors_ND: Tensor) -> Quantized:
        """In training mode the codebook is updated with this batch."""
        with _no_autocast(vectors_ND):
            x = vectors_ND.float()
            if self.training and not self.begun:
                self.set_codebook(self._candidates(x.detach()))
            codes_N = self.quantize(x)
            nearest_ND = self.dequantize(codes_N).float()
            counts_V, sums_VD = self._usage(x.detach(), codes_N)
            if self.training:
                self._update(x.detach(), counts_V, sums_VD)
            share_V = counts_V / counts_V.sum().clamp_min(1)
            perplexity = torch.exp(-(share_V * torch.log(share_V + 1e-7)).sum())
            commit_loss = F.mse_loss(x, nearest_ND)
            passed_ND = (x + (nearest_ND - x).detach()).to(vectors_ND.dtype)
        return Quantized(passed_ND, codes_N, commit_loss, perplexity)

    @torch.no_grad()
    def _usage(self, x_ND: Tensor, codes_N: Tensor) -> tuple[Tensor, Tensor]:
        """How often each code was used and the sum of its vectors, over all processes in training."""
        finite_N = x_ND.isfinite().all(-1)
        # A product with ones and zeros: unlike adding in place, its order of summation is fixed on a GPU too.
        hot_NV = F.one_hot(codes_N, self.codes).float() * finite_N[:, None]
        both = torch.cat([hot_NV.sum(0)[:, None], hot_NV.T @ x_ND.nan_to_num(0, 0, 0)], 1)
        if self.training and _processes() > 1:
            dist.all_reduce(both)
        return both[:, 0], both[:, 1:]

    @torch.no_grad()
    def _update(self, x_ND: Tensor, counts_V: Tensor, sums_VD: Tensor) -> None:
        self.code_sum.mul_(self.decay).add_(sums_VD, alpha=1 - self.decay)
        self.code_count.mul_(self.decay).add_(counts_V, alpha=1 - self.decay)
        used_V1 = self.code_count[:, None] >= 1
        mean_VD = self.code_sum / self.code_count[:, None].clamp_min(1)
        self.codebook.copy_(torch.where(used_V1, mean_VD, self._candidates(x_ND)))
        self.code_sum.copy_(torch.where(used_V1, self.code_sum, self.codebook * self.code_count[:, None]))
        self.updates += 1

    @torch.no_grad()
    def _candidates(self, x_ND: Tensor) -> Tensor:
        """(V, D) vectors of the batch to set codes to; of few vectors, each several times with a little noise.

        With several processes each gives every n-th code's.
        """
        count, ranks = len(x_ND), _processes()
        draws = generator(self.seed, "codebook", int(self.updates), _rank())
        repeats = -(-self.codes // count)
        order = np.concatenate([draws.permutation(count) for _ in range(repeats)])[: self.codes]
        chosen_VD = x_ND[torch.from_numpy(order).to(x_ND.device)].nan_to_num(0, 0, 0)
        if repeats > 1:
            noise = torch.from_numpy(draws.standard_normal((self.codes, self.dim), dtype="float32"))
            chosen_VD = chosen_VD + noise.to(x_ND.device) * (0.01 / math.sqrt(self.dim))
        if ranks > 1:
            mine_V1 = torch.arange(self.codes, device=x_ND.device)[:, None] % ranks == _rank()
            chosen_VD = torch.where(mine_V1, chosen_VD, torch.zeros_like(chosen_VD))
            dist.all_reduce(chosen_VD)
        return chosen_VD


def _no_autocast(like: Tensor) -> AbstractContextManager[object]:
    return torch.autocast(like.device.type, enabled=False)


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if _processes() > 1 else 0
