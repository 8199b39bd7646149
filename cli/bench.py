"""``posesyn bench``: an estimator, or predictions made elsewhere, on data sets under their protocols.

    posesyn bench --ckpt runs/mine/last.ckpt --data 3dpw=/data/3DPW emdb=/data/EMDB --out bench
    posesyn bench --predictions bench/theirs --data 3dpw=/data/3DPW:test --protocol 3dpw/spin 3dpw/wham

Prints one table and writes it to OUT/benchmark.{json,csv,md,tex}: value, 95 % interval, persons behind it, the
protocol with its hash, and what papers give under the same protocol. A killed run goes on where it was. ``--explain``
also says how each protocol is defined and how the figure moves between the protocols of one set.

``--predictions FOLDER`` reads FOLDER/SET.npz (docs/benchmarks.md says what is in it) instead of running an estimator.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from datamodules.readers import READERS, PoseReader, make_reader
from datamodules.readers.indexed import IndexedReader
from datamodules.readers.places import require_dataset
from human.errors import PosesynError
from metrics.prediction_files import read_predictions
from metrics.protocols import PROTOCOLS, Protocol, protocols_of
from metrics.report import Measured, measure
from metrics.truth import Predictions


def parse_data(words: Sequence[str]) -> dict[str, tuple[str, Path | None, dict[str, Any]]]:
    """NAME=PATH, NAME:SPLIT=PATH or NAME:SPLIT,OPTION=VALUE=PATH -> (reader, path, options) by the table's name."""
    out = {}
    for word in words:
        left, equals, path = word.rpartition("=") if "=" in word.split("/")[0] else (word, "=", "")
        if not equals:
            raise PosesynError(f"bench: --data {word}: say SET=FOLDER or SET:SPLIT=FOLDER, as 3dpw=/data/3DPW")
        name, _, more = left.partition(":")
        READERS.get(name)
        reader = READERS.get(name)
        if (
            not path
            and not issubclass(reader, IndexedReader)
            and inspect.signature(reader).parameters["root"].default is None
        ):
            place = None  # posesyn fetches it
        else:
            place = Path(path) if path else require_dataset(name)
        options: dict[str, Any] = {}
        for part in filter(None, more.split(",")):
            key, has, value = part.partition("=")
            options[key if has else "split"] = yaml.safe_load(value) if has else key
        title = left if left not in out else f"{left} ({path})"
        out[title] = (name, place, options)
    return out


def fetched(name: str) -> bool:
    """Whether a reader finds its data itself."""
    reader = READERS.get(name)
    return not issubclass(reader, IndexedReader) and inspect.signature(reader).parameters["root"].default is None


