"""``python -m tests.two_ranks DATA RUN [PERIOD]``: the tiny run on two CPU ranks, with PERIOD under domain adaptation;
each writes what it trained on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from lightning_modules import DomainConfusion
from tests.tiny import Recorder, tiny_data, tiny_hmr, tiny_refresh, tiny_trainer

if __name__ == "__main__":
    torch.set_num_threads(1)
    data, run = Path(sys.argv[1]), Path(sys.argv[2])
    recorder = Recorder()
    trainer = tiny_trainer(run, tiny_refresh(), recorder, devices=2, strategy="ddp", num_sanity_val_steps=0)
    model = tiny_hmr(domain=DomainConfusion(period=int(sys.argv[3])) if len(sys.argv) > 3 else None)
    trainer.fit(model, datamodule=tiny_data(data, run))
    said = {"keys": torch.stack([b.key for _, b in recorder.batches]), "weights": model.trained_state()}
    if model.domain is not None:
        said["mixer"] = model.domain.state_dict()
    torch.save(said, run / f"rank_{trainer.global_rank}.pt")
