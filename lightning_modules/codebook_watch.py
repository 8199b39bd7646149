"""Watching a codebook in training: how many of its codes are in use, and whether it has collapsed."""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class CodebookUse(NamedTuple):
    """Of one window of steps: codes that were used at all, the share of those that were not, and exp of the entropy
    of the use: how many codes, used alike, would say as much."""

    used: int
    dead_share: float
    perplexity: float


def codebook_use(counts_V: Tensor) -> CodebookUse:
    """From how often each code was used."""
    share = counts_V.double() / counts_V.sum().clamp_min(1)
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    used = int((counts_V > 0).sum())
    return CodebookUse(used, 1 - used / len(counts_V), float(entropy.exp()) if used else 0.0)


class CodebookWatch:
    """Counts the codes over windows of steps and warns, once, of a codebook that few of them are used of.

    Args:
        codes: of the codebook.
        window: steps.
        least: smallest share of the codes that is not a collapse.
        skip: first windows that are not judged: a codebook starts with copies of one batch.
    """

    def __init__(self, codes: int, window: int = 200, least: float = 0.1, skip: int = 1) -> None:
        self.window, self.least, self.skip = window, least, skip
        self.counts_V = torch.zeros(codes, dtype=torch.long)
        self.steps = self.windows = 0
        self.latest: CodebookUse | None = None
        self.collapsed_at: int | None = None  # step of the first window that was

    def update(self, codes_BS: Tensor, step: int) -> CodebookUse | None:
        """The window's figures where ``step`` ends one."""
        self.counts_V += torch.bincount(codes_BS.detach().flatten().cpu(), minlength=len(self.counts_V))
        self.steps += 1
        if self.steps < self.window:
            return None
        self.latest = use = codebook_use(self.counts_V)
        self.counts_V.zero_()
        self.steps, self.windows = 0, self.windows + 1
        if self.collapsed_at is None and self.windows > self.skip and use.used < self.least * len(self.counts_V):
            self.collapsed_at = step
            log.warning(
                "step %d: the codebook has collapsed: only %d of %d codes were used in the last %d steps (perplexity "
                "%.1f); check the data's normalisation, lower the learning rate or raise the batch size",
                step, use.used, len(self.counts_V), self.window, use.perplexity,
            )  # fmt: skip
        return use

    def report(self) -> str:
        """One line for the end of a training."""
        use = self.latest or (codebook_use(self.counts_V) if self.steps else None)
        if use is None:
            return "codebook: no step was trained"
        line = (
            f"codebook: {use.used} of {len(self.counts_V)} codes in use ({100 * use.dead_share:.0f} % dead), "
            f"perplexity {use.perplexity:.1f}"
        )
        return line if self.collapsed_at is None else f"{line}; COLLAPSED, first seen at step {self.collapsed_at}"
