"""Predictions of people in pictures as files: parts that a killed run leaves whole, and the table made of them.

A part is a parquet file with one row per person; its metadata say which pictures it covers (those without people, and
those that could not be read, too) and by which estimator. ``predictions.parquet`` is a part like the others.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from human.errors import PosesynError

#: Shapes of the columns of numbers. Units and frames: docs/predict.md.
NUMBERS: dict[str, tuple[int, ...]] = {
    "box": (4,),
    "betas": (10,),
    "global_orient": (3,),
    "body_pose": (23, 3),
    "transl": (3,),
    "joints3d": (32, 3),
    "joints2d": (32, 2),
    "intrinsics": (3, 3),
}
SCHEMA = pa.schema(
    [("picture", pa.string()), ("person", pa.int32()), ("score", pa.float32())]
    + [(name, pa.list_(pa.float32(), int(np.prod(shape)))) for name, shape in NUMBERS.items()]
)
_KEY = b"posesyn"

Row = dict[str, Any]


@dataclass(frozen=True)
class PictureLine:
    """What came of a picture; ``stamp``: (bytes, ns of the last change)."""

    file: str
    stamp: tuple[int, int]
    height: int
    width: int
    people: int
    error: str


@dataclass(frozen=True)
class Part:
    """``maker``: what the predictions depend on besides the pictures."""

    pictures: tuple[PictureLine, ...]
    table: pa.Table
    maker: Mapping[str, Any]


def to_table(rows: Sequence[Row]) -> pa.Table:
    """Rows of plain values and arrays as a table of :data:`SCHEMA`."""
    columns: list[Any] = [pa.array([r[n] for r in rows], SCHEMA.field(n).type) for n in ("picture", "person", "score")]
    for name, shape in NUMBERS.items():
        flat = np.array([np.asarray(r[name], np.float32).reshape(-1) for r in rows], np.float32)
        flat = flat.reshape(len(rows), int(np.prod(shape)))
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1]))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def to_arrays(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns as arrays, (N, ...) each."""
    out = {n: np.array(table[n].to_pylist(), str if n == "picture" else None) for n in ("picture", "person", "score")}
    for name, shape in NUMBERS.items():
        flat = table[name].combine_chunks()
        # flatten(), not values: a slice of a table keeps the whole buffer.
        out[name] = np.asarray(flat.flatten(), np.float32).reshape(table.num_rows, *shape)
    return out


def write_part(path: Path, part: Part) -> None:
    """Whole or not at all."""
    info = json.dumps({"maker": dict(part.maker), "pictures": [asdict(p) for p in part.pictures]})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(part.table.replace_schema_metadata({_KEY: info.encode()}), partial)
    partial.replace(path)


def read_part(path: Path) -> Part:
    """:class:`PosesynError` if the file is none of ours."""
    try:
        table = pq.read_table(path)
        info = json.loads(table.schema.metadata[_KEY])
        lines = tuple(PictureLine(**{**p, "stamp": tuple(p["stamp"])}) for p in info["pictures"])
        return Part(lines, table.replace_schema_metadata(None).cast(SCHEMA), info["maker"])
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise PosesynError(
            f"{path} is not a file of predictions by posesyn ({type(error).__name__}): remove it, or set "
            "predictions.folder to another folder"
        ) from error


def join_parts(parts: Iterable[Part]) -> Part:
    """One part, sorted by picture and person. Of a picture that is in several, the last counts."""
    lines: dict[str, PictureLine] = {}
    rows: dict[str, pa.Table] = {}
    maker: Mapping[str, Any] = {}
    for part in parts:
        maker = part.maker
        files = np.array(part.table["picture"].to_pylist(), object)
        for line in part.pictures:
            lines[line.file] = line
            rows.pop(line.file, None)
        order = np.argsort(files.astype(str), kind="stable") if len(files) else np.zeros(0, int)
        for group in np.split(order, np.flatnonzero(files[order][1:] != files[order][:-1]) + 1) if len(files) else ():
            rows[files[group[0]]] = part.table.take(group)
    tables = [rows[f].sort_by("person") for f in sorted(rows)]
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    return Part(tuple(lines[f] for f in sorted(lines)), table.combine_chunks(), maker)


def write_summary(folder: Path, part: Part) -> None:
    """``predictions.npz`` with the table's columns, and ``pictures.csv`` with a line per picture."""
    partial = folder / f".predictions.{os.getpid()}.npz"
    arrays = to_arrays(part.table)
    np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(folder / "predictions.npz")
    partial = folder / f".pictures.{os.getpid()}.csv"
    with partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["picture", "height", "width", "people", "error"])
        writer.writerows([p.file, p.height, p.width, p.people, p.error] for p in part.pictures)
    partial.replace(folder / "pictures.csv")
