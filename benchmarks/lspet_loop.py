"""Does mining help? Three arms on LSPET, several seeds: ``python -m benchmarks.lspet_loop --out FOLDER``.

``none`` trains on real pictures only; ``random`` adds synthetic samples around randomly chosen people; ``mined``
around the people the EEM finds. All start from the same weights, take the same number of steps, and ``random`` and
``mined`` make and keep the same number of samples (no filter: the labels of rendered pictures are exact). Every arm
is ``configs/lspet.yaml`` with those few fields changed and runs through the ``lightning`` command. A finished run is
kept in FOLDER and not run again; the table (medians over seeds, and each seed) is printed as Markdown at the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from benchmarks.study import ROOT, run_all, table

ARMS = ("none", "random", "mined")
COLUMNS = {("lspet", "pck_torso"): "PCK@0.2 torso", ("lspet", "pck_box"): "PCK@0.1 box"}


def arm_config(arm: str, seed: int, epochs: int, steps: int, samples: int, root: str) -> dict[str, Any]:
    """The config of one run, from ``configs/lspet.yaml``."""
    config = yaml.safe_load((ROOT / "configs" / "lspet.yaml").read_text())
    config["seed_everything"] = config["data"]["seed"] = seed
    trainer, data = config["trainer"], config["data"]
    trainer["max_epochs"], data["steps_per_epoch"] = epochs, steps
    keep = {"callbacks.EMA", "callbacks.EpochTable"} | (
        {"callbacks.Refresh", "callbacks.Gallery"} if arm != "none" else set()
    )
    trainer["callbacks"] = [c for c in trainer["callbacks"] if c["class_path"] in keep]
    for callback in trainer["callbacks"]:
        if callback["class_path"] == "callbacks.Refresh":
            options = callback["init_args"]
            options["samples"], options["filter"] = samples, {"tau": None}
            options["eem"]["random"] = arm == "random"
    if arm == "none":
        data["sources"] = [s for s in data["sources"] if not s["class_path"].endswith("PoolSource")]
    for entry in [*data["mine"], *data["validate"], *(s["init_args"] for s in data["sources"])]:
        if entry.get("reader") == "lspet":
            entry["options"]["root"] = root
    return config


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/lspet_loop"))
    parser.add_argument("--root", default="../shared/data/lspet", help="the LSPET folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60, help="per epoch, of 64 samples")
    parser.add_argument("--samples", type=int, default=800, help="synthetic samples per refresh")
    args = parser.parse_args()
    settings = {
        "epochs": args.epochs,
        "steps": args.steps,
        "samples": args.samples,
        "root": str(Path(args.root).absolute()),
    }
    results = run_all(args.arms, args.seeds, lambda arm, seed: arm_config(arm, seed, **settings), args.out.absolute())
    print(table(results, COLUMNS))


if __name__ == "__main__":
    main()
