"""The recipe: from a global counter to sample keys, with nothing remembered in between.

A batch is a pure function of (recipe, counter): so a resumed run, another worker count or another rank count sees the
same global batches, and a refresh changes the recipe instead of a loader or a data set (DESIGN §4, Mixture).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from human.errors import PosesynError
from human.rng import derive_seed, philox_uniform

# A schedule is [[step, weight], ...], linear between, constant outside.
Schedule = list[list[float]]


def as_schedule(weight: float | Schedule) -> Schedule:
    """A number or a list of [step, weight] pairs as a schedule; :class:`PosesynError` on anything else."""
    try:
        points = (
            [[0.0, float(weight)]] if isinstance(weight, int | float) else [[float(a), float(b)] for a, b in weight]
        )
    except (TypeError, ValueError):
        points = []
    steps = [p[0] for p in points]
    if not points or not np.isfinite(points).all() or steps != sorted(steps) or any(w < 0 for _, w in points):
        raise PosesynError(
            f"a source weight is a number >= 0 or a list of [step, weight] with rising steps, got {weight!r}"
        )
    return points


@dataclass(frozen=True)
class Recipe:
    """What the mixture is made of now. Plain numbers only: it travels in the checkpoint.

    Args:
        seed: of the run.
        schedules: weight of each source over global steps.
        sizes: samples of each source; 0 means unlimited (rendered), -1 means the pool.
        generations: (generation, samples) that the pool source draws from, all samples alike.
        rows: which samples of each generation those are, as runs (first, count, first, count, ...); an empty one means
            the first so many, and no ``rows`` at all that of every generation.
        factors: what the shares of the sources are multiplied with; none: 1.
    """

    seed: int
    schedules: tuple[Schedule, ...]
    sizes: tuple[int, ...]
    generations: tuple[tuple[int, int], ...] = field(default=())
    rows: tuple[tuple[int, ...], ...] = field(default=())
    factors: tuple[float, ...] = field(default=())

    def weights(self, step: int) -> np.ndarray:
        """(S,) shares of the sources at a global step; a pool without samples gives its share to the others."""
        raw = np.array([np.interp(step, *np.transpose(s)) for s in self.schedules])
        if self.factors:
            raw = raw * self.factors
        if not sum(count for _, count in self.generations):
            raw[np.asarray(self.sizes) < 0] = 0
        if raw.sum() <= 0:
            raise PosesynError(
                f"no source has a positive weight at step {step}: give one in `sources` (a pool counts only once it "
                "has samples)"
            )
        return raw / raw.sum()

    def keys(self, step: int, batch_size: int) -> np.ndarray:
        """(batch_size, 4) int64 keys (source, generation, index, seed) of the global batch of ``step``."""
        counter = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.uint64)
        u = philox_uniform(derive_seed(self.seed, "mixture"), counter)
        edges = np.cumsum(self.weights(step))
        edges[edges == edges[-1]] = 1.0  # rounding may leave less, and a u above it would fall to a source of weight 0
        source = np.searchsorted(edges, u[:, 0], side="right")
        seed = (philox_uniform(derive_seed(self.seed, "samples"), counter)[:, 0] * 2.0**53).astype(np.int64)
        generation, index = np.full(batch_size, -1, np.int64), np.full(batch_size, -1, np.int64)
        sizes = np.asarray(self.sizes)[source]
        limited = sizes > 0
        index[limited] = (u[limited, 1] * sizes[limited]).astype(np.int64)
        pooled = sizes < 0
        if pooled.any():
            numbers, counts = np.asarray(self.generations, np.int64).T
            flat = (u[pooled, 1] * counts.sum()).astype(np.int64)
            which = np.searchsorted(np.cumsum(counts), flat, side="right")
            place = flat - (np.cumsum(counts) - counts)[which]
            generation[pooled] = numbers[which]
            index[pooled] = place if self._chosen is None else self._chosen[flat]
        return np.stack([source.astype(np.int64), generation, index, seed], 1)

    @cached_property
    def _chosen(self) -> np.ndarray | None:
        """Sample numbers of all generations, one after another; None where these are the first ones of each."""
        if not any(self.rows):
            return None
        each = [
            _rows_of(runs) if runs else np.arange(count)
            for runs, (_, count) in zip(self.rows, self.generations, strict=True)
        ]
        return np.concatenate(each).astype(np.int64)

    def with_generations(
        self, generations: Sequence[tuple[int, int]], rows: Sequence[np.ndarray | None] | None = None
    ) -> Recipe:
        """The same mixture with other generations.

        Args:
            generations: (generation, samples).
            rows: rising sample numbers of each generation, as many as its samples; None: the first ones.
        """
        pairs = tuple((int(g), int(n)) for g, n in generations)
        if rows is None:
            return replace(self, generations=pairs, rows=())
        runs = tuple(() if chosen is None else _runs_of(chosen) for chosen in rows)
        for (generation, count), chosen in zip(pairs, rows, strict=True):
            if chosen is not None and (len(chosen) != count or (np.diff(chosen, prepend=-1) <= 0).any()):
                raise ValueError(f"generation {generation}: {count} rising row numbers expected, got {chosen}")
        return replace(self, generations=pairs, rows=runs if any(runs) else ())

    def rows_of(self, generation: int) -> np.ndarray:
        """Sample numbers of a generation that may be drawn; none where it is not in the mixture."""
        for number, (own, count) in enumerate(self.generations):
            if own == generation:
                runs = self.rows[number] if self.rows else ()
                return _rows_of(runs) if runs else np.arange(count)
        return np.zeros(0, np.int64)

    def with_factors(self, factors: Sequence[float]) -> Recipe:
        return replace(self, factors=tuple(float(f) for f in factors))

    def state(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "schedules": [list(s) for s in self.schedules],
            "sizes": list(self.sizes),
            "generations": [list(g) for g in self.generations],
            **({"rows": [list(r) for r in self.rows]} if self.rows else {}),
            **({"factors": list(self.factors)} if self.factors else {}),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Recipe:
        return cls(
            seed=state["seed"],
            schedules=tuple(state["schedules"]),
            sizes=tuple(state["sizes"]),
            generations=tuple((g, n) for g, n in state["generations"]),
            rows=tuple(tuple(r) for r in state.get("rows", ())),
            factors=tuple(state.get("factors", ())),
        )


def _runs_of(rows: np.ndarray) -> tuple[int, ...]:
    """Rising numbers as (first, count, first, count, ...); () where they are 0, 1, 2, ..."""
    if not len(rows) or int(rows[-1]) == len(rows) - 1:
        return ()
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
    counts = np.diff(starts, append=len(rows))
    return tuple(np.stack([np.asarray(rows)[starts], counts], 1).ravel().tolist())


def _rows_of(runs: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([np.arange(first, first + count) for first, count in zip(runs[::2], runs[1::2], strict=True)])
