"""Draws of whole units with replacement: the one source of every bootstrap interval here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_HELD = 1 << 22  # drawn units in memory at a time


def draws(units: int, replicates: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int32]]:
    """(R,U) numbers below ``units``, U a row, some rows at a time; ``replicates`` rows in all.

    How many come at a time changes nothing about the numbers.
    """
    step = max(1, _HELD // units)
    for first in range(0, replicates, step):
        yield rng.integers(units, size=(min(step, replicates - first), units), dtype=np.int32)
