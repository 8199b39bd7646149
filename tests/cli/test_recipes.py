"""The recipes of configs/tpe: each trains, made tiny by a second file, with the optimiser that it says."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cli.lightning import main
from lightning_modules import ESTIMATORS
from tests.lightning_modules.tiny_estimators import TINY
from tests.tiny import SIZE

pytestmark = pytest.mark.usefixtures("command_process")
ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "configs/tpe").glob("*.yaml"))
#: What a recipe says of its start, which is not at hand or has another size.
START = ("checkpoint", "backbone_checkpoint", "backbone_weights", "backbone_asset", "frozen")


def estimator_of(recipe: Path) -> str:
    return recipe.stem.removesuffix("_scratch")


def tiny(recipe: dict[str, Any], name: str, data: Path, out: Path) -> dict[str, Any]:
    """What goes over a recipe: everything small, two steps, nothing mined."""
    model = recipe["model"]
    own = {k: v for k, v in TINY[name].items() if k not in ("image_size", "lr")}
    own = {k: asdict(v) if is_dataclass(v) and not isinstance(v, type) else v for k, v in own.items()}
    own |= {k: [] if k == "frozen" else None for k in START if k in model["init_args"]} | {"body": "free"}
    if "compile" in model["init_args"]:
        own["compile"] = False  # test_execution.py compiles
    source = {"reader": "lspet", "options": {"root": str(data / "train")}, "name": "real"}
    saving = {"dirpath": str(out), "save_last": True, "every_n_train_steps": 2}
    return {
        "trainer": {
            "accelerator": "cpu", "max_steps": 2, "max_epochs": -1, "num_sanity_val_steps": 0, "logger": False,
            "limit_val_batches": 0, "enable_progress_bar": False, "default_root_dir": str(out),
            "callbacks": [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": saving}],
        },
        "model": {"class_path": model["class_path"], "init_args": own},
        "data": {
            "image_size": SIZE, "batch_size": 4, "steps_per_epoch": 2, "workers": 0, "mine": [],
            "sources": [{"class_path": "datamodules.sources.RealSource", "init_args": source}],
            "validate": [{"reader": "lspet", "options": {"root": str(data / "val")}, "name": "val"}],
        },
    }  # fmt: skip


def test_every_estimator_has_recipes() -> None:
    assert {estimator_of(r) for r in RECIPES} == set(ESTIMATORS.names())
    for name in ESTIMATORS.names():
        assert {r.stem for r in RECIPES if estimator_of(r) == name} == {name, f"{name}_scratch"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.stem)
def test_crops_are_cut_as_the_estimator_knows_them(recipe: Path) -> None:
    data = yaml.safe_load(recipe.read_text())["data"]
    convention = ESTIMATORS.get(estimator_of(recipe)).crop_convention
    real = [s["init_args"] for s in data["sources"] if s["class_path"].endswith("RealSource")]
    assert {data.get("box_scale"), *(s.get("box_scale") for s in real)} == {convention}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.stem)
def test_a_recipe_trains(recipe: Path, lspet_parts: Path, tmp_path: Path) -> None:
    written = yaml.safe_load(recipe.read_text())
    over = tmp_path / "tiny.yaml"
    over.write_text(yaml.safe_dump(tiny(written, estimator_of(recipe), lspet_parts, tmp_path)))
    main(["fit", "--config", str(recipe), "--config", str(over)])
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    assert all(v.isfinite().all() for v in saved["state_dict"].values() if v.is_floating_point())
    options, state = written["model"]["init_args"], saved["optimizer_states"][0]
    groups, said = state["param_groups"], options["optimisation"]
    assert max(g["initial_lr"] for g in groups) == pytest.approx(options["lr"])
    assert {g["weight_decay"] for g in groups} <= {0.0, options["weight_decay"]}
    # What the optimisers keep, and how they keep weight decay apart.
    if said["optimizer"] == "sgd":
        assert groups[0]["momentum"] == said.get("momentum", 0.9)
    else:
        assert "exp_avg_sq" in next(iter(state["state"].values()))
        assert groups[0]["decoupled_weight_decay"] == (said["optimizer"] == "adamw")
