"""What of the pool stays in the mixture: policies, each a pure function of what is known of the samples.

Policies compose. Each sees only the samples that those before it left, and says which of them stay. What is not in the
mixture stays in the pool, and may come back: nothing is decided for good.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from human.errors import PosesynError
from human.registry import Registry, make_all


@dataclass(frozen=True)
class Candidates:
    """N samples of the pool that passed the filter, oldest generation first.

    Attributes:
        generation_N: their generations, rising.
        row_N: their numbers in these, rising.
        challenge_N: ids of the persons whose poses they imitate.
        first_N: Err3D when they were made, mm; NaN where it was not measured.
        now_N: Err3D of the estimator as it is, mm; NaN of those that were not scored this time.
        used_N: which of them are in the mixture now.
    """

    generation_N: np.ndarray
    row_N: np.ndarray
    challenge_N: np.ndarray
    first_N: np.ndarray
    now_N: np.ndarray
    used_N: np.ndarray

    def __len__(self) -> int:
        return len(self.row_N)

    def __getitem__(self, kept: np.ndarray) -> Self:
        return replace(self, **{name: value[kept] for name, value in vars(self).items()})


class Policy(ABC):
    """``wants_scores``: asks for ``now_N``."""

    name: ClassVar[str]
    wants_scores = False

    @abstractmethod
    def keep(self, candidates: Candidates) -> np.ndarray:
        """(N,) bool: which stay."""


POLICIES: Registry[type[Policy]] = Registry("pool policy")


@POLICIES.register("latest")
class Latest(Policy):
    """The last generations.

    Args:
        generations: how many; one of which nothing passed the filter does not count.
    """

    name = "latest"

    def __init__(self, generations: int = 3) -> None:
        self.generations = _count("latest", "generations", generations)

    def keep(self, candidates: Candidates) -> np.ndarray:
        return np.isin(candidates.generation_N, np.unique(candidates.generation_N)[-self.generations :])


@POLICIES.register("hardest")
class Hardest(Policy):
    """The samples that the estimator as it is gets most wrong, of all generations.

    Args:
        samples: how many. Where fewer were scored than that, the newest of the others make up the number.
    """

    name, wants_scores = "hardest", True

    def __init__(self, samples: int = 10_000) -> None:
        self.samples = _count("hardest", "samples", samples)

    def keep(self, candidates: Candidates) -> np.ndarray:
        kept = np.zeros(len(candidates), bool)
        kept[_hardest_first(candidates)[: self.samples]] = True
        return kept


@POLICIES.register("retire")
class Retire(Policy):
    """Leaves out what is learned, until it is forgotten again. What was not scored stays as it is, in or out.

    Args:
        below: mm; a sample with a smaller Err3D is learned.
        share: so is one whose Err3D is less than this share of what it was when it was made.
    """

    name, wants_scores = "retire", True

    def __init__(self, below: float | None = None, share: float | None = None) -> None:
        if (below is None) == (share is None) or not (below or share or 0) > 0 or (share is not None and share >= 1):
            raise PosesynError(
                "the pool policy 'retire' needs below > 0 (mm) or share in 0 .. 1, one of them, got "
                f"below={below} and share={share}"
            )
        self.below, self.share = below, share

    def keep(self, candidates: Candidates) -> np.ndarray:
        limit = np.full(len(candidates), self.below) if self.share is None else self.share * candidates.first_N
        # Where the first value is missing there is nothing to fall below of: it stays.
        learned = np.nan_to_num(candidates.now_N, nan=np.inf) < np.nan_to_num(limit, nan=-np.inf)
        return np.where(np.isfinite(candidates.now_N), ~learned, candidates.used_N)


@POLICIES.register("cap")
class Cap(Policy):
    """No more than so many samples of one challenge.

    Args:
        samples: how many.
        by: which ones: "newest" or "hardest".
    """

    name = "cap"

    def __init__(self, samples: int = 100, by: str = "newest") -> None:
        if by not in ("newest", "hardest"):
            raise PosesynError(f"the pool policy 'cap': by={by!r}; choose 'newest' or 'hardest'")
        self.samples, self.by = _count("cap", "samples", samples), by
        self.wants_scores = by == "hardest"

    def keep(self, candidates: Candidates) -> np.ndarray:
        order = _hardest_first(candidates) if self.by == "hardest" else _newest_first(candidates)
        _, challenge = np.unique(candidates.challenge_N[order], return_inverse=True)
        by_challenge = np.argsort(challenge, kind="stable")
        counts = np.bincount(challenge)
        place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)  # within its challenge
        kept = np.zeros(len(candidates), bool)
        kept[order[by_challenge[place < self.samples]]] = True
        return kept


def _newest_first(candidates: Candidates) -> np.ndarray:
    """The newest generation first, in each the first made first."""
    return np.lexsort((candidates.row_N, -candidates.generation_N))


def _hardest_first(candidates: Candidates) -> np.ndarray:
    """By Err3D; those without one last, newest first. Ties as by age."""
    order = _newest_first(candidates)
    now = np.nan_to_num(candidates.now_N[order], nan=-np.inf)
    return order[np.argsort(-now, kind="stable")]


def _count(policy: str, option: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise PosesynError(f"the pool policy {policy!r} needs {option} >= 1, got {value!r}")
    return value


def make_policies(policies: Iterable[Mapping[str, Any] | str] | None) -> list[Policy]:
    """A chain of policies, in order.

    Args:
        policies: ``{"name": ..., "options": {...}}`` (options may be left out) or the name alone, as a config has them.

    Raises:
        PosesynError: an entry is something else, or no policy has that name or takes those options.
    """
    return make_all(POLICIES, policies, "pool_policy")


def apply(policies: Sequence[Policy], candidates: Candidates, first: int = 0) -> tuple[np.ndarray, dict[str, int]]:
    """(N,) bool of what all leave, and how many samples each took out, by its number (from ``first``) and name."""
    kept, removed = np.ones(len(candidates), bool), {}
    for number, policy in enumerate(policies, first):
        rows = np.flatnonzero(kept)
        stays = policy.keep(candidates[rows]) if len(rows) else np.zeros(0, bool)
        kept[rows] = stays
        removed[f"{number + 1}/{policy.name}"] = int((~stays).sum())
    return kept, removed
