"""``lightning predict --data.images FOLDER`` from a config whose data sets are not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from callbacks.prediction_table import read_part
from cli.lightning import main
from tests.lightning_modules.tiny_estimators import make


@pytest.fixture
def config(tmp_path: Path) -> Path:
    source = {
        "class_path": "datamodules.sources.RealSource",
        "init_args": {"reader": "lspet", "options": {"root": "/nowhere"}},
    }
    content: dict[str, Any] = {
        "trainer": {
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": str(tmp_path),
            "callbacks": [{"class_path": "callbacks.EMA"}, {"class_path": "callbacks.Refresh"}],
        },
        "model": {
            "class_path": "lightning_modules.HMR",
            "init_args": {"backbone": "test_efficientnet", "hidden": 32, "channels": 8},
        },
        "data": {"image_size": 64, "workers": 0, "sources": [source]},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (50, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{k}.png"), pixels)
    return folder


def test_weights_of_a_run_and_crops(
    config: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = make("hmr")
    torch.save({"state_dict": trained.state_dict()}, config.parent / "last.ckpt")
    monkeypatch.chdir(config.parent)
    weights = ["--model.checkpoint", str(config.parent / "last.ckpt")]
    main(["predict", "--config", str(config), *weights, "--data.images", str(photos), "--data.crops", "true"])
    out = config.parent / "predictions" / "photos" / "predictions.parquet"
    assert pq.read_table(out)["picture"].to_pylist() == ["0.png", "1.png", "2.png"]
    assert read_part(out).maker["weights"] == trained.weights_hash()
    assert "3 people in 3 pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--data.images FOLDER"),
        (["--data.images", "nowhere"], "no folder of pictures"),
        (["--data.images", "empty"], "no pictures in"),
        (["--data.images", "photos", "--data.detector", "yolo"], "no detector is called 'yolo'"),
        (["--data.images", "photos", "--predictions.meshes", "obj"], "choose one of ply, glb"),
        (["--data.images", "photos", "--data.picture_focal", "-3"], "picture_focal"),
    ],
)
def test_what_is_wrong_is_one_line(
    config: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    (config.parent / "empty").mkdir()
    monkeypatch.chdir(config.parent)
    with pytest.raises(SystemExit) as done:
        main(["predict", "--config", str(config), *arguments])
    assert done.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
