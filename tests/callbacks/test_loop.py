"""The whole loop on a real trainer: what is used when, and that a run killed anywhere resumes to the same end."""

from __future__ import annotations

import csv
import json
import logging
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from callbacks import EMA, EpochTable, Films, Refresh
from callbacks.ema import averaged_weights
from datamodules.pose import PoseDataModule, ReaderConfig
from datamodules.sources import RealSource, RenderedSource
from human.batch import PoseBatch
from human.errors import PosesynError
from lightning_modules import HMR
from synth.eem import EEM
from synth.filters import Err3DFilter
from synth.pool import Pool
from tests.synth.motion_pairs import save_pair
from tests.tiny import BATCH, CHEAP, STEPS, Recorder, tiny_data, tiny_hmr, tiny_refresh, tiny_trainer, write_data

EPOCHS = 3
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Run:
    """A finished run."""

    folder: Path
    trainer: L.Trainer
    model: HMR
    data: PoseDataModule
    refresh: Refresh
    seen: list[tuple[int, PoseBatch]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return next(c.rows for c in self.trainer.callbacks if isinstance(c, EpochTable))

    @property
    def pooled(self) -> list[tuple[int, int]]:
        """(epoch, generation) of each sample that came from the pool."""
        return [(e, int(g)) for e, b in self.seen for s, g in b.key[:, :2].tolist() if s == 1]


def run(data: Path, folder: Path, *more: Callback, resume: Path | None = None, **options: Any) -> Run:
    refresh, recorder = tiny_refresh(**options.pop("refresh", {})), Recorder()
    module = tiny_data(data, folder, **options.pop("module", {}))
    before, after = options.pop("before", []), list(more)
    trainer = tiny_trainer(folder, *before, refresh, recorder, *after, **{"epochs": EPOCHS, **options})
    model = tiny_hmr()
    trainer.fit(model, datamodule=module, ckpt_path=resume, weights_only=True)
    return Run(folder, trainer, model, module, refresh, recorder.batches)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(data, tmp_path_factory.mktemp("whole"))


def same_batch(a: PoseBatch, b: PoseBatch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.as_dict().values(), b.as_dict().values(), strict=True))


def assert_ends_like(part: Run, whole: Run, expected: int) -> None:
    """``part`` trained the last ``expected`` batches of ``whole``, to the same weights, pool and tables."""
    assert len(part.seen) == expected
    for (epoch, batch), (wanted_epoch, wanted) in zip(part.seen, whole.seen[len(whole.seen) - expected :], strict=True):
        assert epoch == wanted_epoch
        assert same_batch(batch, wanted)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(part.model.state_dict()[name], value), name
    assert part.data.recipe == whole.data.recipe
    for mine, other in zip(part.refresh.history, whole.refresh.history, strict=True):
        for figure in ("refresh", "generation", "made", "passed", "challenge_error", "challenge_error_after"):
            assert mine[figure] == other[figure], figure
    assert [r["epoch"] for r in part.rows] == [r["epoch"] for r in whole.rows]
    assert [r.get("fractions") for r in part.rows] == [r.get("fractions") for r in whole.rows]
    for info in whole.data.pool.generations():
        wanted, got = (r.data.pool.read(info.generation, range(info.passed)) for r in (whole, part))
        assert same_batch(got, wanted)


# -- one run ---------------------------------------------------------------------------------------------------------
def test_every_epoch_has_all_its_batches(whole: Run) -> None:
    assert [e for e, _ in whole.seen] == [e for e in range(EPOCHS) for _ in range(STEPS)]
    assert all(len(b) == BATCH for _, b in whole.seen)
    keys = torch.cat([b.key[:, 3] for _, b in whole.seen])
    assert len(keys.unique()) == len(keys)


def test_a_generation_is_trained_on_in_the_epoch_it_was_made_for(data: Path, tmp_path: Path) -> None:
    newest = run(data, tmp_path, refresh={"keep": 1})
    assert {e for e, _ in newest.pooled} == {0, 1, 2}
    assert all(epoch == generation for epoch, generation in newest.pooled)


def test_keep_bounds_the_generations_in_use(data: Path, whole: Run, tmp_path: Path) -> None:
    assert {g for e, g in whole.pooled if e == 2} == {0, 1, 2}
    two = run(data, tmp_path, refresh={"keep": 2})
    assert {g for e, g in two.pooled if e == 2} == {1, 2}
    assert [g for g, _ in two.data.recipe.generations] == [1, 2]
    assert [g.generation for g in two.data.pool.generations()] == [0, 1, 2]  # nothing is deleted


