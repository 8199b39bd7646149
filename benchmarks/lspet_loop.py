"""Does mining help? Three arms on LSPET, several seeds: ``python -m benchmarks.lspet_loop --out FOLDER``.

``none`` trains on real pictures only; ``random`` adds synthetic samples around randomly chosen people; ``mined``
around the people the EEM finds. All start from the same weights, take the same number of steps, and ``random`` and
``mined`` make and keep the same number of samples (no filter: the labels of rendered pictures are exact). Every arm
is ``configs/lspet.yaml`` with those few fields changed and runs through the ``lightning`` command. A finished run is
kept in FOLDER and not run again; the table (medians over seeds, and each seed) is printed as Markdown at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
ARMS = ("none", "random", "mined")
COLUMNS = {"pck_torso": "PCK@0.2 torso", "pck_box": "PCK@0.1 box"}


def arm_config(arm: str, seed: int, folder: Path, epochs: int, steps: int, samples: int, root: str) -> dict[str, Any]:
    """The config of one run, from ``configs/lspet.yaml``."""
    config = yaml.safe_load((ROOT / "configs" / "lspet.yaml").read_text())
    config["seed_everything"] = config["data"]["seed"] = seed
    trainer, data = config["trainer"], config["data"]
    trainer["max_epochs"], data["steps_per_epoch"] = epochs, steps
    csv = {"save_dir": str(folder), "name": "", "version": f"{arm}_{seed}"}
    trainer["logger"] = [{"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": csv}]
    keep = {"callbacks.EMA", "callbacks.EpochTable"} | (
        {"callbacks.Refresh", "callbacks.Gallery"} if arm != "none" else set()
    )
    trainer["callbacks"] = [c for c in trainer["callbacks"] if c["class_path"] in keep]
    trainer["enable_checkpointing"] = trainer["enable_progress_bar"] = False
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


def run(arm: str, seed: int, folder: Path, **settings: Any) -> list[dict[str, Any]]:
    """The epoch table's rows of one run, running it if it has not been."""
    done = folder / f"{arm}_{seed}" / "epochs.json"
    finished = folder / f"{arm}_{seed}.json"
    if not finished.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{arm}_{seed}.yaml"
        path.write_text(yaml.safe_dump(arm_config(arm, seed, folder, **settings)))
        subprocess.run([sys.executable, "-m", "cli.lightning", "fit", "--config", str(path)], check=True, cwd=ROOT)
        finished.write_text(done.read_text())
    return json.loads(finished.read_text())


def table(results: dict[str, dict[int, list[dict[str, Any]]]]) -> str:
    """Markdown: medians over seeds, then each seed."""
    seeds = sorted(next(iter(results.values())))
    head = ["arm", *(f"{c} (median)" for c in COLUMNS.values()), *(f"{c} by seed" for c in COLUMNS.values())]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    start = next(iter(results.values()))[seeds[0]][0]["scores"]["lspet"]
    lines.append("| start | " + " | ".join(f"{start[k]:.4f}" for k in COLUMNS) + " | | |")
    for arm, by_seed in results.items():
        last = {k: [by_seed[s][-1]["scores"]["lspet"][k] for s in seeds] for k in COLUMNS}
        medians = " | ".join(f"{statistics.median(v):.4f}" for v in last.values())
        each = " | ".join(", ".join(f"{x:.4f}" for x in v) for v in last.values())
        lines.append(f"| {arm} | {medians} | {each} |")
    return "\n".join(lines)


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
    folder = args.out.absolute()
    # Seeds outermost: an interrupted comparison has whole seeds, not whole arms.
    results: dict[str, dict[int, list[dict[str, Any]]]] = {arm: {} for arm in args.arms}
    for seed in args.seeds:
        for arm in args.arms:
            results[arm][seed] = run(arm, seed, folder, **settings)
    print(table(results))


if __name__ == "__main__":
    main()
