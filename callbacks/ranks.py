"""A refresh spread over the ranks of a run: rank 0 leads, the others do what it hands them, and all end it together.

Rank 0 runs the refresh as it would alone. Where there is work that may be done in several places (:mod:`synth.spread`)
it takes as many items as there are ranks, gives each rank one, and gathers what came of them; so it never holds more
than one round of pictures. An error on any rank reaches rank 0 with that rank's number, and what rank 0 makes of it
reaches all.

All of it goes through a group of its own on the CPU (gloo): it needs no memory of the accelerator, and a rank that is
killed closes its connections, which the others notice at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import lightning as L
import torch.distributed as dist

from human.errors import PosesynError
from synth.spread import Here, Spread

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
#: How long a rank waits for one that lives but says nothing, where the strategy names no time.
PATIENCE = timedelta(minutes=30)


class RankLostError(RuntimeError):
    """The ranks cannot go on together: the run ends."""


@dataclass(frozen=True)
class _Order:
    """What rank 0 says: an item of a task; nothing to do this round (``task`` None); or that it is over, and how."""

    task: str | None = None
    item: Any = None
    over: bool = False
    error: str = ""


@dataclass(frozen=True)
class _Outcome:
    """What became of an item. ``expected``: an error that a refresh may end with, and training goes on."""

    value: Any = None
    error: str | None = None
    expected: bool = True


class Ranks(Spread):
    """The ranks of a run; to be made on all of them together.

    Args:
        patience: how long to wait for a rank that lives but says nothing.
    """

    def __init__(self, patience: timedelta = PATIENCE) -> None:
        self.rank, self.places = dist.get_rank(), dist.get_world_size()
        self.group = dist.new_group(backend="gloo", timeout=patience)

    @classmethod
    def of(cls, trainer: L.Trainer) -> Ranks:
        """Waiting as long as the trainer's strategy does."""
        patience = getattr(trainer.strategy, "_timeout", None)
        return cls(patience if isinstance(patience, timedelta) else PATIENCE)

    def __reduce__(self) -> tuple[type[Here], tuple[()]]:
        return Here, ()  # a process that is no rank has no others to work for it

    # -- rank 0 ------------------------------------------------------------------------------------------------------
    @contextmanager
    def leading(self) -> Iterator[None]:
        """Around what rank 0 does while the others :meth:`serve`; an error that leaves it ends the run on all."""
        try:
            yield
        except BaseException as error:
            with suppress(RankLostError):
                self._tell([_Order(over=True, error=str(error) or type(error).__name__)] * self.places)
            raise
        self._tell([_Order(over=True)] * self.places)

    def __call__(self, task: str, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """A round at a time.

        Raises:
            PosesynError: one that a rank met, with its number.
            RankLostError: a rank met another error, or is gone.
        """
        left = iter(items)
        while chosen := list(islice(left, self.places)):
            orders = [_Order(task, item) for item in chosen] + [_Order()] * (self.places - len(chosen))
            self._tell(orders)
            said = self._gather(_attempt(work, orders[0].item))
            assert said is not None
            for rank, outcome in enumerate(said):
                if outcome.error is not None:
                    kind = PosesynError if outcome.expected else RankLostError
                    raise kind(f"rank {rank}: {outcome.error}")
            yield from (outcome.value for outcome in said[: len(chosen)])

    # -- the others --------------------------------------------------------------------------------------------------
    def serve(self, tasks: Mapping[str, Callable[[Any], Any]]) -> None:
        """Do what rank 0 hands out until it says that it is over.

        Raises:
            PosesynError: rank 0 met an error that ends the run.
        """
        while not (order := self._tell(None)).over:
            self._gather(_Outcome() if order.task is None else _attempt(tasks[order.task], order.item))
        if order.error:
            raise PosesynError(f"rank 0 ended the run: {order.error}")

    # -- between them ------------------------------------------------------------------------------------------------
    def _tell(self, orders: list[_Order] | None) -> _Order:
        mine: list[Any] = [None]
        with _together():
            dist.scatter_object_list(mine, orders, src=0, group=self.group)
        return mine[0]

    def _gather(self, outcome: _Outcome) -> list[_Outcome] | None:
        said: list[Any] | None = [None] * self.places if self.rank == 0 else None
        with _together():
            dist.gather_object(outcome, said, dst=0, group=self.group)
        return said


def _attempt(work: Callable[[Any], Any], item: Any) -> _Outcome:
    try:
        return _Outcome(work(item))
    except (PosesynError, OSError) as error:
        return _Outcome(error=str(error))
    except Exception as error:
        log.exception("a part of the refresh failed on this rank")
        return _Outcome(error=f"{type(error).__name__}: {error}", expected=False)


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what torch.distributed's errors are
        raise RankLostError(
            "a rank of this run is gone or stuck, so the run ends: start it again from its last checkpoint "
            f"({str(error).splitlines()[0]})"
        ) from error
