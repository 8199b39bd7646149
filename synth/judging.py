"""Which of the pictures made are kept: the checks of pictures and labels first, then what the estimator says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from human.batch import PoseBatch
from human.prediction import Estimator
from synth.checks.base import Check, run_checks
from synth.filters import Err3DFilter

#: What the filter is called beside the checks.
ERR3D = "err3d"


@dataclass
class Found:
    """What checks found, added up: samples that each took out, sums of what they measured, and how often."""

    removed: dict[str, int] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, other: Found) -> None:
        for mine, theirs in ((self.removed, other.removed), (self.sums, other.sums), (self.counts, other.counts)):
            for name, value in theirs.items():
                mine[name] = mine.get(name, 0) + value  # type: ignore[index, assignment]

    def summary(self) -> dict[str, int | float]:
        """``removed/CHECK`` counts, and the mean of each figure that was measured."""
        means = {name: total / self.counts[name] for name, total in self.sums.items() if self.counts[name]}
        return {**{f"removed/{name}": count for name, count in self.removed.items()}, **means}


def check(checks: Sequence[Check], batch: PoseBatch) -> tuple[PoseBatch, np.ndarray, Found]:
    """The samples with their labels put right, (B,) bool which are left, and what was found."""
    if not checks:
        return batch, np.ones(len(batch), bool), Found()
    report = run_checks(checks, batch)
    finite = {name: values[np.isfinite(values)] for name, values in report.figures.items()}
    sums, counts = {n: float(v.sum()) for n, v in finite.items()}, {n: len(v) for n, v in finite.items()}
    return report.batch, report.passed, Found(dict(report.removed), sums, counts)


def judge(
    filter: Err3DFilter, estimator: Estimator, batch: PoseBatch, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Err3D (B,) mm, NaN of those that are not ``left`` or cannot be measured; and which samples are kept."""
    if left.all():
        return filter(estimator, batch)
    error, passed = np.full(len(batch), np.nan, np.float32), np.zeros(len(batch), bool)
    rows = np.flatnonzero(left)
    if len(rows):
        error[rows], passed[rows] = filter(estimator, batch[torch.from_numpy(rows)])
    return error, passed
