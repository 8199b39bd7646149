"""What a refresh in the background costs training: ``python -m benchmarks.loop --mode background``.

Runs with it and runs without any refresh take turns. All train on the same kind of batches, all from the pool, in which
both find one generation to begin with; trainer and loader process have one core, the refresh has another (on a GPU: the
GPU is shared). Of each run the epochs from the third on count: in the first two processes start.

* ``trainer_wait_fraction``: share of the training time in which the step waited for data
* ``epoch_seconds``, ``epoch_seconds_without``: from the start of an epoch to that of the next, all hooks included;
  medians; ``epoch_ratio`` is the median of the rounds' ratios
* ``blocked_seconds``: that the trainer spent between two epochs on taking in and handing over
* ``lag_steps``: between the weights of a generation and the first batch that may hold its samples
* ``background_seconds``: that the other process spent on a refresh; ``busy``: its share of the counted epochs
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from callbacks import EMA, EpochTable, Refresh
from callbacks.background_keeper import Background
from datamodules.pose import PoseDataModule, ReaderConfig
from datamodules.sources import PoolSource
from lightning_modules import HMR
from synth.eem import EEM
from synth.filters import Err3DFilter

FROZEN = ["conv_stem", "bn1", "blocks.0", "blocks.1"]
_FIRST = 2  # epoch that counts


class Watch(Callback):
    """When each epoch began, and the last one ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.at.append(time.perf_counter())

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.at.append(time.perf_counter())

    @property
    def seconds(self) -> np.ndarray:
        return np.diff(self.at)[_FIRST:-1]  # after the last epoch nothing is refreshed


def background(folder: Path, rounds: int, epochs: int, steps: int, samples: int, batch: int = 64) -> dict[str, Any]:
    """See the module; ``epochs`` of each run, of which the first two and the last do not count."""
    if epochs < _FIRST + 2:
        raise SystemExit(f"--epochs {epochs}: give {_FIRST + 2} or more")
    cores = sorted(os.sched_getaffinity(0))
    own = len(cores) > 1 and not torch.cuda.is_available()
    if own:
        os.sched_setaffinity(0, cores[:1])
        torch.set_num_threads(1)
    settings = Background(cores=cores[1:2] if own else None)
    pool = folder / "pool"
    first = first_generation(folder, pool, batch, samples)
    with_it: list[float] = []
    without: list[float] = []
    waits: list[float] = []
    history: list[dict[str, Any]] = []
    for number in range(rounds):
        for refreshed in (number % 2 == 0, number % 2 == 1):
            refresh = make_refresh(samples, mode="background", background=settings) if refreshed else None
            data = make_data(pool, batch, steps, seed=number + 1)  # else the pool has what is to be made
            data.recipe = data.recipe.with_generations(first)
            watch, table = train(folder / f"{number}{refreshed}", data, refresh, epochs)
            (with_it if refreshed else without).append(float(np.median(watch.seconds)))
            if refresh is not None:
                rows = [r["seconds"] for r in table.rows if r["epoch"] != "start" and r["epoch"] >= _FIRST]
                waits.append(sum(r["wait"] for r in rows) / sum(r["train"] for r in rows))
                history += refresh.history
    done = [e for e in history if "background_seconds" in e]
    made = [e["background_seconds"] for e in done]
    return {
        "mode": "background",
        "trainer_wait_fraction": round(float(np.median(waits)), 4),
        "epoch_seconds": round(float(np.median(with_it)), 3),
        "epoch_seconds_without": round(float(np.median(without)), 3),
        "epoch_ratio": round(float(np.median(np.divide(with_it, without))), 4),
        "blocked_seconds": round(float(np.median([e["seconds"] for e in done])), 3) if done else None,
        "lag_steps": [e["lag_steps"] for e in done],
        "background_seconds": round(float(np.median(made)), 2) if made else None,
        "busy": round(min(1.0, float(np.median(made) / np.median(with_it))), 2) if made else 1.0,
        "failed": [e["failed"] for e in history if "failed" in e],
        "samples": samples,
        "own_core": own,
        "device": "cpu" if not torch.cuda.is_available() else torch.cuda.get_device_name(),
    }


def make_refresh(samples: int, **more: Any) -> Refresh:
    return Refresh(samples=samples, eem=EEM(challenges=64, references=32), filter=Err3DFilter(tau=None), keep=1, **more)


def first_generation(folder: Path, pool: Path, batch: int, samples: int) -> list[tuple[int, int]]:
    """Made inline, for all runs to begin with."""
    data = make_data(pool, batch, steps=1, seed=0)
    trainer(folder / "first", 1, make_refresh(samples)).fit(make_model(), data)
    return list(data.recipe.generations)


def train(folder: Path, data: PoseDataModule, refresh: Refresh | None, epochs: int) -> tuple[Watch, EpochTable]:
    watch, table = Watch(), EpochTable(show=False)
    trainer(folder, epochs, *([refresh] if refresh else []), table, watch).fit(make_model(), data)
    return watch, table


def make_model() -> HMR:
    return HMR(checkpoint="packaged:hmr_free_128", frozen=FROZEN)


def make_data(pool: Path, batch: int, steps: int, seed: int) -> PoseDataModule:
    return PoseDataModule(
        sources=[PoolSource()],
        mine=[ReaderConfig("pose2sim"), ReaderConfig("sports2d")],
        batch_size=batch,
        steps_per_epoch=steps,
        workers=1,
        seed=seed,
        pool=str(pool),
    )


def trainer(folder: Path, epochs: int, *callbacks: Callback) -> L.Trainer:
    return L.Trainer(
        max_epochs=epochs,
        logger=CSVLogger(folder),
        callbacks=[EMA(0.99), *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
    )
