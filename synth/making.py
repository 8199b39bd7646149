"""Jobs made by an engine, a few at a time; one that fails is told of, and stops nobody else's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from human.batch import PoseBatch
from human.errors import PosesynError
from human.interruption import safe_point
from synth.engines.base import ImageEngine
from synth.jobs import Job
from synth.judging import Found
from synth.within_memory import out_of_memory

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """A job and its samples, or why there are none.

    Where the checks ran already (in a fleet): ``left``, which samples they let pass, and what they found.
    """

    job: Job
    batch: PoseBatch | None
    error: str = ""
    left: np.ndarray | None = None
    found: Found | None = None


def make_jobs(
    engine: ImageEngine, jobs: Sequence[Job], make: Callable[[Sequence[Job]], list[PoseBatch]] | None = None
) -> Iterator[Made]:
    """Every job in order, ``engine.at_once`` together.

    Where one of several cannot be made (:class:`PosesynError`, or memory ran out) each is tried by itself.
    """
    make = make or engine.make
    for start in range(0, len(jobs), max(engine.at_once, 1)):
        safe_point()
        group = list(jobs[start : start + max(engine.at_once, 1)])
        made = _try(engine, group, make)
        if len(group) > 1 and made[0].batch is None:
            made = [one for job in group for one in _try(engine, [job], make)]
        for one in made:
            if one.batch is None:
                _log.warning("a job was dropped (seed %d): %s", one.job.seed, one.error)
        yield from made


def _try(engine: ImageEngine, jobs: list[Job], make: Callable[[Sequence[Job]], list[PoseBatch]]) -> list[Made]:
    try:
        batches = make(jobs)
    except PosesynError as error:
        return [Made(job, None, str(error)) for job in jobs]
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        engine.release()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        said = (str(error) or "no room").splitlines()[0]
        return [Made(job, None, f"out of memory: {said}") for job in jobs]
    return [Made(job, batch) for job, batch in zip(jobs, batches, strict=True)]
