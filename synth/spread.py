"""Work of a refresh that may be done in several places: a batch scored, a portion of jobs made and judged.

Who does it changes nothing: an item is the same work with the same inputs wherever it is done, and what comes of the
items is told in their order. So a refresh spread over ranks is the refresh of one rank, row for row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: Names of the tasks, by which other places know what to do with an item.
SCORE, PREDICT, MAKE = "score", "predict", "make"
#: Challenges scored again by what was trained on them.
SCORE_AGAIN = "score again"


class Spread(ABC):
    """Does ``work`` on every item, here or where the task of that name is known to be the same; in order, lazily.

    Attributes:
        places: so many items are worked on at a time.
    """

    places: int = 1

    @abstractmethod
    def __call__(self, task: str, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]: ...


class Here(Spread):
    """All of it in this process."""

    def __call__(self, task: str, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        return map(work, items)


HERE = Here()
