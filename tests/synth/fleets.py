"""Orders of cheap jobs, workers in this very process, and what a killed driver runs."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from synth.engines.build import make_image_engine
from synth.fleet.crew import Crew, Event
from synth.fleet.driver import Fleet, drive, make_crew
from synth.fleet.folder import EngineSpec, JobFolder, Order, PlacedOrder
from synth.fleet.worker import Worker, timed
from synth.jobs import Job, Prompt, Provenance
from synth.scene import sample_scene

SIZE = 64
OPTIONS = {"supersample": 1}


def make_jobs(count: int) -> list[Job]:
    scene = sample_scene(range(count), load_motion_bank(), load_body("free"), SIZE)
    about = [Provenance(f"people/{i}", float(i), "tpe") for i in range(count)]
    return [Job(scene[i : i + 1], i, prompt=Prompt(f"job {i}"), provenance=about[i]) for i in range(count)]


def spec_of(**changes: Any) -> EngineSpec:
    engine = make_image_engine("rendered", SIZE, "procedural", OPTIONS)
    given = {"size": SIZE, "backgrounds": "procedural", "options": OPTIONS, "config_hash": engine.config_hash()}
    return EngineSpec("rendered", **{**given, **changes})


def place(folder: Path, count: int, **changes: Any) -> PlacedOrder:
    jobs = make_jobs(count)
    order = Order.of(spec_of(**changes), jobs, tpe="tpe", made_by="test")
    return JobFolder(folder).submit(order, jobs)


class InlineCrew(Crew):
    """Workers that work when asked what happened; one dies instead where ``dies(worker, jobs)`` says so.

    ``at_once``: fewer jobs than the engine takes, so that there is something to hand out.
    """

    def __init__(
        self, spec: EngineSpec, size: int, dies: Callable[[int, int], bool] = lambda w, n: False, at_once: int = 2
    ) -> None:
        self.spec, self.size, self.dies, self.at_once = spec, size, dies, at_once
        self.workers: dict[int, Worker] = {}
        self.news: deque[Event] = deque()
        self.starts = self.given = 0

    def start(self, worker: int) -> None:
        self.starts += 1
        try:
            self.workers[worker] = Worker(self.spec)
        except PosesynError as error:
            self.news.append(Event(worker, "unfit", text=str(error)))
            return
        self.workers[worker].engine.at_once = self.at_once
        self.news.append(Event(worker, "ready", fitness=self.workers[worker].fitness()))

    def give(self, worker: int, jobs: Sequence[bytes]) -> None:
        self.given += 1
        if self.dies(worker, self.given):
            self.news.append(Event(worker, "died", text="killed"))
            return
        self.news.append(Event(worker, "made", **timed(self.workers[worker], jobs)))

    def events(self, seconds: float) -> list[Event]:
        return [self.news.popleft()] if self.news else []

    def close(self) -> None:
        self.workers.clear()


def main() -> None:
    """``python -m tests.synth.fleets FOLDER WORKERS RAY``: drives FOLDER's order; says "half" when half of it is
    made, and then waits to be killed.
    """
    (placed,) = JobFolder(sys.argv[1]).orders()
    fleet = Fleet(workers=int(sys.argv[2]), ray=sys.argv[3] if len(sys.argv) > 3 else None)
    half = len(placed.order.keys) // 2

    def tell(status: Any) -> None:
        if status.made >= half:
            print("half", os.getpid(), flush=True)
            time.sleep(600)

    crew = make_crew(fleet, placed)
    with JobFolder(sys.argv[1]).driving():
        drive(placed, crew, fleet, tell)


if __name__ == "__main__":
    main()
