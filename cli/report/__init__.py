"""``posesyn report RUN ...``: what a run mined, made and learned, as one HTML page that needs no network.

    posesyn report runs/quickstart/version_0
    posesyn report runs/mine/version_3 runs/mine/version_4 --out comparison.html

Reads ``epochs.json`` (callbacks.EpochTable), ``record/`` (callbacks.Record), ``quality.json`` (callbacks.Quality) and
``config.yaml`` of each run folder; a run that is still training may be read at any time. Several runs are shown over
each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cli.report.gather import gather
from cli.report.page import page
from human.errors import PosesynError


def run(argv: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="posesyn report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run folders; the newest of a parent is taken"
    )
    parser.add_argument("--out", type=Path, help="default: report.html in the (first) run folder")
    parser.add_argument("--pictures", type=int, default=24, metavar="N", help="refreshes whose pictures go in [24]")
    args = parser.parse_args(argv)
    if args.pictures < 0:
        raise PosesynError(f"report: --pictures {args.pictures}: give 0 or more refreshes")
    runs = [gather(folder, args.pictures) for folder in args.runs]
    out = args.out or Path(runs[0]["folder"]) / "report.html"
    if out.is_dir():
        out = out / "report.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(page(runs), encoding="utf-8")
    partial.replace(out)
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")
