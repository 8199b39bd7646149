"""What the metrics that are means over persons have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanOverPersons(Metric):
    """Mean of one value per person (or frame); sums are float64, so batches and ranks may be split in any way.

    ``compute()`` is NaN when nobody was counted. ``invalid`` is the number of persons left out of the mean because
    their prediction was not finite, over all ranks as of the last ``compute()``; look at it before believing the mean.
    None of these metrics is differentiable.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    value_sum: Tensor
    n_persons: Tensor
    n_invalid: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("value_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n_persons", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("n_invalid", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.invalid = 0

    def _add(self, value_B: Tensor, countable_B: Tensor) -> None:
        """Values, NaN where there is none, and whether the labels allow one."""
        valid_B = countable_B & value_B.isfinite()
        self.value_sum += torch.where(valid_B, value_B, 0.0).sum()
        self.n_persons += valid_B.sum()
        self.n_invalid += (countable_B & ~valid_B).sum()

    def compute(self) -> Tensor:
        """() float64, in the unit of the values."""
        self.invalid = int(self.n_invalid)
        return self.value_sum / self.n_persons

    def reset(self) -> None:
        super().reset()
        self.invalid = 0
