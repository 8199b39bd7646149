"""MPJPE and PA-MPJPE averaged over persons, batches and ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.functional.mpjpe import countable_persons, mpjpe, pa_mpjpe


class _MeanOverPersons(Metric, ABC):
    """Mean of one error per person; sums are float64, so batches and ranks may be split in any way.

    ``compute()`` is NaN when no person was counted. ``invalid`` is the number of persons left out of the mean because
    their prediction was not finite, over all ranks as of the last ``compute()``; look at it before believing the mean.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    error_sum: Tensor
    n_persons: Tensor
    n_invalid: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("error_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n_persons", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("n_invalid", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.invalid = 0

    @abstractmethod
    def _errors(self, pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B,) errors, NaN where there is none, and (B,) whether the person is countable."""

    def update(self, pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None = None) -> None:
        """Add B persons: joints in metres, and the labels' mask or confidence (None: all labelled)."""
        error_B, countable_B = self._errors(pred_BJ3, target_BJ3, weight_BJ)
        valid_B = countable_B & error_B.isfinite()
        self.error_sum += torch.where(valid_B, error_B, 0.0).sum()
        self.n_persons += valid_B.sum()
        self.n_invalid += (countable_B & ~valid_B).sum()

    def compute(self) -> Tensor:
        """() float64, millimetres."""
        self.invalid = int(self.n_invalid)
        return self.error_sum / self.n_persons

    def reset(self) -> None:
        super().reset()
        self.invalid = 0


class MPJPE(_MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.mpjpe`, mm.

    Args:
        root: indices of the joints whose mean is each skeleton's root; None compares the sets as they are.

    Example:
        >>> import torch
        >>> from human.skeleton import H36M17
        >>> metric = MPJPE(root=[H36M17.index("pelvis")])
        >>> target = torch.zeros(2, 17, 3)
        >>> pred = torch.zeros(2, 17, 3)
        >>> pred[0, 1:] = 0.034
        >>> pred[1, 5] = torch.nan
        >>> metric.update(pred, target)
        >>> metric.compute(), metric.invalid
        (tensor(55.4256, dtype=torch.float64), 1)
    """

    def __init__(self, root: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = None if root is None else tuple(root)

    def _errors(self, pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None) -> tuple[Tensor, Tensor]:
        countable_B = countable_persons(target_BJ3, weight_BJ, self.root)
        return mpjpe(pred_BJ3, target_BJ3, weight_BJ, self.root), countable_B


class PAMPJPE(_MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.pa_mpjpe`, mm.

    Example:
        >>> import torch
        >>> metric = PAMPJPE()
        >>> target = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]])
        >>> metric.update(target * torch.tensor([-1, 1, 1]), target)
        >>> metric.update(2 * target + 1, target)
        >>> metric.compute(), metric.invalid
        (tensor(275.4691, dtype=torch.float64), 0)
    """

    def _errors(self, pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None) -> tuple[Tensor, Tensor]:
        return pa_mpjpe(pred_BJ3, target_BJ3, weight_BJ), countable_persons(target_BJ3, weight_BJ)
