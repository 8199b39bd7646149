"""Refreshes in mode fleet: training goes on, generations come in when they are there, and resume repeats when."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from callbacks import DiffusionHPC, Refresh
from callbacks.fleet_mode import FleetMode
from callbacks.fleet_orders import FleetOrders
from human.batch import PoseBatch
from human.errors import PosesynError
from synth.eem import EEM
from synth.filters import Err3DFilter
from synth.fleet.driver import Fleet, drive
from synth.fleet.folder import JobFolder
from synth.hpc.refresher import HPCSettings
from synth.pool import Pool
from tests.synth.fleets import InlineCrew, place
from tests.tiny import CHEAP, SIZE, STEPS, Recorder, tiny_data, tiny_hmr, tiny_refresh, tiny_trainer

EPOCHS = 4
_FLEET = {"mode": "fleet", "fleet": Fleet(launch=False)}


def make_all(folder: Path) -> None:
    """What a fleet does, here and now."""
    for placed in JobFolder(folder).orders():
        drive(placed, InlineCrew(placed.order.spec, 1), Fleet())


class Fleets(Callback):
    """A fleet that is done in the middle of some epochs."""

    def __init__(self, folder: Path, epochs: tuple[int, ...]) -> None:
        self.folder, self.epochs = folder, epochs

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: PoseBatch, batch_idx: int) -> None:
        if trainer.current_epoch in self.epochs and batch_idx == 1:
            make_all(self.folder)


def run(
    data: Path, folder: Path, *more: Callback, resume: Path | None = None, epochs: int = EPOCHS, **changes: Any
) -> tuple[Refresh, Recorder, Any]:
    refresh, recorder = tiny_refresh(**{**_FLEET, **changes}), Recorder()
    module = tiny_data(data, folder, validate=[])
    trainer = tiny_trainer(folder, refresh, recorder, *more, epochs=epochs, num_sanity_val_steps=0)
    model = tiny_hmr()
    trainer.fit(model, datamodule=module, ckpt_path=resume, weights_only=True)
    return refresh, recorder, module


def used(recorder: Recorder, epoch: int) -> set[int]:
    return {int(g) for e, b in recorder.batches if e == epoch for s, g in b.key[:, :2].tolist() if s == 1}


def test_a_generation_enters_when_it_is_there_and_again_so_on_resume(data: Path, tmp_path: Path) -> None:
    refresh, recorder, module = run(data, tmp_path, Fleets(tmp_path / "jobs", (1, 2)))
    # Orders of epochs 0 and 1 wait (the backlog is 2); both are made in epoch 1 and used from epoch 2 on.
    assert [used(recorder, e) for e in (0, 1)] == [set(), set()]
    assert used(recorder, 2) == {0, 1}
    assert used(recorder, 3) == {0, 1, 2}
    entries = [(e["generation"], e.get("entered"), e["made"], e["passed"]) for e in refresh.history]
    assert entries[:3] == [(0, 2, 6, 6), (1, 2, 6, 6), (2, 3, 6, 6)]
    assert refresh.history[0]["err3d_mean"] > 0
    assert [g.generation for g in module.pool.generations()] == [0, 1, 2]
    assert refresh.used is not None
    assert refresh.used["generation"] == 2

    # Everything was made long ago now, but a resumed run takes it in when the first one did.
    for name in ("steps/2.ckpt", f"steps/{STEPS + 2}.ckpt", f"steps/{2 * STEPS + 1}.ckpt"):
        again, seen, _ = run(data, tmp_path, resume=tmp_path / name)
        expected = recorder.batches[len(recorder.batches) - len(seen.batches) :]
        assert len(seen.batches) == EPOCHS * STEPS - int(Path(name).stem)
        for (epoch, batch), (wanted_epoch, wanted) in zip(seen.batches, expected, strict=True):
            assert epoch == wanted_epoch
            assert torch.equal(batch.key, wanted.key)
            assert torch.equal(batch.image, wanted.image)
        assert [e["generation"] for e in again.history[:3]] == [0, 1, 2]
    assert [g.generation for g in Pool(tmp_path / "pool").generations()] == [0, 1, 2]  # nothing twice


def test_diffusion_hpc_places_orders_too(data: Path, tmp_path: Path) -> None:
    hpc = HPCSettings(mode="R", hardness=None, inside=0.0, resolution=SIZE, per_picture=2)
    callback = DiffusionHPC(
        hpc, "rendered", samples=4, engine_options=CHEAP, backgrounds="procedural",
        eem=EEM(challenges=3, references=0, min_joints=4), filter=Err3DFilter(tau=None), **_FLEET,
    )  # fmt: skip
    module = tiny_data(data, tmp_path, validate=[])
    trainer = tiny_trainer(tmp_path, callback, Fleets(tmp_path / "jobs", (0,)), epochs=2, num_sanity_val_steps=0)
    trainer.fit(tiny_hmr(), datamodule=module)
    order = JobFolder(tmp_path / "jobs").orders()[0].order
    assert order.made_by.startswith("diffusion_hpc:")
    assert order.spec.engine == "rendered"
    assert [(g.generation, g.count) for g in module.pool.generations()] == [(0, 4)]
    assert callback.history[0]["entered"] == 1


def test_a_dead_fleet_is_said_and_costs_freshness_only(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waits(Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
            time.sleep(0.5)

    monkeypatch.setattr(FleetOrders, "command", lambda self: ["false"])
    refresh, recorder, module = run(data, tmp_path, Waits(), epochs=3, fleet=Fleet(launch=True))
    assert "the fleet ended with 1, training goes on" in caplog.text
    assert "2 orders wait for the fleet" in caplog.text
    assert len(recorder.batches) == 3 * STEPS
    assert [e["generation"] for e in refresh.history] == [None, None]
    assert isinstance(refresh._mode, FleetMode)
    assert len(refresh._mode.pending) == 2
    assert module.pool.generations() == []


def test_an_order_that_cannot_be_taken_in_is_left_out(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Breaks(Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
            if trainer.current_epoch == 0:
                make_all(tmp_path / "jobs")
                for path in tmp_path.glob("jobs/*/results/*"):
                    path.write_bytes(b"no result")

    with caplog.at_level(logging.ERROR):
        refresh, recorder, _ = run(data, tmp_path, Breaks(), epochs=2)
    assert "cannot be taken in" in caplog.text
    assert "is not a whole result" in refresh.history[0]["failed"]
    assert used(recorder, 1) == set()


def test_the_journal_decides(tmp_path: Path) -> None:
    placed = place(tmp_path, 2)
    drive(placed, InlineCrew(placed.order.spec, 1), Fleet())
    fleet = Fleet(launch=False)
    (tmp_path / "journal.json").write_text(json.dumps({"1": {"pending": [placed.name], "entered": []}}))
    mode = FleetOrders(tmp_path, fleet, [placed.name])
    assert mode.due(1) == []
    assert [p.name for p in mode.due(2)] == [placed.name]
    assert mode.pending == []
    assert [p.name for p in FleetOrders(tmp_path, fleet, [placed.name]).due(2)] == [placed.name]
    # Another run's notes are not ours.
    unfinished = place(tmp_path, 3).name
    assert FleetOrders(tmp_path, fleet, [unfinished, placed.name]).due(1) == []
    # One whose folder is gone holds up nobody.
    assert [p.name for p in FleetOrders(tmp_path, fleet, ["gone", placed.name]).due(5)] == ["gone", placed.name]
    (tmp_path / "journal.json").write_text("{")
    with pytest.raises(PosesynError, match="delete it"):
        FleetOrders(tmp_path, fleet, [placed.name]).due(3)


@pytest.mark.slow
def test_a_run_that_starts_its_own_fleet(data: Path, tmp_path: Path) -> None:
    class Patient(Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
            end = time.monotonic() + 500
            while time.monotonic() < end and not all(p.finished for p in JobFolder(tmp_path / "jobs").orders()):
                time.sleep(0.5)

    refresh, recorder, _ = run(data, tmp_path, Patient(), epochs=2, fleet=Fleet(workers=1))
    assert used(recorder, 1) == {0}
    assert refresh.history[0]["passed"] == 6
    assert isinstance(refresh._mode, FleetMode)
    assert refresh._mode._orders is None  # the process was ended with the run
