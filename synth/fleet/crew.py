"""Workers as processes of this machine. :mod:`synth.fleet.ray_crew` has them as actors of a Ray cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from human.errors import PosesynError
from synth.fleet.folder import EngineSpec
from synth.fleet.worker import Fitness, Result, Worker, timed, use_threads


@dataclass(frozen=True)
class Event:
    """Something a worker did.

    Attributes:
        kind: "ready" (it may be given jobs), "made" (it may be given more), "unfit" (it cannot work: no use in starting
            it again), "died".
        text: why, for the last two.
    """

    worker: int
    kind: Literal["ready", "made", "unfit", "died"]
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    usage: dict[str, float] = field(default_factory=dict)
    fitness: Fitness | None = None
    text: str = ""


class Crew(ABC):
    """A fixed number of workers, each idle, busy or dead."""

    size: int
    gpus: float = 0.0  # of one worker, for the cost

    @abstractmethod
    def start(self, worker: int) -> None:
        """Start worker ``worker``, or start it again; it says "ready", "unfit" or "died"."""

    @abstractmethod
    def give(self, worker: int, jobs: Sequence[bytes]) -> None:
        """Jobs for a worker that is ready; it says "made" or "died"."""

    @abstractmethod
    def events(self, seconds: float) -> list[Event]:
        """What happened, waiting for at most ``seconds`` until something does."""

    @abstractmethod
    def close(self) -> None:
        """End all workers; what they hold in their hands is lost."""


class LocalCrew(Crew):
    """Processes of this machine.

    Args:
        spec: what they make and how.
        workers: how many. Where there are GPUs they take turns on them.
        threads: of each.
    """

    def __init__(self, spec: EngineSpec, workers: int = 1, threads: int = 1) -> None:
        self.spec, self.size, self.threads = spec, workers, threads
        # Warp and Lance do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[int, tuple[Any, Connection]] = {}

    def pids(self) -> dict[int, int]:
        return {number: process.pid for number, (process, _) in self._workers.items()}

    def start(self, worker: int) -> None:
        self._end(worker)
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self.spec, self.threads, worker), daemon=True, name=f"posesyn worker {worker}"
        )
        process.start()
        theirs.close()
        self._workers[worker] = (process, ours)

    def give(self, worker: int, jobs: Sequence[bytes]) -> None:
        with contextlib.suppress(OSError):  # it died just now: its pipe says so next
            self._workers[worker][1].send(list(jobs))

    def events(self, seconds: float) -> list[Event]:
        pipes = {pipe: number for number, (_, pipe) in self._workers.items()}
        if not pipes:
            return []
        out = []
        ready: Any = wait(list(pipes), seconds)
        for pipe in ready:
            number = pipes[pipe]
            try:
                out.append(Event(number, **pipe.recv()))
            except (EOFError, OSError):
                process = self._workers[number][0]
                process.join(5)
                self._end(number)
                out.append(Event(number, "died", text=f"the process ended with {process.exitcode}"))
        return out

    def close(self) -> None:
        for number in list(self._workers):
            self._end(number)

    def _end(self, worker: int) -> None:
        found = self._workers.pop(worker, None)
        if found is not None:
            process, pipe = found
            pipe.close()
            process.kill()
            process.join(5)


def _work(pipe: Connection, spec: EngineSpec, threads: int, number: int) -> None:
    """A worker's life. It ends with its pipe, and so with the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the driver, which ends us
    with contextlib.suppress(OSError, EOFError):
        try:
            use_threads(threads)
            _take_a_gpu(number)
            worker = Worker(spec)
        except PosesynError as error:
            pipe.send({"kind": "unfit", "text": str(error)})
            return
        pipe.send({"kind": "ready", "fitness": worker.fitness()})
        while True:
            pipe.send({"kind": "made", **timed(worker, pipe.recv())})


def _take_a_gpu(number: int) -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
