"""What one worker of a fleet does: build an engine once, then make jobs and check what came of them."""

from __future__ import annotations

import resource
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

from human.errors import PosesynError
from synth.checks import make_checks
from synth.engines.build import make_image_engine
from synth.fleet.folder import EngineSpec, pack_result
from synth.jobs import Job
from synth.judging import check
from synth.making import Made, make_jobs


@dataclass(frozen=True)
class Result:
    """A job's result as :func:`synth.fleet.folder.pack_result` wrote it; or why there is none."""

    content: bytes | None
    error: str = ""


@dataclass(frozen=True)
class Fitness:
    """What a worker says when it is ready: jobs it takes at once, and where it works."""

    at_once: int
    device: str


class Worker:
    """Makes jobs.

    Args:
        spec: engine and checks.

    Raises:
        PosesynError: the engine cannot be built here, or is not the one that the jobs are for.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.engine = make_image_engine(spec.engine, spec.size, spec.backgrounds, spec.options)
        self.checks = make_checks(spec.checks)
        if self.engine.wants_estimator:
            raise PosesynError(
                f"the engine {spec.engine!r} looks at the estimator that is trained, which a fleet does not have: "
                "refresh in mode inline or background"
            )
        if spec.config_hash and self.engine.config_hash() != spec.config_hash:
            raise PosesynError(
                f"the engine {spec.engine!r} that is built here is not the one that the jobs are for (another version "
                "of posesyn, or other files): install the same everywhere, and order the jobs anew"
            )

    def fitness(self) -> Fitness:
        cuda = torch.cuda.is_available()
        return Fitness(max(self.engine.at_once, 1), torch.cuda.get_device_name() if cuda else "cpu")

    def make(self, jobs: Sequence[bytes]) -> list[Result]:
        """One result per job, in order; a job that cannot be made or read never stops the others."""
        loaded = [_load(content) for content in jobs]
        good = [job for job in loaded if isinstance(job, Job)]
        try:
            made = iter(list(make_jobs(self.engine, good)))
        except Exception:  # a bug in an engine must not look like a worker's death
            said = traceback.format_exc(limit=-3)
            made = iter([Made(job, None, said) for job in good])
        return [Result(None, job) if isinstance(job, str) else self._result(next(made)) for job in loaded]

    def usage(self) -> dict[str, float]:
        """Peak memory, MB."""
        out = {"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        if torch.cuda.is_available():
            out["gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
        return out

    def _result(self, made: Made) -> Result:
        if made.batch is None:
            return Result(None, made.error)
        try:
            return Result(pack_result(*check(self.checks, made.batch)))
        except Exception:
            return Result(None, f"a check failed: {traceback.format_exc(limit=-3)}")


def _load(content: bytes) -> Job | str:
    """The job; or what is wrong with it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job"
        path.write_bytes(content)
        try:
            return Job.load(path)
        except PosesynError as error:
            return str(error)


def use_threads(threads: int) -> None:
    """Torch and OpenCV of this whole process: workers side by side must not all ask for every core."""
    torch.set_num_threads(max(threads, 1))
    cv2.setNumThreads(max(threads, 1))


def timed(worker: Worker, jobs: Sequence[bytes]) -> dict[str, Any]:
    """``results``, the ``seconds`` they took, and the worker's ``usage``."""
    start = time.perf_counter()
    results = worker.make(jobs)
    return {"results": results, "seconds": time.perf_counter() - start, "usage": worker.usage()}
