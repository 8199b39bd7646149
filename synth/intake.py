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


@dataclass(frozen=True)
class Judged:
    """A portion of jobs after the checks and the filter, without the jobs: it can be sent.

    Attributes:
        batch: samples of the jobs that could be made, labels put right; None where there are none.
        errors: (N,) their Err3D, mm; ``passed`` (N,) which are kept.
        lost: why the others could not be made, by their place in the portion.
        found: what the checks, and the filter beside checks, took out.
        seconds: spent here, by stage.
    """

    batch: PoseBatch | None
    errors: np.ndarray
    passed: np.ndarray
    lost: dict[int, str]
    found: Found
    seconds: dict[str, float] = field(default_factory=dict)


def judge_portion(portion: Sequence[Made], judging: Judging, estimator: Estimator) -> Judged:
    """Checks and filter of what was made; which samples are judged together is the portion's say alone."""
    lost = {number: one.error for number, one in enumerate(portion) if one.batch is None}
    good = [one for one in portion if one.batch is not None]
    if not good:
        return Judged(None, np.zeros(0, np.float32), np.zeros(0, bool), lost, Found())
    clock = Clock()
    with clock("filter"):
        batch, left, found = _check(judging.checks, good)
        errors, passed = judge(judging.filter, estimator, batch, left)
    if judging.checks:
        found.add(Found({ERR3D: int((left & ~passed).sum())}))
    return Judged(batch, errors, passed, lost, found, clock.seconds)


def _check(checks: Sequence[Check], good: Sequence[Made]) -> tuple[PoseBatch, np.ndarray, Found]:
    batch = PoseBatch.cat([one.batch for one in good if one.batch is not None])
    if not all(one.left is not None for one in good):
        return check(checks, batch)
    found = Found()  # checked where it was made
    for one in good:
        found.add(one.found or Found())
    return batch, np.concatenate([one.left for one in good if one.left is not None]), found


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
    """Judge what was made, a portion at a time, and commit it: :func:`take_judged`."""
    judged = (([one.job for one in portion], judge_portion(portion, judging, estimator)) for portion in portions)
    return take_judged(
        judged,
        pool,
        generation,
        engine=engine,
        engine_config=engine_config,
        made_by=made_by,
        clock=clock,
        gallery=judging.gallery,
        tell=tell,
        or_next=or_next,
    )


def take_judged(
    portions: Iterable[tuple[Sequence[Job], Judged]],
    pool: Pool,
    generation: int,
    *,
    engine: str,
    engine_config: str,
    made_by: str,
    clock: Clock,
    places: int = 1,
    gallery: int = 24,
    tell: Callable[[int], None] = lambda jobs: None,
    or_next: bool = False,
) -> TakenIn:
    """Commit what was made and judged.

    Of a sample that is not kept, and of a job that failed, the pool gets a row that says where it came from.

    Args:
        engine, engine_config: name of the engine and hash of its configuration.
        made_by: names the synthesiser and its settings.
        places: so many portions were made at a time; ``clock`` is told of the time that it took all of them together.
        gallery: so many samples are remembered for pictures.
        tell: told how many jobs are dealt with so far.
        or_next: where the number is taken, commit under the next one that is not.

    Raises:
        PosesynError: every job failed, or the number is taken; nothing is committed.
    """
    intake = _Intake(gallery, clock, places, {"engine": engine, "engine_config": engine_config}, tell)
    start = time.perf_counter()
    info = pool.commit(generation, intake.rows(portions), made_by, or_next)
    clock.add("commit", time.perf_counter() - start - intake.seconds)
    n, errors = gallery, intake.errors
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
        self, gallery: int, clock: Clock, places: int, engine: dict[str, str], tell: Callable[[int], None]
    ) -> None:
        self.gallery, self.clock, self.places, self.engine, self.tell = gallery, clock, places, engine, tell
        self.found, self.failed, self.reason = Found(), 0, ""
        self.errors: list[np.ndarray] = []
        self.kept: list[PoseBatch] = []
        self.kept_error: list[np.ndarray] = []
        self.kept_passed: list[np.ndarray] = []
        self.seconds = 0.0  # spent on anything but the commit itself

    def rows(self, portions: Iterable[tuple[Sequence[Job], Judged]]) -> Iterator[Sample]:
        done, whole = 0, iter(portions)
        while True:
            start = time.perf_counter()
            portion = next(whole, None)
            if portion is None:
                break
            jobs, judged = portion
            self._note(judged)
            self.seconds += time.perf_counter() - start
            yield from self._samples(jobs, judged)
            done += len(jobs)
            self.tell(done)
        if done and self.failed == done:
            raise PosesynError(f"none of {done} jobs could be made; the first: {self.reason}")

    def _note(self, judged: Judged) -> None:
        self.failed += len(judged.lost)
        self.reason = self.reason or next(iter(judged.lost.values()), "")
        self.found.add(judged.found)
        for stage, seconds in judged.seconds.items():
            self.clock.add(stage, seconds / self.places)
        if judged.batch is None:
            return
        self.errors.append(judged.errors)
        if sum(len(k) for k in self.kept) < self.gallery:
            self.kept.append(judged.batch)
            self.kept_error.append(judged.errors)
            self.kept_passed.append(judged.passed)

    def _samples(self, jobs: Sequence[Job], judged: Judged) -> Iterator[Sample]:
        row = 0
        for number, job in enumerate(jobs):
            about = _provenance(job) | self.engine
            for seed in job.kept.seed.tolist():
                if number in judged.lost:
                    yield Sample(seed=seed, passed=False, **about)  # type: ignore[arg-type]
                    continue
                assert judged.batch is not None
                error, passed = judged.errors[row], bool(judged.passed[row])
                said = float(error) if np.isfinite(error) else None
                shown = _shown(judged.batch, row) if passed else {}
                yield Sample(seed=seed, err3d=said, passed=passed, **about, **shown)  # type: ignore[arg-type]
                row += 1


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
