"""One refresh: mine, plan, make, check, filter, commit a generation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from human.batch import PoseBatch
from human.body import BodyModel, load_body
from human.errors import PosesynError
from human.prediction import Estimator, module_of
from human.rng import generator
from synth.checks.base import Check
from synth.eem import EEM, Mined, MiningData
from synth.engines.base import ImageEngine
from synth.filters import Err3DFilter
from synth.intake import Judged, Judging, TakenIn, judge_portion, take_judged
from synth.jobs import Job
from synth.making import make_jobs
from synth.planning import Clock, Plan, Planner, slot_seed
from synth.pool import GenerationInfo, Pool
from synth.scene import SceneConfig
from synth.spread import HERE, MAKE, Spread
from synth.synthesis import Film, Synthesiser, Variation
from synth.variation import VariationConfig

__all__ = ["Progress", "Refreshed", "Refresher", "slot_seed"]

# Told (stage, done, total) as the refresh goes on.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did; ``samples`` are the first ones, at most ``gallery`` of them, for pictures; ``report`` and
    ``films`` are the synthesiser's. ``failed`` jobs could not be made; ``checks`` says what each check, and then the
    filter, removed and measured; it is empty without checks. ``number``: of the refresh in its run, where that is not
    the latest.
    """

    info: GenerationInfo | None
    mined: Mined
    challenge_error: float
    err3d_mean: float
    fit_mean: float
    seconds: dict[str, float]
    samples: PoseBatch | None = None
    sample_errors: np.ndarray = field(default_factory=lambda: np.zeros(0))
    sample_passed: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    report: dict[str, float | int] = field(default_factory=dict)
    films: tuple[Film, ...] = ()
    failed: int = 0
    checks: dict[str, int | float] = field(default_factory=dict)
    number: int | None = None

    @property
    def pass_rate(self) -> float:
        return self.info.passed / self.info.count if self.info and self.info.count else float("nan")


