"""docs/extending.md, carried out: an estimator in a package of its own is installed, listed, configured and trained."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from cli.doctor import run as doctor
from cli.lightning import main
from human.errors import PosesynError
from lightning_modules import ESTIMATORS
from tests.tiny import SIZE, rendered_people, tiny_data, tiny_refresh, tiny_trainer, write_data

ROOT = Path(__file__).resolve().parents[2]
TINY = {"backbone": "test_vit", "heads": 2, "image_size": SIZE, "lr": 1e-3, "warmup_steps": 1}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed by pip into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    source = tmp_path_factory.mktemp("source") / "own_estimator"
    source.mkdir()
    for path in (ROOT / "examples" / "own_estimator").rglob("*"):  # pip leaves a build folder where it builds
        if path.suffix in (".py", ".toml"):
            copy = source / path.relative_to(ROOT / "examples" / "own_estimator")
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(path.read_text())
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    return target


@pytest.fixture
def package(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As in a process that starts with the package installed."""
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setattr(ESTIMATORS, "_entry_points", None)
    monkeypatch.setattr(ESTIMATORS, "_items", dict(ESTIMATORS._items))
    importlib.invalidate_caches()
    return installed


def test_it_is_listed(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor(["--list"])
    estimators = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("target pose"))
    assert "token_regressor" in estimators
    assert "hmr" in estimators


def test_without_the_package_it_is_not() -> None:
    assert "token_regressor" not in ESTIMATORS.names()
    with pytest.raises(PosesynError, match=r"no tpe is called 'token_regressor'; known: .*hmr"):
        ESTIMATORS.get("token_regressor")


def test_it_goes_into_a_config(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(ROOT / "configs" / "quickstart.yaml")
    arguments = ["--model", "own_estimator.TokenRegressor", "--model.backbone", "test_vit", "--model.heads", "2"]
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", config, *arguments, "--print_config"])
    assert not stopped.value.code
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    assert model["class_path"] == "own_estimator.TokenRegressor"
    assert model["init_args"]["heads"] == 2


def test_it_is_trained_mined_and_validated(package: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    estimator = ESTIMATORS.get("token_regressor")(**TINY)
    before = estimator.weights_hash()
    trainer = tiny_trainer(tmp_path, tiny_refresh(), epochs=1)
    trainer.fit(estimator, datamodule=tiny_data(write_data(tmp_path / "data"), tmp_path))
    assert trainer.global_step == 4
    assert estimator.weights_hash() != before
    assert estimator.last_scores["val"]["pck_torso"] > 0
    assert (tmp_path / "pool").is_dir()
    with torch.inference_mode():
        assert estimator.eval().predict(rendered_people(range(2))).finite.all()
