"""Refreshes in mode background: training goes on, and neither a dead worker nor a killed run changes what it sees."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from callbacks import DiffusionHPC, Refresh
from callbacks.background_folder import HandedOver, Task
from callbacks.background_keeper import Background, Keeper
from callbacks.background_mode import settings_hash
from callbacks.background_worker import pack, unpack
from callbacks.journal import Journal
from human.batch import PoseBatch
from human.errors import PosesynError
from synth.eem import EEM
from synth.pool import Pool
from tests.callbacks.background_runs import EPOCHS, Patient, in_time, keeper_of, mode_of, run
from tests.tiny import STEPS, Recorder, tiny_data, tiny_hmr, tiny_refresh, tiny_trainer

ROOT = Path(__file__).resolve().parents[2]
Ran = tuple[Refresh, Recorder, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(data: Path, folder: Path) -> Ran:
    """Synthesis keeps up with training: what is handed over after one epoch comes in after the next."""
    return run(data, folder, Patient(*range(EPOCHS)))


def used(recorder: Recorder, epoch: int) -> set[int]:
    return {int(g) for e, b in recorder.batches if e == epoch for s, g in b.key[:, :2].tolist() if s == 1}


def assert_ends_like(part: Ran, whole: Ran, steps: int) -> None:
    assert len(part[1].batches) == steps
    expected = whole[1].batches[-steps:]
    for (epoch, batch), (wanted_epoch, wanted) in zip(part[1].batches, expected, strict=True):
        assert epoch == wanted_epoch
        assert all(torch.equal(a, b) for a, b in zip(batch.values(), wanted.values(), strict=True))
    assert part[2].recipe == whole[2].recipe
    told = (
        "refresh",
        "generation",
        "made",
        "passed",
        "challenge_error",
        "challenge_error_after",
        "lag_steps",
        "entered",
    )
    for mine, other in zip(part[0].history, whole[0].history, strict=True):
        assert {k: mine.get(k) for k in told} == {k: other.get(k) for k in told}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


# -- a run that goes well --------------------------------------------------------------------------------------------
def test_a_generation_comes_in_an_epoch_later(data: Path, whole: Ran, folder: Path, tmp_path: Path) -> None:
    refresh, recorder, module = whole
    assert [used(recorder, e) for e in range(EPOCHS)] == [set(), {0}, {0, 1}, {0, 1, 2}]
    assert [(e["refresh"], e["generation"], e["entered"]) for e in refresh.history] == [(0, 0, 1), (1, 1, 2), (2, 2, 3)]
    assert [e["lag_steps"] for e in refresh.history] == [STEPS] * 3
    assert all(e["challenge_error_after"] > 0 for e in refresh.history)
    assert [g.generation for g in module.pool.generations()][:3] == [0, 1, 2]

    # What another process makes of the first weights is what this one makes of them.
    inline = tiny_data(data, tmp_path, validate=[])
    trainer = tiny_trainer(tmp_path, tiny_refresh(), epochs=1, num_sanity_val_steps=0, limit_train_batches=1)
    trainer.fit(tiny_hmr(), datamodule=inline)
    here, there = inline.pool.read(0, range(6)), module.pool.read(0, range(6))
    assert all(torch.equal(a, b) for a, b in zip(here.values(), there.values(), strict=True))


def test_tables_and_pictures_are_as_in_mode_inline(whole: Ran, folder: Path) -> None:
    with (folder / "epochs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["gen"] for r in rows] == ["", "0", "1", "2"]
    assert [r["lag steps"] for r in rows] == ["", *[str(STEPS)] * 3]
    assert all(float(r["Err after"]) > 0 and float(r["mine s"]) >= 0 and r["pass %"] == "100" for r in rows[1:])
    assert sorted(p.name for p in (folder / "pictures").iterdir()) == [
        f"refresh_{n:03d}_{kind}.png" for n in range(3) for kind in ("challenges", "samples")
    ]


def test_nothing_is_left_but_outcomes(whole: Ran, folder: Path) -> None:
    refresh = whole[0]
    assert mode_of(refresh)._keeper is None
    kept = {p.name: {f.name for f in p.iterdir()} for p in sorted((folder / "background").iterdir()) if p.is_dir()}
    # The last one was handed over and is under way, or done, when training ends.
    assert list(kept.values())[:3] == [{"outcome.json"}, {"outcome.json"}, {"outcome.json", "shown.pt"}]
    assert not list((folder / "background").rglob("*.partial"))


@pytest.mark.parametrize(
    "name", ["steps/2.ckpt", f"steps/{STEPS}.ckpt", "epochs/1.ckpt", f"steps/{2 * STEPS + 1}.ckpt"]
)
def test_a_resumed_run_takes_in_the_same(data: Path, whole: Ran, folder: Path, name: str) -> None:
    """Everything was made long ago now, and nothing is made again."""
    before = Pool(folder / "pool").generations()
    steps = 2 * STEPS if name.startswith("epochs") else int(Path(name).stem)
    assert_ends_like(run(data, folder, resume=folder / name), whole, EPOCHS * STEPS - steps)
    assert Pool(folder / "pool").generations() == before


# -- slow synthesis --------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_newer_weights_replace_those_that_wait(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The worker starts for longer than three epochs take: refreshes 1 and 2 are not begun."""
    slow = run(data, tmp_path, Patient(3), epochs=5)
    assert "refresh 2 was not begun and is skipped: refresh 3 has newer weights" in caplog.text
    entries = [(e["refresh"], e["generation"], e["lag_steps"], e.get("skipped")) for e in slow[0].history[:2]]
    assert entries == [(0, 0, 4 * STEPS, None), (3, 3, STEPS, [1, 2])]
    assert [used(slow[1], e) for e in range(5)] == [set(), set(), set(), set(), {0, 3}]
    # Resumed where it is known what will be skipped, and the worker has nothing else to do: it does not begin that.
    generations = Pool(tmp_path / "pool").generations()
    again = run(data, tmp_path, Patient(3), resume=tmp_path / "epochs" / "0.ckpt", epochs=5)
    assert [e["refresh"] for e in again[0].history] == [0, 3]
    for (_, batch), (_, wanted) in zip(again[1].batches, slow[1].batches[STEPS:], strict=False):
        assert torch.equal(batch.key, wanted.key)
    assert Pool(tmp_path / "pool").generations()[:2] == generations[:2]


