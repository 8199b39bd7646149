"""The papers' rows (configs/paper): each is a valid experiment and in docs/papers.md; one of each kind is run."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cli.lightning import main
from datamodules.readers.base import READERS
from synth.synthesis import SYNTHESISERS
from tests.datasets import threedpw
from tests.datasets.people import make_people
from tests.lightning_modules.tiny_estimators import TINY
from tests.synth.diffusion import tiny
from tests.tiny import CHEAP, SIZE

pytestmark = pytest.mark.usefixtures("command_process")
ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "configs/paper"
TPES = ("crowdnet3d", "hmr2", "hybrik")
SETS = ("smart", "skipose", "mpii")
DATA = {f"posesyn/{t}" for t in TPES} | {"posepp/data", "chen2016/data"} | {f"diffusion_hpc/{s}" for s in SETS}
#: The papers whose rows go over several files of data, and the first of these.
FIRST = {"posesyn": "crowdnet3d", "diffusion_hpc": "smart"}
ROWS = sorted(str(p.relative_to(PAPER).with_suffix("")) for p in PAPER.glob("*/*.yaml"))
ROWS = [r for r in ROWS if r not in DATA]
OTHER_HPC = [r.split("/")[1] for r in ROWS if r.startswith("diffusion_hpc/") and r != "diffusion_hpc/full"]
#: Every row with one estimator or set, and the main ones with each.
CHAINS = [(row, FIRST.get(row.split("/")[0], "data")) for row in ROWS]
CHAINS += [("posesyn/full", t) for t in TPES[1:]] + [("diffusion_hpc/full", s) for s in SETS[1:]]


def chain(row: str, data: str) -> list[Path]:
    """The files of a row's command, in order; ``data`` is the second's name."""
    paper = row.split("/")[0]
    recipe = {"posesyn": data, "posepp": "cliff_scratch", "chen2016": "jointreg_scratch", "diffusion_hpc": "spin"}[
        paper
    ]
    return [ROOT / f"configs/tpe/{recipe}.yaml", PAPER / f"{paper}/{data}.yaml", PAPER / f"{row}.yaml"]


def second(row: str) -> str:
    """The data that a row is run with."""
    return {"posesyn": "hybrik", "diffusion_hpc": "smart"}.get(row.split("/")[0], "data")


def configs(files: list[Path]) -> list[str]:
    return [word for file in files for word in ("--config", str(file))]


REFRESHES = ("callbacks.Refresh", "callbacks.DiffusionHPC")


def refresh_of(config: dict[str, Any]) -> dict[str, Any]:
    found = [c for c in config["trainer"].get("callbacks") or [] if c["class_path"] in REFRESHES]
    return found[0]["init_args"] if found else {}


def readers_of(config: dict[str, Any]) -> set[str]:
    data = config["data"]
    lists = [c["init_args"] for c in data["sources"] if "reader" in c["init_args"]]
    return {c["reader"] for c in [*lists, *data["mine"], *data["validate"], *data["test"]]}


# -- all of them -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("row", "data"), CHAINS, ids=lambda v: v.replace("/", "-"))
def test_a_row_is_valid(row: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    written = yaml.safe_load((PAPER / f"{row}.yaml").read_text())
    with pytest.raises(SystemExit) as done:
        main(["fit", *configs(chain(row, data)), "--print_config"])
    assert done.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    # What the row says is what counts, and nothing of the quickstart's data is left from the recipe.
    assert [c["class_path"] for c in printed["trainer"]["callbacks"]] == [
        c["class_path"]
        for c in written["trainer"].get("callbacks")
        or yaml.safe_load(chain(row, data)[0].read_text())["trainer"]["callbacks"]
    ]
    paper, name = row.split("/")
    assert printed["trainer"]["logger"][0]["init_args"]["name"] == f"{paper}_{name}"
    known = set(READERS.names()) | {"unlabelled"}
    assert readers_of(printed) <= known - {"pose2sim", "sports2d"}
    refresh = refresh_of(printed)
    if refresh:
        assert refresh["synthesiser"] in SYNTHESISERS.names()
        assert any(s["class_path"].endswith("PoolSource") for s in printed["data"]["sources"])
    # Every source is cut as the estimator knows crops.
    real = [s["init_args"] for s in printed["data"]["sources"] if s["class_path"].endswith("RealSource")]
    assert {s["box_scale"] for s in real} <= {printed["data"]["box_scale"]}
    assert sum(s["init_args"]["weight"] for s in printed["data"]["sources"]) == pytest.approx(1, abs=2e-3)


def test_every_row_is_in_the_manual() -> None:
    text = (ROOT / "docs/papers.md").read_text()
    listed = re.findall(r"^\| `(\w+/\w+)\.yaml` \|", text, re.MULTILINE)
    assert sorted(listed) == ROWS
    named = set(re.findall(r"configs/[\w/]+\.yaml", text))
    missing = [n for n in named if not re.search("[A-Z]{3}", n) and not (ROOT / n).is_file()]  # RECIPE, DATA, ROW
    assert not missing


# -- one of each kind, from reading to the table ---------------------------------------------------------------------
def tiny_refresh(callback: dict[str, Any], weights: Path) -> dict[str, Any]:
    """A row's refresh, small: Diffusion-HPC's with its engine and networks of no size, others' rendered."""
    own = callback["init_args"]
    small = {
        "samples": 4, "backgrounds": "procedural", "filter": {"tau": None},
        "eem": {**own["eem"], "challenges": 3, "min_joints": 6},
    }  # fmt: skip
    if callback["class_path"] == "callbacks.Refresh":
        small |= {
            "engine": "rendered",
            "engine_options": CHEAP,
            "appearances": 1,
            "synthesiser_options": {},
            "checks": None,
        }
        small["eem"]["references"] = 1
    else:
        words = {"text_model": str(tiny.save_sd(weights / "sd"))} if own["hpc"]["mode"] == "T" else {}
        models = {"model": str(tiny.save_sd_depth(weights / "depth")), **words}
        small["engine_options"] = {**own["engine_options"], **models, "resolution": 64, "steps": 3, "device": "cpu"}
        # The tiny network's words show nobody: the whole picture is taken for one person.
        small["hpc"] = {**own["hpc"], "resolution": 64, "hardness": None, "inside": 0.0, "detector": "whole"}
    return {**callback, "init_args": {**own, **small}}


