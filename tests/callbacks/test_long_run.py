"""A run of 200 epochs: what it holds and keeps does not grow with them.

``python -m tests.callbacks.test_long_run FOLDER [EPOCHS]`` prints the figures that docs/curriculum.md has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from callbacks import EMA, EpochTable
from tests.tiny import tiny_data, tiny_hmr, tiny_refresh, write_data

ROOT = Path(__file__).resolve().parents[2]


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def tree() -> list[int]:
    """This process and all below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue  # it has just ended
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


class Measure(Callback):
    """Looks at the process after every ``every``-th epoch."""

    def __init__(self, run: Path, every: int) -> None:
        self.run, self.every, self.figures = run, every, []  # type: ignore[var-annotated]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        epoch = trainer.current_epoch
        if epoch == 0 or epoch % self.every:
            return
        processes = tree()
        resident = [
            int(Path(f"/proc/{p}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") for p in processes
        ]
        self.figures.append(
            {
                "epoch": epoch,
                "resident_mb": round(sum(resident) / 2**20),
                "files": len(os.listdir("/proc/self/fd")),
                "threads": threading.active_count(),
                "tasks": len(os.listdir("/proc/self/task")),
                "processes": len(processes),
                "pool_kb": size_of(self.run / "pool") // 1024,
                "pool_files": sum(1 for f in (self.run / "pool").rglob("*") if f.is_file()),
                "checkpoint_kb": (self.run / "last.ckpt").stat().st_size // 1024,
            }
        )
        print(json.dumps(self.figures[-1]), flush=True)


def long_run(folder: Path, epochs: int) -> None:
    os.environ["POSESYN_CACHE"] = str(folder / "cache")
    run = folder / "run"
    data = tiny_data(write_data(folder / "data"), run, steps_per_epoch=2, workers=1)
    refresh = tiny_refresh(samples=3, appearances=0, reference_p=0.0, keep_pixels=5)
    saving = ModelCheckpoint(run, save_last=True, every_n_epochs=1, save_on_train_epoch_end=True)
    trainer = L.Trainer(
        default_root_dir=run, accelerator="cpu", max_epochs=epochs, logger=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[EMA(decay=0.9), refresh, EpochTable(show=False), Measure(run, max(1, epochs // 4 - 1)), saving],
    )  # fmt: skip
    trainer.fit(tiny_hmr(), datamodule=data)


@pytest.mark.slow
def test_200_epochs_hold_no_more_than_50(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.callbacks.test_long_run", str(tmp_path), "200"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"epoch"')]
    first, last = figures[0], figures[-1]
    assert (first["epoch"], last["epoch"]) == (49, 196)
    epochs = last["epoch"] - first["epoch"]
    assert last["resident_mb"] < 1.2 * first["resident_mb"]
    for name in ("files", "threads", "processes"):
        assert last[name] <= first[name] + 2, (name, figures)
    assert last["tasks"] <= first["tasks"] + 8, figures
    # Pictures of five generations; of the others where they came from, and a row of the run's table.
    assert last["pool_kb"] - first["pool_kb"] < 16 * epochs, figures
    assert last["checkpoint_kb"] - first["checkpoint_kb"] < 2 * epochs, figures


if __name__ == "__main__":
    torch.set_num_threads(1)
    long_run(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
