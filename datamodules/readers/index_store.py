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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
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
VERSION = 2
_GROUP = 8_192
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
            start, stop, step = i.indices(len(self))
            return list(self._between(start, stop)) if step == 1 else [self[k] for k in range(start, stop, step)]
        k = int(i) + len(self) if i < 0 else int(i)
        if not 0 <= k < len(self):
            raise IndexError(i)
        return self.text[self.offsets[k] : self.offsets[k + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return self._between(0, len(self))

    def _between(self, start: int, stop: int) -> Iterator[str]:
        # Slices of Python's own bytes: five times as fast as one slice of the map per string.
        for first in range(start, stop, 4096):
            ends = self.offsets[first : min(first + 4096, stop) + 1].tolist()
            text = self.text[ends[0] : ends[-1]].tobytes()
            for a, b in pairwise(ends):
                yield text[a - ends[0] : b - ends[0]].decode()

    def __add__(self, other: Sequence[str]) -> list[str]:
        return [*self, *other]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


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


def open_or_build(folder: Path, chunks: Callable[[], Iterable[Columns]], skipped: Skipped, people: list[int]) -> Stored:
    """The index in ``folder``, mapped; built where there is none, and again where it is damaged.

    Whole or not at all; of several processes that ask for one, one builds it and the others wait.

    Args:
        chunks: the persons, some at a time; all chunks have the same columns: text under the names in ``TEXT``, else
            arrays with a row per person.
        skipped: what was left out, complete when the chunks are.
        people: persons in each picture by the number in the column ``image``, complete when the chunks are: a lower
            bound for the column ``people``.

    Raises:
        PosesynError: the folder cannot be written, or what the chunks raise.
    """
    try:
        return open_index(folder)
    except FileNotFoundError:
        pass
    except PosesynError as error:
        log.warning("%s; it is made again", error)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            try:
                return open_index(folder)  # another process has built it meanwhile
            except (FileNotFoundError, PosesynError):
                shutil.rmtree(folder, ignore_errors=True)
            for left in folder.parent.glob(f".{folder.name}.*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            partial = folder.with_name(f".{folder.name}.{os.getpid()}")
            partial.mkdir()
            try:
                _write(partial, chunks(), skipped, people)
                partial.replace(folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as error:
        raise PosesynError(
            f"cannot write the index {folder} ({error}): make room or set the cache to a folder that you may write"
        ) from error
    return open_index(folder)


def _write(folder: Path, chunks: Iterable[Columns], skipped: Skipped, people: list[int]) -> None:
    files: dict[str, Any] = {}
    shapes: dict[str, dict[str, Any]] = {}
    length: dict[str, int] = {}
    rows = 0
    try:
        for chunk in chunks:
            count = len(chunk["ids"])
            if not count:
                continue
            for name, column in chunk.items():
                if name in TEXT:
                    if name not in length:
                        files[name] = (folder / f"{name}.bin").open("wb")
                        files[f"{name}.offsets"] = (folder / f"{name}.offsets.bin").open("wb")
                        files[f"{name}.offsets"].write(np.zeros(1, np.int64).tobytes())
                        length[name] = 0
                    coded = [str(text).encode() for text in column]
                    ends = length[name] + np.cumsum([len(c) for c in coded], dtype=np.int64)
                    length[name] = int(ends[-1])
                    files[name].write(b"".join(coded))
                    files[f"{name}.offsets"].write(ends.tobytes())
                else:
                    array = np.ascontiguousarray(column)
                    found = {"dtype": array.dtype.str, "shape": list(array.shape[1:])}
                    if shapes.setdefault(name, found) != found or len(array) != count:
                        raise ValueError(
                            f"column {name}: {len(array)} of {found} after {shapes[name]} for {count} rows"
                        )
                    if name not in files:
                        files[name] = (folder / f"{name}.bin").open("wb")
                    files[name].write(array.tobytes())
            rows += count
            _same_rows(files, length, shapes, rows)
    finally:
        for file in files.values():
            file.close()
    meta = {"rows": rows, "numbers": shapes, "text": list(length), "skipped": skipped.lines()}
    columns = _opened(folder, meta)
    if rows and "people" in columns:
        counted = np.asarray(people, np.int64)[columns["image"]] if people else np.ones(rows, np.int64)
        most = np.iinfo(columns["people"].dtype).max
        whole = np.maximum(columns["people"], np.minimum(counted, most)).astype(columns["people"].dtype)
        (folder / "people.bin").write_bytes(whole.tobytes())
        columns = _opened(folder, meta)
    if rows:
        if twice := _twice(columns["ids"]):
            raise PosesynError(f"the label files name the person {twice!r} twice: get the official files again")
        _write_parquet(folder / "index.parquet", columns, rows)
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))


def _same_rows(files: Mapping[str, Any], length: Mapping[str, int], shapes: Mapping[str, Any], rows: int) -> None:
    """A column that one chunk lacks would shift all rows after it."""
    for name, facts in shapes.items():
        if files[name].tell() != rows * int(np.prod(facts["shape"])) * np.dtype(facts["dtype"]).itemsize:
            raise ValueError(f"column {name} is not in every chunk")
    for name in length:
        if files[f"{name}.offsets"].tell() != 8 * (rows + 1):
            raise ValueError(f"column {name} is not in every chunk")


def _twice(names: Names) -> str | None:
    """A string that is there more than once; 8 bytes of memory for each are enough to find it."""
    hashes = np.fromiter(map(hash, names), np.int64, len(names))
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(np.diff(hashes[order]) == 0)
    return next((names[order[i]] for i in same.tolist() if names[order[i]] == names[order[i + 1]]), None)


def _write_parquet(path: Path, columns: Mapping[str, Any], rows: int) -> None:
    """All columns in row groups of ``_GROUP``."""
    writer: pq.ParquetWriter | None = None
    for first in range(0, rows, _GROUP):
        part = {name: column[first : first + _GROUP] for name, column in columns.items()}
        table = pa.table({name: _as_arrow(name, column) for name, column in part.items()})
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=list(TEXT))
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _as_arrow(name: str, column: Any) -> pa.Array:
    if name in TEXT:
        return pa.array(column, pa.string())
    array = np.ascontiguousarray(column)
    flat = pa.array(array.reshape(-1))
    return flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, int(np.prod(array.shape[1:])))