# -- what goes wrong -------------------------------------------------------------------------------------------------
def test_a_killed_worker_is_replaced(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Kills(Callback):
        pid = 0

        def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: PoseBatch, batch_idx: int) -> None:
            if not self.pid:
                keeper = keeper_of(trainer)
                in_time(lambda: keeper.pid is not None)
                assert keeper.pid is not None
                self.pid = keeper.pid
                os.kill(self.pid, signal.SIGKILL)

    kills = Kills()
    refresh, recorder, module = run(data, tmp_path, kills, Patient(0), epochs=2)
    assert "was lost, training goes on; it is tried again (2 more): its process died" in caplog.text
    assert "signal 9" in caplog.text
    assert not Path(f"/proc/{kills.pid}").exists()  # not even a zombie
    assert used(recorder, 1) == {0}
    assert [g.generation for g in module.pool.generations()][:1] == [0]
    assert "failed" not in refresh.history[0]


def test_a_killed_run_resumes_to_the_same_end(data: Path, whole: Ran, tmp_path: Path) -> None:
    """Killed while the worker is at refresh 2, which is made again or found in the pool."""
    command = [sys.executable, "-m", "tests.callbacks.background_runs", str(data), str(tmp_path), "2", "0"]
    command.append(str(torch.get_num_threads()))
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=600)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    in_time(lambda: not alive(int((tmp_path / "worker").read_text())), 20)
    part = run(data, tmp_path, Patient(2, 3), resume=tmp_path / "epochs" / "1.ckpt")
    assert_ends_like(part, whole, 2 * STEPS)
    numbers = [g.generation for g in Pool(tmp_path / "pool").generations()]
    assert numbers == list(range(len(numbers)))
    for info in Pool(tmp_path / "pool").generations()[:3]:
        pools = (Pool(tmp_path / "pool"), whole[2].pool)
        got, wanted = (pool.read(info.generation, range(info.passed)) for pool in pools)
        assert all(torch.equal(a, b) for a, b in zip(got.values(), wanted.values(), strict=True))


