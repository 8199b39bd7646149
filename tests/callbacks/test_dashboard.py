"""The dashboard of a real tiny run, read back from the file that W&B wrote offline."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import cv2
import lightning as L
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import wandb
from lightning.pytorch.loggers import CSVLogger

from callbacks import Dashboard, Gallery, Guard, Record, WandbLogger
from callbacks.dashboard_figures import Overlap, refresh_figures, row_figures
from callbacks.dashboard_wandb import log_pictures
from callbacks.followed import Followed
from callbacks.quality import logged
from cli.dashboard.build import PACKAGED, panels, read_definition
from human.errors import PosesynError
from metrics.protocol import PoseScores
from synth.eem import EEM
from synth.pool import Pool
from synth.quality import Quality as Figures
from tests.tiny import rendered_people, tiny_data, tiny_hmr, tiny_refresh, tiny_trainer
from tests.wandb_file import artifacts, history

EPOCHS = 2
_VARIABLES = ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ERROR_REPORTING")


@pytest.fixture(scope="module")
def own_wandb() -> Iterator[pytest.MonkeyPatch]:
    """W&B's variables as they are, again after the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _VARIABLES:
            patch.setenv(name, "")
            patch.delenv(name)
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_CONSOLE", "off")
        yield patch
        wandb.teardown()


def fit(
    data: Path, run: Path, epochs: int, dashboard: Dashboard, pool: Path | None = None, ckpt: Path | None = None
) -> L.LightningModule:
    loggers = [CSVLogger(run, name="", version="log"), WandbLogger(save_dir=run)]
    trainer = tiny_trainer(run, tiny_refresh(), Guard(), epochs=epochs, logger=loggers, log_every_n_steps=2)
    at = next(i for i, c in enumerate(trainer.callbacks) if isinstance(c, Gallery))
    trainer.callbacks[at:at] = [Record(challenges=3, samples=4), dashboard]
    model = tiny_hmr()
    try:
        trainer.fit(model, datamodule=tiny_data(data, run, pool=str(pool or run / "pool")), ckpt_path=ckpt)
    finally:
        wandb.finish()
    return model


@pytest.fixture(scope="module")
def finished(
    lspet_parts: Path, tmp_path_factory: pytest.TempPathFactory, own_wandb: pytest.MonkeyPatch
) -> tuple[Path, Dashboard, L.LightningModule]:
    """Folder, dashboard and model of a run."""
    run = tmp_path_factory.mktemp("dashboard")
    dashboard = Dashboard(pictures=6, columns=3, side=64, follow=2)
    return run, dashboard, fit(lspet_parts, run, EPOCHS, dashboard)


@pytest.fixture(scope="module")
def rows(finished: tuple[Path, Dashboard, L.LightningModule]) -> list[dict[str, Any]]:
    return history(finished[0])


