"""The pool: every generation of synthetic samples, in one Lance dataset.

A generation is one Lance transaction. Its rows are written first, into files that nothing refers to; then one new
manifest names them *and* carries the table of generations in its schema metadata, so a generation is there wholly or
not at all and no second file can disagree. That manifest is written compare-and-swap (an ``Overwrite`` that keeps all
old fragments and fails if anybody committed meanwhile; Lance's own ``Append`` would let two writers commit the same
number), so the guarantee holds on any store that Lance commits to atomically. Readers keep the version they opened.
"""

from __future__ import annotations

import datetime
import fcntl
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import lance
import numpy as np
import pyarrow as pa
from lance.commit import CommitConflictError
from lance.fragment import FragmentMetadata

from human.batch import PoseBatch
from human.errors import PosesynError
from synth.pool_rows import Rows, write_rows
from synth.sample import (
    PROVENANCE_COLUMNS,
    READ_COLUMNS,
    SCHEMA,
    Damaged,
    Sample,
    encode_image,
    to_batch,
)

__all__ = ["Damaged", "GenerationInfo", "NumberTaken", "Pool", "Sample", "encode_image"]

_T = TypeVar("_T")
_FORMAT_KEY, _FORMAT = b"posesyn.pool", b"1"
_GENERATION_KEY = b"posesyn.generation."
_LOCK = ".posesyn-pool.lock"
_FOREVER = datetime.timedelta(days=365_000)


@dataclass(frozen=True)
class GenerationInfo:
    """A committed generation: its number, the dataset version that added it, rows in all and rows that passed (these
    are samples ``0 .. passed-1``), the position of its first row in the dataset, what chose the poses: a synthesiser's
    name and the hash of its settings ("" where the writer did not say), and whether its pictures and labels were
    deleted since (:meth:`Pool.forget`)."""

    generation: int
    version: int
    count: int
    passed: int
    start: int
    synthesiser: str = ""
    forgotten: bool = False


class NumberTaken(PosesynError):
    """Somebody has committed a generation of that number."""


