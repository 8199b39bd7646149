"""MPJAE and PA-MPJAE averaged over persons, batches and ranks."""

from __future__ import annotations

from torch import Tensor

from metrics.functional.angles import mpjae, pa_mpjae
from metrics.functional.mpjpe import countable_persons
from metrics.mean import MeanOverPersons


class MPJAE(MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.mpjae`, degrees.

    Examples:
        >>> import torch
        >>> metric = MPJAE()
        >>> still = torch.eye(3).expand(1, 9, 3, 3)
        >>> metric.update(still.roll(1, -1), still)
        >>> metric.compute()
        tensor(120.0000, dtype=torch.float64)
    """

    def update(self, pred_BP33: Tensor, target_BP33: Tensor) -> None:
        """Add B persons: global rotations of parts."""
        self._add(mpjae(pred_BP33, target_BP33), target_BP33.isfinite().flatten(2).all(-1).any(-1))


class PAMPJAE(MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.pa_mpjae`, degrees.

    Examples:
        >>> import torch
        >>> metric = PAMPJAE()
        >>> still = torch.eye(3).expand(1, 9, 3, 3)
        >>> joints = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]])
        >>> metric.update(still, still, 2 * joints, joints)
        >>> metric.compute().round(decimals=5)
        tensor(0., dtype=torch.float64)
    """

    def update(
        self,
        pred_BP33: Tensor,
        target_BP33: Tensor,
        pred_joints_BJ3: Tensor,
        target_joints_BJ3: Tensor,
        weight_BJ: Tensor | None = None,
    ) -> None:
        """Add B persons: global rotations of parts, and the joints that Procrustes aligns, metres."""
        values_B = pa_mpjae(pred_BP33, target_BP33, pred_joints_BJ3, target_joints_BJ3, weight_BJ)
        labelled_B = target_BP33.isfinite().flatten(2).all(-1).any(-1)
        self._add(values_B, labelled_B & countable_persons(target_joints_BJ3, weight_BJ))
