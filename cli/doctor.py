"""``posesyn doctor``: what is here, what is missing and how to get it."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from datamodules.readers.places import VARIABLE as DATA_VARIABLE
from datamodules.readers.places import data_folders
from human.assets import cache_root, get_asset, load_manifest, locate
from human.body_folders import GENDERS, VARIABLE, Variant, find_body_file, search_folders
from human.registry import Registry
from human.regressors import FILES, find_regressor
from human.smpl_files import LAYOUTS

_PACKAGES = (
    "torch", "torchvision", "lightning", "torchmetrics", "timm", "warp-lang", "pylance", "roma", "smplx", "wandb",
    "transformers", "easypytorch3d",
)  # fmt: skip


def registries() -> dict[str, Registry[Any]]:
    """Every registry by the kind it holds; importing the packages fills them."""
    from datamodules.readers import READERS
    from datamodules.sources import SOURCES
    from human.body import BODY_MODELS
    from human.detectors import DETECTORS
    from human.motion import MOTION_BANKS
    from lightning_modules import ESTIMATORS
    from metrics.protocols import PROTOCOLS
    from synth.backgrounds import BACKGROUND_BANKS
    from synth.captions import CAPTIONERS, TEXT_ENCODERS
    from synth.checks import CHECKS
    from synth.engines import ENGINES
    from synth.synthesisers import SYNTHESISERS

    return {
        "target pose estimators": ESTIMATORS,
        "image engines": ENGINES,
        "checks": CHECKS,
        "synthesisers": SYNTHESISERS,
        "data set readers": READERS,
        "training sources": SOURCES,
        "body models": BODY_MODELS,
        "motion banks": MOTION_BANKS,
        "background banks": BACKGROUND_BANKS,
        "person detectors": DETECTORS,
        "captioners": CAPTIONERS,
        "text encoders": TEXT_ENCODERS,
        "evaluation protocols": PROTOCOLS,
    }


def list_plugins(console: Console) -> None:
    """Every registered name, by kind."""
    for kind, registry in registries().items():
        console.print(f"{kind}: {', '.join(registry.names())}", highlight=False, soft_wrap=True)


def examine(console: Console) -> None:
    """Versions, devices and assets."""
    import torch

    table = Table(title="machine", show_header=False)
    table.add_row("python", platform.python_version())
    for name in _PACKAGES:
        try:
            table.add_row(name, version(name))
        except PackageNotFoundError:
            hint = " (optional: pip install 'posesyn[pytorch3d]')" if name == "easypytorch3d" else ""
            table.add_row(name, f"[yellow]not installed[/yellow]{hint}")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    table.add_row("GPU", ", ".join(gpus) or "none: everything runs on the CPU")
    table.add_row("CPU threads", str(torch.get_num_threads()))
    table.add_row("cache", str(cache_root()))
    console.print(table)
    missing = [a.name for a in load_manifest().values() if a.downloadable and locate(a.name) is None]
    if missing:
        console.print(
            f"not fetched yet (done on first use, or `posesyn assets fetch NAME`): {', '.join(missing)}", soft_wrap=True
        )
    console.print(data_sets())
    console.print(
        f"data sets are looked for in: {', '.join(map(str, data_folders()))} (add folders with {DATA_VARIABLE})",
        soft_wrap=True,
        highlight=False,
    )
    console.print(licensed_bodies())
    console.print(
        f"licensed bodies are looked for in: {', '.join(map(str, search_folders()))} (add folders with {VARIABLE})",
        soft_wrap=True,
        highlight=False,
    )


def data_sets() -> Table:
    """Which data sets are here, which splits have their label files, and how to get the others."""
    import datamodules.readers  # noqa: F401 - makes the names known
    from datamodules.readers.base import READERS
    from datamodules.readers.indexed import IndexedReader
    from datamodules.readers.places import look

    table = Table(title="data sets", show_header=False)
    table.add_column("name", no_wrap=True)
    table.add_column("place", overflow="fold")
    for name in READERS:
        reader = READERS.get(name)
        if not issubclass(reader, IndexedReader):
            table.add_row(name, f"comes with posesyn or by path; {reader.licence}")
            continue
        place = look(name)
        if place.folder is None:
            table.add_row(name, f"[yellow]not here[/yellow]: {escape(place.problem)}")
        else:
            splits = ", ".join(f"{split} ({count})" for split, count in place.splits.items())
            problem = f" [red]{escape(place.problem)}[/red]" if place.problem else ""
            table.add_row(name, escape(f"{place.folder}: {splits or 'no labels'}") + problem)
    for kind, path in {n: find_regressor(n) for n in FILES}.items():
        missing = f"[yellow]not here[/yellow]: {FILES[kind].get_it}; it goes beside the body models"
        table.add_row(FILES[kind].file, str(path) if path else missing)
    return table


def licensed_bodies() -> Table:
    """Which licensed body files are here, and where one registers for the others."""
    table = Table(title="licensed bodies", show_header=False)
    table.add_column("name", no_wrap=True)
    table.add_column("file", overflow="fold")
    for kind in LAYOUTS:
        absent = []
        for gender in GENDERS:
            variant = Variant(kind, gender)
            path = find_body_file(variant)
            if path is None:
                absent.append(variant.name)
            else:
                table.add_row(variant.name, str(path))
        if absent:
            table.add_row("\n".join(absent), f"[yellow]not here[/yellow]: {escape(get_asset(kind).message)}")
    return table


def run(argv: Sequence[str]) -> None:
    """``posesyn doctor [--list]``."""
    parser = argparse.ArgumentParser(prog="posesyn doctor", description=__doc__)
    parser.add_argument("--list", action="store_true", help="list every registered plug-in by kind and name")
    args = parser.parse_args(argv)
    console = Console()
    list_plugins(console) if args.list else examine(console)