def tiny_row(row: str, estimator: str, lspet: Path, threedpw_root: Path, out: Path) -> dict[str, Any]:
    """What goes over a row: everything small, data of ours in place of each reader, no weights but tiny random ones."""
    written = yaml.safe_load((PAPER / f"{row}.yaml").read_text())
    sources = (written.get("data") or {}).get("sources")
    sources = sources or yaml.safe_load(chain(row, second(row))[1].read_text())["data"]["sources"]
    for source in sources:
        options = source["init_args"]
        if "reader" in options:
            options |= {"reader": "lspet", "options": {"root": str(lspet / "train")}}
        elif source["class_path"].endswith("RenderedSource"):
            options |= {"motion": "free", "backgrounds": "procedural", "options": CHEAP}
    callbacks = written["trainer"].get("callbacks") or []
    refresh = [tiny_refresh(c, out) for c in callbacks if c["class_path"] in REFRESHES]
    quality = {"limit": 4, "labeller": None, "crop_size": 64, "kid_subsets": 1}
    measure = [{**c, "init_args": {"config": quality}} for c in callbacks if c["class_path"] == "callbacks.Quality"]
    saving = {"dirpath": str(out), "save_last": True, "every_n_train_steps": 2}
    own = {k: v for k, v in TINY[estimator].items() if k not in ("image_size", "lr")}
    own = {k: asdict(v) if is_dataclass(v) and not isinstance(v, type) else v for k, v in own.items()}
    return {
        "trainer": {
            "accelerator": "cpu", "max_steps": 2, "max_epochs": -1, "num_sanity_val_steps": 0, "logger": False,
            "limit_val_batches": 0, "enable_progress_bar": False, "default_root_dir": str(out),
            "callbacks": [
                *refresh, *measure,
                {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": saving},
            ],
        },
        "model": {"init_args": own | {"body": "free"}},
        "data": {
            "image_size": SIZE, "batch_size": 4, "steps_per_epoch": 2, "workers": 0, "sources": sources,
            "mine": [{"reader": "lspet", "options": {"root": str(lspet / "train")}}] if refresh else [],
            "validate": [{"reader": "lspet", "options": {"root": str(lspet / "val")}, "name": "val"}],
            "test": [{"reader": "3dpw", "options": {"root": str(threedpw_root)}}],
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "estimator", "protocol"),
    [
        ("posesyn/msm_text_only", "hybrik", "3dpw/hybrik"),
        ("posepp/bedlam_synthetic", "cliff", "3dpw/spin"),
        ("chen2016/adapted", "jointreg", "3dpw/spin"),
        ("diffusion_hpc/full", "spin", "3dpw/spin"),
        *(pytest.param(f"diffusion_hpc/{row}", "spin", "3dpw/spin", marks=pytest.mark.slow) for row in OTHER_HPC),
    ],
)
def test_a_row_runs_from_reading_to_the_table(
    row: str, estimator: str, protocol: str, lspet_parts: Path, tmp_path: Path, body_files: Path
) -> None:
    root = threedpw.write(tmp_path / "3dpw", make_people(("neutral",), frames=3, moving_camera=True))
    over = tmp_path / "tiny.yaml"
    over.write_text(yaml.safe_dump(tiny_row(row, estimator, lspet_parts, root, tmp_path / "run")))
    files = [*chain(row, second(row)), over]
    main(["fit", *configs(files)])
    saved = torch.load(tmp_path / "run/last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    if refresh_of(yaml.safe_load(over.read_text())):
        assert list((tmp_path / "run").glob("**/pool"))
    if row.startswith("diffusion_hpc/generated"):
        (measured,) = tmp_path.glob("run/**/quality.json")
        assert json.loads(measured.read_text())[0]["fid"] > 0
    words = ["--ckpt_path", str(tmp_path / "run/last.ckpt"), "--benchmark.folder", str(tmp_path / "table")]
    main(["test", *configs(files), *words])
    figures = json.loads((tmp_path / "table/benchmark.json").read_text())["figures"]
    found = {f["metric"]: f for f in figures if f["protocol"] == protocol}
    assert found["mpjpe"]["count"] == 3
    assert found["mpjpe"]["value"] > 0
