"""What a callback does once for every refresh, when its figures are final: before the first step and after epochs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback

from callbacks.full_disk import missed
from callbacks.refresh import Refresh, data_of
from synth.refresh import Refreshed


class AfterRefresh(Callback, ABC):
    """Calls :meth:`draw` on the first rank; list it after ``Refresh``."""

    def __init__(self) -> None:
        self._drawn = -1

    @abstractmethod
    def draw(self, trainer: L.Trainer, run_dir: Path, number: int, done: Refreshed) -> None:
        """What to do about refresh ``number`` of the run in ``run_dir``."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._once(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._once(trainer)

    def _once(self, trainer: L.Trainer) -> None:
        refresh = next((c for c in trainer.callbacks if isinstance(c, Refresh)), None)  # type: ignore[attr-defined]
        if refresh is None or refresh.last is None or not trainer.is_global_zero:
            return
        number = latest_number(refresh)
        if number == self._drawn:
            return
        self._drawn = number
        with missed(f"what {type(self).__name__} keeps of refresh {number}"):
            self.draw(trainer, data_of(trainer).run_dir, number, refresh.last)


def latest_number(refresh: Refresh) -> int:
    """Which refresh of the run ``refresh.last`` is."""
    assert refresh.last is not None
    return refresh.count - 1 if refresh.last.number is None else refresh.last.number
