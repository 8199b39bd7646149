"""What the loop costs: ``python -m benchmarks.loop`` prints one JSON line, for refreshes inline.

* ``trainer_wait_fraction``: share of the training time in which the step waited for data, all samples from the pool,
  one loader process, second epoch (the first pays for starting that process)
* ``eem_over_forward``: persons mined per second over pictures per second of the bare forward pass, same weights and
  batch
* ``rendered_per_second_128``: full samples (pose, body, clothes, light, background, sensor) per second in one process
* ``refresh_seconds``: mining, synthesising, filtering and committing 256 samples, and its parts
* ``train_per_second``: pictures trained on per second in that second epoch

``--mode background`` measures :mod:`benchmarks.background` instead.

Runs the shipped estimator on the quickstart's data; on the GPU where there is one.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger

from callbacks import EMA, EpochTable, Refresh
from datamodules.pose import PoseDataModule, ReaderConfig
from datamodules.sources import PoolSource, RenderedSource
from human.batch import PoseBatch
from lightning_modules import HMR
from synth.eem import EEM, inference
from synth.filters import Err3DFilter

FROZEN = ["conv_stem", "bn1", "blocks.0", "blocks.1"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("inline", "background"), default="inline")
    parser.add_argument("--rounds", type=int, default=3, help="background: runs of each kind, in turn")
    parser.add_argument("--epochs", type=int, default=4, help="background: of each run; the first two do not count")
    parser.add_argument("--steps", type=int, default=40, help="background: of an epoch")
    parser.add_argument("--samples", type=int, default=256, help="background: of a refresh")
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    with tempfile.TemporaryDirectory() as folder:
        if args.mode == "background":
            from benchmarks.background import background

            print(json.dumps(background(Path(folder), args.rounds, args.epochs, args.steps, args.samples)))
        else:
            print(json.dumps({**rendering(), **loop(Path(folder))}))


def rendering(seconds: float = 15.0, batch: int = 64) -> dict[str, Any]:
    """Samples per second of the per-step source, in this process on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    source = RenderedSource()
    source.prepare(128, Path())
    keys = np.zeros((batch, 4), np.int64)
    made, start = -batch, 0.0
    while made < 0 or time.perf_counter() - start < seconds:
        keys[:, 3] = np.arange(made, made + batch) + batch
        source.fetch(keys)
        made += batch
        if made == 0:  # the first batch compiled kernels and read pictures
            start = time.perf_counter()
    rate = made / (time.perf_counter() - start)
    torch.set_num_threads(threads)
    return {"rendered_per_second_128": round(rate, 1)}


def loop(folder: Path, steps: int = 40, batch: int = 64) -> dict[str, Any]:
    """Two epochs of training on pooled samples with a refresh before each, then mining against the forward pass."""
    mined = [ReaderConfig("pose2sim"), ReaderConfig("sports2d")]
    data = PoseDataModule(
        sources=[PoolSource()],
        mine=mined,
        batch_size=batch,
        steps_per_epoch=steps,
        workers=1,
    )
    refresh = Refresh(samples=256, eem=EEM(challenges=64, references=32), filter=Err3DFilter(tau=None))
    table = EpochTable(show=False)
    model = HMR(checkpoint="packaged:hmr_free_128", frozen=FROZEN)
    trainer = L.Trainer(
        max_epochs=2,
        logger=CSVLogger(folder),
        callbacks=[EMA(0.99), refresh, table],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
    )
    trainer.fit(model, data)
    seconds, last = table.rows[-1]["seconds"], refresh.history[-1]
    return {
        "trainer_wait_fraction": round(seconds["wait"] / seconds["train"], 4),
        "train_per_second": round(steps * batch / seconds["train"], 1),
        "refresh_seconds": round(last["seconds"], 2),
        "refresh_stages": {k: round(v, 2) for k, v in last["stages"].items()},
        "refresh_samples": last["made"],
        **mining(model, data),
        "device": str(model.device) if model.device.type == "cpu" else torch.cuda.get_device_name(),
    }


def mining(model: HMR, data: PoseDataModule, batch: int = 128, passes: int = 6, rounds: int = 4) -> dict[str, Any]:
    """EEM against ``predict`` on one ready batch; rounds of both in turn, medians, since the machine may be shared."""
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    crops = data.mining_data
    rows = np.resize(np.arange(len(crops)), batch * passes)
    eem = EEM(batch_size=batch)
    ready: PoseBatch = crops.crops(rows[:batch]).to(model.device)
    ratios, rates = [], []
    for number in range(rounds + 1):
        with inference(model):
            start = time.perf_counter()
            for _ in range(passes):
                model.predict(ready).cpu()
            bare = len(rows) / (time.perf_counter() - start)
        start = time.perf_counter()
        eem.score(model, crops, rows)
        mined = len(rows) / (time.perf_counter() - start)
        if number:  # the first round warms up
            ratios.append(mined / bare)
            rates.append(mined)
    return {
        "eem_over_forward": round(float(np.median(ratios)), 3),
        "mined_per_second": round(float(np.median(rates)), 1),
    }


if __name__ == "__main__":
    main()