def test_rows_tell_what_was_trained_on(whole: Run) -> None:
    assert [r["epoch"] for r in whole.rows] == ["start", 0, 1, 2]
    for epoch, row in enumerate(whole.rows[1:]):
        source = torch.cat([b.key[:, 0] for e, b in whole.seen if e == epoch])
        shares = [float((source == s).float().mean()) for s in range(3)]
        assert list(row["fractions"]) == ["real", "pool", "rendered"]
        assert list(row["fractions"].values()) == pytest.approx(shares)
        assert row["refresh"]["generation"] == epoch
        assert row["refresh"]["made"] == 6
        assert row["refresh"]["challenge_error"] > 0
        assert row["refresh"]["challenge_error_after"] > 0
        assert row["step"] == STEPS * (epoch + 1)
        assert 0 <= row["scores"]["val"]["pck_box"] <= 1
        assert all(v >= 0 for v in row["seconds"].values())
    assert "fractions" not in whole.rows[0]
    assert whole.rows[0]["scores"]["val"].keys() == whole.rows[1]["scores"]["val"].keys()


def test_challenges_get_better_when_trained_on(whole: Run) -> None:
    """Mining, filtering and scoring see the same weights: the figures follow training, not the noise of a step."""
    first = whole.rows[1]["refresh"]
    assert first["challenge_error_after"] < first["challenge_error"]


def test_files_of_a_run(whole: Run) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    written = json.loads((whole.folder / "epochs.json").read_text(), parse_constant=refuse)
    assert [r["epoch"] for r in written] == ["start", 0, 1, 2]
    with (whole.folder / "epochs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["gen"] for r in rows] == ["", "0", "1", "2"]
    assert [r["pass %"] for r in rows[1:]] == ["100"] * 3
    assert all(float(r["Err before"]) > 0 for r in rows[1:])
    for number in range(EPOCHS):
        for kind in ("challenges", "samples"):
            picture = cv2.imread(str(whole.folder / "pictures" / f"refresh_{number:03d}_{kind}.png"))
            assert picture.shape == (256, 256, 3)  # 2 x 2 tiles of twice 64 px
            assert picture.std() > 10
    assert not (whole.folder / "pictures" / f"refresh_{EPOCHS:03d}_samples.png").exists()


def test_without_a_first_refresh_the_first_epoch_has_none(data: Path, tmp_path: Path) -> None:
    later = run(data, tmp_path, refresh={"before_first": False, "every": 2})
    assert "refresh" not in later.rows[1]
    assert "refresh" not in later.rows[2]
    assert later.rows[3]["refresh"]["generation"] == 0
    assert {e for e, _ in later.pooled} == {2}
    assert {0, 2} == {s for _, b in later.seen[: 2 * STEPS] for s in b.key[:, 0].tolist()}


def test_two_runs_are_one(data: Path, whole: Run, tmp_path: Path) -> None:
    assert_ends_like(run(data, tmp_path), whole, EPOCHS * STEPS)


# -- resume ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "left"),
    [(f"steps/{n}.ckpt", EPOCHS * STEPS - n) for n in (1, 4, 6, 8, 11, 12)]
    + [(f"epochs/{e}.ckpt", (EPOCHS - 1 - e) * STEPS) for e in range(EPOCHS - 1)],
)
def test_resume_from_any_checkpoint_ends_the_same(data: Path, whole: Run, name: str, left: int) -> None:
    """Within an epoch, after its last step (Lightning never comes to that epoch's end) and after its end."""
    folder = whole.folder / "again" / name
    # The run's own pool: it holds later generations than the checkpoint knows, made by the weights we come to.
    part = run(data, folder, resume=whole.folder / name, module={"pool": str(whole.folder / "pool")})
    assert_ends_like(part, whole, left)
    assert [g.generation for g in Pool(whole.folder / "pool").generations()] == list(range(EPOCHS))


def test_a_run_that_makes_motions_resumes_and_is_filmed(data: Path, tmp_path: Path) -> None:
    options = {"synthesiser": "msm", "synthesiser_options": {"pair": save_pair(tmp_path), "films": 2}}
    first = run(data, tmp_path / "a", Films(), refresh=options, epochs=2)
    assert sorted(f.name for f in (tmp_path / "a" / "films").iterdir()) == [
        f"refresh_{n:03d}_{k:03d}.png" for n in range(2) for k in range(2)
    ]
    assert cv2.imread(str(tmp_path / "a" / "films" / "refresh_001_001.png")).std() > 10
    report = first.refresh.history[-1]["synthesis"]
    assert (report["slots"], report["fell_back"]) == (6, 0)
    for name, left in (("steps/6.ckpt", 2), ("epochs/0.ckpt", 4)):
        pool = {"pool": str(tmp_path / "a" / "pool")}
        part = run(data, tmp_path / name, resume=tmp_path / "a" / name, refresh=options, module=pool, epochs=2)
        assert_ends_like(part, first, left)
    assert [g.generation for g in first.data.pool.generations()] == [0, 1]  # nothing was made anew
    # Another synthesiser makes another generation of the same weights and seeds.
    other = run(data, tmp_path / "b", resume=tmp_path / "a" / "steps" / "3.ckpt", module=pool, epochs=2)
    assert [g.generation for g in other.data.pool.generations()] == [0, 1, 2]


