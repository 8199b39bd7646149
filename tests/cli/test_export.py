"""Exported estimators say what the estimators say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cli.estimator import config_of, load_estimator
from cli.export import (
    INPUTS,
    OUTPUTS,
    Exported,
    compare,
    example,
    export,
    inputs_of,
    trace,
    write,
)
from cli.posesyn import main
from human.errors import PosesynError
from lightning_modules import ESTIMATORS, PoseEstimator
from tests.lightning_modules.tiny_estimators import make

onnx_here = pytest.importorskip("onnxruntime", reason="pip install 'posesyn[export]'") is not None
Traced = tuple[PoseEstimator, torch.export.ExportedProgram, tuple[str, ...]]


@pytest.fixture(scope="module")
def traced() -> Traced:
    """Traced once: it takes several seconds."""
    estimator = make("hmr").eval().requires_grad_(False)
    program, names = trace(estimator)
    return estimator, program, names


def test_hmr_looks_at_the_picture_only(traced: Traced) -> None:
    assert traced[2] == ("image",)


def test_what_an_estimator_looks_at_is_found() -> None:
    class Sees(type(make("hmr"))):  # type: ignore[misc]
        def place(self, weak: torch.Tensor, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
            transl, _ = super().place(weak, batch)
            return transl, batch.intrinsics

    estimator = Sees(backbone="test_efficientnet", image_size=64, hidden=32, channels=8).eval()
    assert inputs_of(estimator) == ("image", "intrinsics")


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_the_file_gives_what_eager_gives(traced: Traced, tmp_path: Path, kind: str) -> None:
    estimator, program, names = traced
    path = tmp_path / "file"
    write(program, names, estimator, path, kind)
    differences = compare(estimator, path, kind, names)  # on three pictures, traced with two
    assert set(differences) == set(OUTPUTS)
    assert max(differences.values()) < 1e-4
    if kind == "torch":
        extra = {"posesyn.json": ""}
        torch.export.load(path, extra_files=extra)
        about = json.loads(extra["posesyn.json"])
    else:
        import onnx

        about = json.loads({p.key: p.value for p in onnx.load(path).metadata_props}["posesyn"])
    assert about["weights"] == estimator.weights_hash()
    assert about["image_size"] == estimator.image_size
    with torch.no_grad():  # a file of other weights does not pass for it
        estimator.head.delta.bias += 0.1
        try:
            with pytest.raises(PosesynError, match="differs from the estimator"):
                compare(estimator, path, kind, names)
        finally:
            estimator.head.delta.bias -= 0.1


def test_what_is_traced_is_what_is_predicted() -> None:
    estimator = make("hmr").eval()
    inputs = example(estimator.image_size, 2)
    from human.batch import PoseBatch
    from human.rotations import rotvec_to_matrix

    with torch.no_grad():
        out = dict(zip(OUTPUTS, Exported(estimator, INPUTS)(*inputs.values()), strict=True))
        said = estimator.predict(PoseBatch.blank(2, estimator.image_size).replace(image=inputs["image"]))
    for name in ("betas", "transl", "joints3d", "joints2d"):
        torch.testing.assert_close(out[name], getattr(said, name))
    torch.testing.assert_close(out["camera"], said.intrinsics)
    rotations = torch.cat([said.global_orient[:, None], said.body_pose], 1)
    torch.testing.assert_close(out["rotations"], rotvec_to_matrix(rotations), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torch", "onnx"])
@pytest.mark.parametrize("name", ESTIMATORS.names())
def test_every_estimator_is_exported(name: str, kind: str, tmp_path: Path) -> None:
    differences = export(make(name), tmp_path / "file", kind)
    assert max(differences.values()) < 1e-3


def config(path: Path, **arguments: Any) -> Path:
    init = {"backbone": "test_efficientnet", "hidden": 32, "channels": 8, **arguments}
    content = {"model": {"class_path": "lightning_modules.HMR", "init_args": init}, "data": {"image_size": 64}}
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_estimator_of_a_run(tmp_path: Path) -> None:
    trained = make("hmr")
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": trained.state_dict()}, file)
    config(tmp_path / "config.yaml")
    found = load_estimator(config_of(file), file)
    assert found.image_size == 64
    assert found.weights_hash() == trained.weights_hash()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export"], "say --ckpt FILE, --config FILE or both"),
        (["export", "--config", "{tmp}/nowhere.yaml"], "there is no config"),
        (["export", "--ckpt", "{tmp}/a.ckpt"], "no config.yaml near"),
        (["export", "--config", "{tmp}/empty.yaml"], "names no model"),
        (["export", "--config", "{tmp}/wrong.yaml"], "wdith"),
        (["export", "--config", "{tmp}/right.yaml", "--ckpt", "{tmp}/none.ckpt"], "checkpoint not found"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    (tmp_path / "empty.yaml").write_text("trainer: {}\n")
    config(tmp_path / "wrong.yaml", wdith=3)
    config(tmp_path / "right.yaml")
    inner = tmp_path / "deep" / "deeper" / "deepest"
    inner.mkdir(parents=True)
    with pytest.raises(SystemExit) as done:
        main([a.replace("{tmp}/a.ckpt", str(inner / "a.ckpt")).replace("{tmp}", str(tmp_path)) for a in arguments])
    assert done.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error


def test_an_estimator_that_cannot_be_traced_says_so(tmp_path: Path) -> None:
    class Branches(type(make("hmr"))):  # type: ignore[misc]
        def place(self, weak: torch.Tensor, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
            if float(weak.sum()) > 1e9:
                weak = weak * 2
            return super().place(weak, batch)

    estimator = Branches(backbone="test_efficientnet", image_size=64, hidden=32, channels=8)
    with pytest.raises(PosesynError, match="Branches cannot be exported to torch"):
        export(estimator, tmp_path / "file")


def test_a_format_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="choose one of torch, onnx"):
        export(make("hmr"), tmp_path / "file", "tflite")
