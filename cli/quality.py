"""``posesyn quality``: how good a pool's pictures are, for each engine and generation, beside real ones.

    posesyn quality runs/mine/version_0/pool --real lspet=/data/lspet --out runs/mine/quality
    posesyn quality POOL --real pose2sim:train sports2d --features resnet50 --feature-weights hub

Prints a table and writes it to OUT/quality.json: FID and KID of whole pictures and of the people alone, alignment (a
detector against the labels), pass rate, diversity of the poses, and what must be known of them (docs/quality.md).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.bench import parse_data
from datamodules.crops import CropSet
from datamodules.mining import JoinedCrops
from datamodules.readers import make_reader
from human.crop_scale import check_crop_scale
from human.errors import PosesynError
from synth.pool import Pool
from synth.quality import Measurer, Quality, QualityConfig

#: Figure -> the table's title and form.
_COLUMNS = {
    "pass_rate": ("passed", "{:.0%}"),
    "fid": ("FID", "{:.1f}"),
    "fid_crop": ("FID person", "{:.1f}"),
    "kid": ("KID", "{:.4f}"),
    "kid_crop": ("KID person", "{:.4f}"),
    "alignment": ("misaligned %", "{:.1f}"),
    "undetected": ("undetected", "{:.0%}"),
    "err3d": ("Err3D mm", "{:.0f}"),
    "apd": ("APD mm", "{:.0f}"),
    "apd_body": ("APD body mm", "{:.0f}"),
    "density": ("density", "{:.2f}"),
    "coverage": ("coverage", "{:.2f}"),
}


def render(rows: Sequence[Quality]) -> Table:
    """A row per engine and generation."""
    table = Table(title="quality", header_style="bold")
    for title in ("engine", "generation", "pictures"):
        table.add_column(title, justify="left" if title == "engine" else "right")
    for title, _ in _COLUMNS.values():
        table.add_column(title, justify="right")
    for row in rows:
        cells = [
            form.format(row.figures[name]) if row.figures[name] == row.figures[name] else "-"
            for name, (_, form) in _COLUMNS.items()
        ]
        table.add_row(
            escape(row.engine), "all" if row.generation is None else str(row.generation), str(row.looked_at), *cells
        )
    return table


def pool_size(pool: Pool) -> int | None:
    """Side of the pool's pictures, px; None where none passed."""
    for info in pool.generations():
        if info.passed:
            return pool.read(info.generation, [0]).size
    return None


def run(argv: Sequence[str]) -> None:
    """``posesyn quality``."""
    parser = argparse.ArgumentParser(
        prog="posesyn quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = QualityConfig()
    parser.add_argument("pool", type=Path, help="a run's pool of synthetic samples")
    parser.add_argument(
        "--real", nargs="+", required=True, metavar="SET[:SPLIT][=FOLDER]", help="real people to compare with"
    )
    parser.add_argument("--generation", type=int, help="only this one")
    parser.add_argument("--out", type=Path, default=Path("quality"), help="folder of quality.json")
    parser.add_argument("--features", default=default.features, help="network of FID and KID; see docs/quality.md")
    parser.add_argument("--feature-weights", help="its weights: a file, or hub")
    parser.add_argument("--limit", type=int, default=default.limit, help="pictures of each side; 0: all")
    parser.add_argument("--align", type=int, default=default.align, help="pictures that the detector looks at; 0: all")
    parser.add_argument("--labeller", default=default.labeller, help="detector of the alignment; none: leave it out")
    parser.add_argument("--labeller-options", type=yaml.safe_load, help="its options, for instance '{levels: 2}'")
    parser.add_argument("--box-scale", type=yaml.safe_load, default=1.25, help="real crops: side over the box's")
    parser.add_argument("--device", default=default.device)
    args = parser.parse_args(argv)
    if not args.pool.is_dir():
        raise PosesynError(f"quality: there is no pool at {args.pool.absolute()}")
    check_crop_scale(args.box_scale, "quality: --box-scale")
    labeller = None if args.labeller in ("none", "null") else args.labeller
    options = args.labeller_options if args.labeller_options is not None else default.labeller_options
    config = QualityConfig(
        features=args.features,
        feature_weights=args.feature_weights,
        limit=args.limit,
        labeller=labeller,
        labeller_options=options if args.labeller_options is not None or labeller == default.labeller else {},
        align=args.align,
        device=args.device,
    )
    pool = Pool(args.pool)
    size = pool_size(pool) or 128
    sets = []
    for name, path, more in parse_data(args.real).values():
        reader = make_reader(name, {**({"root": str(path)} if path else {}), **more})
        if not len(reader.index):
            raise PosesynError(f"quality: {name} has no usable person: {reader.describe()}")
        sets.append(CropSet(reader, size, args.box_scale))
    found = Measurer(JoinedCrops(sets), config).measure(pool, args.generation)
    args.out.mkdir(parents=True, exist_ok=True)
    content = {
        "pool": str(args.pool.absolute()),
        "real": args.real,
        "features": args.features,
        "size": size,
        "rows": [row.as_dict() for row in found],
    }
    (args.out / "quality.json").write_text(json.dumps(content, indent=1))
    console = Console()
    console.print(render(found))
    for row in found:
        where = "all generations" if row.generation is None else f"generation {row.generation}"
        for note in row.notes:
            console.print(f"{row.engine}, {where}: {note}", highlight=False, markup=False, soft_wrap=True)
