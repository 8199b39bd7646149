"""Workers as actors of a Ray cluster: one per GPU, several on one for light engines, or on CPU cores."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from typing import Any

from human.errors import PosesynError
from synth.fleet.crew import Crew, Event
from synth.fleet.folder import EngineSpec
from synth.fleet.worker import Worker, timed, use_threads


class RayCrew(Crew):
    """Actors.

    Args:
        spec: what they make and how.
        workers: how many; 0: as many as the cluster has room for now.
        gpus, cpus: that each takes; a share of a GPU lets several actors sit on one. None: one, where there are any.
        threads: of torch in each.
        address: of the cluster; "auto": the one that this machine belongs to; "local": one on this machine, which ends
            with this process.

    Raises:
        PosesynError: Ray is not installed, no cluster is there, or it has no room for a single worker.
    """

    def __init__(
        self,
        spec: EngineSpec,
        workers: int = 0,
        gpus: float | None = None,
        cpus: float = 1.0,
        threads: int = 1,
        address: str = "auto",
    ) -> None:
        ray = self._ray = _import_ray()
        self.actors: dict[int, Any] = {}
        self._awaited: dict[Any, int] = {}  # answers, and whose
        self.spec, self.threads = spec, threads
        self._own = not ray.is_initialized()
        if self._own:
            quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": True, "logging_level": logging.ERROR}
            try:
                if address == "local":
                    local = {"num_cpus": max(math.ceil(workers * cpus), 1), "include_dashboard": False}
                    ray.init(address="local", object_store_memory=256 * 2**20, **local, **quiet)
                else:
                    ray.init(address=address, **quiet)
            except ConnectionError as error:
                raise PosesynError(f"no Ray cluster at {address!r}: start one with `ray start --head`") from error
            except Exception as error:  # Ray says in a bare Exception that this machine was too slow to start a node
                raise PosesynError(f"Ray cannot be started ({address!r}): {error}") from error
        room = ray.cluster_resources()
        gpus = float(room.get("GPU", 0) >= 1) if gpus is None else gpus
        self.gpus = gpus
        fits = min([room.get("CPU", 0) / cpus if cpus else 1e9, room.get("GPU", 0) / gpus if gpus else 1e9])
        self.size = workers or int(fits)
        if self.size < 1 or self.size > fits:
            self.close()
            raise PosesynError(
                f"the Ray cluster has room for {int(fits)} workers of {cpus} CPUs and {gpus} GPUs "
                f"({room.get('CPU', 0):g} and {room.get('GPU', 0):g} in all), asked for {self.size}"
            )
        self._kind = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_Actor)

    def start(self, worker: int) -> None:
        self._end(worker)
        self.actors[worker] = self._kind.remote(self.spec, self.threads)
        self._awaited[self.actors[worker].start.remote()] = worker

    def give(self, worker: int, jobs: Sequence[bytes]) -> None:
        self._awaited[self.actors[worker].make.remote(list(jobs))] = worker

    def events(self, seconds: float) -> list[Event]:
        if not self._awaited:
            return []
        waiting = list(self._awaited)
        done, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds)
        if done:  # whatever else is ready
            done, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        out = []
        for ref in done:
            number = self._awaited.pop(ref)
            try:
                out.append(Event(number, **self._ray.get(ref)))
            except self._ray.exceptions.RayError as error:
                self.actors.pop(number, None)
                out.append(Event(number, "died", text=f"{type(error).__name__}: {str(error)[:500]}"))
        return out

    def close(self) -> None:
        for number in list(self.actors):
            self._end(number)
        if self._own and self._ray.is_initialized():
            self._ray.shutdown()

    def _end(self, worker: int) -> None:
        actor = self.actors.pop(worker, None)
        if actor is not None:
            self._awaited = {ref: number for ref, number in self._awaited.items() if number != worker}
            self._ray.kill(actor)


class _Actor:
    """A worker; what it says are the fields of :class:`synth.fleet.crew.Event`."""

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        self.spec, self.threads = spec, threads
        self.worker: Worker | None = None

    def start(self) -> dict[str, Any]:
        try:
            use_threads(self.threads)
            self.worker = Worker(self.spec)
        except PosesynError as error:
            return {"kind": "unfit", "text": str(error)}
        return {"kind": "ready", "fitness": self.worker.fitness()}

    def make(self, jobs: list[bytes]) -> dict[str, Any]:
        assert self.worker is not None
        return {"kind": "made", **timed(self.worker, jobs)}


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody without being asked
    try:
        import ray
    except ImportError as error:
        raise PosesynError("a Ray cluster needs Ray: pip install 'posesyn[fleet]'") from error
    return ray
