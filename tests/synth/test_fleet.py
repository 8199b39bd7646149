"""A fleet: what its folder keeps, who makes what when workers and drivers die, one generation from one order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from human.batch import PoseBatch
from human.errors import PosesynError
from synth.engines.base import ENGINES, ImageEngine
from synth.filters import Err3DFilter
from synth.fleet.commit import commit_order, committed
from synth.fleet.driver import Drive, Fleet, Status, drive, make_crew
from synth.fleet.estimate import estimate
from synth.fleet.folder import JobFolder, Order, PlacedOrder, unpack_result
from synth.intake import Judging, TakenIn, take_in
from synth.jobs import Job
from synth.labels import label_scenes
from synth.making import make_jobs as make_inline
from synth.planning import Clock
from synth.pool import GenerationInfo, Pool
from tests.synth.fleets import SIZE, InlineCrew, make_jobs, place, spec_of
from tests.tiny import tiny_hmr

ROOT = Path(__file__).resolve().parents[2]
JUDGING = Judging((), Err3DFilter(tau=None))


class Moody(ImageEngine):
    """One colour per job; fails at some of them."""

    name: ClassVar[str] = "moody"
    at_once = 4

    def __init__(self, size: int, refuses: Sequence[int] = (), breaks: Sequence[int] = ()) -> None:
        self.size, self.refuses, self.breaks = size, set(refuses), set(breaks)

    def config(self) -> dict[str, Any]:
        return {"size": self.size}

    def make(self, jobs: Sequence[Job]) -> list[PoseBatch]:
        for job in jobs:
            if job.seed in self.refuses:
                raise PosesynError(f"job {job.seed} is refused")
            if job.seed in self.breaks:
                raise ValueError(f"job {job.seed} breaks the engine")
        colour = (torch.full((1, 3, self.size, self.size), j.seed, dtype=torch.uint8) for j in jobs)
        return [label_scenes(job.kept, image) for job, image in zip(jobs, colour, strict=True)]


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, here only: other tests iterate over the registered engines."""
    monkeypatch.setitem(ENGINES._items, "moody", Moody)


def moody(folder: Path, count: int, **options: Any) -> PlacedOrder:
    spec = replace(spec_of(options=options, config_hash=Moody(SIZE).config_hash()), engine="moody")
    jobs = make_jobs(count)
    return JobFolder(folder).submit(Order.of(spec, jobs, tpe="tpe", made_by="test"), jobs)


def commit(placed: PlacedOrder, pool: Pool) -> TakenIn | GenerationInfo:
    return commit_order(placed, pool, JUDGING, tiny_hmr().eval())


def rows(pool: Pool, generation: int = 0) -> list[dict[str, Any]]:
    return pool.provenance(generation).to_pylist()


def assert_like_inline(pool: Pool, count: int) -> None:
    """The pool has one generation: what one process would have made."""
    (info,) = pool.generations()
    assert (info.count, info.passed) == (count, count)
    batch = pool.read(info.generation, range(count))
    assert batch.key[:, 3].tolist() == list(range(count))
    from synth.engines.build import make_image_engine
    from tests.synth.fleets import OPTIONS

    engine = make_image_engine("rendered", SIZE, "procedural", OPTIONS)
    inline = PoseBatch.cat(engine.make(make_jobs(count)))
    for name in ("joints2d", "joints3d", "body_pose", "betas", "transl", "intrinsics"):
        assert torch.equal(getattr(batch, name), getattr(inline, name)), name
    assert (batch.image.float() - inline.image.float()).abs().mean() < 6  # JPEG


# -- the folder ------------------------------------------------------------------------------------------------------
def test_an_order_is_placed_once_and_comes_back(tmp_path: Path) -> None:
    placed = place(tmp_path, 3)
    again = place(tmp_path, 3)
    assert placed.path == again.path
    (found,) = JobFolder(tmp_path).orders()
    assert found.order == placed.order
    assert found.todo() == list(placed.order.keys)
    assert found.job(found.order.keys[1]).provenance.challenge_id == "people/1"
    assert not found.finished
    assert place(tmp_path, 2).name != placed.name


def test_failures_are_counted_until_a_job_is_parked(tmp_path: Path) -> None:
    placed = place(tmp_path, 2)
    key = placed.order.keys[0]
    assert [placed.fail(key, f"no {n}", retries=2) for n in range(3)] == [False, False, True]
    assert placed.failures()[key] == {"attempts": 3, "error": "no 2", "parked": True}
    assert placed.todo() == [placed.order.keys[1]]
    assert placed.retry_parked() == 1
    assert placed.todo() == list(placed.order.keys)


def test_damage_is_named_and_made_again(tmp_path: Path) -> None:
    placed = place(tmp_path, 2)
    crew = InlineCrew(placed.order.spec, 1)
    drive(placed, crew, Fleet())
    key = placed.order.keys[0]
    path = placed.path / "results" / key
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(PosesynError, match="not a whole result"):
        unpack_result(path, None)
    assert placed.check_results() == [key]
    assert placed.todo() == [key]
    (placed.path / "order.json").write_text("{")
    with pytest.raises(PosesynError, match="is no order of jobs"):
        JobFolder(tmp_path).orders()[0].order  # noqa: B018


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    with folder.driving(), pytest.raises(PosesynError, match="another process"), folder.driving(0.1):
        pass
    with folder.driving():
        pass