class Pool:
    """Append-only store of generations in the folder ``path``, which appears at the first commit.

    Holds no open file until used and pickles as its path, so it may travel to ``spawn`` and ``forkserver`` workers.
    Lance does not survive ``fork``: using a pool in a forked child of a process that used it raises.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._dataset: lance.LanceDataset | None = None
        self._table: dict[int, GenerationInfo] = {}
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[type[Pool], tuple[Path]]:
        return Pool, (self.path,)

    def __repr__(self) -> str:
        return f"Pool({str(self.path)!r})"

    # Reading

    def generations(self) -> list[GenerationInfo]:
        """What is committed now, by anybody, in order of the generations' numbers."""
        self._refresh()
        return [self._table[g] for g in sorted(self._table)]

    def read(self, generation: int, indices: Sequence[int] | np.ndarray, source: int = 0) -> PoseBatch:
        """Samples ``indices`` (each in ``0 .. passed-1``, any order, repeats allowed) of a generation, in one read.

        Args:
            generation: a committed generation.
            indices: which samples, B of them.
            source: first number of the samples' keys.

        Raises:
            PosesynError: no such generation or index, or pictures of several sizes.
            Damaged: (one too) a file is gone, or not as it was written.
        """
        dataset, info = self._find(generation)
        if info.forgotten:
            raise Damaged(f"{self}: the pictures of generation {generation} were deleted to save room")
        index_B = np.asarray(indices, dtype=np.int64)
        if index_B.size == 0 or index_B.min() < 0 or index_B.max() >= info.passed:
            raise PosesynError(
                f"{self}: generation {generation} has samples 0 to {info.passed - 1}, asked for {index_B.tolist()}"
            )
        with self._damage_named(generation):
            table = dataset.take((index_B + info.start).tolist(), columns=READ_COLUMNS)
        return to_batch(table, generation, index_B, source, f"{self}, generation {generation}")

    def read_what_is_left(
        self, generation: int, indices: Sequence[int] | np.ndarray, source: int = 0
    ) -> tuple[PoseBatch | None, np.ndarray, str]:
        """As :meth:`read`, without the samples that are damaged: the others (None where there are none), (B,) bool
        which these are, and what is the matter with the first that is not.
        """
        index_B = np.asarray(indices, dtype=np.int64)
        try:
            return self.read(generation, index_B, source), np.ones(len(index_B), bool), ""
        except Damaged as error:
            if len(index_B) == 1:
                return None, np.zeros(1, bool), str(error)
        middle = len(index_B) // 2
        (a, left_a, why_a), (b, left_b, why_b) = (
            self.read_what_is_left(generation, part, source) for part in (index_B[:middle], index_B[middle:])
        )
        found = [batch for batch in (a, b) if batch is not None]
        return PoseBatch.cat(found) if found else None, np.concatenate([left_a, left_b]), why_a or why_b

    def provenance(self, generation: int) -> pa.Table:
        """Provenance of every row of a generation, those that passed first; no pictures, no labels."""
        dataset, info = self._find(generation)
        with self._damage_named(generation):
            return dataset.to_table(columns=PROVENANCE_COLUMNS, offset=info.start, limit=info.count)

    def rows(self, generation: int) -> pa.Table:
        """Every column of every row of a generation, pictures too."""
        dataset, info = self._find(generation)
        with self._damage_named(generation):
            return dataset.to_table(offset=info.start, limit=info.count)

    # Writing

    def commit(
        self, generation: int, samples: Iterable[Sample], synthesiser: str = "", or_next: bool = False
    ) -> GenerationInfo:
        """Write ``samples`` as a new generation; nothing is visible until all are written.

        Samples stream to disk as they come, so a slow generator is fine; those that passed keep their order and get
        the indices ``0, 1, ...``. An exception from ``samples`` propagates and leaves the pool as it was. Writers of
        different generations may work at the same time.

        Args:
            generation: its number.
            samples: what it holds.
            synthesiser: what chose the poses.
            or_next: where the number is taken or another writer is at work on it, take the next one that is free.

        Raises:
            NumberTaken: (a PosesynError) the number is taken, also by a writer that was faster.
            PosesynError: a sample is malformed.
        """
        self._refresh()
        if not or_next:
            self._require_free(generation)
        self.path.mkdir(parents=True, exist_ok=True)
        with self._writing(), self._claimed(generation, or_next) as number:
            dataset = self._create() if self._dataset is None else self._dataset
            rows = Rows(samples, number)
            fragments = rows.write(dataset)
            return self._publish(number, rows, fragments, synthesiser)

    def repair(self) -> int:
        """Delete what killed writers left behind; bytes freed. Each commit that finds no other writer does this too."""
        self._refresh()
        if self._dataset is None:
            return 0
        with open(self.path / _LOCK, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PosesynError(f"{self}: a writer is at work; repair when it is done") from None
            return self._delete_leftovers(self._dataset)

    def forget(self, generations: Iterable[int]) -> int:
        """Delete pictures and labels of generations, for ever; their rows keep where they came from.

        Returns:
            Bytes freed. Readers that opened the pool before find the samples damaged.
        """
        self._refresh()
        there = [g for g in generations if g in self._table and not self._table[g].forgotten]
        if not there:
            return 0
        with self._writing():
            assert self._dataset is not None
            bare = {g: self._bare(g) for g in there}
            while True:
                dataset = self._dataset
                fragments, infos = list(dataset.get_fragments()), {**self._table}
                row, kept = 0, []
                of = {g: range(i.start, i.start + i.count) for g, i in infos.items() if g in bare}
                for fragment in fragments:
                    if not any(row in rows for rows in of.values()):
                        kept.append(fragment.metadata)
                    else:  # the first of a generation's gives its place to the new ones
                        kept += next((bare[g] for g, rows in of.items() if row == rows.start), [])
                    row += fragment.count_rows()
                infos |= {g: replace(infos[g], forgotten=True) for g in there}
                table = {_GENERATION_KEY + str(g).encode(): json.dumps(asdict(i)).encode() for g, i in infos.items()}
                operation = lance.LanceOperation.Overwrite(
                    SCHEMA.with_metadata({**dataset.schema.metadata, **table}), kept
                )
                try:
                    lance.LanceDataset.commit(str(self.path), operation, read_version=dataset.version, max_retries=0)
                except CommitConflictError:
                    self._refresh()
                    continue
                break
        self._refresh()
        with open(self.path / _LOCK, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0  # a writer is at work: the files go at the next time
            # Versions by their number, not by their age: clocks change.
            return int(self._dataset.cleanup_old_versions(retain_versions=1, delete_unverified=True).bytes_removed)

    def _bare(self, generation: int) -> list[FragmentMetadata]:
        """Fragments with the rows of a generation without pictures and labels."""
        assert self._dataset is not None
        rows = self.provenance(generation).drop_columns(["generation", "index"]).to_pylist()
        if not rows:
            return []
        return write_rows([Sample(**row) for row in rows], generation, self._dataset)

    # Inside

    def _refresh(self) -> None:
        """Open the newest version and read its table of generations."""
        if os.getpid() != self._pid:
            raise PosesynError(
                f"{self} was made in process {self._pid} and used in its forked child {os.getpid()}, where Lance hangs;"
                " use the 'forkserver' or 'spawn' start method"
            )
        if self._dataset is not None:
            self._newest(self._dataset.checkout_latest)
        else:
            self._dataset = self._open()
        if self._dataset is not None:
            self._table = _read_table(self._dataset, self.path)

    def _open(self) -> lance.LanceDataset | None:
        """The dataset, or None where a commit may create one."""
        try:
            names = os.listdir(self.path)  # one look, since writers may be filling the folder
        except FileNotFoundError:
            names = []
        except NotADirectoryError:
            names = [self.path.name]
        if not names or (_LOCK in names and not any(self.path.glob("_versions/*.manifest"))):
            return None
        try:
            dataset = self._newest(lambda: lance.dataset(str(self.path)))
        except (ValueError, OSError) as error:
            raise PosesynError(
                f"{self.path} is not a readable pool; name an empty or new folder, or a pool ({error})"
            ) from error
        if (dataset.schema.metadata or {}).get(_FORMAT_KEY) != _FORMAT:
            raise PosesynError(
                f"{self.path} is a Lance dataset but not a pool of format {_FORMAT.decode()}; name another folder"
            )
        return dataset

    @staticmethod
    def _newest(read: Callable[[], _T]) -> _T:
        """Read the newest version; a writer's cleanup may delete the one just listed once a newer one exists."""
        for _ in range(4):
            try:
                return read()
            except (ValueError, OSError):
                time.sleep(0.01)
        return read()

    def _find(self, generation: int) -> tuple[lance.LanceDataset, GenerationInfo]:
        """The open version if it has the generation (it is immutable), else the newest."""
        if generation not in self._table or os.getpid() != self._pid:
            self._refresh()
        if self._dataset is None or generation not in self._table:
            raise PosesynError(f"{self} has no generation {generation}; it has {sorted(self._table) or 'none'}")
        return self._dataset, self._table[generation]

    def _require_free(self, generation: int) -> None:
        if generation in self._table:
            raise NumberTaken(f"{self}: generation {generation} is committed already; generations are immutable")

    @contextmanager
    def _claimed(self, generation: int, or_next: bool) -> Iterator[int]:
        """The number, or the next one that nobody has committed or is writing. The kernel lets go of it on death.

        Who asks for one number only needs no claim: the manifest itself is written once.
        """
        if not or_next:
            yield generation
            return
        while True:
            self._refresh()
            number = next(n for n in itertools.count(generation) if n not in self._table)
            path = self.path / f".writing-{number}.lock"
            with open(path, "w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    generation = number + 1
                    continue
                self._refresh()
                if number in self._table:  # committed between our look and our lock
                    continue
                try:
                    yield number
                finally:
                    path.unlink(missing_ok=True)
                return

    @contextmanager
    def _damage_named(self, generation: int) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise  # a panic of Lance's is no Exception
            raise Damaged(
                f"{self}: generation {generation} cannot be read, its files under {self.path} are damaged or gone;"
                f" restore them from a copy ({error})"
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the shared lock that keeps others from deleting uncommitted files; the kernel drops it on death."""
        with open(self.path / _LOCK, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._dataset is not None:
                    self._delete_leftovers(self._dataset)
            except BlockingIOError:
                pass  # another writer is at work: leave its files alone
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @staticmethod
    def _delete_leftovers(dataset: lance.LanceDataset) -> int:
        stats = dataset.cleanup_old_versions(older_than=_FOREVER, delete_unverified=True)
        return int(stats.bytes_removed)

    def _create(self) -> lance.LanceDataset:
        empty = SCHEMA.with_metadata({_FORMAT_KEY: _FORMAT})
        operation = lance.LanceOperation.Overwrite(empty, [])
        try:
            lance.LanceDataset.commit(str(self.path), operation, read_version=0, max_retries=0)
        except OSError:  # a conflict too is one
            self._refresh()
            if self._dataset is None:  # not because another writer created it first
                raise
        self._refresh()
        assert self._dataset is not None
        return self._dataset

    def _publish(
        self, generation: int, rows: Rows, fragments: list[FragmentMetadata], synthesiser: str
    ) -> GenerationInfo:
        """Compare-and-swap the manifest until it holds the new rows or the number turns out to be taken."""
        while True:
            self._refresh()
            self._require_free(generation)
            dataset = self._dataset
            assert dataset is not None
            start = sum(g.count for g in self._table.values())
            info = GenerationInfo(generation, dataset.version + 1, rows.count, rows.passed, start, synthesiser)
            entry = {_GENERATION_KEY + str(generation).encode(): json.dumps(asdict(info)).encode()}
            schema = SCHEMA.with_metadata({**dataset.schema.metadata, **entry})
            kept = [fragment.metadata for fragment in dataset.get_fragments()]
            operation = lance.LanceOperation.Overwrite(schema, kept + fragments)
            try:
                lance.LanceDataset.commit(str(self.path), operation, read_version=dataset.version, max_retries=0)
            except CommitConflictError:
                continue
            return info


def _read_table(dataset: lance.LanceDataset, path: Path) -> dict[int, GenerationInfo]:
    metadata = dataset.schema.metadata
    try:
        infos = [GenerationInfo(**json.loads(v)) for k, v in metadata.items() if k.startswith(_GENERATION_KEY)]
        numbers = [(i.generation, i.version, i.count, i.passed, i.start) for i in infos]
        if not all(isinstance(n, int) and n >= 0 for row in numbers for n in row):
            raise ValueError("something else than numbers")
    except (ValueError, TypeError) as error:
        raise PosesynError(
            f"the table of generations of the pool {path} is damaged ({error}): restore its files from a copy"
        ) from error
    return {info.generation: info for info in infos}
