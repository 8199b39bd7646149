"""``python -m tests.callbacks.background_shards PORT``: parts of a refresh from an estimator that two ranks share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh

from callbacks.background_worker import Parts, pack, unpack
from human.batch import PoseBatch
from lightning_modules import HMR
from lightning_modules.sharding import shard, whole_weights
from tests.tiny import SIZE, tiny_data, tiny_hmr, tiny_refresh


def travelled(model: HMR) -> Parts:
    nowhere = Path("nowhere")
    return unpack(pack(tiny_refresh(), tiny_data(nowhere, nowhere), model), torch.device("cpu"))


def main(rank: int, port: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model = tiny_hmr()
    named, blank = model.weights_hash(), PoseBatch.blank(2, SIZE)
    shard(model, init_device_mesh("cpu", (2,)))
    with whole_weights(model):
        if rank == 0:
            there = travelled(model).estimator
            there.load_state_dict(model.trained_state(), strict=False)
            assert there.weights_hash() == named
            with torch.inference_mode():
                assert torch.equal(there.predict(blank).joints3d, model.eval().predict(blank).joints3d)
    assert type(travelled(model).estimator) is HMR  # in shards too, as when a run is resumed
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(main, (sys.argv[1],), nprocs=2)
