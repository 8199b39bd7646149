"""Exponential moving average of the weights: what is validated, mined with, filtered with and saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging


class EMA(EMAWeightAveraging):
    """Lightning's EMA callback, and the average as a context for mining.

    Args:
        decay: of the average per optimiser step.
        update_every_n_steps: steps between updates.
    """

    def __init__(self, decay: float = 0.998, update_every_n_steps: int = 1) -> None:
        super().__init__(decay=decay, update_every_n_steps=update_every_n_steps)

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