def open_index(folder: Path) -> Stored:
    """The index in ``folder``, mapped.

    Raises:
        FileNotFoundError: there is none.
        PosesynError: it is damaged.
    """
    try:
        text = (folder / "meta.json").read_text()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(folder) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PosesynError(f"the index in {folder} is damaged ({error})") from error
    try:
        meta = json.loads(text)
        return Stored(_opened(folder, meta), [str(line) for line in meta["skipped"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PosesynError(f"the index in {folder} is damaged ({error})") from error


def _opened(folder: Path, meta: Mapping[str, Any]) -> dict[str, Any]:
    rows = int(meta["rows"])
    columns: dict[str, Any] = {}
    for name in meta["text"]:
        offsets = _mapped(folder / f"{name}.offsets.bin", np.dtype(np.int64), (rows + 1,))
        columns[name] = Names(offsets, _mapped(folder / f"{name}.bin", np.dtype(np.uint8), (int(offsets[-1]),)))
    for name, facts in meta["numbers"].items():
        columns[name] = _mapped(folder / f"{name}.bin", np.dtype(facts["dtype"]), (rows, *facts["shape"]))
    return columns


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if dtype.hasobject:  # bytes of the file would be taken for addresses of Python's objects
        raise ValueError(f"{path.name} is said to hold {dtype}, not numbers")
    size = os.path.getsize(path)
    if size != dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"{path.name} has {size} bytes")
    # A plain view of the map: numpy's own subclass costs a microsecond at every look.
    return np.memmap(path, dtype, "r", shape=shape).view(np.ndarray) if size else np.zeros(shape, dtype)
