"""Runs that refresh in the background.

``python -m tests.callbacks.background_runs DATA RUN EPOCH BATCH THREADS`` is one that kills itself at a batch, once the
worker's number is in RUN/worker; ``... DATA RUN ranks`` is one on two ranks, each of which writes the keys that it saw.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from callbacks import Refresh
from callbacks.background_folder import HandedOver
from callbacks.background_keeper import Background, Keeper
from callbacks.background_mode import BackgroundMode
from human.batch import PoseBatch
from tests.tiny import STEPS, KillAt, Recorder, tiny_data, tiny_hmr, tiny_refresh, tiny_trainer

EPOCHS = 4


def mode_of(refresh: Refresh) -> BackgroundMode:
    assert isinstance(refresh._mode, BackgroundMode)
    return refresh._mode


def keeper_of(trainer: L.Trainer) -> Keeper:
    keeper = mode_of(next(c for c in trainer.callbacks if isinstance(c, Refresh)))._keeper  # type: ignore[attr-defined]
    assert keeper is not None
    return keeper


def in_time(true: Any, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class Patient(Callback):
    """An epoch, one of ``epochs``, ends when everything handed over has an outcome; else training is faster."""

    def __init__(self, *epochs: int) -> None:
        self.epochs = epochs

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.current_epoch in self.epochs and trainer.fit_loop.batch_idx == STEPS - 1:
            mode = mode_of(next(c for c in trainer.callbacks if isinstance(c, Refresh)))  # type: ignore[attr-defined]
            assert mode.folder is not None
            folder = Path(mode.folder)
            in_time(lambda: all(HandedOver(folder / p["name"]).finished for p in mode.pending))


class NotesWorker(Callback):
    """Writes the worker's process number, once it has one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: PoseBatch, batch_idx: int) -> None:
        keeper = keeper_of(trainer)
        in_time(lambda: keeper.pid is not None)
        self.path.write_text(str(keeper.pid))


def run(
    data: Path, folder: Path, *more: Callback, resume: Path | None = None, epochs: int = EPOCHS, **changes: Any
) -> tuple[Refresh, Recorder, Any]:
    settings = Background(threads=torch.get_num_threads(), **changes.pop("background", {}))
    options = {name: changes.pop(name) for name in ("devices", "strategy") if name in changes}
    refresh, recorder = tiny_refresh(**{"mode": "background", "background": settings, **changes}), Recorder()
    module = tiny_data(data, folder, validate=[])
    trainer = tiny_trainer(folder, *more, refresh, recorder, epochs=epochs, num_sanity_val_steps=0, **options)
    trainer.fit(tiny_hmr(), datamodule=module, ckpt_path=resume, weights_only=True)
    return refresh, recorder, module


def two_ranks(data: Path, folder: Path) -> None:
    refresh, recorder, module = run(data, folder, Patient(0), epochs=2, devices=2, strategy="ddp")
    keys = torch.stack([b.key for _, b in recorder.batches])
    rank = module.trainer.global_rank
    torch.save({"keys": keys, "history": refresh.history}, folder / f"rank_{rank}.pt")


if __name__ == "__main__":
    if sys.argv[3] == "ranks":
        torch.set_num_threads(1)
        two_ranks(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        torch.set_num_threads(int(sys.argv.pop()))
        data, folder, (epoch, batch) = Path(sys.argv[1]), Path(sys.argv[2]), map(int, sys.argv[3:])
        run(data, folder, NotesWorker(folder / "worker"), KillAt(epoch, batch), Patient(*range(epoch)))
