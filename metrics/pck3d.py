"""3DPCK and its AUC averaged over persons, batches and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from metrics.functional.mpjpe import Align, countable_persons
from metrics.functional.pck3d import MPI_INF_THRESHOLDS, auc_3d, pck_3d
from metrics.mean import MeanOverPersons


class PCK3D(MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.pck_3d`, 0..1. Arguments are those of the function.

    Examples:
        >>> import torch
        >>> metric = PCK3D()
        >>> metric.update(torch.tensor([[[0.0, 0, 0.1], [0, 0, 0.2]]]), torch.zeros(1, 2, 3))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(
        self,
        threshold_mm: float = 150.0,
        root: Sequence[int] | None = None,
        *,
        inclusive: bool = False,
        align: Align = "none",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.threshold_mm, self.root = threshold_mm, None if root is None else tuple(root)
        self.inclusive, self.align = inclusive, align

    def update(self, pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None = None) -> None:
        """Add B persons: joints in metres, and the labels' mask or confidence (None: all labelled)."""
        settings: dict[str, Any] = {"inclusive": self.inclusive, "align": self.align}
        values_B = pck_3d(pred_BJ3, target_BJ3, weight_BJ, self.root, self.threshold_mm, **settings)
        self._add(values_B, countable_persons(target_BJ3, weight_BJ, self.root))


class AUC3D(MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.auc_3d`, 0..1. Arguments are those of the function.

    Examples:
        >>> import torch
        >>> metric = AUC3D()
        >>> metric.update(torch.tensor([[[0.0, 0, 0.0725]]]), torch.zeros(1, 1, 3))
        >>> metric.compute() * 31
        tensor(16.0000, dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(
        self,
        thresholds_mm: Sequence[float] = MPI_INF_THRESHOLDS,
        root: Sequence[int] | None = None,
        *,
        rule: Literal["mean", "trapezoid"] = "mean",
        inclusive: bool = False,
        align: Align = "none",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.thresholds_mm, self.root = tuple(thresholds_mm), None if root is None else tuple(root)
        self.rule, self.inclusive, self.align = rule, inclusive, align

    def update(self, pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None = None) -> None:
        """Add B persons: joints in metres, and the labels' mask or confidence (None: all labelled)."""
        settings: dict[str, Any] = {"rule": self.rule, "inclusive": self.inclusive, "align": self.align}
        values_B = auc_3d(pred_BJ3, target_BJ3, weight_BJ, self.root, self.thresholds_mm, **settings)
        self._add(values_B, countable_persons(target_BJ3, weight_BJ, self.root))
