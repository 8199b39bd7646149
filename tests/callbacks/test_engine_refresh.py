"""Whole runs that refresh with a generative engine: mined, planned, painted by real networks of no size, checked,
filtered, committed, and trained on by the epoch that follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from callbacks import Refresh
from datamodules.crops import Augmentation
from datamodules.pose import PoseDataModule
from datamodules.sources import PoolSource, RealSource
from human.batch import PoseBatch
from synth.eem import EEM
from synth.engines.build import make_image_engine
from synth.filters import Err3DFilter
from synth.sample import LABEL_SHAPES
from tests.synth.diffusion import tiny, tiny_video
from tests.tiny import CHEAP, SIZE, Recorder, tiny_data, tiny_hmr, tiny_refresh, tiny_trainer

SAMPLES, EPOCHS = 5, 2
TAU = 400.0  # mm: between the errors that the untrained estimator makes
#: What plans the jobs: single pictures about mocap's poses, as Pose++; clips of continued motions, as PoseSyn.
PLANS: dict[str, dict[str, Any]] = {
    "controlnet": {"synthesiser": "pose_space", "synthesiser_options": {"heading": "random"}, "reference_p": 0.0},
    "animate": {"synthesiser": "msm", "synthesiser_options": {"clip_frames": 5}, "reference_p": 1.0},
}


@dataclass
class Ran:
    refresh: Refresh
    recorder: Recorder
    data: PoseDataModule
    trainer: Any


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Of each engine, with its weights."""
    folder = tmp_path_factory.mktemp("models")
    sdxl = tiny.unet_sdxl()
    controlnet = {
        "model": str(tiny.save_sdxl(folder / "sdxl")),
        "depth": str(tiny.save(tiny.controlnet(sdxl, 12), folder / "depth")),
        "keypoints": str(tiny.save(tiny.controlnet(sdxl, 13), folder / "keypoints")),
        "resolution": tiny.SIDE,
    }
    animate = {"model": str(tiny_video.save_wan_animate(folder / "wan")), "area": 32 * 32}
    return {
        name: {**own, "steps": 2, "device": "cpu", "dtype": "fp32"}
        for name, own in (("controlnet", controlnet), ("animate", animate))
    }


def fit(folder: Path, run: Path, engine: str, own: dict[str, Any]) -> Ran:
    refresh = tiny_refresh(
        engine=engine,
        engine_options=own,
        samples=SAMPLES,
        eem=EEM(challenges=3, references=2, min_joints=6, batch_size=8),
        checks=["not_blank"],
        filter=Err3DFilter(tau=TAU),
        **PLANS[engine],
    )
    sources = [
        RealSource("lspet", {"root": str(folder / "train")}, name="real", weight=0.4),
        PoolSource(weight=0.6, augmentation=Augmentation(0, 0, 0, 0, 0, 0, 0, 0)),
    ]
    recorder, module = Recorder(), tiny_data(folder, run, validate=[], sources=sources)
    trainer = tiny_trainer(run, refresh, recorder, epochs=EPOCHS, num_sanity_val_steps=0)
    trainer.fit(tiny_hmr(), datamodule=module)
    return Ran(refresh, recorder, module, trainer)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["controlnet", "animate"])
def test_a_run_trains_on_what_the_engine_paints(
    data: Path, tmp_path: Path, options: dict[str, dict[str, Any]], engine: str
) -> None:
    ran = fit(data, tmp_path / "run", engine, options[engine])
    pool = ran.data.pool
    assert [e.get("failed") for e in ran.refresh.history] == [None] * EPOCHS
    for number, (entry, info) in enumerate(zip(ran.refresh.history, pool.generations(), strict=True)):
        assert (entry["generation"], entry["made"]) == (number, SAMPLES) == (info.generation, info.count)
        rows = pool.provenance(info.generation)
        assert set(rows.column("engine").to_pylist()) == {engine}
        errors, passed = np.array(rows.column("err3d")), np.array(rows.column("passed"))
        assert np.isfinite(errors).all()
        assert passed.tolist() == (errors <= TAU).tolist()  # no picture of noise is blank: the check lets all pass
        assert entry["passed"] == passed.sum() > 0
        # The epoch after a refresh draws from it: the pool's pictures, with their labels.
        trained = PoseBatch.cat([b for e, b in ran.recorder.batches if e == number])
        fresh = (trained.key[:, 0] == 1) & (trained.key[:, 1] == number)
        drawn = trained.key[fresh, 2].numpy()
        assert len(drawn) > 0
        assert torch.equal(trained.image[fresh], pool.read(number, drawn).image)
    assert torch.isfinite(ran.trainer.callback_metrics["loss/total"])
    # The rendering engine, given the very jobs, labels its pictures the same to the last bit.
    refresher, begun, people = ran.refresh.refresher(SIZE), tiny_hmr(), ran.data.mining_data
    mined = refresher.mine(begun, people, number=0, seed=ran.data.seed)
    plan = refresher.plan(begun, people, mined, number=0, seed=ran.data.seed, tpe_hash=begun.weights_hash())
    jobs = plan.jobs
    assert [len(j.scene) > 1 for j in jobs] == [engine == "animate"] * SAMPLES
    rows = pool.provenance(0).to_pylist()
    assert {r["seed"] for r in rows} == {j.seed for j in jobs}
    kept = [next(j for j in jobs if j.seed == r["seed"]) for r in rows if r["passed"]]
    ours = pool.read(0, np.arange(len(kept)))
    theirs = PoseBatch.cat(make_image_engine("rendered", SIZE, "procedural", CHEAP).make(kept))
    for name in LABEL_SHAPES:
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert not any(torch.equal(a, b) for a, b in zip(ours.image, theirs.image, strict=True))
