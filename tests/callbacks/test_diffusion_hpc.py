"""The fine-tuning recipe of Diffusion-HPC in a whole small run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from callbacks import DiffusionHPC
from datamodules.sources import PoolSource, RealSource
from human.batch import PoseBatch
from lightning_modules.losses import LossWeights
from synth.eem import EEM
from synth.filters import Err3DFilter
from synth.hpc.refresher import HPCSettings
from synth.pool import Pool
from tests.synth.diffusion import tiny
from tests.tiny import SIZE, Recorder, tiny_data, tiny_hmr, tiny_trainer, write_data


def hpc(model: str) -> DiffusionHPC:
    return DiffusionHPC(
        hpc=HPCSettings(resolution=64, hardness=None, inside=0.0, actions=["diving"]),
        samples=9,
        engine_options={"model": model, "resolution": 64, "steps": 3, "device": "cpu"},
        eem=EEM(challenges=3, references=0, min_joints=4),
        filter=Err3DFilter(tau=None),
        every=1000,
    )


@pytest.mark.parametrize("joints", [True, False])
def test_a_run_learns_from_its_own_meshes(tmp_path: Path, joints: bool) -> None:
    data = write_data(tmp_path / "data")
    callback = hpc(str(tiny.save_sd_depth(tmp_path / "depth")))
    seen = Recorder()
    module = tiny_data(
        data,
        tmp_path / "run",
        sources=[
            RealSource("lspet", {"root": str(data / "train")}, name="real", weight=0.25, use_3d=False),
            PoolSource(weight=0.75, joints=joints),
        ],
    )
    loss = LossWeights(joints3d=0.0, limits=0.0, shape_prior=0.0)
    trainer = tiny_trainer(tmp_path / "run", callback, seen, epochs=1)
    trainer.fit(tiny_hmr(loss=loss), datamodule=module)
    assert callback.history[0]["made"] == 9
    assert module.pool.read(callback.history[0]["generation"], np.arange(9)).size == SIZE
    batch = PoseBatch.cat([b for _, b in seen.batches])
    made = batch.key[:, 0] == 1
    assert 0 < made.float().mean() < 1
    assert bool(batch.has_pose[made].all())
    assert not bool(batch.has_pose[~made].any())
    assert bool((batch.joints2d_conf[made] > 0).any()) == joints
    assert bool((batch.joints2d_conf[~made] > 0).any())
    assert torch.isfinite(trainer.callback_metrics["loss/total"])
    if joints:
        large = module.mining_data.picture(3, 2 * SIZE)
        assert large is not None
        small = module.mining_data.crops(np.array([3])).image[0].permute(1, 2, 0).float()
        means = torch.from_numpy(large).float().reshape(SIZE, 2, SIZE, 2, 3).mean((1, 3))
        assert (means - small).abs().mean() < 8
        # A run that was killed before its first checkpoint finds its pictures in the pool.
        again = hpc(str(tmp_path / "depth"))
        tiny_trainer(tmp_path / "run", again, epochs=1, limit_train_batches=1).fit(
            tiny_hmr(loss=loss), datamodule=module
        )
        assert [g.count for g in Pool(tmp_path / "run" / "pool").generations()] == [9]
        assert again.history[0]["generation"] == callback.history[0]["generation"]
