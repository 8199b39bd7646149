"""The driver of a fleet: hands out jobs, keeps what comes back, starts workers again that died."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

from human.errors import PosesynError
from synth.fleet.crew import Crew, Event
from synth.fleet.folder import PlacedOrder

_log = logging.getLogger(__name__)
_DEATHS_IN_A_ROW = 3  # of one worker, without a result in between


@dataclass
class Fleet:
    """How jobs are made by many processes.

    Args:
        jobs: the job folder; default: ``jobs`` in the run folder.
        workers: processes or actors; 0: one per GPU, and where there is none a single one (on a Ray cluster: as many as
            have room).
        ray: None: processes of this machine. "local", "auto" or an address: actors of a Ray cluster.
        gpus, cpus: that a Ray actor takes; a share of a GPU lets several sit on one. None: one GPU where the cluster
            has any.
        threads: of torch in each worker, for work on the CPU.
        retries: a job that failed more often than this is parked with its error.
        price: of a GPU hour (without GPUs: of a worker's), in any currency.
        launch: the refresh callback starts the fleet itself, and ends it with the run; False: somebody runs
            ``posesyn synth --jobs FOLDER --wait true``.
        backlog: orders of the refresh callback that may wait; while as many do, no new one is made.
    """

    jobs: str | None = None
    workers: int = 0
    ray: str | None = None
    gpus: float | None = None
    cpus: float = 1.0
    threads: int = 1
    retries: int = 2
    price: float = 0.0
    launch: bool = True
    backlog: int = 2

    def __post_init__(self) -> None:
        least = {"workers": 0, "cpus": 0, "threads": 1, "retries": 0, "price": 0, "backlog": 1, "gpus": 0}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and not given >= value:
                raise PosesynError(f"fleet.{name}={given}: give {value} or more")


@dataclass
class Status:
    """How far an order is.

    ``made`` and ``parked`` jobs of ``total``; of this run of the driver: ``made_here``, failed attempts, deaths of
    workers, and ``working`` seconds since the first worker was ready.
    """

    total: int
    made: int = 0
    parked: int = 0
    workers: int = 0
    made_here: int = 0
    failures: int = 0
    deaths: int = 0
    working: float = 0.0
    hourly: float = 0.0  # what all workers cost an hour

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return self.made_here / self.working if self.working else 0.0

    @property
    def seconds_left(self) -> float | None:
        left = self.total - self.made - self.parked
        return left / self.rate if self.rate else (0.0 if not left else None)

    @property
    def cost(self) -> float:
        """Of this run of the driver."""
        return self.hourly * self.working / 3600

    def summary(self) -> dict[str, float | int]:
        """Plain numbers, for a log."""
        return {k: round(v, 3) for k, v in {**asdict(self), "rate": self.rate, "cost": self.cost}.items()}


def make_crew(fleet: Fleet, placed: PlacedOrder, workers: int | None = None) -> Crew:
    """The workers that an order's jobs are for."""
    spec, count = placed.order.spec, fleet.workers if workers is None else workers
    if fleet.ray is not None:
        from synth.fleet.ray_crew import RayCrew

        return RayCrew(spec, count, fleet.gpus, fleet.cpus, fleet.threads, fleet.ray)
    from synth.fleet.crew import LocalCrew

    return LocalCrew(spec, count or max(_gpus(), 1), fleet.threads)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def drive(
    placed: PlacedOrder,
    crew: Crew,
    fleet: Fleet,
    tell: Callable[[Status], None] = lambda status: None,
    stop: Callable[[], bool] = lambda: False,
) -> Status:
    """Make every job of an order that is neither made nor parked. Ends early when ``stop()``.

    Raises:
        PosesynError: no worker can work, or all keep dying; what was made stays.
    """
    return Drive(placed, crew, fleet, tell).run(stop)


class Drive:
    """One run of the driver; ``hands``: the keys that each busy worker holds."""

    def __init__(self, placed: PlacedOrder, crew: Crew, fleet: Fleet, tell: Callable[[Status], None]) -> None:
        self.placed, self.crew, self.fleet, self.tell = placed, crew, fleet, tell
        failed = placed.failures()
        self.queue = deque(placed.todo())
        self.alone = set(failed)  # who failed once is given by itself, so that nobody fails along with it
        self.hands: dict[int, list[str]] = {}
        self.idle: set[int] = set()
        self.at_once: dict[int, int] = {}
        self.gone: dict[int, str] = {}
        self.deaths: dict[int, int] = {}
        total = len(set(placed.order.keys))
        parked = sum(entry["parked"] for entry in failed.values())
        self.status = Status(total, total - parked - len(self.queue), parked)
        self.status.hourly = fleet.price * crew.size * (crew.gpus or 1.0)
        self.ready_at: float | None = None

    def run(self, stop: Callable[[], bool]) -> Status:
        self.tell(self.status)
        if not self.queue:
            return self.status
        started = min(self.crew.size, len(self.queue))
        for worker in range(started):
            self.crew.start(worker)
        while (self.queue or self.hands) and not stop():
            self.hand_out()
            self.tell(self.status)
            for event in self.crew.events(0.5):
                self.take(event)
            if self.ready_at is not None:
                self.status.working = time.monotonic() - self.ready_at
            self.status.workers = len(self.idle) + len(self.hands)
            self.tell(self.status)
            if len(self.gone) == started and self.queue:
                self.give_up()
        return self.status

    def hand_out(self) -> None:
        for worker in sorted(self.idle):
            if not self.queue:
                return
            share = -(-len(self.queue) // len(self.idle))
            keys = [self.queue.popleft()]
            while len(keys) < min(self.at_once[worker], share) and self.queue and keys[0] not in self.alone:
                if self.queue[0] in self.alone:
                    break
                keys.append(self.queue.popleft())
            self.idle.discard(worker)
            self.hands[worker] = keys
            self.crew.give(worker, [self.placed.job_bytes(key) for key in keys])

    def take(self, event: Event) -> None:
        keys = self.hands.pop(event.worker, [])
        if event.kind == "ready":
            assert event.fitness is not None
            self.at_once[event.worker] = event.fitness.at_once
            self.ready_at = self.ready_at or time.monotonic()
            self.idle.add(event.worker)
        elif event.kind == "made":
            self.deaths[event.worker] = 0
            self.idle.add(event.worker)
            for key, result in zip(keys, event.results, strict=True):
                if result.content is None:
                    self.lose(key, result.error)
                else:
                    self.placed.put(key, result.content)
                    self.status.made += 1
                    self.status.made_here += 1
        elif event.kind == "unfit":
            self.gone[event.worker] = event.text
        else:
            self.idle.discard(event.worker)
            self.bury(event, keys)

    def bury(self, event: Event, keys: list[str]) -> None:
        """Start a dead worker again, unless it keeps dying; its jobs are somebody else's."""
        self.status.deaths += 1
        _log.warning("worker %d died (%s); %d jobs go back", event.worker, event.text, len(keys))
        for key in keys:
            self.lose(key, f"its worker died: {event.text}")
        self.deaths[event.worker] = self.deaths.get(event.worker, 0) + 1
        if self.deaths[event.worker] >= _DEATHS_IN_A_ROW:
            self.gone[event.worker] = event.text
        else:
            self.crew.start(event.worker)

    def lose(self, key: str, error: str) -> None:
        self.status.failures += 1
        if self.placed.fail(key, error, self.fleet.retries):
            self.status.parked += 1
            _log.error("the job %s is parked: %s", key[:16], error.strip().splitlines()[-1] if error else "")
        else:
            self.alone.add(key)
            self.queue.append(key)

    def give_up(self) -> None:
        said = next(iter(self.gone.values()))
        raise PosesynError(f"no worker is left to make {len(self.queue)} jobs of {self.placed.path}: {said}")
