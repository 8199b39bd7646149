"""``python -m tests.lightning_modules.strategies STRATEGY RANKS FOLDER NAME...``: estimators train two steps on ranks
of CPUs, each on its part of the batches of FOLDER/people.pt; rank 0 writes what became of the weights, and what they
predict, to FOLDER/STRATEGY.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from human.batch import PoseBatch
from lightning_modules.optimisation import Optimisation
from lightning_modules.sharding import whole_weights
from tests.lightning_modules.tiny_estimators import make

STEPS, BATCH = 2, 4
#: Plain gradient descent: what Adam makes of a gradient near 0 is another number with another order of sums.
SGD = Optimisation(optimizer="sgd", momentum=0.0, schedule="constant")


class Parts(L.LightningDataModule):
    """The batches of a run; rank r of n sees every n-th of their people."""

    def __init__(self, people: PoseBatch) -> None:
        super().__init__()
        self.people = people

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        whole = [self.people[slice(k * BATCH, (k + 1) * BATCH)] for k in range(STEPS)]
        return DataLoader([b[slice(rank, None, ranks)] for b in whole], batch_size=None)


def train(name: str, strategy: str, ranks: int, out: Path, people: PoseBatch) -> None:
    model = make(name, optimisation=SGD, lr=0.1, warmup_steps=0, weight_decay=0.0)
    trainer = L.Trainer(
        accelerator="cpu", devices=ranks, strategy=strategy, max_epochs=1, logger=False, gradient_clip_val=1.0,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    # In eval mode: statistics of half a batch and masks of dropout differ from those of a whole one.
    trainer.fit(model.eval(), datamodule=Parts(people))
    trainer.save_checkpoint(out / f"{name}.ckpt")
    with whole_weights(model):
        if trainer.is_global_zero:  # alone, as in mining
            with torch.inference_mode():
                said = model.predict(people)
            torch.save({"hash": model.weights_hash(), "joints3d": said.joints3d}, out / f"{name}.pt")
    trainer.strategy.barrier()


def main() -> None:
    torch.set_num_threads(1)
    strategy, ranks, folder, *names = sys.argv[1:]
    people = PoseBatch(**torch.load(Path(folder) / "people.pt", weights_only=True))
    for name in names:
        train(name, strategy, int(ranks), Path(folder) / strategy, people)


if __name__ == "__main__":
    main()
