"""From what was made to a generation of the pool: checks, filter, rows, commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from human.batch import PoseBatch
from human.errors import PosesynError
from human.prediction import Estimator
from synth.checks.base import Check
from synth.filters import Err3DFilter
from synth.jobs import Job
from synth.judging import ERR3D, Found, check, judge
from synth.making import Made
from synth.planning import Clock
from synth.pool import GenerationInfo, Pool
from synth.sample import LABEL_SHAPES, Sample


@dataclass(frozen=True)
class Judging:
    """What decides which samples are kept, and how many are remembered for pictures (``gallery``)."""

    checks: Sequence[Check]
    filter: Err3DFilter
    gallery: int = 24


@dataclass
class TakenIn:
    """A committed generation, and what became of its jobs.

    Attributes:
        failed: jobs that could not be made; ``reason`` the first's.
        found: what the checks found.
        errors: (N,) Err3D of all samples, mm.
        samples, sample_errors, sample_passed: the first of them, kept or not.
    """

    info: GenerationInfo
    failed: int
    reason: str
    found: Found
    errors: np.ndarray
    samples: PoseBatch | None = None
    sample_errors: np.ndarray = field(default_factory=lambda: np.zeros(0))
    sample_passed: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def err3d_mean(self) -> float:
        return float(np.nanmean(self.errors)) if np.isfinite(self.errors).any() else float("nan")


def take_in(
    portions: Iterable[Sequence[Made]],
    judging: Judging,
    estimator: Estimator,
    pool: Pool,
    generation: int,
    *,
    engine: str,
    engine_config: str,
    made_by: str,
    clock: Clock,
    tell: Callable[[int], None] = lambda jobs: None,
    or_next: bool = False,
) -> TakenIn:
    """Judge what was made, a portion at a time, and commit it.

    Of a sample that is not kept, and of a job that failed, the pool gets a row that says where it came from.

    Args:
        engine, engine_config: name of the engine and hash of its configuration.
        made_by: names the synthesiser and its settings.
        tell: told how many jobs are dealt with so far.
        or_next: where the number is taken, commit under the next one that is not.

    Raises:
        PosesynError: every job failed, or the number is taken; nothing is committed.
    """
    intake = _Intake(judging, estimator, clock, {"engine": engine, "engine_config": engine_config}, tell)
    start = time.perf_counter()
    info = pool.commit(generation, intake.rows(portions), made_by, or_next)
    clock.add("commit", time.perf_counter() - start - intake.seconds)
    n, errors = judging.gallery, intake.errors
    return TakenIn(
        info,
        intake.failed,
        intake.reason,
        intake.found,
        np.concatenate(errors) if errors else np.zeros(0, np.float32),
        PoseBatch.cat(intake.kept)[:n] if intake.kept else None,
        np.concatenate(intake.kept_error)[:n] if intake.kept else np.zeros(0),
        np.concatenate(intake.kept_passed)[:n] if intake.kept else np.zeros(0, bool),
    )


class _Intake:
    def __init__(
        self,
        judging: Judging,
        estimator: Estimator,
        clock: Clock,
        engine: dict[str, str],
        tell: Callable[[int], None],
    ) -> None:
        self.judging, self.estimator, self.clock, self.engine, self.tell = judging, estimator, clock, engine, tell
        self.found, self.failed, self.reason = Found(), 0, ""
        self.errors: list[np.ndarray] = []
        self.kept: list[PoseBatch] = []
        self.kept_error: list[np.ndarray] = []
        self.kept_passed: list[np.ndarray] = []
        self.seconds = 0.0  # spent on anything but the commit itself

    def rows(self, portions: Iterable[Sequence[Made]]) -> Iterator[Sample]:
        jobs, whole = 0, iter(portions)
        while True:
            start = time.perf_counter()
            portion = next(whole, None)
            if portion is None:
                break
            samples = self._portion(portion)
            self.seconds += time.perf_counter() - start
            yield from samples
            jobs += len(portion)
            self.tell(jobs)
        if jobs and self.failed == jobs:
            raise PosesynError(f"none of {jobs} jobs could be made; the first: {self.reason}")

    def _portion(self, portion: Sequence[Made]) -> Iterator[Sample]:
        good = [one for one in portion if one.batch is not None]
        lost = [one for one in portion if one.batch is None]
        self.failed += len(lost)
        self.reason = self.reason or (lost[0].error if lost else "")
        if not good:
            return (row for one in lost for row in self._lost(one))
        with self.clock("filter"):
            batch, left = self._check(good)
            error, passed = judge(self.judging.filter, self.estimator, batch, left)
        if self.judging.checks:
            self.found.add(Found({ERR3D: int((left & ~passed).sum())}))
        self.errors.append(error)
        if sum(len(k) for k in self.kept) < self.judging.gallery:
            self.kept.append(batch)
            self.kept_error.append(error)
            self.kept_passed.append(passed)
        return self._samples(portion, batch, error, passed)

    def _check(self, good: Sequence[Made]) -> tuple[PoseBatch, np.ndarray]:
        batch = PoseBatch.cat([one.batch for one in good if one.batch is not None])
        if all(one.left is not None for one in good):  # checked where it was made
            for one in good:
                self.found.add(one.found or Found())
            return batch, np.concatenate([one.left for one in good if one.left is not None])
        batch, left, found = check(self.judging.checks, batch)
        self.found.add(found)
        return batch, left

    def _samples(
        self, portion: Sequence[Made], batch: PoseBatch, error: np.ndarray, passed: np.ndarray
    ) -> Iterator[Sample]:
        row = 0
        for one in portion:
            if one.batch is None:
                yield from self._lost(one)
                continue
            about = _provenance(one.job) | self.engine
            for seed in one.job.kept.seed.tolist():
                said = float(error[row]) if np.isfinite(error[row]) else None
                shown = _shown(batch, row) if passed[row] else {}
                yield Sample(seed=seed, err3d=said, passed=bool(passed[row]), **about, **shown)  # type: ignore[arg-type]
                row += 1

    def _lost(self, one: Made) -> list[Sample]:
        about = _provenance(one.job) | self.engine
        return [Sample(seed=seed, passed=False, **about) for seed in one.job.kept.seed.tolist()]  # type: ignore[arg-type]


def _provenance(job: Job) -> dict[str, object]:
    came = job.provenance
    return {
        "challenge_id": came.challenge_id,
        "challenge_error": came.challenge_error,
        "reference_id": job.reference.id if job.reference is not None else came.place_id,
        "caption": job.prompt.caption,
        "tpe": came.tpe,
    }


def _shown(batch: PoseBatch, row: int) -> dict[str, object]:
    """Picture and labels of a sample that is kept."""
    pixels = batch.image[row].permute(1, 2, 0).contiguous().numpy()
    ok, encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert ok
    return {"image": encoded.tobytes(), **{name: getattr(batch, name)[row] for name in LABEL_SHAPES}}