def test_what_no_motion_could_be_made_of_is_counted_and_said(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"synthesiser": "msm", "synthesiser_options": {"pair": save_pair(tmp_path, ends_at_once=True)}}
    done = run(data, tmp_path, refresh=options, epochs=1)
    assert done.refresh.history[0]["synthesis"]["ended_at_once"] == 6
    assert "6 of 6 samples fell back to variation (6 ended_at_once)" in caplog.text
    assert done.pooled


def test_resume_without_validation(data: Path, tmp_path: Path) -> None:
    bare = {"module": {"validate": []}}
    first = run(data, tmp_path / "a", **bare, epochs=2)
    for name, left in (("steps/4.ckpt", 4), ("steps/6.ckpt", 2), ("epochs/0.ckpt", 4)):
        options = {"module": {"validate": [], "pool": str(tmp_path / "a" / "pool")}, "epochs": 2}
        assert_ends_like(run(data, tmp_path / name, resume=tmp_path / "a" / name, **options), first, left)


@pytest.mark.parametrize(("epoch", "batch"), [pytest.param(0, 2, marks=pytest.mark.slow), (1, 1)])
def test_a_killed_run_resumes_to_the_same_end(data: Path, tmp_path: Path, whole: Run, epoch: int, batch: int) -> None:
    """SIGKILL: nothing is tidied up, and the generations that the killed run had not come to are made anew."""
    command = [sys.executable, "-m", "tests.tiny", str(data), str(tmp_path), str(epoch), str(batch), str(EPOCHS)]
    command.append(str(torch.get_num_threads()))
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    done = epoch * STEPS + batch
    assert [g.generation for g in Pool(tmp_path / "pool").generations()] == list(range(epoch + 1))
    part = run(data, tmp_path, resume=tmp_path / "steps" / f"{done}.ckpt")
    assert_ends_like(part, whole, EPOCHS * STEPS - done)


def test_checkpoint_holds_nothing_but_data(whole: Run) -> None:
    checkpoint = torch.load(whole.folder / "epochs" / "1.ckpt", weights_only=True)
    state = next(v for k, v in checkpoint["callbacks"].items() if k.startswith("Refresh"))
    assert (state["count"], state["epochs_done"], len(state["challenges"])) == (3, 2, 3)
    assert not any(k.startswith("body.") for k in checkpoint["state_dict"])
    fresh = tiny_hmr(checkpoint=str(whole.folder / "epochs" / "1.ckpt"))
    for name, value in fresh.trained_state().items():
        assert torch.equal(value, checkpoint["state_dict"][name]), name


def test_other_sources_cannot_resume(data: Path, whole: Run, tmp_path: Path) -> None:
    sources = [RenderedSource(backgrounds="procedural", options=CHEAP)]
    with pytest.raises(PosesynError, match="real"):
        run(data, tmp_path, resume=whole.folder / "epochs" / "0.ckpt", module={"sources": sources})


