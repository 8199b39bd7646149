"""``python -m tests.callbacks.rank_runs DATA RUNS.json``: runs of the loop on two CPU ranks, one after another; each
rank writes what it trained on and what came of it to its run's folder.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from callbacks import EMA, EpochTable, Guard, Refresh
from callbacks.refresh import data_of
from human.prediction import Estimator
from lightning_modules import PoseEstimator
from lightning_modules.hmr2_losses import HMR2LossWeights
from lightning_modules.optimisation import Optimisation
from lightning_modules.smpl_decoder import DecoderConfig
from lightning_modules.vit import ViTConfig
from synth.eem import EEM
from synth.intake import Judged
from synth.jobs import Job
from synth.pool import Pool
from synth.refresh import Refresher
from tests.lightning_modules.tiny_estimators import make
from tests.tiny import BATCH, Recorder, tiny_data, tiny_refresh, tiny_trainer

#: Plain gradient descent: what Adam makes of a gradient near 0 is another number with another order of sums.
SGD = Optimisation(optimizer="sgd", momentum=0.9, schedule="cosine")


def steady_model(adversary: float = 0.01) -> PoseEstimator:
    """Nothing in it depends on what else is in the rank's batch: no batch statistics, no dropout. With an adversary."""
    return make(
        "hmr2",
        backbone=ViTConfig(width=32, depth=2, heads=2, drop_path=0.0),
        decoder=DecoderConfig(width=32, depth=1, heads=2, head_width=16, mlp_width=32, dropout=0.0),
        loss=HMR2LossWeights(joints2d=0.5, joints3d=0.5, pose=0.05, betas=0.01, adversary=adversary),
        optimisation=SGD,
        lr=0.1,
        warmup_steps=1,
    )


def spread_refresh(**changes: Any) -> Refresh:
    """Four batches are scored, two of challenges predicted, three portions made: more than there are ranks."""
    options: dict[str, Any] = {
        "eem": EEM(challenges=5, references=2, min_joints=6, batch_size=4),
        "checks": [{"name": "not_blank"}],
        "render_batch": 2,
        "samples": 5,
    }
    return tiny_refresh(**{**options, **changes})


class Remember(Callback):
    """What the first refresh found, and the pool as it left it (``pool_begun``); list it after ``Refresh``."""

    mined: dict[str, Any]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        refresh = next(c for c in trainer.callbacks if isinstance(c, Refresh))  # type: ignore[attr-defined]
        self.mined = {}
        if refresh.last is not None and refresh.count == 1:
            pool = data_of(trainer).pool_path
            shutil.copytree(pool, pool.with_name("pool_begun"))
            found = refresh.last.mined
            assert found.predictions is not None
            self.mined = {
                "errors": torch.from_numpy(found.errors),
                "challenges": torch.from_numpy(found.challenges.copy()),
                "references": torch.from_numpy(found.references.copy()),
                "joints": found.predictions.joints3d,
            }


class Faulty(Refresh):
    """Fails in its second refresh where rank 1 scores, in its third where it makes, in its fourth where rank 0
    commits.
    """

    def refresher(self, image_size: int) -> Refresher:
        made = super().refresher(image_size)
        if not isinstance(made, FaultyRefresher):
            made.__class__ = FaultyRefresher
            made.host = self  # type: ignore[attr-defined]
        return made


class FaultyRefresher(Refresher):
    host: Faulty

    def make_portion(self, estimator: Estimator, jobs: Sequence[Job]) -> Judged:
        judged = super().make_portion(estimator, jobs)
        if self.host.count == 2 and torch.distributed.get_rank() == 1:
            raise OSError("no picture today")
        return judged


class FaultyEEM(EEM):
    host: Faulty

    def score_batch(self, *given: Any) -> tuple[np.ndarray, int, int]:
        if self.host.count == 1 and torch.distributed.get_rank() == 1:
            raise OSError("a crop is gone")
        return super().score_batch(*given)


_COMMIT = Pool.commit


class FullDisk(Callback):
    """Rank 0 cannot commit the generation of the fourth refresh; list it before ``Refresh``."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        refresh = next(c for c in trainer.callbacks if isinstance(c, Refresh))  # type: ignore[attr-defined]
        if refresh.count == 3:
            Pool.commit = _no_space  # type: ignore[assignment,method-assign]

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        Pool.commit = _COMMIT  # type: ignore[method-assign]


def _no_space(pool: Pool, generation: int, samples: Any, *how: Any) -> Any:
    next(iter(samples))
    raise OSError(28, "No space left on device")


def faulty_refresh() -> Faulty:
    like = spread_refresh()
    eem = FaultyEEM(challenges=5, references=2, min_joints=6, batch_size=4)
    refresh = Faulty(
        samples=like.samples,
        backgrounds=like.backgrounds,
        engine_options=like.engine_options,
        eem=eem,
        variation=like.variation,
        filter=like.filter,
        appearances=1,
        render_batch=2,
    )
    eem.host = refresh
    return refresh


def train(
    data: Path,
    run: Path,
    ranks: int,
    epochs: int,
    resume: str | None = None,
    faulty: bool = False,
    strategy: str = "ddp",
) -> Path:
    """Trains, and writes ``rank_R.pt``; its path."""
    recorder, remember = Recorder(), Remember()
    model = steady_model(0.0 if strategy == "fsdp2" else 0.01)
    refresh = faulty_refresh() if faulty else spread_refresh()
    parts: list[Callback] = [FullDisk(), refresh] if faulty else [refresh]
    trainer = tiny_trainer(
        run,
        *parts,
        remember,
        recorder,
        Guard(),
        epochs=epochs,
        devices=ranks,
        strategy=strategy if ranks > 1 else "auto",
        use_distributed_sampler=False,
    )
    if strategy == "fsdp2":  # of shards there is no average
        trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, EMA)]  # type: ignore[attr-defined]
    module = tiny_data(data, run, batch_size=BATCH)
    trainer.fit(model, datamodule=module, ckpt_path=resume, weights_only=True if resume else None)
    table = next(c for c in trainer.callbacks if isinstance(c, EpochTable))  # type: ignore[attr-defined]
    out = run / f"rank_{trainer.global_rank}.pt"
    torch.save(
        {
            "batches": [b.as_dict() for _, b in recorder.batches],
            "mined": remember.mined,
            "weights": {} if strategy == "fsdp2" else dict(model.state_dict()),
            "rows": json.dumps(table.rows),
            "history": json.dumps(refresh.history),
            "recipe": json.dumps(module.recipe.state()),
            "logged": {k: float(v) for k, v in trainer.logged_metrics.items()},
        },
        out,
    )
    trainer.strategy.barrier()
    return out


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums round differently with another number
    where = Path(sys.argv[1])
    for options in json.loads(Path(sys.argv[2]).read_text()):
        train(where, Path(options.pop("run")), 2, **options)