def test_one_that_is_given_up_costs_freshness_only(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that needs longer to start than it may be silent counts as stuck."""
    impatient = {"timeout": 0.2, "retries": 1}
    refresh, recorder, module = run(data, tmp_path, Patient(0, 1), epochs=3, background=impatient)
    assert len(recorder.batches) == 3 * STEPS
    assert caplog.text.count("refresh 0 in the background failed, training goes on") == 1
    assert [e["refresh"] for e in refresh.history] == [0, 1]
    assert all(
        "given up after 2 tries: no sign of life for 0.2 s since its start" in e["failed"] for e in refresh.history
    )
    assert module.pool.generations() == []
    assert refresh.challenges == []
    json.loads((tmp_path / "epochs.json").read_text(), parse_constant=lambda c: pytest.fail(c))


@pytest.mark.slow
def test_a_stuck_worker_is_ended(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Stops(Callback):
        pid = 0

        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
            keeper = keeper_of(trainer)
            if trainer.current_epoch == 1 and keeper.pid is not None:
                self.pid = keeper.pid
                os.kill(self.pid, signal.SIGSTOP)

    stops = Stops()
    refresh, _, _ = run(data, tmp_path, stops, Patient(0, 1), epochs=3, background={"timeout": 60.0})
    assert "no sign of life for 60 s since" in caplog.text
    assert stops.pid
    assert not alive(stops.pid)
    assert [e["generation"] for e in refresh.history] == [0, 1]  # the next worker made it


@pytest.mark.slow
def test_two_ranks_take_in_the_same(data: Path, tmp_path: Path) -> None:
    """The first rank hands over and takes in, the second is told."""
    command = [sys.executable, "-m", "tests.callbacks.background_runs", str(data), str(tmp_path), "ranks"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=900)
    first, second = (torch.load(tmp_path / f"rank_{r}.pt", weights_only=True) for r in (0, 1))
    for said in (first, second):
        pooled = said["keys"][..., 0] == 1
        assert {int(g) for g in said["keys"][STEPS:][pooled[STEPS:]][:, 1]} == {0}
        assert not pooled[:STEPS].any()
    assert [(e["refresh"], e["generation"]) for e in first["history"]] == [(0, 0)]
    assert [(e["refresh"], e["generation"]) for e in second["history"]] == [(0, 0)]


@pytest.mark.slow
def test_wait_first(data: Path, tmp_path: Path) -> None:
    refresh, recorder, _ = run(data, tmp_path, epochs=1, background={"wait_first": True})
    assert used(recorder, 0) == {0}
    assert refresh.history[0]["lag_steps"] == 0


def test_a_keeper_leaves_no_process(tmp_path: Path) -> None:
    """Closed while its worker starts, and where the worker cannot do anything with what it is given."""
    handed = HandedOver(tmp_path / "one")
    handed.place(Task(0, 0, "", str(tmp_path / "pool")), {"weight": torch.zeros(2)})
    keeper = Keeper(tmp_path, Background(retries=0), "cpu", b"")
    keeper.give(["one", "gone"])
    in_time(lambda: keeper.pid is not None)
    pid = keeper.pid
    keeper.close()
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
    assert keeper.pid is None
    assert not handed.finished  # what is not done is not failed: it is done when the run is resumed
    assert not keeper._thread.is_alive()


# -- parts -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True, "compile": True}])
def test_parts_travel_without_weights(data: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    model, module = tiny_hmr(**options), tiny_data(data, tmp_path)
    crops = module.mining_data.crops([0, 1, 2])
    parts = pack(tiny_refresh(checks=[{"name": "not_blank"}]), module, model)
    there = unpack(parts, torch.device("cpu"))
    assert len(there.host.checks) == 1
    assert there.data.mining_data.ids == module.mining_data.ids
    assert there.estimator.weights_hash() != model.weights_hash()
    there.estimator.load_state_dict(model.trained_state(), strict=False)
    assert there.estimator.weights_hash() == model.weights_hash()
    with torch.inference_mode():
        said, wanted = there.estimator.predict(crops), tiny_hmr().eval().predict(crops)  # neither compiles
    assert torch.equal(said.joints3d, wanted.joints3d)


@pytest.mark.slow
def test_parts_travel_from_shards() -> None:
    command = [sys.executable, "-m", "tests.callbacks.background_shards", os.environ["MASTER_PORT"]]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)


def test_what_cannot_travel_is_named(data: Path, tmp_path: Path) -> None:
    model = tiny_hmr()
    model.own = lambda x: x
    with pytest.raises(PosesynError, match="HMR holds something that cannot be sent to another process"):
        pack(tiny_refresh(), tiny_data(data, tmp_path), model)


def test_settings_name_a_refresh(data: Path, tmp_path: Path) -> None:
    module = tiny_data(data, tmp_path)
    named = settings_hash(tiny_refresh(), module)
    assert settings_hash(tiny_refresh(mode="background", keep=5, every=2), module) == named
    others = [
        settings_hash(tiny_refresh(samples=7), module),
        settings_hash(tiny_refresh(eem=EEM(challenges=2)), module),
        settings_hash(tiny_refresh(checks=[{"name": "not_blank"}]), module),
        settings_hash(tiny_refresh(), tiny_data(data, tmp_path, box_scale=1.5)),
        settings_hash(DiffusionHPC(samples=6), module),
    ]
    assert len({named, *others}) == 6


class Hostile:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_files_run_nothing(tmp_path: Path) -> None:
    handed = HandedOver(tmp_path / "one")
    handed.place(Task(0, 0, "", ""), {"weight": torch.zeros(2)})
    for name in ("weights.pt", "shown.pt"):
        torch.save({"weight": Hostile(tmp_path / "ran")}, handed.path / name)
    with pytest.raises(PosesynError, match=r"weights\.pt is gone or damaged"):
        handed.weights(torch.device("cpu"))
    with pytest.raises(PosesynError, match=r"shown\.pt is damaged"):
        handed.shown()
    (handed.path / "weights.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(PosesynError, match=r"weights\.pt is gone or damaged"):
        handed.weights(torch.device("cpu"))
    (handed.path / "task.json").write_text("[]")
    with pytest.raises(PosesynError, match="gone or damaged"):
        handed.task()
    (handed.path / "outcome.json").write_text('{"format": 99}')
    with pytest.raises(PosesynError, match="another format"):
        handed.outcome()
    assert not (tmp_path / "ran").exists()


def test_a_journal_holds_for_what_was_pending(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "journal.json")
    assert journal.noted(1, ["a"]) is None
    journal.note(1, ["a"], entered=["a"], skipped=[])
    assert journal.noted(1, ["a"]) == {"pending": ["a"], "entered": ["a"], "skipped": []}
    assert journal.noted(1, ["b"]) is None
    journal.path.write_text("{")
    with pytest.raises(PosesynError, match="delete it"):
        journal.noted(1, ["a"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "gpu"},
        {"threads": 0},
        {"nice": 20},
        {"timeout": 0.0},
        {"retries": -1},
        {"share": 1.5},
        {"cores": []},
        {"cores": [4096]},
    ],
)
def test_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match=f"background.{next(iter(wrong))}="):
        Background(**wrong)


def test_an_unknown_engine_is_an_error_before_training(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="rendered"):
        run(data, tmp_path, engine="renderd")
