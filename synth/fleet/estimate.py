"""How many pictures a day an order's engine would make: a few jobs, timed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from human.errors import PosesynError
from synth.fleet.crew import Crew, Event
from synth.fleet.folder import PlacedOrder


@dataclass(frozen=True)
class Estimate:
    """From ``timed`` jobs on one worker, after one call that warms it up.

    Attributes:
        per_second: pictures of one worker.
        start_seconds: until a worker is ready; first_seconds: its first call.
        device: where it worked.
        gpus: that one worker takes (0: none).
    """

    timed: int
    per_second: float
    start_seconds: float
    first_seconds: float
    device: str
    gpus: float

    @property
    def per_day(self) -> float:
        """Pictures a day on one GPU; without GPUs, of one worker."""
        return self.per_second * 86400 / (self.gpus or 1.0)

    def hours(self, jobs: int, workers: int) -> float:
        """For ``jobs`` on ``workers``."""
        return (jobs / (self.per_second * workers) + self.start_seconds) / 3600


def estimate(placed: PlacedOrder, crew: Crew, calls: int = 3, patience: float = 3600.0) -> Estimate:
    """Time some of the order's jobs on one worker; what it makes is kept.

    Raises:
        PosesynError: the worker cannot work or none of these jobs can be made.
    """
    start = time.monotonic()
    crew.start(0)
    keys = placed.todo() or list(placed.order.keys)
    fitness = _next(crew, patience).fitness
    assert fitness is not None
    ready, took, pictures, first = time.monotonic() - start, 0.0, 0, 0.0
    for call in range(calls + 1):
        at = call * fitness.at_once
        part = keys[at : at + fitness.at_once] or keys[: fitness.at_once]
        crew.give(0, [placed.job_bytes(key) for key in part])
        event = _next(crew, patience)
        errors = [r.error for r in event.results if r.content is None]
        if len(errors) == len(part):
            raise PosesynError(f"none of the jobs tried can be made: {errors[0]}")
        for key, result in zip(part, event.results, strict=True):
            if result.content is not None:
                placed.put(key, result.content)
        if call == 0:
            first = event.seconds
        else:
            took, pictures = took + event.seconds, pictures + len(part) - len(errors)
    return Estimate(pictures, pictures / took, ready, first, fitness.device, crew.gpus)


def _next(crew: Crew, patience: float) -> Event:
    """What the worker does next; :class:`PosesynError` where it cannot work."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        for event in crew.events(1.0):
            if event.kind in ("unfit", "died"):
                raise PosesynError(f"the worker that was to be timed cannot work: {event.text}")
            return event
    raise PosesynError(f"the worker that was to be timed said nothing for {patience:.0f} seconds")
