"""The recipe: from a global counter to sample keys, with nothing remembered in between.

A batch is a pure function of (recipe, counter): so a resumed run, another worker count or another rank count sees the
same global batches, and a refresh changes the recipe instead of a loader or a data set (DESIGN §4, Mixture).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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
    """

    seed: int
    schedules: tuple[Schedule, ...]
    sizes: tuple[int, ...]
    generations: tuple[tuple[int, int], ...] = field(default=())

    def weights(self, step: int) -> np.ndarray:
        """(S,) shares of the sources at a global step; a pool without samples gives its share to the others."""
        raw = np.array([np.interp(step, *np.transpose(s)) for s in self.schedules])
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
            generation[pooled], index[pooled] = numbers[which], flat - (np.cumsum(counts) - counts)[which]
        return np.stack([source.astype(np.int64), generation, index, seed], 1)

    def with_generations(self, generations: list[tuple[int, int]]) -> Recipe:
        return replace(self, generations=tuple((int(g), int(n)) for g, n in generations))

    def state(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "schedules": [list(s) for s in self.schedules],
            "sizes": list(self.sizes),
            "generations": [list(g) for g in self.generations],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Recipe:
        return cls(
            seed=state["seed"],
            schedules=tuple(state["schedules"]),
            sizes=tuple(state["sizes"]),
            generations=tuple((g, n) for g, n in state["generations"]),
        )
