"""Choosing what of the pool stays in the mixture, where that takes another look at its samples."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from human.prediction import Estimator
from synth.curriculum import Candidates, Latest, Policy, apply
from synth.filters import Err3DFilter
from synth.pool import Pool
from synth.sample import Damaged

log = logging.getLogger(__name__)
_READ_ROWS = 128


@dataclass(frozen=True)
class Choice:
    """Rising generations and, of each, the rising numbers of the samples that stay; and figures about it."""

    rows: dict[int, np.ndarray]
    report: dict[str, int | float | None] = field(default_factory=dict)


class Curriculum:
    """A chain of policies over one pool, of which it remembers what never changes.

    Args:
        policies: in order.
        most: samples that are scored at one time; of more, an even draw.
    """

    def __init__(self, policies: Sequence[Policy], most: int) -> None:
        self.policies, self.most = list(policies), most
        self._codes: dict[str, int] = {}  # of challenges
        self._known: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # challenge codes and first Err3D by generation

    def choose(
        self,
        pool: Pool,
        entered: dict[int, int],
        used: dict[int, np.ndarray],
        lost: dict[int, np.ndarray],
        estimator: Estimator,
        measure: Err3DFilter,
        rng: np.random.Generator,
    ) -> Choice:
        """A pure function of the arguments and the policies.

        Args:
            entered: how many samples there are by generation, of all that may be chosen from.
            used: sample numbers by generation that are in the mixture now.
            lost: those that cannot be read.
            measure: how Err3D is measured; its threshold does not matter.
            rng: of the draw.
        """
        numbers = sorted(entered)
        if self.policies and isinstance(self.policies[0], Latest):  # the only policy that needs no look at samples
            numbers = numbers[-self.policies[0].generations :]
        candidates = self._candidates(pool, {n: entered[n] for n in numbers}, used, lost)
        first = next((k for k, policy in enumerate(self.policies) if policy.wants_scores), len(self.policies))
        kept, removed = apply(self.policies[:first], candidates)
        candidates, scored = candidates[kept], 0
        if first < len(self.policies):
            candidates, scored = self._scored(candidates, pool, estimator, measure, rng)
        kept, more = apply(self.policies[first:], candidates, first)
        left = candidates[kept]
        rows = {int(g): left.row_N[left.generation_N == g] for g in np.unique(left.generation_N)}
        finite = candidates.now_N[np.isfinite(candidates.now_N)]
        return Choice(
            rows,
            {
                "candidates": sum(entered.values()),
                "scored": scored,
                "kept": len(left),
                "err3d_mean": float(finite.mean()) if len(finite) else None,
                **{f"removed/{name}": count for name, count in (removed | more).items()},
            },
        )

    def _candidates(
        self, pool: Pool, entered: dict[int, int], used: dict[int, np.ndarray], lost: dict[int, np.ndarray]
    ) -> Candidates:
        parts = [_candidates(0, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0))]
        for generation, count in entered.items():
            rows = np.setdiff1d(np.arange(count), lost.get(generation, np.zeros(0, np.int64)))
            if not len(rows):
                continue
            try:
                challenge, first = self._about(pool, generation, count)
            except Damaged as error:
                log.error("a generation leaves the mixture: %s", error)
                continue
            parts.append(
                _candidates(generation, rows, challenge[rows], first[rows], used.get(generation, np.zeros(0, np.int64)))
            )
        return Candidates(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])})

    def _about(self, pool: Pool, generation: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        if generation not in self._known:
            table = pool.provenance(generation).slice(0, count)
            names = table["challenge_id"].to_pylist()
            codes = [self._codes.setdefault(name, len(self._codes)) for name in names]
            first = table["err3d"].to_numpy().astype(np.float32)
            self._known[generation] = np.array(codes, np.int64), first
        return self._known[generation]

    def _scored(
        self, candidates: Candidates, pool: Pool, estimator: Estimator, measure: Err3DFilter, rng: np.random.Generator
    ) -> tuple[Candidates, int]:
        """With ``now_N``, without those that turn out to be damaged; and how many were scored."""
        chosen = np.arange(len(candidates))
        if len(chosen) > self.most:
            chosen = np.sort(rng.permutation(chosen)[: self.most])
        now, readable = np.full(len(candidates), np.nan, np.float32), np.ones(len(candidates), bool)
        for generation in np.unique(candidates.generation_N[chosen]).tolist():
            mine = chosen[candidates.generation_N[chosen] == generation]
            for start in range(0, len(mine), _READ_ROWS):
                part = mine[start : start + _READ_ROWS]
                batch, left, why = pool.read_what_is_left(generation, candidates.row_N[part])
                readable[part] = left
                if why:
                    log.error("samples leave the mixture: %s", why)
                if batch is not None:
                    now[part[left]], _ = measure(estimator, batch)
        scored = Candidates(**{**vars(candidates), "now_N": now})
        return scored[readable], int(np.isfinite(now).sum())


def _candidates(
    generation: int, rows: np.ndarray, challenge: np.ndarray, first: np.ndarray, used: np.ndarray
) -> Candidates:
    return Candidates(
        np.full(len(rows), generation, np.int64),
        rows,
        challenge,
        first,
        np.full(len(rows), np.nan, np.float32),
        np.isin(rows, used),
    )
