"""MPJPE, N-MPJPE and PA-MPJPE averaged over persons, batches and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from metrics.functional.mpjpe import countable_persons, mpjpe, n_mpjpe, pa_mpjpe
from metrics.mean import MeanOverPersons


class MPJPE(MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.mpjpe`, mm.

    Args:
        root: indices of the joints whose mean is each skeleton's root; None compares the sets as they are.

    Examples:
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

    def update(self, pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None = None) -> None:
        """Add B persons: joints in metres, and the labels' mask or confidence (None: all labelled)."""
        countable_B = countable_persons(target_BJ3, weight_BJ, self.root)
        self._add(mpjpe(pred_BJ3, target_BJ3, weight_BJ, self.root), countable_B)


class NMPJPE(MPJPE):
    """Mean over persons of :func:`metrics.functional.n_mpjpe`, mm. Arguments are those of :class:`MPJPE`.

    Examples:
        >>> import torch
        >>> metric = NMPJPE(root=[0])
        >>> metric.update(torch.eye(3)[None] * 2, torch.eye(3)[None])
        >>> metric.compute()
        tensor(0., dtype=torch.float64)
    """

    def update(self, pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None = None) -> None:
        """Add B persons: joints in metres, and the labels' mask or confidence (None: all labelled)."""
        countable_B = countable_persons(target_BJ3, weight_BJ, self.root)
        self._add(n_mpjpe(pred_BJ3, target_BJ3, weight_BJ, self.root), countable_B)


class PAMPJPE(MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.pa_mpjpe`, mm.

    Examples:
        >>> import torch
        >>> metric = PAMPJPE()
        >>> target = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]])
        >>> metric.update(target * torch.tensor([-1, 1, 1]), target)
        >>> metric.update(2 * target + 1, target)
        >>> metric.compute(), metric.invalid
        (tensor(275.4691, dtype=torch.float64), 0)
    """

    def update(self, pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None = None) -> None:
        """Add B persons: joints in metres, and the labels' mask or confidence (None: all labelled)."""
        self._add(pa_mpjpe(pred_BJ3, target_BJ3, weight_BJ), countable_persons(target_BJ3, weight_BJ))
