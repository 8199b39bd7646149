"""``posesyn synth``: from an experiment file to one generation, stopped and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.posesyn import main
from cli.synth import facts, own_keys
from human.errors import PosesynError
from synth.fleet.driver import Status
from synth.fleet.folder import JobFolder
from synth.pool import Pool
from tests.tiny import CHEAP, SIZE

ROOT = Path(__file__).resolve().parents[2]


def write_config(folder: Path, data: Path, samples: int = 5, **refresh: Any) -> Path:
    """An experiment file, as `lightning fit` takes it."""
    init = {
        "samples": samples,
        "backgrounds": "procedural",
        "engine_options": CHEAP,
        "eem": {"challenges": 3, "references": 2, "min_joints": 6},
        "variation": {"best_of": 2},
        "filter": {"tau": None},
        "appearances": 0,
        **refresh,
    }
    callbacks = [{"class_path": "callbacks.EpochTable"}, {"class_path": "callbacks.Refresh", "init_args": init}]
    model = {"class_path": "lightning_modules.HMR", "init_args": {"backbone": "test_efficientnet", "hidden": 32}}
    content = {
        "trainer": {"max_epochs": 1, "callbacks": callbacks},
        "model": model,
        "data": {
            "image_size": SIZE,
            "batch_size": 6,
            "mine": [{"reader": "lspet", "options": {"root": str(data / "train")}}],
            "pool": str(folder / "pool"),
        },
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "cache"))


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out.strip().splitlines()[-1]))


@pytest.mark.usefixtures("command_process")
def test_an_experiment_file_becomes_a_generation(
    lspet_parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, lspet_parts)
    words = ["synth", "--config", str(config), "--fleet.price", "2", "--fleet.workers", "1"]
    main([*words, "--plan"])
    planned = printed(capsys)
    assert planned["pictures_per_worker_day"] > 1000
    assert planned["timed"] > 0
    assert Pool(tmp_path / "pool").generations() == []
    main([*words, "--refresh.checks", '[{"name": "not_blank"}]'])
    made = printed(capsys)
    assert (made["generation"], made["made"], made["passed"], made["fleet"]["made"]) == (0, 5, 5, 5)
    (order,) = JobFolder(tmp_path / "jobs").orders()
    assert order.finished


def test_what_is_taken_from_an_experiment_file(tmp_path: Path) -> None:
    config = write_config(tmp_path, tmp_path, mode="fleet", fleet={"workers": 3, "price": 1.0})
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**content, "refresh": {"samples": 9}, "fleet": {"workers": 2}}))
    keys = own_keys(config)
    assert (keys["refresh"]["samples"], keys["refresh"]["backgrounds"]) == (9, "procedural")
    assert "mode" not in keys["refresh"]
    assert keys["fleet"] == {"workers": 2, "price": 1.0}
    assert keys["data"].keys() == {"image_size", "mine", "pool"}


@pytest.mark.usefixtures("command_process")
def test_diffusion_hpc_becomes_a_generation(
    lspet_parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its callback gives jobs of the estimator's own meshes, here to the engine that needs no weights."""
    config = write_config(tmp_path, lspet_parts)
    content = yaml.safe_load(config.read_text())
    hpc = {"mode": "R", "per_picture": 2, "hardness": None, "inside": 0.0, "resolution": SIZE}
    callback = content["trainer"]["callbacks"][1]
    callback["class_path"] = "callbacks.DiffusionHPC"
    callback["init_args"] |= {"engine": "rendered", "hpc": hpc}
    config.write_text(yaml.safe_dump(content))
    main(["synth", "--config", str(config), "--fleet.workers", "1", "--refresh.hpc.per_picture", "1"])
    made = printed(capsys)
    (order,) = JobFolder(tmp_path / "jobs").orders()
    assert order.order.made_by.startswith("diffusion_hpc:")
    assert 1 <= made["made"] <= 3  # one for each of three people
    del callback["init_args"]["hpc"]
    config.write_text(yaml.safe_dump(content))
    assert own_keys(config)["refresh"]["hpc"] == {}


def test_facts() -> None:
    status = Status(total=100, made=40, made_here=40, working=20.0, workers=2, hourly=3.6, parked=1, deaths=2)
    assert facts(status) == "2 workers, 2.00/s, left 0:00:30, cost 0.02 of 0.05, 1 parked, 2 died"
    assert facts(Status(total=3)) == "0 workers, 0.00/s, left ?"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say --config FILE, or --jobs FOLDER"),
        (["--config", "nowhere.yaml"], "no config nowhere.yaml"),
        (["--jobs", "x", "--fleet.retries", "-1"], "retries"),
        (["--jobs", "x", "--fleet.retires", "1"], "retires"),
    ],
)
@pytest.mark.usefixtures("command_process")
def test_wrong_words_are_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["synth", *words])
    assert said in capsys.readouterr().err


def test_a_file_that_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(PosesynError, match="holds no keys"):
        own_keys(tmp_path / "list.yaml")


@pytest.mark.slow
def test_stopped_and_gone_on_with(lspet_parts: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, lspet_parts, samples=600)
    words = [sys.executable, "-m", "cli.posesyn", "synth", "--config", str(config), "--fleet.workers", "1"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 500
        while time.monotonic() < end and not any(p.made() for p in JobFolder(tmp_path / "jobs").orders()):
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command goes on" in said
    (placed,) = JobFolder(tmp_path / "jobs").orders()
    before = len(placed.made())
    assert 0 < before < 600
    assert Pool(tmp_path / "pool").generations() == []
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    assert (summary["made"], summary["fleet"]["made_here"]) == (600, 600 - before)
    assert [g.count for g in Pool(tmp_path / "pool").generations()] == [600]
