"""The refresh callback: mines the estimator's failures and commits new samples for them, between epochs.

Order of hooks (DESIGN §5; read in Lightning 2.6): loaders are set up before ``on_train_epoch_start``, and iterators
of an epoch before ``on_train_start``; so the first refresh runs in ``on_fit_start`` and the others in
``on_train_epoch_end``, where the next epoch's iterator does not exist yet. No data set is changed and no loader
reloaded: only the recipe is replaced.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback

from callbacks.background_keeper import Background
from callbacks.background_mode import BackgroundMode
from callbacks.ema import averaged_weights
from callbacks.fleet_mode import FleetMode
from callbacks.mixture_choice import MixtureChoice
from callbacks.ranks import Ranks
from callbacks.refresh_modes import Inline, Mode
from datamodules.pose import PoseDataModule
from datamodules.recipe import Recipe
from human.errors import PosesynError
from human.interruption import breakable
from lightning_modules.base import PoseEstimator
from lightning_modules.ranks import same_statistics
from lightning_modules.sharding import whole_weights
from synth.checks import make_checks
from synth.eem import EEM
from synth.engines.build import make_image_engine
from synth.filters import Err3DFilter
from synth.fleet.driver import Fleet
from synth.fleet.folder import EngineSpec, Order
from synth.planning import Plan
from synth.pool import GenerationInfo
from synth.refresh import Refreshed, Refresher
from synth.scene import SceneConfig
from synth.spread import HERE, MAKE, PREDICT, SCORE, SCORE_AGAIN, Spread
from synth.synthesisers import make_synthesiser
from synth.variation import VariationConfig

log = logging.getLogger(__name__)


class Refresh(Callback):
    """Reruns the EEM on the current estimator and refreshes the pool, before the first epoch and after every
    ``every``-th.

    Args:
        samples: synthetic samples made in a refresh, before the filter.
        engine, engine_options, backgrounds: image engine by name, its arguments, and its background bank by name.
        synthesiser, synthesiser_options: what chooses the poses, by name, and its arguments.
        eem, variation, filter, scene: settings of the parts (:mod:`synth`).
        reference_p: share of samples set into references' pictures; wear_p: share of those who also wear the
            reference's appearance; appearances: how many references may lend theirs.
        checks: of pictures and labels before the filter, in order: ``{name: ..., options: {...}}``, or a name.
        every: epochs between refreshes.
        before_first: refresh before the first epoch too.
        keep: the mixture draws from the last ``keep`` generations; ``pool_policy`` has its place where it is given.
        pool_policy: what of the run's generations stays in the mixture, in order: ``{name: ..., options: {...}}``
            (:mod:`synth.curriculum`); chosen anew at every refresh, with the estimator as it is.
        rescored: samples of the pool that policies may look at again in a refresh; of more, an even draw.
        also: numbers of generations in the pool that other runs made and the mixture draws from too, from the start.
        keep_pixels: pictures of so many of the run's last generations, and of those in the mixture, stay in the pool;
            of older ones only the provenance does; None: nothing is deleted. More than ``keep``.
        miner: another estimator, which is mined in place of the one in training; that one still filters.
        mode: "inline" (training waits); "background": a process of its own makes all of a refresh (``background`` says
            where); or "fleet": other processes make the pictures (``fleet`` says which and how many). With the last two
            training goes on, and a generation is taken in after the epoch in which it was finished.
        render_batch: jobs made and judged together, of which each rank has a portion in hand at a time (inline).

    The state in a checkpoint is plain numbers: which refresh is next, the last challenges, the history for the tables.
    """

    def __init__(
        self,
        samples: int = 500,
        engine: str = "rendered",
        engine_options: dict[str, Any] | None = None,
        backgrounds: str = "free",
        synthesiser: str = "variation",
        synthesiser_options: dict[str, Any] | None = None,
        eem: EEM | None = None,
        variation: VariationConfig | None = None,
        filter: Err3DFilter | None = None,
        scene: SceneConfig | None = None,
        reference_p: float = 0.6,
        wear_p: float = 0.5,
        appearances: int = 16,
        checks: list[dict[str, Any] | str] | None = None,
        every: int = 1,
        before_first: bool = True,
        keep: int = 3,
        pool_policy: list[dict[str, Any]] | None = None,
        rescored: int = 20_000,
        also: list[int] | None = None,
        keep_pixels: int | None = None,
        miner: PoseEstimator | None = None,
        mode: str = "inline",
        fleet: Fleet | None = None,
        background: Background | None = None,
        render_batch: int = 32,
    ) -> None:
        if mode not in ("inline", "background", "fleet"):
            raise PosesynError(f"refresh mode {mode!r} is not available; choose 'inline', 'background' or 'fleet'")
        if min(samples, every, keep, rescored, render_batch) < 1:
            raise PosesynError(
                "refresh needs samples, every, keep, rescored and render_batch >= 1, got "
                f"{samples}, {every}, {keep}, {rescored} and {render_batch}"
            )
        self.samples, self.engine, self.engine_options, self.backgrounds = samples, engine, engine_options, backgrounds
        self.synthesiser, self.synthesiser_options = synthesiser, synthesiser_options
        self.eem, self.variation = eem or EEM(), variation or VariationConfig()
        self.filter, self.scene = filter or Err3DFilter(), scene or SceneConfig()
        self.reference_p, self.wear_p, self.appearances = reference_p, wear_p, appearances
        self.checks, self.check_entries = make_checks(checks), list(checks or [])
        self.mode, self.fleet, self.background = mode, fleet or Fleet(), background or Background()
        self._mode: Mode = Inline(self)
        if mode != "inline":
            self._mode = FleetMode(self, self.fleet) if mode == "fleet" else BackgroundMode(self, self.background)
        self.every, self.before_first, self.keep, self.miner = every, before_first, keep, miner
        self.render_batch = render_batch
        self.mixture = MixtureChoice(keep, pool_policy, rescored, self.filter, also or (), keep_pixels)
        self.count = 0  # refreshes done
        self.epochs_done = 0  # epochs whose end was dealt with
        self.run_name = ""  # names the run in the pool
        self.challenges: list[int] = []  # of the last refresh, indices into the mining data
        self.history: list[dict[str, Any]] = []
        self.last: Refreshed | None = None
        self.used: dict[str, Any] | None = None  # entry of the history that the epoch just finished trained on
        self.spread: Spread = HERE  # where a refresh's work is done: over all ranks while rank 0 refreshes
        self._ranks: Ranks | None = None
        self._refresher: Refresher | None = None

    @property
    def slots(self) -> int:
        """Seeds that a refresh may use."""
        return self.samples

    # -- hooks -------------------------------------------------------------------------------------------------------
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _, data = _typed(trainer, pl_module)
        # A data set that is missing is an error now, not after an epoch, and not a refresh that failed.
        data.mining_data, data.recipe  # noqa: B018
        self.run_name = self.run_name or self._name_of_run(data)
        self.mixture.begin(data)
        if self.count == 0 and self.before_first:
            with breakable(trainer.world_size == 1):
                self._refresh(trainer, pl_module)
        elif trainer.is_global_zero:
            self._mode.resumed(data)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A checkpoint of an epoch's last step resumes in the next epoch: Lightning never comes to the end of that one.
        if self.epochs_done < trainer.current_epoch:
            with breakable(trainer.world_size == 1):
                self._end_epoch(trainer, pl_module, trainer.current_epoch - 1)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.mixture.seen(data_of(trainer), batch)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Ranks that wait for each other must not be left by one of them: those stop after the next step.
        with breakable(trainer.world_size == 1):
            self._end_epoch(trainer, pl_module, trainer.current_epoch)

    def _end_epoch(self, trainer: L.Trainer, pl_module: L.LightningModule, epoch: int) -> None:
        estimator, data = _typed(trainer, pl_module)
        self.epochs_done = epoch + 1
        self.mixture.count_skipped()
        self.used = self._mode.used()
        if self._agreed(trainer, bool(self.challenges and self.history)):
            self._on_all_ranks(trainer, estimator, data, lambda: self._score_again(trainer, estimator, data))
        # After the last epoch nothing would be trained on what a refresh makes.
        last = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= self.epochs_done
        due = self.epochs_done % self.every == 0
        if self._agreed(trainer, not last and not trainer.should_stop and (due or self._mode.waiting)):
            self._refresh(trainer, pl_module, due)

    def _score_again(self, trainer: L.Trainer, estimator: PoseEstimator, data: PoseDataModule) -> None:
        """What has become of the last challenges."""
        try:
            with averaged_weights(trainer, estimator):
                rows = np.asarray(self.challenges)
                errors, _, _ = self.eem.score(estimator, data.mining_data, rows, self.spread, SCORE_AGAIN)
        except (PosesynError, OSError) as error:
            log.error("the challenges of the last refresh cannot be scored again: %s", error)
            errors = np.full(1, np.nan)
        self.history[-1]["challenge_error_after"] = float(np.nanmean(errors)) if np.isfinite(errors).any() else None

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._mode.stop()
        self._ranks = None

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._mode.stop()

    # -- one refresh -------------------------------------------------------------------------------------------------
    def _refresh(self, trainer: L.Trainer, pl_module: L.LightningModule, due: bool = True) -> None:
        """One rank refreshes and commits; the others help, and take over its state and the new recipe."""
        estimator, data = _typed(trainer, pl_module)

        def lead() -> None:
            before = len(self.history)
            self._mode.refresh(trainer, estimator, data, due)
            self._choose(trainer, estimator, data, due, len(self.history) > before)

        self._on_all_ranks(trainer, estimator, data, lead)
        if trainer.world_size > 1:
            state, recipe = trainer.strategy.broadcast((self.state_dict(), data.recipe.state()))
            if not trainer.is_global_zero:
                self.load_state_dict(state)
                data.recipe = Recipe.from_state(recipe)

    @staticmethod
    def _agreed(trainer: L.Trainer, say: bool) -> bool:
        """What rank 0 says, whose mode alone knows all: ranks of two minds would wait for each other for ever."""
        return say if trainer.world_size == 1 else bool(trainer.strategy.broadcast(say))

    def _on_all_ranks(
        self, trainer: L.Trainer, estimator: PoseEstimator, data: PoseDataModule, lead: Callable[[], None]
    ) -> None:
        """``lead`` on rank 0, whose work the others share while it runs (:mod:`callbacks.ranks`)."""
        with whole_weights(estimator):
            if trainer.world_size == 1:
                lead()
                return
            if self._ranks is None:
                self._ranks = Ranks.of(trainer)
            with averaged_weights(trainer, estimator):
                same_statistics(estimator)
                if not trainer.is_global_zero:
                    self._ranks.serve(self._tasks(estimator, data))
                    return
            self.spread = self._ranks
            try:
                with self._ranks.leading():
                    lead()
            finally:
                self.spread = HERE

    def _tasks(self, estimator: PoseEstimator, data: PoseDataModule) -> dict[str, Callable[[Any], Any]]:
        """What rank 0 hands out, as it is done on this rank."""
        mined = self.refresher(data.image_size).mined_by(estimator)
        return {
            SCORE: lambda rows: self.eem.score_batch(mined, data.mining_data, rows),
            SCORE_AGAIN: lambda rows: self.eem.score_batch(estimator, data.mining_data, rows),
            PREDICT: lambda rows: self.eem.predict_batch(mined, data.mining_data, rows),
            MAKE: lambda jobs: self.refresher(data.image_size).make_portion(estimator, jobs),
        }

    def use(self, data: PoseDataModule, info: GenerationInfo | None) -> None:
        """The mixture draws from this generation too; policies choose from it at the end of the refresh."""
        self.mixture.take_in(data, info)

    def _choose(
        self, trainer: L.Trainer, estimator: PoseEstimator, data: PoseDataModule, due: bool, entered: bool
    ) -> None:
        """What of the pool stays in the mixture; ``entered``: the history's last entry is this refresh's."""
        report = self.mixture.choose(trainer, estimator, data, self.count, due)
        self.mixture.free(data)
        if report is None or not self.history:
            return
        seconds, entry = report.pop("seconds"), self.history[-1]
        entry["policy"] = report
        if entered:
            entry["seconds"] += seconds
            entry.setdefault("stages", {})["policy"] = round(seconds, 3)

    def _name_of_run(self, data: PoseDataModule) -> str:
        """Tells this run's generations from those that others commit to the same pool.

        Of the run's folder and settings, not drawn: a run that is killed before its first checkpoint and started again
        finds what it had made.
        """
        settings = (self.eem, self.filter, self.scene, self.check_entries, data.mine, data.box_scale, data.image_size)
        shares = (self.samples, self.reference_p, self.wear_p, self.appearances, type(self.miner).__name__)
        said = repr((str(data.run_dir.absolute()), settings, shares))
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def failed(self, error: Exception, entry: dict[str, Any], start: float) -> None:
        """Freshness is lost, nothing else: training goes on with the generations there are (DESIGN §5)."""
        log.error("refresh %d failed, training goes on with the pool as it is: %s", self.count, error)
        self.last, self.challenges = None, []
        self.history.append({**entry, "failed": str(error), "seconds": time.perf_counter() - start})

    def refresher(self, image_size: int) -> Refresher:
        """The parts of a refresh for pictures of ``image_size`` px, built once."""
        if self._refresher is None:
            self._refresher = Refresher(
                engine=make_image_engine(self.engine, image_size, self.backgrounds, self.engine_options),
                samples=self.samples,
                eem=self.eem,
                variation=self.variation,
                filter=self.filter,
                scene=self.scene,
                reference_p=self.reference_p,
                wear_p=self.wear_p,
                appearances=self.appearances,
                render_batch=self.render_batch,
                checks=self.checks,
                synthesiser=make_synthesiser(self.synthesiser, self.synthesiser_options, self.variation),
                run_name=self.run_name,
                miner=self.miner,
            )
        return self._refresher

    def order(self, refresher: Refresher, plan: Plan, image_size: int, *, number: int, tpe: str) -> Order:
        """A plan's jobs for other processes."""
        spec = EngineSpec(
            self.engine,
            image_size,
            self.backgrounds,
            self.engine_options or {},
            self.check_entries,
            refresher.engine.config_hash(),
        )
        return Order.of(spec, plan.jobs, number=number, tpe=tpe, made_by=refresher.made_by)

    # -- the checkpoint ----------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "epochs_done": self.epochs_done,
            "challenges": self.challenges,
            "history": self.history,
            "run": self.run_name,
            **self.mixture.state(),
            **self._mode.state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count, self.epochs_done = state_dict["count"], state_dict["epochs_done"]
        self.challenges = list(state_dict["challenges"])
        self.history = list(state_dict["history"])
        self.run_name = state_dict.get("run", "")
        self.mixture.load(state_dict, self.history)
        self._mode.load(state_dict)


def data_of(trainer: L.Trainer) -> PoseDataModule:
    """The trainer's data module; :class:`PosesynError` when it is not ours."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, PoseDataModule):
        raise PosesynError(f"this callback needs a datamodules.PoseDataModule, the trainer has {type(data).__name__}")
    return data


def _typed(trainer: L.Trainer, pl_module: L.LightningModule) -> tuple[PoseEstimator, PoseDataModule]:
    if not isinstance(pl_module, PoseEstimator):
        raise PosesynError(
            f"the Refresh callback needs a lightning_modules.PoseEstimator, got {type(pl_module).__name__}"
        )
    return pl_module, data_of(trainer)
