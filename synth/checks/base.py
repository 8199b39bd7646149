"""The contract of a check: does a picture show its label, and if not quite, can the label be put right?

Checks compose. Each sees only the samples that those before it let pass, and says how many it removed. They look at
pictures and labels alone; the estimator's own say is the filter's (:mod:`synth.filters`), which comes after them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from human.batch import PoseBatch
from human.registry import Registry


@dataclass(frozen=True)
class Checked:
    """What a check says of B samples.

    Attributes:
        batch: the samples, their labels put right where the check does that; always B rows.
        passed: (B,) bool.
        figures: (B,) floats by name, NaN where one was not measured.
    """

    batch: PoseBatch
    passed: np.ndarray
    figures: dict[str, np.ndarray] = field(default_factory=dict)


class Check(ABC):
    """Looks at pictures on the CPU; a pure function of them, of their labels and of :meth:`config`."""

    name: ClassVar[str]

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything that decides what passes, as JSON-ready values."""

    @abstractmethod
    def __call__(self, batch: PoseBatch) -> Checked:
        """One verdict per row. A picture that cannot be judged does not pass; it is never an error."""


CHECKS: Registry[type[Check]] = Registry("check")


@dataclass(frozen=True)
class CheckReport:
    """B samples after a chain of checks: as :class:`Checked`; ``removed`` how many each check took out."""

    batch: PoseBatch
    passed: np.ndarray
    removed: dict[str, int]
    figures: dict[str, np.ndarray]


def run_checks(checks: Sequence[Check], batch: PoseBatch) -> CheckReport:
    """All checks in order."""
    passed = np.ones(len(batch), bool)
    removed: dict[str, int] = {}
    figures: dict[str, np.ndarray] = {}
    for check in checks:
        rows = np.flatnonzero(passed)
        removed.setdefault(check.name, 0)
        if not len(rows):
            continue
        verdict = check(batch[torch.from_numpy(rows)])
        batch = _put(batch, rows, verdict.batch)
        passed[rows] = verdict.passed
        removed[check.name] += int((~verdict.passed).sum())
        for name, values in verdict.figures.items():
            column = figures.setdefault(f"{check.name}/{name}", np.full(len(batch), np.nan))
            column[rows] = values
    return CheckReport(batch, passed, removed, figures)


def _put(batch: PoseBatch, rows: np.ndarray, part: PoseBatch) -> PoseBatch:
    index = torch.from_numpy(rows)
    changed = part.as_dict()
    return batch.replace(**{n: v.index_copy(0, index, changed[n]) for n, v in batch.as_dict().items()})
