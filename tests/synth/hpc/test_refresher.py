"""Diffusion-HPC from mined people, or from words, to the pool: real networks at tiny size, nothing replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from human.errors import PosesynError
from human.prediction import Prediction
from synth.eem import EEM
from synth.engines.build import make_image_engine
from synth.filters import Err3DFilter
from synth.hpc.prompts import MPII_LEFT_OUT
from synth.hpc.refresher import HPCRefresher, HPCSettings
from synth.labels import label_scenes
from synth.pool import Pool
from synth.refresh import Refreshed
from tests.synth.diffusion import tiny
from tests.synth.people import People
from tests.tiny import SIZE, rendered_people, tiny_hmr


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {"model": str(tiny.save_sd_depth(folder / "depth")), "text_model": str(tiny.save_sd(folder / "sd"))}


class Sharp(People):
    """People whose pictures are to be had at any size."""

    def picture(self, index: int, side: int) -> np.ndarray:
        return np.full((side, side, 3), 20 * index, np.uint8)


class Active(Sharp):
    """People of whom it is known what they do."""

    @property
    def activities(self) -> list[str]:
        return [MPII_LEFT_OUT[0], "polevault", "", "polevault", "polevault", "polevault"]


def refresher(models: dict[str, str], mode: str = "TR", samples: int = 12, **hpc: Any) -> HPCRefresher:
    options = {"mode": mode, "resolution": 64, "steps": 3, "device": "cpu", **models}
    settings = {"mode": mode, "resolution": 64, "hardness": None, "inside": 0.0, "actions": ["diving"], **hpc}
    return HPCRefresher(
        engine=make_image_engine("depth2img", SIZE, options=options),
        samples=samples,
        eem=EEM(challenges=4, references=0, min_joints=4),
        filter=Err3DFilter(tau=None),
        hpc=HPCSettings(**settings),
    )


def run(
    made: HPCRefresher, pool: Pool, estimator: Any = None, people: People | None = None, **changes: Any
) -> Refreshed:
    given = {"generation": 1, "number": 0, "seed": 5, "tpe_hash": "abc", **changes}
    return made.run(estimator or tiny_hmr(), people or Sharp(rendered_people(range(6))), pool, **given)


def test_three_samples_a_picture_reach_the_pool(models: dict[str, str], tmp_path: Path) -> None:
    made = refresher(models)
    done = run(made, Pool(tmp_path / "pool"))
    assert done.info is not None
    assert (done.info.count, done.info.passed) == (12, 12)
    assert done.info.synthesiser == made.made_by
    assert {k: done.report[k] for k in ("not_recovered", "easy", "outside", "pictures", "jobs")} == {
        "not_recovered": 0, "easy": 0, "outside": 0, "pictures": 4, "jobs": 12,
    }  # fmt: skip
    rows = Pool(tmp_path / "pool").provenance(1)
    assert set(rows.column("engine").to_pylist()) == {"depth2img"}
    assert set(rows.column("tpe").to_pylist()) == {"abc"}
    people = rows.column("challenge_id").to_pylist()
    assert sorted(people.count(p) for p in set(people)) == [3, 3, 3, 3]
    assert rows.column("reference_id").to_pylist() == people
    assert all("diving" in c for c in rows.column("caption").to_pylist())


def test_the_pools_labels_are_the_plans(models: dict[str, str], tmp_path: Path) -> None:
    made, estimator, people = refresher(models), tiny_hmr(), Sharp(rendered_people(range(6)))
    run(made, Pool(tmp_path / "pool"), estimator, people)
    mined = made.mine(estimator, people, number=0, seed=5)
    plan = made.plan(estimator, people, mined, number=0, seed=5, tpe_hash="abc")
    kept = Pool(tmp_path / "pool").read(1, np.arange(12))
    for row, job in enumerate(plan.jobs):
        label = label_scenes(job.kept, torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8))
        assert torch.equal(kept.body_pose[row], label.body_pose[0])
        assert torch.allclose(kept.joints2d[row], label.joints2d[0], atol=1e-3)
        assert job.reference is not None
        assert job.reference.image.shape == (64, 64, 3)  # larger than the crop, as the data can give it
    assert np.std([float(i.float().mean()) for i in kept.image]) > 0


def test_data_without_larger_pictures_give_their_crops(models: dict[str, str]) -> None:
    made, estimator, people = refresher(models), tiny_hmr(), People(rendered_people(range(6)))
    mined = made.mine(estimator, people, number=0, seed=5)
    plan = made.plan(estimator, people, mined, number=0, seed=5, tpe_hash="")
    assert {j.reference.image.shape for j in plan.jobs if j.reference} == {(SIZE, SIZE, 3)}


def test_samples_are_the_most(models: dict[str, str], tmp_path: Path) -> None:
    done = run(refresher(models, samples=5), Pool(tmp_path / "pool"))
    assert done.info is not None
    assert done.info.count == 5


class _Broken(nn.Module):
    """Predicts NaN for everybody, after having been mined with."""

    def __init__(self) -> None:
        super().__init__()
        self.real = tiny_hmr()

    def predict(self, batch: Any) -> Prediction:
        said = self.real.predict(batch)
        return replace(said, body_pose=said.body_pose * torch.nan)


def test_nobody_recovered_says_so_and_commits_nothing(models: dict[str, str], tmp_path: Path) -> None:
    made = refresher(models)
    people = Sharp(rendered_people(range(6)))
    mined = made.mine(tiny_hmr(), people, number=0, seed=5)
    assert mined.predictions is not None
    blind = replace(mined, predictions=replace(mined.predictions, betas=mined.predictions.betas * torch.nan))
    with pytest.raises(PosesynError, match=r"no mesh .*'not_recovered': 4"):
        made.plan(tiny_hmr(), people, blind, number=0, seed=5, tpe_hash="")
    with pytest.raises(PosesynError, match="'easy': 4"):
        run(refresher(models, hardness=1e9), Pool(tmp_path / "pool"))
    done = run(made, Pool(tmp_path / "other"), _Broken())  # nobody is mined: nothing is planned
    assert done.info is None
    assert Pool(tmp_path / "pool").generations() == Pool(tmp_path / "other").generations() == []


def test_words_alone(models: dict[str, str], tmp_path: Path) -> None:
    """The tiny network's pictures show nobody: the whole picture is taken for the crop of one person."""
    made = refresher(models, mode="T", samples=4, detector="whole")
    done = run(made, Pool(tmp_path / "pool"))
    assert done.info is not None
    assert done.info.count == 4
    assert done.report["initial"] == 2
    rows = Pool(tmp_path / "pool").provenance(1)
    assert all(r.startswith("made:5/0/") for r in rows.column("reference_id").to_pylist())


