"""Weights of one body are not loaded for another without a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import save_file

from human.body import load_body
from human.body_folders import VARIABLE
from human.errors import PosesynError
from lightning_modules import PoseEstimator
from lightning_modules.body_match import KEY, body_hash, stored_note
from tests.licensed_files import body_arrays, official_smpl
from tests.lightning_modules.tiny_estimators import crowd, make
from tests.tiny import rendered_people, tiny_hmr


@pytest.fixture(scope="module", autouse=True)
def smpl_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Made-up SMPL bodies of two genders."""
    folder = tmp_path_factory.mktemp("bodies")
    official_smpl(folder / "smpl" / "SMPL_NEUTRAL.pkl")
    official_smpl(folder / "smpl" / "SMPL_MALE.pkl", "male")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(folder))
        yield


def saved(estimator: PoseEstimator, path: Path) -> Path:
    """As weights alone, or by Lightning's trainer."""
    if path.suffix == ".safetensors":
        estimator.save_weights(path)
    else:
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
        trainer.strategy.connect(estimator)
        trainer.save_checkpoint(path)
    return path


def test_a_hash_names_a_body() -> None:
    hashes = [body_hash(load_body(name)) for name in ("free", "smpl", "smpl_male", "free")]
    assert hashes[0] == hashes[3]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("name", ["w.safetensors", "w.ckpt"])
def test_our_weights_say_their_body(name: str, tmp_path: Path) -> None:
    path = saved(tiny_hmr(body="smpl"), tmp_path / name)
    assert stored_note(path) == {"name": "smpl", "hash": body_hash(load_body("smpl"))}
    assert tiny_hmr(body="smpl", checkpoint=str(path)).checkpoint == str(path)
    with pytest.raises(PosesynError, match=rf"{name} was trained with another body \(smpl\) than .* \(free\)"):
        tiny_hmr(checkpoint=str(path))
    with pytest.raises(PosesynError, match=r"\(smpl\) than .* \(smpl_male\): set model.body to it"):
        tiny_hmr(body="smpl_male", checkpoint=str(path))
    assert tiny_hmr(checkpoint=str(path), other_body=True).body_name == "free"


def test_weights_that_say_nothing_are_loaded(tmp_path: Path) -> None:
    """Those written before, and those of others."""
    model = tiny_hmr()
    save_file({k: v.contiguous() for k, v in model.trained_state().items()}, tmp_path / "w.safetensors")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.ckpt")
    for name in ("w.safetensors", "w.ckpt"):
        assert stored_note(tmp_path / name) is None
        assert tiny_hmr(body="smpl", checkpoint=str(tmp_path / name)).weights_hash() == model.weights_hash()


def test_a_run_is_not_resumed_with_another_body() -> None:
    kept: dict[str, Any] = {}
    tiny_hmr(body="smpl").on_save_checkpoint(kept)
    assert kept[KEY]["name"] == "smpl"
    tiny_hmr(body="smpl").on_load_checkpoint(kept)
    with pytest.raises(PosesynError, match=r"run to resume was trained with another body \(smpl\)"):
        tiny_hmr().on_load_checkpoint(kept)
    tiny_hmr().on_load_checkpoint({})


def upstream(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """A tiny SPIN's weights in the original's layout."""
    state = make("spin").trained_state()
    return {k.removeprefix("backbone.").removeprefix("head."): v for k, v in state.items()} | more


def test_the_papers_weights_speak_of_smpl(tmp_path: Path) -> None:
    torch.save({"model": upstream()}, tmp_path / "model_checkpoint.pt")
    path = str(tmp_path / "model_checkpoint.pt")
    with pytest.raises(PosesynError, match=r"another body \(smpl\) than this estimator's \(free\)"):
        make("spin", checkpoint=path)
    hashes = {make("spin", checkpoint=path, **o).weights_hash() for o in ({"body": "smpl"}, {"other_body": True})}
    assert hashes == {make("spin").weights_hash()}


def crowdnet_snapshot(path: Path, gender: str) -> str:
    """The layout's mark and the body that 3DCrowdNet keeps beside its weights; the network's own names for the rest."""
    template = torch.from_numpy(body_arrays("smpl", gender)["v_template"])[None]
    state = crowd(pose2d="labels").trained_state() | {"human_model_layer.th_v_template": template}
    # One graph layer in the original's layout is enough to be known by.
    bias = state.pop("head.graph.0.bias").view(15, -1)
    layers = {f"rotation_net.graph_block.0.fcbn_list.{j}.0.bias": row.clone() for j, row in enumerate(bias)}
    torch.save({"network": {f"module.{k}": v for k, v in (state | layers).items()}}, path)
    return str(path)


def test_the_body_beside_the_papers_weights_is_compared(tmp_path: Path) -> None:
    path = crowdnet_snapshot(tmp_path / "snapshot_6.pth.tar", "neutral")
    for body in ("free", "smpl_male"):
        with pytest.raises(PosesynError, match=rf"another body .* than this estimator's \({body}\)"):
            crowd(pose2d="labels", body=body, checkpoint=path)
    assert crowd(pose2d="labels", body="smpl", checkpoint=path).weights_hash() == crowd(pose2d="labels").weights_hash()


def test_a_batch_of_one_has_no_statistics() -> None:
    model, people = crowd(pose2d="labels"), rendered_people(range(1))
    with pytest.raises(PosesynError, match=r"data\.batch_size of at least 2"):
        model.training_step(people, 0)
    assert model.eval().predict(people).finite.all()
    frozen = crowd(pose2d="labels", frozen=["head"])
    assert frozen.training_step(people, 0).isfinite()
