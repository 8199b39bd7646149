"""One row per epoch: what was mined and made, what was trained on, what came of it, and how long each stage took."""

from __future__ import annotations

import csv
import json
import time
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table

from callbacks.full_disk import missed
from callbacks.refresh import Refresh, data_of
from datamodules.sources import PoolSource
from human.batch import PoseBatch
from lightning_modules.base import PoseEstimator
from lightning_modules.ranks import rank_sum

# Figures of validation that the table shows, with the column's title and format.
_SCORES = {
    "mpjpe": ("MPJPE mm", "{:.1f}"),
    "pa_mpjpe": ("PA-MPJPE mm", "{:.1f}"),
    "pck_torso": ("PCK@.2 torso", "{:.3f}"),
    "pck_box": ("PCK@.1 box", "{:.3f}"),
}


class EpochTable(Callback):
    """Collects a row per epoch, writes ``epochs.csv`` and ``epochs.json`` in the run folder, prints the table at the
    end.

    Args:
        show: print the table at the end.

    Row 0 is the starting point: validation before the first step (``num_sanity_val_steps: -1``). List it after
        ``Refresh``.
    """

    def __init__(self, show: bool = True) -> None:
        self.show = show
        self.rows: list[dict[str, Any]] = []
        self._counts = np.zeros(0, np.int64)
        self._skipped = self._pool_samples = self._pool_age = 0
        self._started = self._validating = self._valid_seconds = self._wait_before = 0.0

    # -- counting ----------------------------------------------------------------------------------------------------
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._reset(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A run resumed inside an epoch has no epoch start, and one resumed after an epoch's last step no end of it.
        before = self._counts, self._skipped, self._pool_samples, self._pool_age
        self._reset(trainer)
        if before[0].sum():
            self._counts, self._skipped, self._pool_samples, self._pool_age = before
            if self._epochs_done() < trainer.current_epoch:
                self._add_row(trainer, trainer.current_epoch - 1, {})
                self._reset(trainer)

    def _epochs_done(self) -> int:
        numbers = [row["epoch"] for row in self.rows if row["epoch"] != "start"]
        return numbers[-1] + 1 if numbers else 0

    def _reset(self, trainer: L.Trainer) -> None:
        data = data_of(trainer)
        self._counts = np.zeros(len(data.sources), np.int64)
        self._skipped, self._valid_seconds, self._started = 0, 0.0, time.perf_counter()
        self._pool_samples = self._pool_age = 0
        self._wait_before = data.loader.wait_seconds if data.loader else 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: PoseBatch, batch_idx: int
    ) -> None:
        source, generation = batch.key[:, :2].cpu().numpy().T
        counts = np.bincount(source, minlength=len(self._counts))
        data, ages = data_of(trainer), np.zeros(0, np.int64)
        if data.recipe.generations:
            pools = [i for i, s in enumerate(data.sources) if isinstance(s, PoolSource)]
            ages = data.recipe.generations[-1][0] - generation[np.isin(source, pools)]
        mine = [*counts.tolist(), len(ages), int(ages.sum()), int((batch.weight == 0).sum())]
        if trainer.world_size > 1:  # at once, so that a checkpoint of any step has the counts of the global batch
            mine = rank_sum(batch.key.new_tensor(mine)).tolist()
        *whole, samples, age, skipped = mine
        self._counts += np.asarray(whole)
        self._pool_samples, self._pool_age = self._pool_samples + samples, self._pool_age + age
        self._skipped += skipped

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validating = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._valid_seconds += time.perf_counter() - self._validating
        if trainer.sanity_checking and not self.rows:
            self.rows.append(
                {"epoch": "start", "scores": _scores(pl_module), "seconds": {"validate": self._valid_seconds}}
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._add_row(trainer, trainer.current_epoch, _scores(pl_module))

    def _add_row(self, trainer: L.Trainer, epoch: int, scores: dict[str, dict[str, float]]) -> None:
        data = data_of(trainer)
        total = max(1, int(self._counts.sum()))
        wait = (data.loader.wait_seconds if data.loader else 0.0) - self._wait_before
        refresh = next((c for c in trainer.callbacks if isinstance(c, Refresh)), None)  # type: ignore[attr-defined]
        now = time.perf_counter()
        row: dict[str, Any] = {
            "epoch": epoch,
            "step": trainer.global_step,
            "fractions": {n: int(c) / total for n, c in zip(data.source_names, self._counts, strict=True)},
            "skipped": self._skipped,
            "pictures": int(self._counts.sum()),
            "pool_age": self._pool_age / self._pool_samples if self._pool_samples else None,
            "scores": scores,
            "seconds": {"wait": wait, "validate": self._valid_seconds},
        }
        made_now = 0.0
        if refresh is not None and refresh.history:
            # The refresh made just now belongs to the next row.
            if refresh.used is not None:
                row["refresh"] = refresh.used
            if refresh.history[-1] is not refresh.used:
                made_now = refresh.history[-1]["seconds"]
        row["seconds"]["train"] = now - self._started - self._valid_seconds - made_now
        self.rows.append(row)
        if trainer.is_global_zero:
            with missed("the table of epochs"):
                self._write(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and self.rows and self.show:
            Console().print(self.render())

    # -- showing -----------------------------------------------------------------------------------------------------
    def render(self, latest: int = 8) -> Table:
        """The table, a column per epoch (the first row's and the ``latest``): that way it fits a terminal."""
        table = Table(title="epochs", header_style="bold")
        flat = [flatten(r) for r in self.rows]
        shown = flat if len(flat) <= latest + 1 else [flat[0], *flat[-latest:]]
        table.add_column("epoch")
        for row in shown:
            table.add_column(row["epoch"], justify="right")
        for name in columns(flat)[1:]:
            table.add_row(name, *(row.get(name, "") for row in shown))
        return table

    def _write(self, trainer: L.Trainer) -> None:
        folder = data_of(trainer).run_dir
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "epochs.json").write_text(json.dumps(self.rows, indent=1))
        flat = [flatten(r) for r in self.rows]
        names = columns(flat)
        with (folder / "epochs.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(flat)

    # -- the checkpoint ----------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "counts": self._counts.tolist(),
            "skipped": self._skipped,
            "pool": [self._pool_samples, self._pool_age],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self._counts, self._skipped = np.asarray(state_dict["counts"], np.int64), state_dict["skipped"]
        self._pool_samples, self._pool_age = state_dict.get("pool", (0, 0))


def flatten(row: dict[str, Any]) -> dict[str, str]:
    """One row as column -> text. A loader's name is part of the column only when there are several."""
    out: dict[str, str] = {"epoch": str(row["epoch"])}
    refresh = row.get("refresh", {})
    if refresh:
        generation, made = refresh.get("generation"), refresh.get("made", 0)
        out["gen"] = "-" if generation is None else str(generation)
        out["Err before"] = _text("{:.1f}", refresh.get("challenge_error"))
        out["Err after"] = _text("{:.1f}", refresh.get("challenge_error_after"))
        out["pass %"] = f"{100 * refresh['passed'] / made:.0f}" if made else "-"
        if "lag_steps" in refresh:
            out["lag steps"] = str(refresh["lag_steps"])
    for name, share in row.get("fractions", {}).items():
        out[f"{name} %"] = f"{100 * share:.0f}"
    for loader, scores in row["scores"].items():
        for key, (title, form) in _SCORES.items():
            if key in scores:
                out[title if len(row["scores"]) == 1 else f"{loader} {title}"] = form.format(scores[key])
    stages, seconds = refresh.get("stages", {}), row["seconds"]
    if stages:
        out["mine s"] = f"{stages.get('mine', 0.0):.1f}"
        out["synth s"] = f"{sum(v for k, v in stages.items() if k != 'mine'):.1f}"
    for stage in ("train", "wait", "validate"):
        if stage in seconds:
            out[f"{stage} s"] = f"{seconds[stage]:.1f}"
    if row.get("skipped"):
        out["skipped"] = str(row["skipped"])
    return out


def columns(rows: list[dict[str, str]]) -> list[str]:
    """Column names in the order of the fullest row, then any that only others have."""
    fullest = max(rows, key=len)
    return list(dict.fromkeys([*fullest, *(k for r in rows for k in r)]))


def _text(form: str, value: float | None) -> str:
    return "-" if value is None else form.format(value)


def _scores(pl_module: L.LightningModule) -> dict[str, dict[str, float]]:
    assert isinstance(pl_module, PoseEstimator)
    return dict(pl_module.last_scores)