# -- the driver ------------------------------------------------------------------------------------------------------
def test_a_generation_is_what_one_process_would_make(tmp_path: Path) -> None:
    placed, pool, told = place(tmp_path, 7), Pool(tmp_path / "pool"), []
    crew = InlineCrew(placed.order.spec, 3)
    status = drive(placed, crew, Fleet(price=3.0), lambda s: told.append((s.made, s.cost)))
    assert (status.made, status.parked, status.total, status.deaths) == (7, 0, 7, 0)
    assert status.rate > 0
    assert status.seconds_left == 0
    assert told[0] == (0, 0.0)
    assert status.cost == pytest.approx(3 * 3.0 * status.working / 3600)
    first = commit(placed, pool)
    assert isinstance(first, TakenIn)
    assert_like_inline(pool, 7)
    assert [r["challenge_id"] for r in rows(pool)] == [f"people/{i}" for i in range(7)]
    assert {(r["tpe"], r["engine"], r["caption"][:3]) for r in rows(pool)} == {("tpe", "rendered", "job")}
    # A second time it is found, also by who has only the pool.
    assert commit(placed, pool) == first.info == committed(placed, pool)
    assert len(pool.generations()) == 1
    assert drive(placed, InlineCrew(placed.order.spec, 1), Fleet()).made_here == 0


def test_nothing_is_committed_before_all_is_made(tmp_path: Path) -> None:
    placed, pool = place(tmp_path, 4), Pool(tmp_path / "pool")
    stop = iter([False, False, True, True])
    drive(placed, InlineCrew(placed.order.spec, 1), Fleet(), stop=lambda: next(stop))
    assert 0 < len(placed.todo()) < 4
    with pytest.raises(PosesynError, match="not made yet"):
        commit(placed, pool)
    drive(placed, InlineCrew(placed.order.spec, 1), Fleet())
    commit(placed, pool)
    assert_like_inline(pool, 4)


def test_the_dead_are_replaced_and_their_jobs_made_by_others(tmp_path: Path) -> None:
    placed, pool = place(tmp_path, 6), Pool(tmp_path / "pool")
    crew = InlineCrew(placed.order.spec, 2, dies=lambda worker, given: given == 2)
    status = drive(placed, crew, Fleet())
    assert (status.made, status.deaths, status.parked) == (6, 1, 0)
    assert crew.starts == 3
    commit(placed, pool)
    assert_like_inline(pool, 6)


def test_workers_that_keep_dying_end_the_run(tmp_path: Path) -> None:
    placed = place(tmp_path, 4)
    with pytest.raises(PosesynError, match=r"no worker is left to make .* killed"):
        drive(placed, InlineCrew(placed.order.spec, 1, dies=lambda w, n: True), Fleet(retries=9))
    assert len(placed.todo()) == 4


def test_workers_that_cannot_work_say_why(tmp_path: Path) -> None:
    placed = place(tmp_path, 2, config_hash="of another version")
    with pytest.raises(PosesynError, match="not the one that the jobs are for"):
        drive(placed, InlineCrew(placed.order.spec, 2), Fleet())


def test_jobs_that_fail_are_tried_alone_and_parked(tmp_path: Path) -> None:
    placed, pool = moody(tmp_path, 8, refuses=[2], breaks=[5]), Pool(tmp_path / "pool")
    status = drive(placed, InlineCrew(placed.order.spec, 2, at_once=4), Fleet(retries=1))
    assert (status.made, status.parked) == (6, 2)
    failed = {placed.order.keys.index(key): entry["error"] for key, entry in placed.failures().items()}
    assert failed.keys() == {2, 5}
    assert "job 2 is refused" in failed[2]
    assert "job 5 breaks the engine" in failed[5]
    taken = commit(placed, pool)
    assert isinstance(taken, TakenIn)
    assert (taken.failed, taken.info.count, taken.info.passed) == (2, 8, 6)
    assert sorted(r["seed"] for r in rows(pool) if not r["passed"]) == [2, 5]
    assert committed(placed, pool) == taken.info


def test_when_every_job_fails_nothing_is_committed(tmp_path: Path) -> None:
    placed, pool = moody(tmp_path, 2, refuses=[0, 1]), Pool(tmp_path / "pool")
    drive(placed, InlineCrew(placed.order.spec, 1), Fleet(retries=0))
    with pytest.raises(PosesynError, match="none of 2 jobs could be made; the first: job 0 is refused"):
        commit(placed, pool)
    assert pool.generations() == []