@dataclass
class Refresher:
    """The parts of a refresh and their settings.

    Args:
        engine: the image engine, of any kind.
        samples: synthetic samples to make (before the filter), shared evenly by the challenges.
        eem, variation, filter: settings of the parts.
        checks: of pictures and labels, before the filter.
        synthesiser: makes the poses; None: "variation" with these settings.
        scene: framing and field of view of the new pictures.
        reference_p: share of samples set in a reference's picture with its person removed; the rest gets free
            backgrounds.
        wear_p: share of those who also wear the reference's appearance (:mod:`synth.reprojection`), where the engine's
            body is the estimator's.
        appearances: how many references, the best ones, may lend theirs; each takes about a third of a second.
        render_batch: jobs made and judged together.
        gallery: samples kept in memory for pictures.
        run_name: tells the run's generations from others' in the pool, where several may write one.
        miner: the estimator that is mined; None: the one that the refresh is for.
    """

    engine: ImageEngine
    samples: int = 500
    eem: EEM = field(default_factory=EEM)
    variation: VariationConfig = field(default_factory=VariationConfig)
    filter: Err3DFilter = field(default_factory=Err3DFilter)
    scene: SceneConfig = field(default_factory=SceneConfig)
    reference_p: float = 0.6
    wear_p: float = 0.5
    appearances: int = 16
    render_batch: int = 32
    gallery: int = 24
    checks: Sequence[Check] = ()
    synthesiser: Synthesiser | None = None
    run_name: str = ""
    miner: Estimator | None = None
    body: BodyModel = field(init=False)

    def __post_init__(self) -> None:
        shares = (self.reference_p, self.wear_p)
        if self.samples < 1 or self.render_batch < 1 or self.appearances < 0 or not all(0 <= p <= 1 for p in shares):
            raise PosesynError(
                "a refresh needs samples >= 1, render_batch >= 1, appearances >= 0, and reference_p and wear_p in "
                f"0 .. 1, got {self.samples}, {self.render_batch}, {self.appearances} and {shares}"
            )
        self.body = load_body("free")
        self._synthesiser = self.synthesiser or Variation(self.variation)
        self._synthesiser.wants_clips = self.engine.wants_clips  # type: ignore[attr-defined]

    @property
    def made_by(self) -> str:
        """Names the synthesiser, its settings and the run, for provenance."""
        return f"{self._synthesiser.name}:{self._synthesiser.config_hash()}{self._of_run}"

    @property
    def _of_run(self) -> str:
        return f"@{self.run_name}" if self.run_name else ""

    def mined_by(self, estimator: Estimator) -> Estimator:
        """Whose failures are looked for, on the device of the one in training."""
        if self.miner is None:
            return estimator
        module_of(self.miner).to(next(module_of(estimator).parameters()).device)
        return self.miner

    @property
    def planner(self) -> Planner:
        return Planner(
            self.engine,
            self._synthesiser,
            self.body,
            self.samples,
            self.scene,
            self.reference_p,
            self.wear_p,
            self.appearances,
            self.render_batch,
        )

    @property
    def judging(self) -> Judging:
        return Judging(self.checks, self.filter, self.gallery)

    def run(
        self,
        estimator: Estimator,
        data: MiningData,
        pool: Pool,
        *,
        generation: int,
        number: int,
        seed: int,
        tpe_hash: str,
        done: GenerationInfo | None = None,
        progress: Progress | None = None,
        spread: Spread = HERE,
    ) -> Refreshed:
        """Mine ``data`` with ``estimator`` and commit ``generation`` to ``pool``.

        Everything drawn is a function of (estimator, data, settings, seed, number). Nothing is committed when nobody
        could be mined: the caller goes on with what the pool has. A job that fails is counted and dropped.

        Args:
            generation: number to commit under, or the next that no other run has taken.
            number: of the refresh in its run; seeds are made from it.
            seed: of the run.
            tpe_hash: names the estimator's weights, for provenance.
            done: this very refresh, committed before a crash: mine only.
            spread: does scoring, making and judging, perhaps in several places.

        Raises:
            PosesynError: every job failed.
        """
        tell = progress or (lambda stage, done, total: None)
        clock = Clock()
        mined = self.mine(estimator, data, number=number, seed=seed, clock=clock, progress=tell, spread=spread)
        if mined.crops is None or done is not None:
            return self.summary(mined, clock, done if mined.crops is not None else None)
        plan = self.plan(estimator, data, mined, number=number, seed=seed, tpe_hash=tpe_hash, clock=clock)
        total = len(plan.jobs)
        taken = take_judged(
            self._judged(plan.jobs, estimator, spread),
            pool,
            generation,
            engine=self.engine.name,
            engine_config=self.engine.config_hash(),
            made_by=self.made_by,
            clock=clock,
            places=spread.places,
            gallery=self.gallery,
            tell=lambda jobs: tell("synthesise", jobs, total),
            or_next=True,
        )
        return self.summary(mined, clock, taken.info, plan, taken)

    def mine(
        self,
        estimator: Estimator,
        data: MiningData,
        *,
        number: int,
        seed: int,
        clock: Clock | None = None,
        progress: Progress | None = None,
        spread: Spread = HERE,
    ) -> Mined:
        """Challenges and references of refresh ``number``."""
        tell = progress or (lambda stage, done, total: None)
        tell("mine", 0, 1)
        with (clock or Clock())("mine"):
            mined = self.eem.mine(self.mined_by(estimator), data, generator(seed, "eem", number), spread)
        tell("mine", 1, 1)
        return mined

    def plan(
        self,
        estimator: Estimator,
        data: MiningData,
        mined: Mined,
        *,
        number: int,
        seed: int,
        tpe_hash: str,
        clock: Clock | None = None,
    ) -> Plan:
        """The jobs of refresh ``number`` (:mod:`synth.planning`); somebody must have been mined."""
        estimator = self.mined_by(estimator)
        self._show(estimator)
        return self.planner.plan(estimator, data, mined, number=number, seed=seed, tpe=tpe_hash, clock=clock)

    def summary(
        self,
        mined: Mined,
        clock: Clock,
        info: GenerationInfo | None = None,
        plan: Plan | None = None,
        taken: TakenIn | None = None,
    ) -> Refreshed:
        """What was done, as far as it went."""
        nothing = float("nan")
        error = float(mined.errors[mined.challenges].mean()) if mined.crops is not None else nothing
        if plan is None or taken is None:
            return Refreshed(info, mined, error, nothing, nothing, clock.seconds)
        return Refreshed(
            info,
            mined,
            error,
            taken.err3d_mean,
            plan.fit_mean,
            clock.seconds,
            taken.samples,
            taken.sample_errors,
            taken.sample_passed,
            plan.report,
            plan.films,
            taken.failed,
            taken.found.summary(),
        )

    # -- making ------------------------------------------------------------------------------------------------------
    def make_portion(self, estimator: Estimator, jobs: Sequence[Job]) -> Judged:
        """Jobs made and judged together."""
        self._show(estimator)
        clock = Clock()
        with clock("render"):
            made = list(make_jobs(self.engine, jobs))
        judged = judge_portion(made, self.judging, estimator)
        return replace(judged, seconds=clock.seconds | judged.seconds)

    def _judged(self, jobs: list[Job], estimator: Estimator, spread: Spread) -> Iterator[tuple[Sequence[Job], Judged]]:
        portions = [jobs[start : start + self.render_batch] for start in range(0, len(jobs), self.render_batch)]
        return zip(portions, spread(MAKE, lambda part: self.make_portion(estimator, part), portions), strict=True)

    def _show(self, estimator: Estimator) -> None:
        for part in (self._synthesiser, self.engine):
            if getattr(part, "wants_estimator", False):
                part.estimator = estimator  # type: ignore[union-attr]
