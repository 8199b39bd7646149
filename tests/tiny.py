"""Small real parts for tests of the loop: pictures of rendered people on disk, a small estimator, a whole run.

``python -m tests.tiny DATA RUN EPOCH BATCH EPOCHS THREADS`` is a training run of EPOCHS that kills itself at a
batch; tests resume what it leaves.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from scipy.io import savemat

from callbacks import EMA, EpochTable, Gallery, Refresh
from datamodules.pose import PoseDataModule, ReaderConfig
from datamodules.sources import PoolSource, RealSource, RenderedSource
from human.batch import PoseBatch
from human.body import load_body
from human.motion import load_motion_bank
from human.skeleton import convert
from lightning_modules import HMR
from synth.eem import EEM
from synth.engines.build import make_engine
from synth.filters import Err3DFilter
from synth.scene import SceneConfig, sample_scene
from synth.variation import VariationConfig

SIZE, STEPS, BATCH = 64, 4, 6
CHEAP = {"supersample": 1}


def rendered_people(seeds: range, size: int = SIZE) -> PoseBatch:
    """Whole people with every label, one per seed."""
    engine = make_engine("rendered", size, "procedural", CHEAP)
    scene = SceneConfig(truncation_probability=0.0)
    return engine.render(sample_scene(seeds, load_motion_bank(), load_body(), size, scene))


def tiny_hmr(**changes: Any) -> HMR:
    """About 100,000 weights; the same ones every time."""
    torch.manual_seed(0)
    options = {"backbone": "test_efficientnet", "image_size": SIZE, "hidden": 32, "channels": 8}
    return HMR(**{**options, "lr": 1e-3, "warmup_steps": 1, **changes})


def write_lspet(folder: Path, seeds: range) -> Path:
    """An LSPET folder of rendered people with their true joints; those outside the picture are unlabelled junk."""
    (folder / "images").mkdir(parents=True)
    batch = rendered_people(seeds, 96)
    joints, conf = convert(batch.joints2d.numpy(), batch.joints2d_conf.numpy(), "pose32", "lsp14")
    table = np.concatenate([joints, conf[..., None]], -1)
    table[conf == 0, :2] = -37.0
    for k, image in enumerate(batch.image):
        picture = image.permute(1, 2, 0).contiguous().numpy()[..., ::-1]
        cv2.imwrite(str(folder / "images" / f"im{k + 1:05d}.jpg"), picture)
    savemat(folder / "joints.mat", {"joints": table.transpose(1, 2, 0)})
    return folder


def write_data(folder: Path) -> Path:
    """What :func:`tiny_data` reads: ``train`` and ``val``."""
    write_lspet(folder / "train", range(14))
    write_lspet(folder / "val", range(100, 105))
    return folder


def tiny_data(folder: Path, run: Path, **changes: Any) -> PoseDataModule:
    train, val = {"root": str(folder / "train")}, {"root": str(folder / "val")}
    options: dict[str, Any] = {
        "sources": [
            RealSource("lspet", train, name="real", weight=0.3),
            PoolSource(weight=0.4),
            RenderedSource(weight=0.3, backgrounds="procedural", options=CHEAP),
        ],
        "mine": [ReaderConfig("lspet", train)],
        "validate": [ReaderConfig("lspet", val, "val")],
        "image_size": SIZE,
        "batch_size": BATCH,
        "steps_per_epoch": STEPS,
        "workers": 0,
        "pool": str(run / "pool"),
    }
    return PoseDataModule(**{**options, **changes})


def tiny_refresh(**changes: Any) -> Refresh:
    options: dict[str, Any] = {
        "samples": 6,
        "backgrounds": "procedural",
        "engine_options": CHEAP,
        "eem": EEM(challenges=3, references=2, min_joints=6, batch_size=8),
        "variation": VariationConfig(best_of=2),
        "filter": Err3DFilter(tau=None),
    }
    # Of a single reference the looks are taken over: each takes a third of a second.
    options["appearances"] = 1
    return Refresh(**{**options, **changes})


class Recorder(Callback):
    """Keeps every training batch, and says when it came: (epoch, batch)."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, PoseBatch]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: PoseBatch, batch_idx: int) -> None:
        self.batches.append((trainer.current_epoch, batch))


class KillAt(Callback):
    """SIGKILL to this very process within a step: what it was at is lost, the checkpoint of the step before is
    there.
    """

    def __init__(self, epoch: int, batch_idx: int) -> None:
        self.at = (epoch, batch_idx)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: PoseBatch, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def tiny_trainer(run: Path, *more: Callback, epochs: int = 2, **options: Any) -> L.Trainer:
    """The quickstart's callbacks, on the CPU, with a checkpoint of every step."""
    torch.manual_seed(0)
    every_step = ModelCheckpoint(
        run / "steps", filename="{step}", auto_insert_metric_name=False, every_n_train_steps=1, save_top_k=-1
    )
    every_epoch = ModelCheckpoint(
        run / "epochs", filename="{epoch}", auto_insert_metric_name=False, save_top_k=-1, save_on_train_epoch_end=True
    )
    callbacks = [EMA(decay=0.9), *more, EpochTable(), Gallery(count=4, columns=2), every_step, every_epoch]
    defaults: dict[str, Any] = {
        "default_root_dir": run,
        "accelerator": "cpu",
        "max_epochs": epochs,
        "num_sanity_val_steps": -1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "gradient_clip_val": 1.0,
    }
    return L.Trainer(callbacks=callbacks, **{**defaults, **options})


def main() -> None:
    data, run, (epoch, batch, epochs) = Path(sys.argv[1]), Path(sys.argv[2]), map(int, sys.argv[3:])
    trainer = tiny_trainer(run, tiny_refresh(), KillAt(epoch, batch), epochs=epochs)
    trainer.fit(tiny_hmr(), datamodule=tiny_data(data, run))


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv.pop()))  # sums round differently with another number
    main()
