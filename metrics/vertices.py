"""PVE, PA-PVE and PVE-T-SC averaged over persons, batches and ranks."""

from __future__ import annotations

from torch import Tensor

from metrics.functional.mpjpe import countable_persons
from metrics.functional.vertices import countable_meshes, pa_pve, pve, pve_t_sc
from metrics.mean import MeanOverPersons


class PVE(MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.pve`, mm.

    Examples:
        >>> import torch
        >>> metric = PVE()
        >>> roots = torch.ones(2, 3), torch.tensor([[0.0, 0, 0], [1, 1, 1]])
        >>> metric.update(torch.ones(2, 5, 3), torch.zeros(2, 5, 3), *roots)
        >>> metric.compute()
        tensor(866.0254, dtype=torch.float64)
    """

    def update(
        self,
        pred_BV3: Tensor,
        target_BV3: Tensor,
        pred_root_B3: Tensor | None = None,
        target_root_B3: Tensor | None = None,
    ) -> None:
        """Add B persons: vertices and what is subtracted from them (None: nothing), metres."""
        values_B = pve(pred_BV3, target_BV3, pred_root_B3, target_root_B3)
        self._add(values_B, countable_meshes(target_BV3, target_root_B3))


class PAPVE(MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.pa_pve`, mm: with joints EMDB's PA-MVE.

    Examples:
        >>> import torch
        >>> metric = PAPVE()
        >>> metric.update(torch.eye(3)[None] * 2, torch.eye(3)[None])
        >>> metric.compute().round(decimals=6)
        tensor(0., dtype=torch.float64)
    """

    def update(
        self,
        pred_BV3: Tensor,
        target_BV3: Tensor,
        pred_joints_BJ3: Tensor | None = None,
        target_joints_BJ3: Tensor | None = None,
        weight_BJ: Tensor | None = None,
    ) -> None:
        """Add B persons: vertices, and joints to fit the similarity on (None: on the vertices), metres."""
        values_B = pa_pve(pred_BV3, target_BV3, pred_joints_BJ3, target_joints_BJ3, weight_BJ)
        countable_B = countable_meshes(target_BV3)
        if target_joints_BJ3 is not None:
            countable_B = countable_B & countable_persons(target_joints_BJ3, weight_BJ)
        self._add(values_B, countable_B)


class PVETSC(MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.pve_t_sc`, mm.

    Examples:
        >>> import torch
        >>> metric = PVETSC()
        >>> metric.update(torch.eye(3)[None] * 2, torch.eye(3)[None])
        >>> metric.compute().round(decimals=6)
        tensor(0., dtype=torch.float64)
    """

    def update(self, pred_BV3: Tensor, target_BV3: Tensor) -> None:
        """Add B persons: vertices in the T-pose, metres."""
        self._add(pve_t_sc(pred_BV3, target_BV3), countable_meshes(target_BV3))
