"""``posesyn assets``: what can be downloaded, whose it is, and fetching it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from human.assets import Asset, cache_root, fetch, get_asset, load_manifest, locate, progress_bars


def _state(asset: Asset) -> str:
    if asset.kind in ("register", "install"):
        return asset.kind
    here = locate(asset.name) is not None
    if asset.kind == "package":
        return "shipped" if here else "missing"
    return ("cached" if here else "-") + ("" if asset.pinned else ", not pinned")


def _size(asset: Asset) -> str:
    if not asset.members:
        return ""
    return f"{asset.size / 1e9:.1f} GB" if asset.size > 1e9 else f"{asset.size / 1e6:.1f} MB"


def list_assets(console: Console | None = None) -> None:
    """Print every asset with its licence, size and whether it is here."""
    table = Table(caption=f"cache: {cache_root()}")
    for column in ("name", "state", "size"):
        table.add_column(column, no_wrap=True)
    table.add_column("what, [dim]licence, package[/dim]")
    for asset in load_manifest().values():
        terms = "; ".join(filter(None, (asset.licence, asset.requirement if asset.package else "")))
        table.add_row(asset.name, _state(asset), _size(asset), f"{asset.what}\n[dim]{escape(terms)}[/dim]")
    (console or Console()).print(table)


def fetch_assets(names: Sequence[str], console: Console | None = None) -> None:
    """Fetch the named assets ("all": every downloadable one but the hub's models), with bars; print where they lie.

    Raises:
        PosesynError: an unknown name (before anything is downloaded), or what :func:`human.assets.fetch` raises.
    """
    manifest = load_manifest()
    wanted = [get_asset(n, manifest) for n in names if n != "all"]
    if "all" in names:
        # Models of the hub have gigabytes and licences of their own: each is asked for by name.
        wanted += [a for a in manifest.values() if a.downloadable and a.kind != "hub" and a not in wanted]
    console = console or Console()
    with progress_bars() as bars:
        found = [(asset.name, fetch(asset.name, progress=bars)) for asset in wanted]
    for name, path in found:
        console.print(f"{name}: {path}", soft_wrap=True, highlight=False)


def run(argv: Sequence[str]) -> None:
    """``posesyn assets list`` (default) or ``posesyn assets fetch NAME...|all``."""
    parser = argparse.ArgumentParser(prog="posesyn assets", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="what there is, whose, and whether it is here")
    fetching = commands.add_parser("fetch", help="download and verify")
    fetching.add_argument(
        "names", nargs="+", metavar="NAME", help="names from the list, or all (without models of the hub)"
    )
    args = parser.parse_args(argv)
    if args.command == "fetch":
        fetch_assets(args.names)
    else:
        list_assets()
