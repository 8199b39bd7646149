"""One refresh, whole, at tiny size: mined, varied, rendered, filtered, committed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from human.batch import PoseBatch
from human.errors import PosesynError
from synth.eem import EEM
from synth.engines.build import make_engine
from synth.filters import Err3DFilter
from synth.pool import Pool
from synth.refresh import Refreshed, Refresher, slot_seed
from synth.synthesis import Challenges, Synthesised, Variation
from synth.synthesisers import make_synthesiser
from synth.variation import VariationConfig
from tests.synth.motion_pairs import save_pair
from tests.synth.people import People, Recall
from tests.tiny import CHEAP, SIZE, rendered_people, tiny_hmr

SAMPLES = 7
ROOT = Path(__file__).resolve().parents[2]


def make(**changes: Any) -> Refresher:
    options: dict[str, Any] = {
        "engine": make_engine("rendered", SIZE, "procedural", CHEAP),
        "samples": SAMPLES,
        "eem": EEM(challenges=3, references=4),
        "variation": VariationConfig(best_of=2),
        "filter": Err3DFilter(tau=None),
        "render_batch": 4,
    }
    return Refresher(**{**options, **changes})


@pytest.fixture(scope="module")
def data() -> People:
    return People(rendered_people(range(9)))


def refresh(
    pool: Pool, data: People, generation: int = 0, refresher: Refresher | None = None, **more: Any
) -> Refreshed:
    settings = {"generation": generation, "number": generation, "seed": 5, "tpe_hash": "abc", **more}
    return (refresher or make()).run(tiny_hmr().eval(), data, pool, **settings)


def rows(pool: Pool, generation: int = 0) -> list[dict[str, Any]]:
    return pool.provenance(generation).to_pylist()


def assert_same(a: PoseBatch, b: PoseBatch) -> None:
    for name, value in a.as_dict().items():
        assert torch.equal(value, b.as_dict()[name]), name


def test_a_generation_with_its_provenance(data: People, tmp_path: Path) -> None:
    pool, told = Pool(tmp_path / "pool"), []
    done = refresh(pool, data, progress=lambda *a: told.append(a))
    assert done.info is not None
    assert pool.generations() == [done.info]
    assert (done.info.count, done.info.passed, done.pass_rate) == (SAMPLES, SAMPLES, 1.0)
    table = rows(pool)
    assert {r["seed"] for r in table} == {slot_seed(5, 0, s) for s in range(SAMPLES)}
    slot = {slot_seed(5, 0, s): s for s in range(SAMPLES)}
    references = {data.ids[i] for i in done.mined.references}
    assert len(references) == 4
    for row in table:
        challenge = int(done.mined.challenges[slot[row["seed"]] % 3])  # every challenge its share
        assert row["challenge_id"] == data.ids[challenge]
        assert row["challenge_error"] == pytest.approx(float(done.mined.errors[challenge]))
        assert row["reference_id"] in references | {""}
        assert (row["engine"], row["tpe"], row["passed"]) == ("rendered", "abc", True)
        assert row["engine_config"] == make().engine.config_hash()
        assert row["err3d"] > 0
    assert {bool(r["reference_id"]) for r in table} == {True, False}
    assert done.err3d_mean == pytest.approx(np.mean([r["err3d"] for r in table]), rel=1e-5)
    assert done.challenge_error == pytest.approx(np.mean(done.mined.errors[done.mined.challenges]))
    assert told[0] == ("mine", 0, 1)
    assert told[-1] == ("synthesise", SAMPLES, SAMPLES)
    assert {"mine", "vary", "references", "render", "filter", "commit"} == set(done.seconds)
    assert all(s >= 0 for s in done.seconds.values())


def test_samples_are_pictures_with_exact_labels(data: People, tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    done = refresh(pool, data)
    batch = pool.read(0, range(SAMPLES))
    assert batch.size == SIZE
    assert batch.has_pose.all()
    assert batch.has_betas.all()
    assert batch.has_transl.all()
    assert (batch.joints2d_conf.sum(1) > 20).all()
    assert (batch.image.float().flatten(1).std(1) > 10).all()
    assert done.samples is not None
    torch.testing.assert_close(batch.joints3d, done.samples.joints3d)
    # JPEG at quality 95 is what differs.
    assert (batch.image.float() - done.samples.image.float()).abs().mean() < 4
    assert done.sample_passed.all()


def test_a_refresh_is_a_function_of_its_arguments(data: People, tmp_path: Path) -> None:
    pools = [Pool(tmp_path / name) for name in "abcd"]
    for pool, seed in zip(pools[:3], (5, 5, 6), strict=True):
        refresh(pool, data, seed=seed)
    refresh(pools[3], data, refresher=make(render_batch=2))
    batches = [p.read(0, range(SAMPLES)) for p in pools]
    assert rows(pools[0]) == rows(pools[1])
    assert_same(batches[0], batches[1])
    assert not torch.equal(batches[0].image, batches[2].image)
    # Another batch size may change the order, not the samples.
    orders = [b.key[:, 3].argsort() for b in batches]
    assert torch.equal(batches[0].image[orders[0]], batches[3].image[orders[3]])
    assert torch.equal(batches[0].joints3d[orders[0]], batches[3].joints3d[orders[3]])


def test_motions_of_the_motion_synthesis_module(data: People, tmp_path: Path) -> None:
    msm = make_synthesiser("msm", {"pair": save_pair(tmp_path)})
    pools = [Pool(tmp_path / name) for name in "ab"]
    for pool in pools:
        done = refresh(pool, data, refresher=make(synthesiser=msm))
    assert done.info is not None
    assert done.info.synthesiser == f"msm:{msm.config_hash()}" == pools[0].generations()[0].synthesiser
    assert rows(pools[0]) == rows(pools[1])
    assert_same(pools[0].read(0, range(SAMPLES)), pools[1].read(0, range(SAMPLES)))
    slot = {slot_seed(5, 0, s): s for s in range(SAMPLES)}
    captions = {f.challenge: f.caption for f in done.films}
    assert len(captions) == 3
    for row in rows(pools[0]):
        assert row["caption"] == captions[slot[row["seed"]] % 3] != ""
    assert (done.report["slots"], done.report["fell_back"]) == (SAMPLES, 0)
    variation = make()
    assert variation.made_by.startswith("variation:")
    assert variation.made_by != make(variation=VariationConfig(best_of=3)).made_by


class Noting(Variation):
    """Variation that keeps what it was given."""

    wants_references = True

    def synthesise(self, challenges: Challenges, *slots: Any) -> Synthesised:
        self.given = challenges
        return super().synthesise(challenges, *slots)


@pytest.mark.parametrize("appearances", [1, 16])
def test_a_synthesiser_is_told_where_the_references_face(data: People, tmp_path: Path, appearances: int) -> None:
    """Those that lend their looks, and those that lend their scene only."""
    noting, pool = Noting(VariationConfig(best_of=2)), Pool(tmp_path / "pool")
    turns = torch.linspace(0.1, 0.9, 3 * len(data)).reshape(-1, 3)
    estimator = Recall(data.batch.joints2d + torch.linspace(0, 20, len(data))[:, None, None], global_orient_N3=turns)
    estimator.guesses = True
    done = make(synthesiser=noting, appearances=appearances).run(
        estimator, data, pool, generation=0, number=0, seed=5, tpe_hash="abc"
    )
    slot = {slot_seed(5, 0, s): s for s in range(SAMPLES)}
    beside = {slot[r["seed"]]: r["reference_id"] for r in rows(pool)}
    given = noting.given
    assert given.ids == [data.ids[i] for i in done.mined.challenges]
    assert given.reference_orient is not None
    assert {bool(name) for name in beside.values()} == {True, False}
    for s, orient in enumerate(given.reference_orient):
        if beside[s]:
            assert torch.equal(orient, turns[data.ids.index(beside[s])])
        else:
            assert orient.isnan().all()


def test_a_later_refresh_draws_other_samples(data: People, tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    refresh(pool, data, 0)
    refresh(pool, data, 1)
    assert not {r["seed"] for r in rows(pool, 0)} & {r["seed"] for r in rows(pool, 1)}


@pytest.mark.parametrize(("share", "expected"), [(0.0, {False}), (1.0, {True})])
def test_references_lend_their_pictures(data: People, tmp_path: Path, share: float, expected: set[bool]) -> None:
    pool = Pool(tmp_path / "pool")
    refresh(pool, data, refresher=make(reference_p=share))
    assert {bool(r["reference_id"]) for r in rows(pool)} == expected


def test_no_references_to_lend(data: People, tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    refresh(pool, data, refresher=make(reference_p=1.0, eem=EEM(challenges=3, references=0)))
    assert {r["reference_id"] for r in rows(pool)} == {""}


def test_nobody_to_mine_commits_nothing(data: People, tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    done = refresh(pool, People(data.batch, people=[2] * len(data)))
    assert done.info is None
    assert pool.generations() == []
    assert (done.mined.eligible, done.samples) == (0, None)
    assert np.isnan(done.pass_rate)


def test_weights_that_are_nan_commit_nothing(data: People, tmp_path: Path) -> None:
    model = tiny_hmr()
    with torch.no_grad():
        next(iter(model.head.parameters())).fill_(torch.nan)
    pool = Pool(tmp_path / "pool")
    done = make().run(model, data, pool, generation=0, number=0, seed=0, tpe_hash="nan")
    assert (done.info, done.mined.not_finite) == (None, len(data))
    assert pool.generations() == []


def test_every_sample_filtered_out(data: People, tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    done = refresh(pool, data, refresher=make(filter=Err3DFilter(tau=0.0)))
    assert done.info is not None
    assert (done.info.count, done.info.passed, done.pass_rate) == (SAMPLES, 0, 0.0)
    assert [r["passed"] for r in rows(pool)] == [False] * SAMPLES
    assert all(r["err3d"] > 0 and r["challenge_id"] for r in rows(pool))
    with pytest.raises(PosesynError, match="generation 0"):
        pool.read(0, [0])
    assert done.samples is not None
    assert not done.sample_passed.any()


def test_some_samples_filtered_out(data: People, tmp_path: Path) -> None:
    every = refresh(Pool(tmp_path / "all"), data)
    limit = float(np.median(every.sample_errors))
    pool = Pool(tmp_path / "some")
    done = refresh(pool, data, refresher=make(filter=Err3DFilter(tau=limit)))
    kept = [r["err3d"] <= limit for r in rows(pool)]
    assert kept == [r["passed"] for r in rows(pool)]
    assert done.info is not None
    assert 0 < done.info.passed == sum(kept) < SAMPLES
    assert len(pool.read(0, range(done.info.passed))) == done.info.passed


def test_what_is_done_is_only_mined(data: People, tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    first = refresh(pool, data)
    again = refresh(pool, data, done=first.info)
    assert again.info == first.info
    assert again.mined.challenges.tolist() == first.mined.challenges.tolist()
    assert again.challenge_error == first.challenge_error
    assert set(again.seconds) == {"mine"}
    assert pool.generations() == [first.info]


def test_more_challenges_than_samples_and_fewer(data: People, tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    done = refresh(pool, data, refresher=make(samples=2, eem=EEM(challenges=5, references=2)))
    assert {r["challenge_id"] for r in rows(pool)} == {data.ids[i] for i in done.mined.challenges[:2]}  # the worst


_KILLED = """
import os, signal, sys, torch
from human.batch import PoseBatch
from synth.pool import Pool
from tests.synth.people import People, Recall
from tests.synth.test_refresh import refresh
from tests.tiny import rendered_people

torch.set_num_threads(int(sys.argv[2]))
data, pool = People(rendered_people(range(9))), Pool(sys.argv[1])
refresh(pool, data, 0)

def kill(stage, done, total):
    if stage == "synthesise" and done == total:
        os.kill(os.getpid(), signal.SIGKILL)

refresh(pool, data, 1, progress=kill)
"""


def test_killed_while_committing(data: People, tmp_path: Path) -> None:
    """All samples made, none visible yet: the pool reads as before, and the number is made again, the same."""
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "pool"), str(torch.get_num_threads())]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, env={**os.environ, "PYTHONPATH": "."})
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    pool, clean = Pool(tmp_path / "pool"), Pool(tmp_path / "clean")
    assert [(g.generation, g.passed) for g in pool.generations()] == [(0, SAMPLES)]
    for generation in (0, 1):
        refresh(clean, data, generation)
    refresh(pool, data, 1)
    for generation in (0, 1):
        assert rows(pool, generation) == rows(clean, generation)
        assert_same(pool.read(generation, range(SAMPLES)), clean.read(generation, range(SAMPLES)))


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"render_batch": 0}, {"reference_p": 1.5}])
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match=str(next(iter(wrong.values())))):
        make(**wrong)