def wandb_services() -> list[tuple[int, list[str]]]:
    """Process ids and command lines of the programs that W&B has started for this process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="ignore").split("\0")
        except OSError:  # it has ended
            continue
        if "wandb-core" in words[0] and words[words.index("--pid") + 1] == str(os.getpid()):
            found.append((int(path.parent.name), words))
    return found


def series(rows: list[dict[str, Any]], x: str, y: str) -> list[tuple[float, float]]:
    """Points of a curve, without repeated ones."""
    return list(dict.fromkeys((row[x], row[y]) for row in rows if x in row and y in row))


def test_every_panel_of_the_workspace_names_what_a_run_logs(rows: list[dict[str, Any]]) -> None:
    names = {name for row in rows for name in row}
    names |= {name.rsplit("/", 1)[0] for name in names if name.endswith("/_type")}  # pictures and histograms
    # What only some runs have, as the code names it.
    names |= set(logged(Figures("rendered", 0, 1, 1, 1, {"fid": 1.0, "apd": 1.0})))
    names |= set(refresh_figures({"refresh": 0, "synthesis": {"fell_back": 1}, "checks": {"blank": 1}}))
    people, scores = rendered_people(range(2)), PoseScores()
    scores.update(tiny_hmr().predict(people), people)
    names |= {f"val/with 3D/{key}" for key in scores.compute()} | {"test/3dpw-test/3dpw/spin/mpjpe"}
    all_panels = panels(read_definition(PACKAGED))
    assert len(all_panels) > 30
    x_axes = {"step": "trainer/global_step", "epoch": "epoch", "refresh": "refresh/number"}
    for panel in all_panels:
        if "match" in panel:
            ys = [n for n in names if re.fullmatch(panel["match"], n)]
            assert ys, panel
        else:
            ys = [
                n.replace("{engine}", "rendered") for n in panel.get("lines") or panel.get("bars") or panel["pictures"]
            ]
        for y in ys:
            assert y in names, f"{panel['title']}: {y} is never logged"
            if "when" not in panel and "lines" in panel and "histogram" not in y:
                assert series(rows, x_axes[panel.get("x", "step")], y), f"{panel['title']}: no {y} over its x"


def test_figures_of_refreshes_and_epochs(finished: tuple[Path, Dashboard, L.LightningModule]) -> None:
    run, rows = finished[0], history(finished[0])
    table = json.loads((run / "log" / "epochs.json").read_text())
    before, after = (dict(series(rows, "refresh/number", f"refresh/challenge_error{end}")) for end in ("", "_after"))
    for row in table[1:]:
        entry = row["refresh"]
        assert before[entry["refresh"]] == entry["challenge_error"]
        assert after[entry["refresh"]] == entry["challenge_error_after"]
    # What is followed is what was mined first.
    followed = dict(series(rows, "refresh/number", "followed/error"))
    assert sorted(followed) == [0, 1]
    shares = [
        {k: v for k, v in row.items() if k.startswith("batches/share/")} for row in rows if "batches/pictures" in row
    ]
    assert len(shares) == EPOCHS
    assert all(sum(s.values()) == pytest.approx(1) for s in shares)
    histograms = [row["errors/histogram/values"] for row in rows if "errors/histogram/values" in row]
    assert [sum(h) for h in histograms] == [row["refresh"]["eligible"] for row in table[1:]]
    # The scores before the first step, which Lightning does not log.
    assert ("trainer/global_step", 0) in {
        ("trainer/global_step", r["trainer/global_step"]) for r in rows if "val/val/pck_box" in r
    }
    with (run / "log" / "metrics.csv").open() as file:  # every logger has the figures
        said = [float(r["mined/overlap_previous"]) for r in csv.DictReader(file) if r["mined/overlap_previous"]]
    assert said == [y for _, y in series(rows, "refresh/number", "mined/overlap_previous")]


def test_pictures_are_files_of_the_run(finished: tuple[Path, Dashboard, L.LightningModule]) -> None:
    run, rows = finished[0], history(finished[0])
    for name in ("pictures/challenges", "pictures/samples/rendered", "pictures/followed"):
        paths = [row[f"{name}/path"] for row in rows if f"{name}/path" in row]
        assert len(paths) == EPOCHS
        for number, path in enumerate(paths):
            (file,) = run.glob(f"wandb/offline-run-*/files/{path}")
            picture = cv2.imread(str(file))
            assert picture.std() > 20
            if name == "pictures/followed":
                assert picture.shape[1] == 64 * (number + 1)  # a column for each look


def test_artifacts_name_their_ancestors(finished: tuple[Path, Dashboard, L.LightningModule]) -> None:
    run = finished[0]
    found = artifacts(run)
    made = {next(a for a in f["aliases"] if a != "latest"): f for f in found}
    assert sorted(made) == ["generation-0", "generation-1", "step-4", "step-8"]
    (name,) = {f["name"] for f in found if f["type"] == "checkpoint"}
    first, second = made["generation-0"]["metadata"], made["generation-1"]["metadata"]
    assert first["mined_by"]["checkpoint"] is None  # weights made of nothing
    assert second["mined_by"]["checkpoint"] == f"{name}:step-4"
    assert first["mined_by"]["weights"] != second["mined_by"]["weights"]
    kept = made["step-8"]["metadata"]
    assert kept["follows"] == f"{name}:step-4"
    both = [f"{made[g]['name']}:{g}" for g in ("generation-0", "generation-1")]
    assert kept["trained_on"] == both
    assert made["step-4"]["metadata"]["trained_on"] == both[:1]
    # Where a checkpoint lies, not its content; of a generation, the words and a few pictures.
    (where,) = (v for k, v in made["step-8"]["files"].items() if k.endswith(".ckpt"))
    assert Path(unquote(urlparse(where).path)).stat().st_size == kept["bytes"]
    files = made["generation-1"]["files"]
    assert sorted(files) == ["generation.json", "provenance.parquet", "samples.jpg"]
    table = pq.read_table(files["provenance.parquet"])
    assert table.equals(Pool(run / "pool").provenance(1))
    assert "image" not in table.column_names
    assert json.loads(Path(files["generation.json"]).read_text()) == second
    # Copies of artifacts are kept in the run's folder, not in the home folder.
    assert all(str(run) in path for f in found for path in f["files"].values())


def test_the_run_is_the_same_without_and_asks_nothing_of_a_network(
    finished: tuple[Path, Dashboard, L.LightningModule], lspet_parts: Path, tmp_path: Path
) -> None:
    words = [str(lspet_parts), str(tmp_path), str(EPOCHS), str(torch.get_num_threads())]
    subprocess.run([sys.executable, "-m", "tests.quiet_run", *words], check=True, timeout=900)
    asked = json.loads((tmp_path / "asked.json").read_text())
    assert [what for what in asked if what.startswith("socket") or "wandb" in what] == []
    for name, value in torch.load(tmp_path / "weights.pt", weights_only=True).items():
        assert torch.equal(finished[2].state_dict()[name], value), name


def test_a_resumed_run_has_whole_curves_and_follows_the_old_one(
    finished: tuple[Path, Dashboard, L.LightningModule], lspet_parts: Path, tmp_path: Path
) -> None:
    run, dashboard = finished[0], Dashboard(pictures=2, columns=2, side=64, follow=2)
    fit(lspet_parts, tmp_path, 2, dashboard, run / "pool", run / "epochs" / "0.ckpt")
    again = history(tmp_path)
    steps = [r["trainer/global_step"] for r in again if "batches/pictures" in r]
    assert steps == [4, 8]
    assert dashboard.followed.rows == finished[1].followed.rows
    (checkpoint,) = (f for f in artifacts(tmp_path) if f["type"] == "checkpoint")
    (old,) = {f["name"] for f in artifacts(run) if f["type"] == "checkpoint"}
    assert checkpoint["name"] != old
    assert checkpoint["metadata"]["follows"] == f"{old}:step-4"
    assert dashboard.overlap.ever
    assert checkpoint["metadata"]["step"] == 8


def test_trouble_with_wandb_is_told_once(
    tmp_path: Path, own_wandb: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = WandbLogger(save_dir=tmp_path)
    dashboard, picture = Dashboard(), {"pictures/challenges": np.zeros((8, 8, 3), np.uint8)}
    media = Path(logger.experiment.dir) / "media"
    # W&B's own process sends no reports of errors either.
    (service,) = wandb_services()
    assert "--no-observability" in service[1]
    media.write_text("a file where a folder should be: the disk says no")
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            dashboard._try(logger, "pictures", log_pictures, logger, picture, "words", step)
    assert len([r for r in caplog.records if "could not be logged to W&B" in r.message]) == 1
    media.unlink()
    dashboard._try(logger, "pictures", log_pictures, logger, picture, "words", 3)
    logger.log_metrics({"still": 1.0}, 3)
    wandb.finish()
    said = history(tmp_path)
    assert [r["trainer/global_step"] for r in said if "pictures/challenges/path" in r] == [3]
    assert said[-1]["still"] == 1


@pytest.mark.slow
def test_a_run_outlives_the_service_of_wandb(tmp_path: Path) -> None:
    program = f"""