def test_one_failure_among_several_inline(tmp_path: Path) -> None:
    """Without a fleet: the others of its group are made, and the checks' say is told."""
    from synth.checks import make_checks

    engine, pool = Moody(SIZE, refuses=[3]), Pool(tmp_path / "pool")
    jobs = make_jobs(6)
    made = list(make_inline(engine, jobs))
    assert [m.batch is None for m in made] == [False, False, False, True, False, False]
    judging = Judging(make_checks(["not_blank"]), Err3DFilter(tau=None))
    about = {"engine": "moody", "engine_config": "x", "made_by": "test", "clock": Clock()}
    taken = take_in([made[:4], made[4:]], judging, tiny_hmr().eval(), pool, 0, **about)  # type: ignore[arg-type]
    assert (taken.info.count, taken.info.passed, taken.failed) == (6, 0, 1)
    assert taken.found.removed == {"not_blank": 5, "err3d": 0}  # pictures of one colour
    assert np.isnan(taken.errors).all()
    assert [r["err3d"] for r in rows(pool)] == [None] * 6


def test_a_chain_of_checks_runs_where_pictures_are_made(tmp_path: Path) -> None:
    placed, pool = place(tmp_path, 3, checks=[{"name": "not_blank"}]), Pool(tmp_path / "pool")
    drive(placed, InlineCrew(placed.order.spec, 1), Fleet())
    judging = Judging((object(),), Err3DFilter(tau=0.0))  # type: ignore[arg-type]
    taken = commit_order(placed, pool, judging, tiny_hmr().eval())
    assert isinstance(taken, TakenIn)
    assert taken.found.removed == {"not_blank": 0, "err3d": 3}
    assert taken.found.summary()["removed/err3d"] == 3


def test_an_estimate_times_some_jobs_and_keeps_them(tmp_path: Path) -> None:
    placed = place(tmp_path, 9)
    crew = InlineCrew(placed.order.spec, 1, at_once=2)
    found = estimate(placed, crew, calls=2)
    assert (found.timed, found.device, found.gpus) == (4, "cpu", 0.0)
    assert found.per_day == pytest.approx(found.per_second * 86400)
    assert found.hours(1000, 4) == pytest.approx((1000 / (4 * found.per_second) + found.start_seconds) / 3600)
    assert len(placed.todo()) == 3


@pytest.mark.parametrize("wrong", [{"retries": -1}, {"backlog": 0}, {"price": -2.0}])
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match=next(iter(wrong))):
        Fleet(**wrong)


# -- real processes --------------------------------------------------------------------------------------------------
def drive_and_kill(placed: PlacedOrder, fleet: Fleet, at: int, kill: Any) -> Status:
    """Drive with a crew of real workers; once ``at`` jobs are made, kill one that has jobs in its hands."""
    crew, killed = make_crew(fleet, placed), []

    def tell(status: Status) -> None:
        if status.made >= at and run.hands and not killed:
            killed.append(next(iter(run.hands)))
            kill(crew, killed[0])

    run = Drive(placed, crew, fleet, tell)
    try:
        status = run.run(lambda: False)
    finally:
        crew.close()
    assert killed
    assert status.deaths == 1
    return status


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    placed, pool = place(tmp_path, 160), Pool(tmp_path / "pool")
    status = drive_and_kill(placed, Fleet(workers=2), 1, lambda crew, w: os.kill(crew.pids()[w], signal.SIGKILL))
    assert (status.made, status.parked) == (160, 0)
    commit(placed, pool)
    assert_like_inline(pool, 160)


def kill_driver(folder: Path, *words: str) -> None:
    """Drive ``folder`` in a process of its own until half is made, and kill it."""
    command = [sys.executable, "-m", "tests.synth.fleets", str(folder), *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        said = driver.stdout.readline()
        driver.kill()
    assert said.startswith("half"), said


@pytest.mark.slow
def test_a_killed_driver_is_followed_by_another(tmp_path: Path) -> None:
    placed, pool = place(tmp_path, 80), Pool(tmp_path / "pool")
    kill_driver(tmp_path, "1")
    left = len(placed.todo())
    assert 0 < left < 80
    crew = make_crew(Fleet(workers=1), placed)
    try:
        with JobFolder(tmp_path).driving():
            status = drive(placed, crew, Fleet(workers=1))
    finally:
        crew.close()
    assert status.made_here == left
    commit(placed, pool)
    assert_like_inline(pool, 80)


@pytest.mark.slow
def test_ray_four_actors_one_of_them_killed(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    placed, pool, fleet = place(tmp_path, 400), Pool(tmp_path / "pool"), Fleet(workers=4, ray="local", gpus=0)
    status = drive_and_kill(placed, fleet, 1, lambda crew, worker: ray.kill(crew.actors[worker]))
    assert (status.made, status.parked) == (400, 0)
    first = commit(placed, pool)
    assert isinstance(first, TakenIn)
    assert commit(placed, pool) == first.info
    assert_like_inline(pool, 400)


@pytest.mark.slow
def test_ray_the_driver_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    placed, pool, fleet = place(tmp_path, 200), Pool(tmp_path / "pool"), Fleet(workers=4, ray="local", gpus=0)
    kill_driver(tmp_path, "4", "local")
    left = len(placed.todo())
    assert 0 < left < 200
    crew = make_crew(fleet, placed)
    try:
        status = drive(placed, crew, fleet)
    finally:
        crew.close()
    assert (status.made, status.made_here) == (200, left)
    commit(placed, pool)
    assert_like_inline(pool, 200)
