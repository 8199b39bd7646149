"""Comparisons of configurations: each run is one ``lightning fit`` in its own process, finished runs are kept."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
Rows = list[dict[str, Any]]  # a run's epoch table, see callbacks.EpochTable


def logged_to(config: dict[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """``config`` (changed in place) with a quiet trainer that logs to ``folder/name`` only."""
    trainer = config["trainer"]
    csv = {"save_dir": str(folder), "name": "", "version": name}
    trainer["logger"] = [{"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": csv}]
    trainer["enable_checkpointing"] = trainer["enable_progress_bar"] = False
    return config


def run(config: dict[str, Any], folder: Path, name: str) -> Rows:
    """The epoch table of a config, running it unless ``folder`` holds its result already."""
    finished = folder / f"{name}.json"
    if not finished.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(logged_to(config, folder, name)))
        subprocess.run([sys.executable, "-m", "cli.lightning", "fit", "--config", str(path)], check=True, cwd=ROOT)
        finished.write_text((folder / name / "epochs.json").read_text())
    rows: Rows = json.loads(finished.read_text())
    return rows


def run_all(
    arms: Sequence[str], seeds: Sequence[int], config_of: Callable[[str, int], dict[str, Any]], folder: Path
) -> dict[str, dict[int, Rows]]:
    """Arm -> seed -> epoch table. Seeds outermost: an interrupted comparison has whole seeds, not whole arms."""
    results: dict[str, dict[int, Rows]] = {arm: {} for arm in arms}
    for seed in seeds:
        for arm in arms:
            results[arm][seed] = run(config_of(arm, seed), folder, f"{arm}_{seed}")
    return results


def table(results: Mapping[str, Mapping[int, Rows]], columns: Mapping[tuple[str, str], str], digits: int = 4) -> str:
    """Markdown: the median over the seeds of each arm's last epoch, and each seed's.

    Args:
        columns: (validation set, score) -> heading.
    """
    seeds = sorted(next(iter(results.values())))
    head = ["arm", *(f"{c} (median)" for c in columns.values()), *(f"{c} by seed" for c in columns.values())]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    start = next(iter(results.values()))[seeds[0]][0]["scores"]
    lines.append(
        "| start | " + " | ".join(_number(start[s][k], digits) for s, k in columns) + " |" + " |" * len(columns)
    )
    for arm, by_seed in results.items():
        last = [[by_seed[n][-1]["scores"][s][k] for n in seeds] for s, k in columns]
        medians = " | ".join(_number(statistics.median(v), digits) for v in last)
        each = " | ".join(", ".join(_number(x, digits) for x in v) for v in last)
        lines.append(f"| {arm} | {medians} | {each} |")
    return "\n".join(lines)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.1f}"
