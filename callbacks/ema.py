"""Exponential moving average of the weights: what is validated, mined with, filtered with and saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from human.errors import PosesynError


class EMA(WeightAveraging):
    """Lightning's weight averaging, exponential, and the average as a context for mining.

    What does not change stays what it is, to the bit: constants, frozen weights and whole numbers (Lightning's own EMA
    lets constants drift by rounding and index tables by truncation, so that a resumed run differs).

    Args:
        decay: of the average per update.
        update_every_n_steps: optimiser steps between updates.
    """

    def __init__(self, decay: float = 0.998, update_every_n_steps: int = 1) -> None:
        if not 0 <= decay < 1 or update_every_n_steps < 1:
            raise PosesynError(
                f"EMA needs 0 <= decay < 1 and update_every_n_steps >= 1, got {decay} and {update_every_n_steps}"
            )
        self.decay, self.update_every_n_steps = decay, update_every_n_steps
        self._swapped = False
        super().__init__(use_buffers=True, avg_fn=self._average)

    def _average(self, average: Tensor, current: Tensor, number: Tensor) -> Tensor:
        # lerp, not decay * average + (1 - decay) * current: exact where both are equal.
        return torch.lerp(average, current, 1 - self.decay) if average.is_floating_point() else current

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx % self.update_every_n_steps == 0

    def _swap_models(self, pl_module: L.LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        # Validation was broken off: what is saved now must find the module's own weights in it.
        if self._swapped:
            self._swap_models(pl_module)

    @contextmanager
    def averaged(self, module: L.LightningModule) -> Iterator[None]:
        """``module`` holds the averaged weights inside, its own again outside."""
        self._swap_models(module)
        try:
            yield
        finally:
            self._swap_models(module)


def averaged_weights(trainer: L.Trainer, module: L.LightningModule) -> Any:
    """Context in which ``module`` has its averaged weights, where an :class:`EMA` callback keeps any."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EMA):
            return callback.averaged(module)
    return nullcontext()
