"""The ``lightning`` command: shipped configs, a run from start to end, and what users mistype."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks import Interrupt
from callbacks.checkpoints import WholeCheckpoints
from cli.commands import names_own_data
from cli.lightning import bad_input, main
from human.errors import PosesynError
from tests.tiny import SIZE

pytestmark = pytest.mark.usefixtures("command_process")
ROOT = Path(__file__).resolve().parents[2]
# Rows of the papers are ends of longer commands: tests/cli/test_papers.py.
EVERY = [c for c in sorted((ROOT / "configs").rglob("*.yaml")) if c.parent.parent.name != "paper"]
CONFIGS = [c for c in EVERY if not names_own_data(["--config", str(c)])]  # of estimators
OTHERS = [c for c in EVERY if c not in CONFIGS]


def tiny_config(data: Path, out: Path) -> dict[str, Any]:
    train, val = ({"root": str(data / part)} for part in ("train", "val"))
    cheap = {"backgrounds": "procedural"}
    sources = [
        ("RealSource", {"reader": "lspet", "options": train, "name": "real", "weight": 0.3}),
        ("PoolSource", {"weight": 0.4}),
        ("RenderedSource", {"weight": 0.3, "options": {"supersample": 1}, **cheap}),
    ]
    refresh = {"samples": 6, "eem": {"challenges": 3, "references": 2}, "filter": {"tau": None}, **cheap}
    callbacks = [("EMA", {}), ("Refresh", refresh), ("EpochTable", {}), ("Gallery", {"count": 4, "columns": 2})]
    return {
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 2,
            "num_sanity_val_steps": -1,
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": str(out), "name": "tiny"},
            },
            "callbacks": [{"class_path": f"callbacks.{n}", "init_args": a} for n, a in callbacks],
        },
        "model": {
            "class_path": "lightning_modules.HMR",
            "init_args": {"backbone": "test_efficientnet", "channels": 8, "hidden": 16},
        },
        "data": {
            "image_size": SIZE,
            "batch_size": 8,
            "steps_per_epoch": 3,
            "workers": 1,
            "sources": [{"class_path": f"datamodules.sources.{n}", "init_args": a} for n, a in sources],
            "mine": [{"reader": "lspet", "options": train}],
            "validate": [{"reader": "lspet", "options": val, "name": "val"}],
        },
    }


def write(config: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(config))
    return path


def command(*args: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "POSESYN_CACHE": str(cache)}
    return subprocess.run(
        [sys.executable, "-m", "cli.lightning", *args],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_there_are_configs() -> None:
    assert "quickstart.yaml" in {c.name for c in CONFIGS}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.stem)
def test_shipped_configs_are_valid(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", str(config), "--print_config"])
    assert done.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load(config.read_text())
    assert printed["model"]["init_args"]["backbone"] == written["model"]["init_args"]["backbone"]
    assert [s["class_path"] for s in printed["data"]["sources"]] == [
        s["class_path"] for s in written["data"]["sources"]
    ]


@pytest.mark.parametrize("config", OTHERS, ids=lambda c: c.stem)
def test_shipped_configs_with_data_of_their_own_are_valid(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", str(config), "--print_config"])
    assert done.value.code == 0
    printed, written = yaml.safe_load(capsys.readouterr().out), yaml.safe_load(config.read_text())
    for part in ("model", "data"):
        assert printed[part]["class_path"].endswith(written[part]["class_path"].rsplit(".", 1)[-1])
        assert written[part]["init_args"].keys() <= printed[part]["init_args"].keys()


def test_a_run_from_start_to_end(lspet_parts: Path, tmp_path: Path) -> None:
    """With a loader process, which must see generations that are committed after it started."""
    config = write(tiny_config(lspet_parts, tmp_path), tmp_path / "tiny.yaml")
    done = command("fit", "--config", str(config), cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "tiny" / "version_0"
    rows = json.loads((run / "epochs.json").read_text())
    assert [r["epoch"] for r in rows] == ["start", 0, 1]
    assert all(r["fractions"]["pool"] > 0 for r in rows[1:])
    assert [r["refresh"]["generation"] for r in rows[1:]] == [0, 1]
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["data"]["image_size"] == SIZE
    assert "image_size" not in saved["model"]["init_args"]  # follows the data's
    assert list((run / "checkpoints").glob("*.ckpt"))
    assert (run / "pictures" / "refresh_001_samples.png").is_file()
    assert "Err before" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_missing_data_set_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tiny_config(tmp_path / "nowhere", tmp_path), tmp_path / "c.yaml")
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", str(config)])
    assert done.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line.lower()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert str(tmp_path / "nowhere" / "train" / "images") in lines[0]


def test_a_loader_process_that_fails_is_one_line() -> None:
    message = "Caught PosesynError in DataLoader worker process 0.\nOriginal Traceback\nhuman.errors.PosesynError: no X"
    assert bad_input(PosesynError(message)) == "no X"
    assert bad_input(ValueError("ours")) is None


def refused(config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", str(write(config, tmp_path / "c.yaml"))])
    assert done.value.code not in (0, None)
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize(
    ("where", "key"),
    [(("data",), "batchsize"), (("model", "init_args"), "backbon"), ((), "trainr"), (("data", "mine", 0), "raeder")],
)
def test_an_unknown_key_is_named(
    lspet_parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: tuple[Any, ...], key: str
) -> None:
    config = tiny_config(lspet_parts, tmp_path)
    at: Any = config
    for part in where:
        at = at[part]
    at[key] = 3
    assert key in refused(config, tmp_path, capsys)


@pytest.mark.parametrize(
    ("where", "key", "value", "says"),
    [
        (("model", "init_args"), "backbone", "efficientnet_lite", "did you mean efficientnet_lite0"),
        (("data",), "sources", [], "sources is empty"),
        (("data",), "batch_size", 0, "batch_size=0"),
        (("data",), "batch_size", "many", "many"),
        (("trainer", "callbacks", 1, "init_args"), "keep", 0, "got 6, 1, 0, 20000 and 32"),
        (("trainer", "callbacks", 1, "init_args", "eem"), "challenges", 0, "challenges >= 1"),
        (("trainer", "callbacks", 1, "init_args", "filter"), "tau", -5.0, "tau >= 0"),
    ],
)
def test_a_value_that_makes_no_sense_is_one_sentence(
    lspet_parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    where: tuple[Any, ...], key: str, value: Any, says: str,
) -> None:  # fmt: skip
    config = tiny_config(lspet_parts, tmp_path)
    config["data"]["workers"] = 0
    at: Any = config
    for part in where:
        at = at[part]
    at[key] = value
    assert says in refused(config, tmp_path, capsys)


def test_a_config_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", "configs/nowhere.yaml"])
    assert done.value.code == 2
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("body", ["free", "smpl"])
def test_body_labels_are_told_in_the_models_body(
    tmp_path: Path, lspet_parts: Path, body_files: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    fitted = []
    monkeypatch.setattr(
        "lightning.Trainer.fit", lambda self, model, datamodule, **_: fitted.append((model, datamodule))
    )
    config = tiny_config(lspet_parts, tmp_path)
    config["model"]["init_args"]["body"] = body
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", str(tmp_path / "c.yaml")])
    ((model, data),) = fitted
    assert data.body == body
    assert getattr(model.body, "kind", "free") == body


# -- what every run gets (docs/faults.md) ------------------------------------------------------------------------------
@pytest.mark.parametrize("there", [True, False])
def test_every_run_writes_whole_checkpoints_and_can_be_stopped(
    tmp_path: Path, lspet_parts: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    fitted: list[tuple[L.Trainer, Any]] = []

    def fit(self: L.Trainer, model: Any, datamodule: Any, ckpt_path: Any = None, **more: Any) -> None:
        fitted.append((self, ckpt_path))

    monkeypatch.setattr("lightning.Trainer.fit", fit)
    folder = tmp_path / "tiny" / "version_0" / "checkpoints"
    if there:  # the newest is cut off
        for age, name in enumerate(["last-interrupted.ckpt", "last.ckpt"]):
            WholeCheckpoints().save_checkpoint({"step": 1}, folder / name)
            os.utime(folder / name, (1000 + age, 1000 + age))
        (folder / "last.ckpt").write_bytes(b"PK")
    config = write(tiny_config(lspet_parts, tmp_path), tmp_path / "c.yaml")
    main(["fit", "--config", str(config), "--ckpt_path", "last"])
    ((trainer, resumed),) = fitted
    assert type(trainer.strategy.checkpoint_io) is WholeCheckpoints
    assert [type(c) for c in trainer.checkpoint_callbacks] == [ModelCheckpoint]  # Lightning's own is still added
    assert sum(isinstance(c, Interrupt) for c in trainer.callbacks) == 1
    assert resumed == (folder / "last-interrupted.ckpt" if there else None)


def test_a_checkpoint_that_is_cut_off_is_one_line(
    lspet_parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WholeCheckpoints().save_checkpoint({"step": 1}, tmp_path / "1.ckpt")
    (tmp_path / "2.ckpt").write_bytes((tmp_path / "1.ckpt").read_bytes()[:-100])
    config = tiny_config(lspet_parts, tmp_path)
    config["data"]["workers"] = 0
    where = str(write(config, tmp_path / "c.yaml"))
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", where, "--ckpt_path", str(tmp_path / "2.ckpt")])
    assert done.value.code == 2
    said = capsys.readouterr().err
    assert f"2.ckpt is cut off or empty: the newest whole one near it is {tmp_path}/1.ckpt" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_of_a_run(lspet_parts: Path, tmp_path: Path, signum: signal.Signals) -> None:
    """As a terminal or SLURM send it: the loader processes get it too."""
    config = tiny_config(lspet_parts, tmp_path)
    config["trainer"]["max_epochs"] = 50
    config["data"]["steps_per_epoch"] = 20
    path = write(config, tmp_path / "tiny.yaml")
    environment = {**os.environ, "POSESYN_CACHE": str(tmp_path / "cache")}
    command_line = [sys.executable, "-m", "cli.lightning", "fit", "--config", str(path)]
    with subprocess.Popen(
        command_line, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        table, waited = tmp_path / "tiny" / "version_0" / "epochs.json", time.monotonic()
        try:
            while not (table.exists() and '"epoch": 0' in table.read_text()) and process.poll() is None:
                time.sleep(0.1)
                assert time.monotonic() - waited < 280
            os.killpg(process.pid, signum)
            said = process.communicate(timeout=120)[1]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + signum, said
    saved = tmp_path / "tiny" / "version_0" / "checkpoints" / "last-interrupted.ckpt"
    assert f"go on with the same command and --ckpt_path {saved}" in said
    step = torch.load(saved, weights_only=True)["global_step"]
    assert 20 <= step < 1000
    more = command(
        "fit", "--config", str(path), "--ckpt_path", "last", f"--trainer.max_steps={step + 3}", cache=tmp_path / "cache"
    )
    assert more.returncode == 0, more.stderr
    rows = json.loads((tmp_path / "tiny" / "version_1" / "epochs.json").read_text())
    assert [r["epoch"] for r in rows][:2] == ["start", 0]
