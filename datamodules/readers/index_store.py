"""An index on disk: built once by reading a data set's label files, kept as Parquet, opened as memory maps.

    FOLDER/index.parquet   every column, for people and other programs
    FOLDER/COLUMN.bin      the same numbers as they are mapped: opening costs nothing, and memory does not grow
    FOLDER/meta.json       columns' types and shapes, the label files' sizes and times, what was skipped

The folder's name is a hash of the reader, its options and every label file's size and time of change: a file that
changes makes another index.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from human.assets import cache_root
from human.errors import PosesynError

log = logging.getLogger(__name__)
VERSION = 1
#: Columns of text; the others are numbers.
TEXT = ("ids", "pictures")

Columns = Mapping[str, npt.NDArray[Any] | Sequence[str]]


class Names(Sequence[str]):
    """Strings in a memory map: ``offsets`` (N+1,) int64 into ``text`` (bytes, UTF-8)."""

    def __init__(self, offsets: npt.NDArray[np.int64], text: npt.NDArray[np.uint8]) -> None:
        self.offsets, self.text = offsets, text

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        k = int(i) + len(self) if i < 0 else int(i)
        if not 0 <= k < len(self):
            raise IndexError(i)
        return bytes(self.text[self.offsets[k] : self.offsets[k + 1]]).decode()

    def __iter__(self) -> Iterator[str]:
        return (self[k] for k in range(len(self)))

    def __add__(self, other: Sequence[str]) -> list[str]:
        return [*self, *other]


@dataclass
class Skipped:
    """Persons or files left out, by reason; the first few are named."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str, count: int = 1) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + count
        names = self.examples.setdefault(reason, [])
        if len(names) < 3:
            names.append(name)

    def lines(self) -> list[str]:
        return [f"{n} {reason} (as {', '.join(self.examples[reason])})" for reason, n in self.counts.items()]


@dataclass(frozen=True)
class Stored:
    """An opened index: ``columns`` by name, read-only; ``skipped`` as :meth:`Skipped.lines`."""

    columns: dict[str, Any]
    skipped: list[str]


def stamp(files: Iterable[Path], root: Path) -> list[tuple[str, int, int]]:
    """(path below ``root``, bytes, ns of the last change) of each label file; a missing one is an error."""
    out = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            raise PosesynError(f"no label file {path}: is {root} the data set's root, and unpacked whole?") from None
        out.append((path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns))
    return sorted(out)


def index_folder(name: str, facts: Mapping[str, Any], cache: Path | None = None) -> Path:
    """Where the index of a data set with these facts (options, stamps) is kept."""
    digest = hashlib.sha256(json.dumps({**facts, "version": VERSION}, sort_keys=True, default=str).encode())
    return (cache or cache_root() / "index") / f"{name}-{digest.hexdigest()[:16]}"


def build(folder: Path, chunks: Iterable[Columns], skipped: Skipped) -> None:
    """Write an index from chunks of columns; whole or not at all. Several processes may ask for one: one builds it.

    Every chunk has the same columns: text under the names in ``TEXT``, else arrays with a row per person.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / "meta.json").is_file():
            return
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write(partial, chunks, skipped)
            shutil.rmtree(folder, ignore_errors=True)
            partial.replace(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _write(folder: Path, chunks: Iterable[Columns], skipped: Skipped) -> None:
    files: dict[str, Any] = {}
    shapes: dict[str, dict[str, Any]] = {}
    length: dict[str, int] = {}
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        for chunk in chunks:
            count = len(chunk["ids"])
            if not count:
                continue
            table = _as_table(chunk)
            if writer is None:
                writer = pq.ParquetWriter(folder / "index.parquet", table.schema, compression="zstd")
                for name, column in chunk.items():
                    files[name] = (folder / f"{name}.bin").open("wb")
                    if name in TEXT:
                        files[f"{name}.offsets"] = (folder / f"{name}.offsets.bin").open("wb")
                        files[f"{name}.offsets"].write(np.zeros(1, np.int64).tobytes())
                        length[name] = 0
                    else:
                        array = np.asarray(column)
                        shapes[name] = {"dtype": array.dtype.str, "shape": list(array.shape[1:])}
            writer.write_table(table)
            for name, column in chunk.items():
                if name in TEXT:
                    coded = [str(text).encode() for text in column]
                    ends = length[name] + np.cumsum([len(c) for c in coded], dtype=np.int64)
                    length[name] = int(ends[-1])
                    files[name].write(b"".join(coded))
                    files[f"{name}.offsets"].write(ends.tobytes())
                else:
                    array = np.ascontiguousarray(column)
                    expected = shapes[name]
                    if array.dtype.str != expected["dtype"] or list(array.shape[1:]) != expected["shape"]:
                        raise ValueError(f"column {name}: {array.dtype}, {array.shape} after {expected}")
                    files[name].write(array.tobytes())
            rows += count
    finally:
        for file in files.values():
            file.close()
        if writer is not None:
            writer.close()
    meta = {"rows": rows, "numbers": shapes, "text": list(length), "skipped": skipped.lines()}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))


def _as_table(chunk: Columns) -> pa.Table:
    arrays, names = [], []
    for name, column in chunk.items():
        names.append(name)
        if name in TEXT:
            arrays.append(pa.array(list(column), pa.string()))
            continue
        array = np.ascontiguousarray(column)
        flat = pa.array(array.reshape(-1))
        width = int(np.prod(array.shape[1:]))
        arrays.append(flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, width))
    return pa.Table.from_arrays(arrays, names=names)


def open_index(folder: Path) -> Stored:
    """The index in ``folder``, mapped; :class:`PosesynError` when it is damaged (remove the folder)."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        rows = int(meta["rows"])
        columns: dict[str, Any] = {}
        for name, facts in meta["numbers"].items():
            columns[name] = _mapped(folder / f"{name}.bin", np.dtype(facts["dtype"]), (rows, *facts["shape"]))
        for name in meta["text"]:
            offsets = _mapped(folder / f"{name}.offsets.bin", np.dtype(np.int64), (rows + 1,))
            columns[name] = Names(offsets, _mapped(folder / f"{name}.bin", np.dtype(np.uint8), (int(offsets[-1]),)))
        return Stored(columns, list(meta["skipped"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PosesynError(
            f"the index in {folder} is damaged ({error}): remove that folder, it is made again"
        ) from error


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if os.path.getsize(path) != dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"{path.name} has {os.path.getsize(path)} bytes")
    return np.memmap(path, dtype, "r", shape=shape) if np.prod(shape) else np.zeros(shape, dtype)
