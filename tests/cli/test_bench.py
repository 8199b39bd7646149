"""``posesyn bench`` and ``lightning test`` on a tiny 3DPW: an estimator, and predictions made elsewhere."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from cli.bench import parse_data
from cli.lightning import main as lightning
from cli.posesyn import main
from datamodules.readers import make_reader
from human.errors import PosesynError
from metrics.prediction_files import read_predictions
from tests.datasets import threedpw
from tests.datasets.people import People, make_people
from tests.lightning_modules.tiny_estimators import make

pytestmark = pytest.mark.usefixtures("command_process", "body_files")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("male", "female"), frames=6)


@pytest.fixture(scope="module")
def folder(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("3dpw")
    threedpw.write(root, people)
    threedpw.write(root, people, sequence="office_phoneCall_00")
    return root


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A run's folder: weights and config."""
    model = {"backbone": "test_efficientnet", "hidden": 32, "channels": 8}
    source = {"class_path": "datamodules.sources.RealSource",
              "init_args": {"reader": "lspet", "options": {"root": "/nowhere"}}}  # fmt: skip
    content = {
        "trainer": {"accelerator": "cpu", "logger": False, "default_root_dir": str(tmp_path / "run")},
        "model": {"class_path": "lightning_modules.HMR", "init_args": model},
        "data": {"image_size": 64, "workers": 0, "sources": [source]},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    torch.save({"state_dict": make("hmr").state_dict()}, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def bench(*words: Any) -> None:
    main(["bench", *map(str, words)])


def figures(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    content = json.loads((out / "benchmark.json").read_text())
    return {(f["protocol"], f["metric"]): f for f in content["figures"]}


def test_an_estimator_is_measured_and_goes_on_where_it_was(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--ckpt", checkpoint, "--data", f"3dpw={folder}", "--out", tmp_path / "out", "--workers", 0]
    bench(*words, "--batch-size", 3)
    found = figures(tmp_path / "out")
    assert ("3dpw/spin", "mpjpe") in found
    assert all(f["count"] == 24 and f["missing"] == 0 for (_, m), f in found.items() if "mpjpe" in m)
    assert found["3dpw/spin", "mpjpe"]["value"] > 50  # untrained
    assert found["3dpw/spin", "mpjpe"]["low"] <= found["3dpw/spin", "mpjpe"]["value"]
    assert any(p["method"] == "SPIN" for p in found["3dpw/spin", "pa_mpjpe"]["published"])
    printed = capsys.readouterr().out
    assert "3dpw/spin" in printed
    assert "of the free body" in printed
    with (tmp_path / "out/benchmark.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found)
    assert {r["hash"] for r in rows} == {f["hash"] for f in found.values()}
    assert "3dpw/spin" in (tmp_path / "out/benchmark.md").read_text()
    assert r"\begin{tabular}" in (tmp_path / "out/benchmark.tex").read_text()

    # Killed: half of the predictions are lost; the run makes those, and the same figures.
    parts = sorted((tmp_path / "out/predictions/3dpw-test").glob("*.npz"))
    said, maker = read_predictions(parts[0])
    assert len(said) == 24
    from metrics.prediction_files import write_predictions

    write_predictions(parts[0], said.rows([0, 1, 2]), maker)
    (tmp_path / "out/benchmark.json").unlink()
    bench(*words)
    again = figures(tmp_path / "out")
    assert {k: f["count"] for k, f in again.items()} == {k: f["count"] for k, f in found.items()}
    for key, figure in again.items():  # other batches round otherwise
        assert figure["value"] == pytest.approx(found[key]["value"], rel=1e-5)
    assert len(list(parts[0].parent.glob("*.npz"))) == 2

    # Other weights: an error, or a new start.
    torch.manual_seed(1)
    state = {k: v + 0.01 if v.is_floating_point() else v for k, v in make("hmr").state_dict().items()}
    torch.save({"state_dict": state}, checkpoint)
    with pytest.raises(SystemExit):
        bench(*words)
    assert "made differently (weights)" in capsys.readouterr().err
    bench(*words, "--overwrite", "--limit", 4)
    assert figures(tmp_path / "out")["3dpw/spin", "mpjpe"]["count"] == 4


def test_lightning_test_gives_the_table(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    content = yaml.safe_load(config.read_text())
    content["data"]["test"] = [{"reader": "3dpw", "options": {"root": str(folder)}}]
    content["model"]["init_args"]["checkpoint"] = str(checkpoint)
    csv_logger = {"save_dir": str(tmp_path), "name": "log", "version": 0}
    content["trainer"]["logger"] = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": csv_logger}
    config.write_text(yaml.safe_dump(content))
    lightning(["test", "--config", str(config), "--benchmark.folder", str(tmp_path / "lightning")])
    bench("--ckpt", checkpoint, "--data", f"3dpw={folder}", "--out", tmp_path / "bench", "--workers", 0)
    found = figures(tmp_path / "bench")
    assert figures(tmp_path / "lightning") == found
    with (tmp_path / "log/version_0/metrics.csv").open() as file:
        logged = {k: float(v) for row in csv.DictReader(file) for k, v in row.items() if v}
    for (protocol, metric), figure in found.items():
        if figure["value"] is not None:
            assert logged[f"test/3dpw-test/{protocol}/{metric}"] == pytest.approx(figure["value"], rel=1e-6)


def test_predictions_made_elsewhere(
    people: People, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = make_reader("3dpw", {"root": str(folder)})
    truth = reader.truth()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    male = np.flatnonzero(np.asarray(truth["gender"]) == 1)
    pose = np.asarray(truth["pose"], np.float64)
    np.savez(
        theirs / "3dpw.npz",
        ids=np.array(list(truth.ids)),
        body="smpl_male",
        pose=pose.reshape(len(truth), 72),
        betas=truth["betas"],
        transl=truth["transl"],
    )
    words = ["--predictions", theirs, "--data", f"3dpw={folder}", "--out", tmp_path / "out"]
    bench(*words, "--protocol", "3dpw/spin", "--explain")
    value = figures(tmp_path / "out")["3dpw/spin", "mpjpe"]["value"]
    assert value > 1  # the women's parameters pose a man's body
    printed = capsys.readouterr().out
    assert "ground-truth body: of the annotated gender" in printed
    # The men alone are exact; the others are told to be missing.
    np.savez(
        theirs / "3dpw.npz",
        ids=np.array([truth.ids[i] for i in male]),
        body="smpl_male",
        global_orient=pose[male, :1],
        body_pose=pose[male, 1:],
        betas=truth["betas"][male],
    )
    bench(*words, "--protocol", "3dpw/spin")
    found = figures(tmp_path / "out")["3dpw/spin", "pve"]
    assert found["value"] == pytest.approx(0, abs=0.01)
    assert (found["count"], found["missing"]) == (12, 12)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({}, "neither joints nor body parameters"),
        ({"joints3d": np.zeros((3, 32, 3))}, "3 rows"),
        ({"joints3d": np.zeros((24, 24, 3))}, "say which"),
        ({"joints3d": np.zeros((24, 24, 3)), "skeleton": "smpl42"}, "no skeleton is called 'smpl42'"),
        ({"pose": np.zeros((24, 72))}, "no betas"),
        ({"pose": np.zeros((24, 71)), "betas": np.zeros((24, 10))}, "a pose of 71 numbers"),
        ({"pose": np.zeros((24, 72)), "betas": np.zeros((7, 10))}, "different lengths"),
        ({"pose": np.zeros((24, 72)), "betas": np.zeros((24, 10)), "body": "smplz"}, "no body model is called 'smplz'"),
        ({"body_pose": np.zeros((24, 69)), "betas": np.zeros((24, 10))}, "no global_orient"),
        ({"ids": np.array([{}] * 24, object), "joints2d": np.zeros((24, 32, 2))}, "plain arrays"),
        ({"ids": np.array(["a"] * 24), "joints3d": np.zeros((24, 32, 3))}, "twice"),
        ({"ids": np.array([f"x{i}" for i in range(24)]), "joints3d": np.zeros((24, 32, 3))}, "none of the predictions"),
    ],
)
def test_bad_predictions_are_one_error(
    content: dict[str, Any], word: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "3dpw.npz", **content)
    with pytest.raises(SystemExit):
        bench("--predictions", tmp_path, "--data", f"3dpw={folder}", "--out", tmp_path / "out")
    assert word in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_words_are_one_error(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["--data", f"3dpw={folder}"], "either --ckpt"),
        (["--ckpt", "x.ckpt"], "say --data"),
        (["--ckpt", tmp_path / "x.ckpt", "--data", f"3dqw={folder}"], "no reader is called '3dqw'"),
        (["--ckpt", tmp_path / "x.ckpt", "--data", f"3dpw={folder}"], "no config.yaml near"),
        (["--predictions", tmp_path, "--data", f"3dpw:tset={folder}"], "no split 'tset'"),
        (["--predictions", tmp_path, "--data", f"3dpw:test,speed=2={folder}"], "speed"),
        (["--predictions", tmp_path / "no", "--data", f"3dpw={folder}"], "no folder of predictions"),
        (["--predictions", tmp_path, "--data", f"3dpw={folder}", "--protocol", "3dpw/spun"], "no protocol 3dpw/spun"),
        (["--predictions", tmp_path, "--data", "3dpw"], "POSESYN_DATA"),
    ):
        with pytest.raises(SystemExit):
            bench(*words)
        assert told in capsys.readouterr().err, words


def test_sets_are_found_below_a_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/3DPW").symlink_to(folder)
    monkeypatch.setenv("POSESYN_DATA", str(tmp_path / "data"))
    assert parse_data(["3dpw"]) == {"3dpw": ("3dpw", tmp_path / "data/3DPW", {})}
    assert parse_data(["3dpw:all=x/y"]) == {"3dpw:all": ("3dpw", Path("x/y"), {"split": "all"})}
    with pytest.raises(PosesynError, match="emdb=FOLDER"):
        parse_data(["emdb"])
    main(["doctor"])
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "test (2)" in printed
    assert "J_regressor_h36m.npy" in printed


@pytest.mark.slow
def test_two_ranks_give_the_same_figures(checkpoint: Path, folder: Path, tmp_path: Path, body_files: Path) -> None:
    command = [sys.executable, "-m", "cli.posesyn", "bench", "--ckpt", str(checkpoint), "--data", f"3dpw={folder}",
               "--workers", "0", "--accelerator", "cpu", "--batch-size", "3"]  # fmt: skip
    for devices in ("1", "2"):
        out = ["--devices", devices, "--out", str(tmp_path / devices)]
        subprocess.run([*command, *out], check=True, cwd=ROOT, timeout=300, capture_output=True)
    one, two = figures(tmp_path / "1"), figures(tmp_path / "2")
    assert one.keys() == two.keys()
    for key, figure in one.items():
        assert two[key]["count"] == figure["count"]
        assert two[key]["value"] == pytest.approx(figure["value"], rel=1e-5)