import os, signal, time
from callbacks import WandbLogger
from tests.callbacks.test_dashboard import wandb_services
logger = WandbLogger(save_dir={str(tmp_path)!r})
logger.log_metrics({{"a": 1.0}}, 1)
(service,) = wandb_services()
os.kill(service[0], signal.SIGKILL)
for step in range(100):  # until the end of the connection is noticed, and after
    logger.log_metrics({{"a": 1.0}}, step)
    time.sleep(0.05)
logger.finalize("success")
print("on it goes")
"""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}  # a service of its own
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=900, env=own
    )
    assert done.returncode == 0, done.stderr
    assert "on it goes" in done.stdout
    assert done.stderr.count("could not be logged to W&B") == 1


def test_a_network_that_is_not_there_means_offline(
    tmp_path: Path, own_wandb: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        patch.setenv("WANDB_API_KEY", "0" * 40)
        patch.delenv("WANDB_MODE", raising=False)  # the logger of another test has set it
        wandb.teardown()
        logger = WandbLogger(save_dir=tmp_path, offline=False, settings=wandb.Settings(init_timeout=2))
        with caplog.at_level(logging.WARNING):
            logger.log_metrics({"a": 1.0}, 1)
            logger.log_metrics({"a": 2.0}, 2)
        assert len([r for r in caplog.records if "is logged in" in r.message]) == 1
        wandb.finish()
        wandb.teardown()
    (offline,) = tmp_path.glob("wandb/offline-run-*")
    assert [r["a"] for r in history(offline)] == [1, 2]


def test_long_runs_stay_small(lspet_parts: Path, tmp_path: Path) -> None:
    dashboard = Dashboard()
    assert sum(dashboard._due(n) for n in range(200)) == 48
    followed, data = Followed(people=2, looks=3), tiny_data(lspet_parts, tmp_path).mining_data
    model = tiny_hmr()
    for number in range(6):
        followed.look(model, data, EEM(), number, [3, 5, 7] if number == 0 else [1, 2])
    assert followed.rows == [3, 5]
    assert [look["refresh"] for look in followed.seen] == [0, 4, 5]
    picture = followed.draw(data, 48)
    assert picture is not None
    assert picture.shape == (2 * 48, 3 * 48, 3)
    again = Followed(people=2, looks=3)
    again.load(json.loads(json.dumps(followed.state())))
    assert np.array_equal(again.draw(data, 48), picture)


def test_overlap_of_mined_sets() -> None:
    overlap = Overlap()
    assert overlap.add([1, 2, 3, 4]) == {"mined/people": 4, "mined/ever": 4}
    assert overlap.add([3, 4, 5, 6])["mined/overlap_previous"] == 0.5
    assert overlap.add([]) == {"mined/people": 0, "mined/ever": 6}  # nobody could be mined
    found = overlap.add([1, 2, 9])
    assert found["mined/overlap_previous"] == 0
    assert found["mined/overlap_first"] == pytest.approx(2 / 3)
    assert found["mined/new"] == pytest.approx(1 / 3)


def test_figures_leave_out_what_is_not_a_number() -> None:
    failed = refresh_figures({"refresh": 4, "generation": None, "failed": "no disk", "seconds": 1.5})
    assert failed == {"refresh/number": 4, "refresh/failed": 1, "refresh/seconds": 1.5}
    told = refresh_figures({"refresh": 1, "made": 4, "passed": 1, "challenge_error": float("nan"), "lag_steps": 12})
    assert told["refresh/pass_rate"] == 0.25
    assert told["refresh/lag_steps"] == 12
    assert "refresh/challenge_error" not in told
    row = {"epoch": 0, "step": 4, "fractions": {"my set": 1.0}, "skipped": 0, "pictures": 8, "pool_age": None,
           "scores": {}, "seconds": {"wait": 1.0, "validate": 0.0, "train": 4.0}}  # fmt: skip
    figures = row_figures(row)
    assert figures["batches/share/my_set"] == 1
    assert figures["time/wait_share"] == 0.25
    assert figures["time/pictures_per_second"] == 2
    assert "batches/pool_age" not in figures


def test_settings_that_cannot_be_meant(lspet_parts: Path, tmp_path: Path) -> None:
    for wrong in ({"pictures": -1}, {"every": 0}, {"side": 4}, {"whole": ["everything"]}):
        with pytest.raises(PosesynError, match="the dashboard"):
            Dashboard(**wrong)
    trainer = tiny_trainer(tmp_path, tiny_refresh(), Dashboard(), epochs=1)
    with pytest.raises(PosesynError, match=r"EpochTable and callbacks\.Record found: list them before it"):
        trainer.fit(tiny_hmr(), datamodule=tiny_data(lspet_parts, tmp_path))
