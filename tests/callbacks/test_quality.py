"""Quality figures of a run: logged after every refresh, without touching the run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import save_file

from callbacks import Quality
from human.errors import PosesynError
from synth.quality import QualityConfig
from tests.tiny import tiny_data, tiny_hmr, tiny_refresh, tiny_trainer, write_data


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("features") / "tiny.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("lspet"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "cache"))


def fit(folder: Path, run: Path, *more: Any) -> Any:
    logger = CSVLogger(run, name="", version="log")
    trainer = tiny_trainer(run, tiny_refresh(), *more, epochs=2, logger=logger)
    model = tiny_hmr()
    trainer.fit(model, datamodule=tiny_data(folder, run))
    return model, logger


def test_each_refresh_is_measured_and_the_run_stays_the_same(folder: Path, tmp_path: Path, weights: str) -> None:
    callback = Quality(QualityConfig("test_resnet", weights, labeller=None, limit=32))
    model, logger = fit(folder, tmp_path / "with", callback)
    assert [(r["refresh"], r["generation"], r["engine"]) for r in callback.rows] == [
        (0, 0, "rendered"),
        (1, 1, "rendered"),
    ]
    assert all(r["fid"] > 0 and r["apd"] > 0 and r["pass_rate"] == 1 for r in callback.rows)
    (written,) = tmp_path.glob("with/**/quality.json")
    assert json.loads(written.read_text()) == callback.rows
    logger.save()
    text = (tmp_path / "with" / "log" / "metrics.csv").read_text()
    assert "quality/rendered/fid" in text
    assert "quality/rendered/alignment" not in text  # nothing was measured
    again = Quality()
    again.load_state_dict(callback.state_dict())
    assert again.rows == callback.rows
    alone, _ = fit(folder, tmp_path / "without")
    for name, value in alone.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_what_cannot_be_measured_does_not_end_a_run(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = Quality(QualityConfig("test_resnet", str(tmp_path / "none.safetensors"), labeller=None))
    with caplog.at_level(logging.ERROR):
        fit(folder, tmp_path / "run", callback)
    assert "could not be measured" in caplog.text
    assert not callback.rows
    with pytest.raises(PosesynError, match="every"):
        Quality(every=0)
