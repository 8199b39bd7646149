"""Predictions of the persons of data sets, kept on disk as they are made, and the tables that come of them.

FOLDER/predictions/SET/*.npz   parts (``metrics.prediction_files``); a killed run goes on after the last
FOLDER/benchmark.{json,csv,md,tex}
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from datamodules.benchmark import BenchmarkData, BenchmarkLoader
from human.batch import PoseBatch
from human.errors import PosesynError
from human.full_frame import crop_to_picture, joints_in_picture, transl_in_picture
from human.prediction import Prediction
from lightning_modules.base import PoseEstimator
from metrics.prediction_files import join, read_predictions, write_predictions
from metrics.protocols import protocols_of
from metrics.report import Measured, measure
from metrics.truth import Predictions

#: Persons, and seconds, after which a part is written.
PART_PERSONS, PART_SECONDS = 2048, 60.0


class Benchmark(Callback):
    """Keeps what an estimator predicts in ``test``, and makes tables of it at the end.

    Args:
        folder: where to; default: ``benchmark`` in the run folder.
        overwrite: drop predictions there that another estimator, or other settings, made; else they are an error.
        explain: define the protocols, and say how they move the figure.
        tables: false: only keep predictions.
    """

    def __init__(
        self, folder: str | None = None, overwrite: bool = False, explain: bool = False, tables: bool = True
    ) -> None:
        self.given, self.overwrite, self.explain, self.tables = folder, overwrite, explain, tables
        self.folder = Path(folder or "benchmark")
        self._waiting: dict[str, list[Predictions]] = {}
        self._written = 0.0
        self._parts = 0
        self._maker: dict[str, Any] = {}
        self._names: list[str] = []
        self._data: BenchmarkData | None = None

    def set_folder(self, name: str) -> Path:
        return self.folder / "predictions" / name

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        whole = getattr(trainer, "datamodule", None)
        data: BenchmarkData | None = getattr(whole, "benchmark", None)
        self._data = data
        if stage != "test" or data is None:
            return
        if self.given is None:
            self.folder = Path(trainer.log_dir or trainer.default_root_dir) / "benchmark"
        assert isinstance(pl_module, PoseEstimator)
        self._names = list(data.readers)
        self._maker = {
            "estimator": type(pl_module).__name__,
            "weights": pl_module.weights_hash(),
            "image_size": data.size,
            "box_scale": data.box_scale,
        }
        before = {name: self._before(name) for name in self._names}
        trainer.strategy.barrier("benchmark looked at")
        if trainer.is_global_zero:
            for _, stale in before.values():
                for path in stale:
                    path.unlink()
        trainer.strategy.barrier("benchmark")
        data.done = lambda name: before[name][0]

    def _before(self, name: str) -> tuple[set[str], list[Path]]:
        """Persons of whom these weights' predictions are there, and files of others, which are to go."""
        done: set[str] = set()
        stale: list[Path] = []
        for path in sorted(self.set_folder(name).glob("*.npz")):
            said, maker = read_predictions(path)
            differs = [key for key, value in self._maker.items() if maker.get(key) != value]
            if not differs:
                done.update(said.ids)
            elif self.overwrite:
                stale.append(path)
            else:
                raise PosesynError(
                    f"{path.parent} holds predictions that were made differently ({', '.join(differs)}): choose "
                    "another --out, or say --overwrite"
                )
        return done, stale

    def load(self, name: str) -> Predictions:
        """What was predicted of a set so far."""
        paths = sorted(self.set_folder(name).glob("*.npz"), key=lambda p: (p.stat().st_mtime_ns, p.name))
        return join([read_predictions(p)[0] for p in paths])

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: PoseBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._names:
            return
        loaders = trainer.test_dataloaders
        loader = loaders[dataloader_idx] if isinstance(loaders, list) else loaders
        assert isinstance(loader, BenchmarkLoader)
        assert isinstance(pl_module, PoseEstimator)
        name = self._names[dataloader_idx]
        said = in_picture(pl_module, outputs, batch, loader)
        if len(said):
            self._waiting.setdefault(name, []).append(said)
        if not self._written:
            self._written = time.monotonic()
        if (
            sum(map(len, self._waiting.get(name, ()))) >= PART_PERSONS
            or time.monotonic() - self._written > PART_SECONDS
        ):
            self._flush()

    def _flush(self) -> None:
        for name, parts in self._waiting.items():
            file = f"{time.time_ns()}-{os.getpid()}-{self._parts}.npz"
            write_predictions(self.set_folder(name) / file, join(parts), self._maker)
            self._parts += 1
        self._waiting, self._written = {}, time.monotonic()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._flush()
        trainer.strategy.barrier("benchmark predictions")
        if self.tables and self._data is not None and trainer.is_global_zero:
            sets = {}
            for name, reader in self._data.readers.items():
                protocols = [p for p in protocols_of(reader.name) if p.split == reader.split and not p.options]
                sets[name] = Measured(reader.truth(), protocols, self.load(name))
            lines = measure(sets, self.folder, self.maker, Console(), self.explain)
            found = {f"test/{n.dataset}/{n.protocol.name}/{n.figure.metric}": n.figure.value for n in lines}
            for logger in trainer.loggers:
                logger.log_metrics({k: v for k, v in found.items() if math.isfinite(v)})

    @property
    def maker(self) -> Mapping[str, Any]:
        """What the predictions depend on: the estimator's name, its weights' hash, the crops."""
        return self._maker


@torch.no_grad()
def in_picture(estimator: PoseEstimator, outputs: Prediction, batch: PoseBatch, loader: BenchmarkLoader) -> Predictions:
    """Predictions of crops carried to the whole pictures; persons whose picture could not be read are left out."""
    index = loader.crops.reader.index
    good = (batch.weight > 0).cpu().numpy()
    rows = batch.key[:, 2].cpu().numpy()[good]
    if not len(rows):
        return Predictions([])
    prediction = outputs.cpu()[torch.from_numpy(np.flatnonzero(good))]
    back = torch.stack([crop_to_picture(loader.crops.affine(int(r))) for r in rows])
    cameras = back @ batch.intrinsics.cpu()[torch.from_numpy(good)]
    pelvis = transl_in_picture(prediction.transl, prediction.intrinsics, back, cameras)
    pose = torch.cat([prediction.global_orient[:, None], prediction.body_pose], 1)
    betas = prediction.betas.to(estimator.body.v_template)
    still = betas.new_zeros(len(rows), 23, 3), betas.new_zeros(len(rows), 3)
    rest = estimator.body.joints(betas, *still)[:, 0].cpu()
    # Boxes of a detector: the evaluation looks for their persons itself.
    detected = "score" in index.extras
    return Predictions(
        ids=[index.ids[int(r)] for r in rows],
        body=estimator.body_name,
        pose=pose.numpy(),
        betas=prediction.betas.numpy(),
        transl=(pelvis - rest).numpy(),
        joints3d=(prediction.joints3d + pelvis[:, None]).numpy(),
        joints2d=joints_in_picture(prediction.joints2d, back).numpy(),
        score=np.asarray(index.extras["score"][rows], np.float64) if detected else None,
        pictures=[loader.crops.reader.pictures[int(r)] for r in rows] if detected else [],
    )
