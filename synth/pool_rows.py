"""A generation on its way to disk, as files of Lance that nothing refers to yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import lance
import pyarrow as pa
from lance.fragment import FragmentMetadata, write_fragments

from synth.sample import SCHEMA, Sample, check_sample, provenance_only, to_arrow

_AT_ONCE = 64  # rows handed to Lance at a time: bounds a writer's memory


class Rows:
    """Rows that passed as they come, the others, which are small, at the end."""

    def __init__(self, samples: Iterable[Sample], generation: int) -> None:
        self.samples, self.generation = samples, generation
        self.passed = self.count = 0
        self._error: BaseException | None = None

    def write(self, dataset: lance.LanceDataset) -> list[FragmentMetadata]:
        batches = self._batches()
        try:
            first = next(batches, None)
            if first is None:
                return []
            reader = pa.RecordBatchReader.from_batches(SCHEMA, _chain(first, batches))
            return _write(reader, dataset)
        except Exception:
            if self._error is not None:  # ours, which Lance wrapped
                raise self._error from None
            raise

    def _batches(self) -> Iterator[pa.RecordBatch]:
        failed: list[Sample] = []
        ready: list[Sample] = []
        try:
            for n, sample in enumerate(self.samples):
                if not sample.passed:
                    failed.append(provenance_only(sample))
                    continue
                check_sample(sample, f"generation {self.generation}, sample {n}")
                ready.append(sample)
                if len(ready) == _AT_ONCE:
                    yield self._batch(ready)
                    ready = []
            self.passed = self.count + len(ready)
            ready += failed
            for i in range(0, len(ready), _AT_ONCE):
                yield self._batch(ready[i : i + _AT_ONCE])
        except BaseException as error:
            self._error = error
            raise

    def _batch(self, samples: list[Sample]) -> pa.RecordBatch:
        batch = to_arrow(samples, self.generation, self.count)
        self.count += len(samples)
        return batch


def write_rows(samples: list[Sample], generation: int, dataset: lance.LanceDataset) -> list[FragmentMetadata]:
    """Rows of ``samples`` in their order, whatever they passed, as files."""
    batches = (
        to_arrow(samples[start : start + _AT_ONCE], generation, start) for start in range(0, len(samples), _AT_ONCE)
    )
    return _write(pa.RecordBatchReader.from_batches(SCHEMA, batches), dataset)


def _write(reader: pa.RecordBatchReader, dataset: lance.LanceDataset) -> list[FragmentMetadata]:
    """Files that nothing refers to yet. Not in mode "append", which copies the table of generations into each."""
    return list(write_fragments(reader, dataset, schema=SCHEMA, mode="overwrite"))


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
