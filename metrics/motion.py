"""Errors of motion averaged over frames, sequences and ranks: each update is whole sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metrics.functional.motion import acceleration_error, countable_frames, jitter, unbroken
from metrics.functional.world import foot_sliding, rte, w_mpjpe, wa_mpjpe
from metrics.mean import MeanOverPersons


class AccelerationError(MeanOverPersons):
    """Mean over frames of :func:`metrics.functional.acceleration_error`.

    Args:
        fps: None gives mm/frame^2, frames per second m/s^2.
        margin: further values left out at both ends of every unbroken run; WHAM 1.

    Examples:
        >>> import torch
        >>> metric = AccelerationError()
        >>> metric.update((torch.arange(4.0) ** 2)[:, None, None] * torch.tensor([0.5, 0, 0]), torch.zeros(4, 1, 3))
        >>> metric.compute()
        tensor(1000., dtype=torch.float64)
    """

    def __init__(self, fps: float | None = None, margin: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fps, self.margin = fps, margin

    def update(
        self,
        pred_TJ3: Tensor,
        target_TJ3: Tensor,
        weight_TJ: Tensor | None = None,
        frames_T: Tensor | None = None,
        sequence_T: Tensor | None = None,
    ) -> None:
        """Add whole sequences: joints in metres, mask or confidence, frame numbers, numbers of sequences."""
        where = (weight_TJ, frames_T, sequence_T, self.margin)
        self._add(acceleration_error(pred_TJ3, target_TJ3, self.fps, *where), countable_frames(target_TJ3, *where))


class Jitter(MeanOverPersons):
    """Mean over frames of :func:`metrics.functional.jitter`, 10 m/s^3.

    Examples:
        >>> import torch
        >>> metric = Jitter(fps=1)
        >>> metric.update((torch.arange(5.0) ** 3)[:, None, None] * torch.tensor([1.0, 0, 0]))
        >>> metric.compute()
        tensor(0.6000, dtype=torch.float64)
    """

    def __init__(self, fps: float = 30.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fps = fps

    def update(self, pred_TJ3: Tensor, frames_T: Tensor | None = None, sequence_T: Tensor | None = None) -> None:
        """Add whole sequences: joints in the world, metres; frame numbers, numbers of sequences."""
        values_T = jitter(pred_TJ3, self.fps, frames_T, sequence_T)
        countable_T = torch.zeros_like(values_T, dtype=torch.bool)
        if len(values_T) > 3:
            countable_T[1:-2] = unbroken(len(values_T), 4, frames_T, sequence_T, device=values_T.device)
        self._add(values_T, countable_T)


class WMPJPE(MeanOverPersons):
    """Mean over frames of :func:`metrics.functional.w_mpjpe`, mm. One sequence per update.

    Examples:
        >>> import torch
        >>> metric = WMPJPE()
        >>> metric.update(torch.eye(3).expand(5, 3, 3) + 1, torch.eye(3).expand(5, 3, 3))
        >>> metric.compute().round(decimals=6)
        tensor(0., dtype=torch.float64)
    """

    def __init__(self, chunk: int = 100, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chunk = chunk

    def update(self, pred_TJ3: Tensor, target_TJ3: Tensor) -> None:
        """Add a sequence: joints in the world, metres."""
        self._add(w_mpjpe(pred_TJ3, target_TJ3, self.chunk), target_TJ3.isfinite().all(-1).any(-1))


class WAMPJPE(WMPJPE):
    """Mean over frames of :func:`metrics.functional.wa_mpjpe`, mm. One sequence per update.

    Examples:
        >>> import torch
        >>> metric = WAMPJPE()
        >>> metric.update(torch.eye(3).expand(5, 3, 3) + 1, torch.eye(3).expand(5, 3, 3))
        >>> metric.compute().round(decimals=6)
        tensor(0., dtype=torch.float64)
    """

    def update(self, pred_TJ3: Tensor, target_TJ3: Tensor) -> None:
        """Add a sequence: joints in the world, metres."""
        self._add(wa_mpjpe(pred_TJ3, target_TJ3, self.chunk), target_TJ3.isfinite().all(-1).any(-1))


class RTE(MeanOverPersons):
    """Mean over frames of :func:`metrics.functional.rte`, percent of the path's length. One sequence per update.

    Examples:
        >>> import torch
        >>> metric = RTE()
        >>> path = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
        >>> metric.update(path + 3, path)
        >>> metric.compute().round(decimals=4)
        tensor(0., dtype=torch.float64)
    """

    def update(self, pred_T3: Tensor, target_T3: Tensor) -> None:
        """Add a sequence: root positions in the world, metres."""
        moved = target_T3.isfinite().all() & (target_T3 != target_T3[:1]).any()
        self._add(rte(pred_T3, target_T3), moved.expand(len(target_T3)))


class FootSliding(MeanOverPersons):
    """Mean over contacts of :func:`metrics.functional.foot_sliding`, mm. One sequence per update.

    Examples:
        >>> import torch
        >>> metric = FootSliding()
        >>> metric.update(torch.arange(3.0)[:, None, None].expand(3, 4, 3) * 0.01, torch.zeros(3, 4, 3))
        >>> metric.compute()
        tensor(17.3205, dtype=torch.float64)
    """

    def __init__(self, contact_m: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.contact_m = contact_m

    def update(self, pred_TF3: Tensor, target_TF3: Tensor) -> None:
        """Add a sequence: foot points in the world, metres."""
        values_TF = foot_sliding(pred_TF3, target_TF3, self.contact_m)
        contact_TF = ~foot_sliding(target_TF3, target_TF3, self.contact_m).isnan()
        self._add(values_TF.flatten(), contact_TF.flatten())
