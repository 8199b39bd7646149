"""Figures of the engine's pictures after every refresh (:mod:`synth.quality`)."""

from __future__ import annotations

import json
import logging
import math
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from callbacks.after_refresh import latest_number
from callbacks.refresh import Refresh, data_of
from human.errors import PosesynError
from synth.quality import Measurer, QualityConfig
from synth.quality import Quality as Figures

log = logging.getLogger(__name__)


class Quality(Callback):
    """Measures each new generation, logs ``quality/ENGINE/fid`` and the like, and writes ``quality.json`` in the run
    folder.

    Args:
        config: what is measured. Here the default looks at 512 pictures and aligns 64 of them.
        every: refreshes between measurements.

    Real are the people that are mined. List it after ``Refresh``. Neither training nor its random numbers are touched;
    a measurement that fails is an error in the log, not the end of a run.
    """

    def __init__(self, config: QualityConfig | None = None, every: int = 1) -> None:
        if every < 1:
            raise PosesynError(f"callback Quality needs every >= 1, got {every}")
        self.config, self.every = config or QualityConfig(limit=512, align=64), every
        self.rows: list[dict[str, Any]] = []
        self._measured = -1
        self._measurer: Measurer | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._measure(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._measure(trainer)

    def _measure(self, trainer: L.Trainer) -> None:
        refresh = next((c for c in trainer.callbacks if isinstance(c, Refresh)), None)  # type: ignore[attr-defined]
        if refresh is None or refresh.last is None or refresh.last.info is None or not trainer.is_global_zero:
            return
        number, generation = latest_number(refresh), refresh.last.info.generation
        if number == self._measured or number % self.every:
            return
        self._measured = number
        data, start = data_of(trainer), time.perf_counter()
        try:
            if self._measurer is None:
                self._measurer = Measurer(data.mining_data, self.config)
            found = self._measurer.measure(data.pool, generation)
        except (PosesynError, OSError) as error:
            log.error("the quality of generation %d could not be measured: %s", generation, error)
            return
        for quality in found:
            for note in quality.notes:
                log.info("quality of %s, generation %d: %s", quality.engine, generation, note)
            row = {"refresh": number, **quality.as_dict(), "seconds": round(time.perf_counter() - start, 1)}
            self.rows.append(row)
            values = logged(quality)
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)
        folder = data.run_dir
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "quality.json").write_text(json.dumps(self.rows, indent=1))

    # -- the checkpoint ----------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "measured": self._measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self._measured = list(state_dict["rows"]), int(state_dict["measured"])


def logged(quality: Figures) -> dict[str, float]:
    """``quality/ENGINE/FIGURE`` of those that could be measured."""
    return {f"quality/{quality.engine}/{k}": v for k, v in quality.figures.items() if math.isfinite(v)}
