"""What makes rendered training pictures useful: ``python -m benchmarks.rendered_study --out FOLDER``.

The comparisons of Chen et al., "Synthesizing Training Images for Boosting Human 3D Pose Estimation" (3DV 2016),
figures 10 and 12, with this system's parts. Every arm trains from an ImageNet backbone for the same number of steps
on rendered people only, and is measured on LSPET 5001-6000 and on the real 3D benchmark:

* ``looks``: 1, 10 or 100 different people (skin, hair, clothes, textures), or a new one in every picture
* ``samples``: so many different pictures, or a new one at every draw
* ``poses``: free motion capture; with poses lifted from LSPET's training labels; with poses sampled from the pose space
  learnt from both (``--motions``: the folder of ``scripts/make_pose_banks.py --lspet ROOT --output FOLDER``)
* ``domain``: no real pictures; unlabelled LSPET training pictures in each batch, as many as rendered ones, but no
  adaptation; with the paper's two stages; with gradient reversal

``all`` is the base of every comparison: new looks, new pictures, motion capture, no adaptation. Three seeds, medians.
One comparison: ``--only looks``. Finished runs are kept in FOLDER; an interrupted study goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from benchmarks.study import ROOT, run_all, table

COMPARISONS = {
    "looks": ("looks_1", "looks_10", "looks_100", "all"),
    "samples": ("samples_100", "samples_1000", "all"),
    "poses": ("all", "lifted", "sampled"),
    "domain": ("all", "unlabelled", "confusion", "reversal"),
}
DOMAIN: dict[str, Any] = {
    "unlabelled": None,
    "confusion": {"class_path": "lightning_modules.DomainConfusion", "init_args": {"period": 0}},
    "reversal": {"class_path": "lightning_modules.GradientReversal"},
}
COLUMNS = {
    ("lspet", "pck_torso"): "LSPET PCK@0.2 torso",
    ("lspet", "pck_box"): "LSPET PCK@0.1 box",
    ("pose2sim", "mpjpe"): "Pose2Sim MPJPE mm",
    ("pose2sim", "pa_mpjpe"): "PA-MPJPE mm",
}


def arm_config(arm: str, seed: int, epochs: int, steps: int, root: str, motions: Path) -> dict[str, Any]:
    """The config of one run, from ``configs/pretrain_free.yaml``."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "pretrain_free.yaml").read_text())
    config["seed_everything"] = config["data"]["seed"] = seed
    trainer, data = config["trainer"], config["data"]
    trainer["max_epochs"], trainer["num_sanity_val_steps"] = epochs, -1
    # Short runs: a short average, and only the backbone's last stages learn.
    ema = {"class_path": "callbacks.EMA", "init_args": {"decay": 0.9}}
    config["model"]["init_args"]["frozen"] = ["conv_stem", "bn1", *(f"blocks.{i}" for i in range(5))]
    config["model"]["init_args"]["warmup_steps"] = 10
    trainer["callbacks"] = [ema, {"class_path": "callbacks.EpochTable", "init_args": {"show": False}}]
    data["steps_per_epoch"] = steps
    data["validate"] = [
        {"reader": "lspet", "options": {"root": root, "split": "val"}, "name": "lspet"},
        {"reader": "pose2sim", "options": {"split": "eval"}, "name": "pose2sim"},
    ]
    rendered = data["sources"][0]["init_args"]
    kind, _, number = arm.partition("_")
    if kind == "looks":
        rendered["options"] = {"looks": int(number)}
    elif kind == "samples":
        rendered["limit"] = int(number)
    elif kind in ("lifted", "sampled"):
        rendered["motion"] = str(motions / {"lifted": "mocap_lifted.npz", "sampled": "mocap_lifted_sampled.npz"}[kind])
    elif kind in DOMAIN:
        guide(config, kind, root)
    elif kind != "all":
        raise ValueError(arm)
    return config


def guide(config: dict[str, Any], method: str, root: str) -> None:
    """Add unlabelled LSPET pictures to the batch, one for each rendered one."""
    data = config["data"]
    data["batch_size"] *= 2
    lspet = {"reader": "lspet", "options": {"root": root, "split": "train"}, "name": "guidance", "labels": False}
    data["sources"].append({"class_path": "datamodules.sources.RealSource", "init_args": lspet})
    config["model"]["init_args"]["domain"] = DOMAIN[method]


def main() -> None:
    """Run what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/rendered_study"))
    parser.add_argument("--root", default="../shared/data/lspet", help="the LSPET folder")
    parser.add_argument("--motions", type=Path, default=Path("runs/pose_banks"), help="with lifted.npz and sampled.npz")
    parser.add_argument("--only", nargs="+", choices=sorted(COMPARISONS), default=list(COMPARISONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50, help="per epoch, of 64 samples")
    args = parser.parse_args()
    root, motions = str(Path(args.root).absolute()), args.motions.absolute()
    arms = list(dict.fromkeys(arm for name in args.only for arm in COMPARISONS[name]))
    results = run_all(
        arms,
        args.seeds,
        lambda arm, seed: arm_config(arm, seed, args.epochs, args.steps, root, motions),
        args.out.absolute(),
    )
    for name in args.only:
        print(f"\n{name}\n\n{table({arm: results[arm] for arm in COMPARISONS[name]}, COLUMNS, 3)}")


if __name__ == "__main__":
    main()