def test_words_alone_are_about_what_the_mined_people_do(models: dict[str, str], tmp_path: Path) -> None:
    made, people = (
        refresher(models, mode="T", samples=9, detector="whole", actions=[]),
        Active(rendered_people(range(6))),
    )
    run(made, Pool(tmp_path / "pool"), people=people)
    said = Pool(tmp_path / "pool").provenance(1).column("caption").to_pylist()
    assert all("pole vault" in caption for caption in said)  # not what no pictures are made of


def test_planner_and_engine_agree_on_the_mode(models: dict[str, str]) -> None:
    with pytest.raises(PosesynError, match="set both to the same"):
        HPCRefresher(make_image_engine("depth2img", SIZE, options={**models, "mode": "R"}), hpc=HPCSettings(mode="TR"))
    rendered = make_image_engine("rendered", SIZE, "procedural", {"supersample": 1})
    with pytest.raises(PosesynError, match="mode T"):
        HPCRefresher(rendered, hpc=HPCSettings(mode="T"))
    with pytest.raises(PosesynError, match="T, R or TR"):
        HPCSettings(mode="text")
    with pytest.raises(PosesynError, match="few_shot"):
        HPCSettings(prompts="poem")


def test_any_engine_pictures_the_same_people(models: dict[str, str], tmp_path: Path) -> None:
    mine = refresher(models)
    theirs = replace(mine, engine=make_image_engine("rendered", SIZE, "procedural", {"supersample": 1}))
    pools = [Pool(tmp_path / name) for name in ("mine", "theirs")]
    for made, pool in zip((mine, theirs), pools, strict=True):
        run(made, pool)
    one, two = (p.read(1, np.arange(12)) for p in pools)
    for name, value in one.as_dict().items():
        assert torch.equal(value, getattr(two, name)) == (name != "image"), name