# -- what goes wrong -------------------------------------------------------------------------------------------------
class FullDisk(Callback):
    """No file may grow, from just before a refresh (listed before it) until training goes on."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch  # after which; -1: before the first

    def _fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.epoch == -1:
            self._fill()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            self._fill()


class EmptyDisk(Callback):
    def _empty(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._empty()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._empty()


@pytest.mark.parametrize("when", [-1, 0])
def test_a_refresh_that_dies_leaves_training_going(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, when: int
) -> None:
    broken = run(data, tmp_path, EmptyDisk(), before=[FullDisk(when)])
    assert len(broken.seen) == EPOCHS * STEPS
    failed = when + 1
    assert f"refresh {failed} failed, training goes on" in caplog.text
    entries = broken.refresh.history
    assert [e["generation"] is None for e in entries] == [n == failed for n in range(EPOCHS)]
    assert "failed" in entries[failed]
    used = [{g for e, g in broken.pooled if e == epoch} for epoch in range(EPOCHS)]
    assert used[failed] == (set() if when == -1 else {0})
    assert used[2] == ({1, 2} if when == -1 else {0, 2})
    assert all(np.isfinite(v.numpy()).all() for v in broken.model.trained_state().values() if v.is_floating_point())
    with (tmp_path / "epochs.csv").open(newline="") as file:
        row = list(csv.DictReader(file))[1 + failed]
    assert (row["gen"], row["Err before"], row["Err after"], row["pass %"]) == ("-", "-", "-", "-")


def test_nobody_to_mine(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_ = run(data, tmp_path, refresh={"eem": EEM(min_joints=13)}, epochs=1)
    assert "nobody could be mined (0 persons are eligible)" in caplog.text
    assert not run_.pooled
    assert run_.data.pool.generations() == []
    assert run_.rows[1]["refresh"]["generation"] is None
    json.loads((tmp_path / "epochs.json").read_text(), parse_constant=lambda c: pytest.fail(c))


def test_nothing_passes_the_filter(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_ = run(data, tmp_path, refresh={"filter": Err3DFilter(tau=0.0)}, epochs=1)
    assert "none of 6 synthetic samples passed the filter" in caplog.text
    assert not run_.pooled
    assert [(g.count, g.passed) for g in run_.data.pool.generations()] == [(6, 0)]


def test_a_picture_that_cannot_be_read_is_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "cache"))  # the same persons are in the other's, readable
    data = write_data(tmp_path / "data")
    for number in (2, 5):
        (data / "train" / "images" / f"im{number:05d}.jpg").write_bytes(b"\xff\xd8\xffnot a picture")
    run_ = run(data, tmp_path / "run", epochs=1)
    assert run_.refresh.history[0]["unreadable"] == 2
    assert "2 unreadable pictures" in caplog.text
    assert run_.rows[1]["skipped"] == sum(int((b.weight == 0).sum()) for _, b in run_.seen)


@pytest.mark.parametrize("what", ["mine", "sources", "validate", "later"])
def test_missing_data_is_an_error_before_training(data: Path, tmp_path: Path, what: str) -> None:
    nowhere = {"root": str(tmp_path / "nowhere")}
    changes: dict[str, Any] = {
        "mine": {"mine": [ReaderConfig("lspet", nowhere)]},
        "sources": {"sources": [RealSource("lspet", nowhere)]},
        "validate": {"validate": [ReaderConfig("lspet", nowhere)]},
        "later": {"mine": [ReaderConfig("lspet", nowhere)]},
    }[what]
    recorder = Recorder()
    with pytest.raises(PosesynError, match="nowhere"):
        run(data, tmp_path, recorder, module=changes, refresh={"before_first": what != "later"})
    assert recorder.batches == []


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"every": 0}, {"keep": 0}, {"mode": "flet"}])
def test_refresh_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match=str(next(iter(wrong.values())))):
        tiny_refresh(**wrong)


def test_an_unknown_engine_is_an_error_at_the_start(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="rendered"):
        run(data, tmp_path, refresh={"engine": "renderd"})


# -- the average -----------------------------------------------------------------------------------------------------
class Averages(Callback):
    """Checks the average after every step against its definition, in float64."""

    def __init__(self) -> None:
        self.expected: dict[str, torch.Tensor] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        own = {k: v.clone() for k, v in pl_module.named_parameters()}
        moving = ("running_mean", "running_var", "num_batches_tracked")
        buffers = {k: v.clone() for k, v in pl_module.named_buffers() if not k.endswith(moving)}
        for name, value in own.items():
            before = self.expected.get(name)
            self.expected[name] = value.double() if before is None else 0.9 * before + 0.1 * value.double()
        with averaged_weights(trainer, pl_module):
            for name, value in pl_module.named_parameters():
                torch.testing.assert_close(value.double(), self.expected[name], rtol=1e-5, atol=1e-6)
            for name, value in pl_module.named_buffers():
                if name in buffers:
                    assert torch.equal(value, buffers[name]), name
        for name, value in pl_module.named_parameters():
            assert torch.equal(value, own[name]), name


def test_average_is_what_it_says_and_constants_stay(data: Path, tmp_path: Path) -> None:
    check = Averages()
    done = run(data, tmp_path, check, epochs=1)
    assert len(check.expected) > 20
    for name, value in done.model.named_parameters():
        torch.testing.assert_close(value.double(), check.expected[name], rtol=1e-5, atol=1e-6)
    fresh = tiny_hmr()
    for name, value in done.model.body.named_buffers():
        assert torch.equal(value, fresh.body.get_buffer(name)), name


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"decay": -0.1}, {"update_every_n_steps": 0}])
def test_ema_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match="EMA"):
        EMA(**wrong)