def wanted_arguments(dataset: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """The reader's arguments that the named protocols need, each once; without names its default split."""
    wanted = [{"split": p.split, **p.options} for p in protocols_of(dataset) if p.name in names]
    unique = {json.dumps(w, sort_keys=True, default=str): w for w in wanted}
    return list(unique.values()) or [{}]


def fitting(protocol: Protocol, reader: PoseReader, arguments: dict[str, Any], names: Sequence[str]) -> bool:
    """Whether a protocol is for what a reader with these arguments reads."""
    given = all(arguments.get(key) == value for key, value in protocol.options.items())
    return protocol.split == reader.split and given and (not names or protocol.name in names)


def open_readers(data: Sequence[str], names: Sequence[str]) -> dict[str, tuple[PoseReader, list[Protocol]]]:
    """Readers by the names their tables and folders have, each with the protocols it is measured under."""
    out: dict[str, tuple[PoseReader, list[Protocol]]] = {}
    for title, (name, path, options) in parse_data(data).items():
        for arguments in [options] if options else wanted_arguments(name, names):
            reader = make_reader(name, {**({"root": str(path)} if path else {}), **arguments})
            protocols = [p for p in protocols_of(name) if fitting(p, reader, arguments, names)]
            parts = [title.split(":")[0], reader.split, *(f"{k}_{v}" for k, v in arguments.items() if k != "split")]
            key = "-".join(filter(None, parts)).replace("/", "_").replace(" ", "_")
            out[key if key not in out else f"{key}-{len(out)}"] = (reader, protocols)
    unknown = set(names) - {p.name for _, protocols in out.values() for p in protocols}
    if unknown:
        raise PosesynError(
            f"bench: no protocol {', '.join(sorted(unknown))} for these data; known: {', '.join(PROTOCOLS.names())}"
        )
    return out


def predict(args: argparse.Namespace, readers: dict[str, PoseReader]) -> tuple[dict[str, Predictions], dict[str, Any]]:
    """Run the estimator on every person that was not done in an earlier run; only rank 0 gets predictions."""
    import lightning as L

    from callbacks.benchmark import Benchmark
    from cli.estimator import config_of, load_estimator
    from cli.lightning import quiet
    from datamodules.benchmark import BenchmarkData

    quiet()
    config = args.config or config_of(Path(args.ckpt))
    estimator = load_estimator(config, args.ckpt)
    written = yaml.safe_load(Path(config).read_text(encoding="utf-8")).get("data") or {}
    scale = args.box_scale or written.get("box_scale", 1.25)
    writer = Benchmark(str(args.out), args.overwrite, tables=False)
    data = BenchmarkData(readers, estimator.image_size, scale, args.batch_size, args.workers, args.limit)
    trainer = L.Trainer(
        accelerator=args.accelerator,
        devices=args.devices,
        logger=False,
        callbacks=[writer],
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        default_root_dir=str(args.out),
    )
    trainer.test(estimator, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return {}, {}
    return {name: writer.load(name) for name in readers}, {**writer.maker, "checkpoint": str(args.ckpt)}


def read_folder(folder: Path, readers: dict[str, PoseReader]) -> dict[str, Predictions]:
    """Predictions made elsewhere: SET.npz for each reader, by its table's name or its data set's."""
    if not folder.is_dir():
        raise PosesynError(f"bench: no folder of predictions at {folder.absolute()}")
    out = {}
    for name, reader in readers.items():
        paths = [folder / f"{n}.npz" for n in (name, f"{reader.name}-{reader.split}", reader.name)]
        path = next((p for p in paths if p.is_file()), None)
        if path is None:
            raise PosesynError(f"bench: {folder} has no predictions of {name}: expected {' or '.join(map(str, paths))}")
        out[name], _ = read_predictions(path, reader.index.ids)
    return out


def run(argv: Sequence[str]) -> None:
    """``posesyn bench``."""
    parser = argparse.ArgumentParser(
        prog="posesyn bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ckpt", help="the estimator's weights: a run's checkpoint, or the original code's")
    parser.add_argument("--config", type=Path, help="the run's config.yaml; default: the one beside the checkpoint")
    parser.add_argument("--predictions", type=Path, help="folder of SET.npz made elsewhere, instead of --ckpt")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="SET[:SPLIT][=FOLDER]",
        help="data sets, and where they are (default: below POSESYN_DATA)",
    )
    parser.add_argument("--protocol", nargs="+", default=[], help="only these (default: all of the sets and splits)")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder of the tables and predictions")
    parser.add_argument(
        "--explain", action="store_true", help="how protocols are defined, and how they move the figure"
    )
    parser.add_argument("--list", action="store_true", help="list the protocols by data set, and stop")
    parser.add_argument("--limit", type=int, default=0, help="only so many persons of each set, spread over it")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1, help="processes that read pictures, on each rank")
    parser.add_argument("--box-scale", type=yaml.safe_load, help="crop side over the box's; default: the config's")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--overwrite", action="store_true", help="drop predictions in OUT that were made differently")
    args = parser.parse_args(argv)
    console = Console()
    if args.list:
        for name in PROTOCOLS:
            console.print(PROTOCOLS.get(name).describe(), highlight=False, soft_wrap=True, markup=False)
        return
    if not args.data:
        raise PosesynError("bench: say --data SET=FOLDER; `posesyn bench --list` shows the sets and protocols")
    if (args.ckpt is None) == (args.predictions is None):
        raise PosesynError("bench: say either --ckpt FILE (and --config where no config.yaml is near) or --predictions")
    opened = open_readers(args.data, args.protocol)
    readers = {name: reader for name, (reader, _) in opened.items()}
    facts: dict[str, Any]
    if args.predictions is not None:
        predictions, facts = read_folder(args.predictions, readers), {"predictions": str(args.predictions)}
    else:
        predictions, facts = predict(args, readers)
        if not predictions:
            return  # another rank writes the tables
    sets = {}
    for name, (reader, protocols) in opened.items():
        truth = reader.truth()
        if args.limit:
            said = set(predictions[name].ids)
            truth = truth.rows(np.flatnonzero([i in said for i in truth.ids]))
        sets[name] = Measured(truth, protocols, predictions[name])
    measure(sets, args.out, {**facts, "limit": args.limit}, console, args.explain)
