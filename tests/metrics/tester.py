"""One way of testing every metric: functional and class against a slow per-person float64 reference."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

Batch = dict[str, Tensor]


@dataclass
class MetricCase:
    """``batches`` feed ``make().update(**batch)``; ``persons(batch)`` is the reference, one entry per person: its
    (numerator, denominator) pairs as an (S,2) array, None for a person not counted, "invalid" for one left out.
    ``finish`` turns the summed (S,2) array into the metric's value. ``whole``: rows of a batch are frames of sequences,
    which cannot be given one at a time."""

    name: str
    make: Callable[[], Metric]
    batches: Sequence[Batch]
    persons: Callable[[Batch], list[Any]]
    finish: Callable[[np.ndarray], float]
    whole: bool = False

    def reference(self, batches: Sequence[Batch]) -> tuple[float, int]:
        entries = [entry for batch in batches for entry in self.persons(batch)]
        total = sum(entry for entry in entries if isinstance(entry, np.ndarray))
        return self.finish(np.asarray(total)), sum(isinstance(entry, str) for entry in entries)


def check(metric: Metric, case: MetricCase, batches: Sequence[Batch]) -> None:
    value, invalid = case.reference(batches)
    assert metric.compute().dtype == torch.float64
    assert metric.compute().item() == pytest.approx(value, rel=1e-9, abs=1e-9), case.name
    assert metric.invalid == invalid, case.name


def cast(batch: Batch, dtype: torch.dtype) -> Batch:
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in batch.items()}


def run_class(case: MetricCase) -> None:
    """Accumulation over ragged batches, order, one at a time, pickling half way, reset, forward and empty."""
    metric = case.make()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert torch.isnan(metric.compute())
    metric.reset()
    for batch in case.batches:
        metric.update(**batch)
    check(metric, case, case.batches)

    backwards = case.make()
    for batch in reversed(case.batches):
        length = len(next(iter(batch.values())))
        if case.whole:
            backwards.update(**batch)
        for i in range(0 if case.whole else length):
            backwards.update(**{name: value[i : i + 1] for name, value in batch.items()})
    check(backwards, case, case.batches)

    half = case.make()
    half.update(**case.batches[0])
    half = pickle.loads(pickle.dumps(half))
    for batch in case.batches[1:]:
        half.update(**batch)
    check(half, case, case.batches)

    empty = case.make()
    empty.update(**{name: value[:0] for name, value in case.batches[0].items()})
    assert torch.isnan(empty.compute())
    assert empty.invalid == 0

    metric.reset()
    assert metric.invalid == 0
    metric.update(**case.batches[1])
    check(metric, case, case.batches[1:2])


def run_dtype(case: MetricCase, dtype: torch.dtype) -> None:
    """The metric of half precision inputs is the exact metric of the rounded numbers."""
    batches = [cast(batch, dtype) for batch in case.batches]
    metric = case.make()
    for batch in batches:
        metric.update(**batch)
    check(metric, case, [cast(batch, torch.float64) for batch in batches])
