"""The refresh callback: mines the estimator's failures and commits new samples for them, between epochs.

Order of hooks (DESIGN §5; read in Lightning 2.6): loaders are set up before ``on_train_epoch_start``, and iterators
of an epoch before ``on_train_start``; so the first refresh runs in ``on_fit_start`` and the others in
``on_train_epoch_end``, where the next epoch's iterator does not exist yet. No data set is changed and no loader
reloaded: only the recipe is replaced.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback

from callbacks.ema import averaged_weights
from callbacks.progress import stage_progress
from datamodules.pose import PoseDataModule
from datamodules.recipe import Recipe
from human.errors import PosesynError
from lightning_modules.base import PoseEstimator
from lightning_modules.sharding import whole_weights
from synth.checks import make_checks
from synth.eem import EEM
from synth.engines.build import make_image_engine
from synth.filters import Err3DFilter
from synth.pool import GenerationInfo, Pool
from synth.refresh import Refreshed, Refresher, slot_seed
from synth.scene import SceneConfig
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
        checks: of pictures and labels before the filter, in order: ``{name: ..., options: {...}}``.
        every: epochs between refreshes.
        before_first: refresh before the first epoch too.
        keep: the mixture draws from the last ``keep`` generations.
        mode: "inline" (training waits).

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
        checks: list[dict[str, Any]] | None = None,
        every: int = 1,
        before_first: bool = True,
        keep: int = 3,
        mode: str = "inline",
    ) -> None:
        if mode != "inline":
            raise PosesynError(f"refresh mode {mode!r} is not available; choose 'inline'")
        if samples < 1 or every < 1 or keep < 1:
            raise PosesynError(f"refresh needs samples, every and keep >= 1, got {samples}, {every}, {keep}")
        self.samples, self.engine, self.engine_options, self.backgrounds = samples, engine, engine_options, backgrounds
        self.synthesiser, self.synthesiser_options = synthesiser, synthesiser_options
        self.eem, self.variation = eem or EEM(), variation or VariationConfig()
        self.filter, self.scene = filter or Err3DFilter(), scene or SceneConfig()
        self.reference_p, self.wear_p, self.appearances = reference_p, wear_p, appearances
        self.checks = make_checks(checks)
        self.every, self.before_first, self.keep = every, before_first, keep
        self.count = 0  # refreshes done
        self.epochs_done = 0  # epochs whose end was dealt with
        self.challenges: list[int] = []  # of the last refresh, indices into the mining data
        self.history: list[dict[str, Any]] = []
        self.last: Refreshed | None = None
        self.used: dict[str, Any] | None = None  # entry of the history that the epoch just finished trained on
        self._refresher: Refresher | None = None

    # -- hooks -------------------------------------------------------------------------------------------------------
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _, data = _typed(trainer, pl_module)
        # A data set that is missing is an error now, not after an epoch, and not a refresh that failed.
        data.mining_data, data.recipe  # noqa: B018
        if self.count == 0 and self.before_first:
            self._refresh(trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A checkpoint of an epoch's last step resumes in the next epoch: Lightning never comes to the end of that one.
        if self.epochs_done < trainer.current_epoch:
            self._end_epoch(trainer, pl_module, trainer.current_epoch - 1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end_epoch(trainer, pl_module, trainer.current_epoch)

    def _end_epoch(self, trainer: L.Trainer, pl_module: L.LightningModule, epoch: int) -> None:
        estimator, data = _typed(trainer, pl_module)
        self.epochs_done = epoch + 1
        self.used = self.history[-1] if self.history else None
        if self.challenges and self.history:
            with whole_weights(pl_module):
                if trainer.is_global_zero:
                    with averaged_weights(trainer, pl_module):
                        errors, _, _ = self.eem.score(estimator, data.mining_data, np.asarray(self.challenges))
                    after = float(np.nanmean(errors)) if np.isfinite(errors).any() else None
                    self.history[-1]["challenge_error_after"] = after
        # After the last epoch nothing would be trained on what a refresh makes.
        last = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= self.epochs_done
        if not last and not trainer.should_stop and self.epochs_done % self.every == 0:
            self._refresh(trainer, pl_module)

    # -- one refresh -------------------------------------------------------------------------------------------------
    def _refresh(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One rank refreshes and commits; the others wait, and take over its state and the new recipe."""
        _, data = _typed(trainer, pl_module)
        with whole_weights(pl_module):
            if trainer.is_global_zero:
                self._refresh_here(trainer, pl_module)
        if trainer.world_size > 1:
            state, recipe = trainer.strategy.broadcast((self.state_dict(), data.recipe.state()))
            if not trainer.is_global_zero:
                self.load_state_dict(state)
                data.recipe = Recipe.from_state(recipe)

    def _refresh_here(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        start = time.perf_counter()
        estimator, data = _typed(trainer, pl_module)
        if self._refresher is None:
            self._refresher = Refresher(
                engine=make_image_engine(self.engine, data.image_size, self.backgrounds, self.engine_options),
                samples=self.samples,
                eem=self.eem,
                variation=self.variation,
                filter=self.filter,
                scene=self.scene,
                reference_p=self.reference_p,
                wear_p=self.wear_p,
                appearances=self.appearances,
                checks=self.checks,
                synthesiser=make_synthesiser(self.synthesiser, self.synthesiser_options, self.variation),
            )
        try:
            with averaged_weights(trainer, pl_module), stage_progress(trainer, f"refresh {self.count}") as tell:
                done = self._run(self._refresher, estimator, data, tell)
        except (PosesynError, OSError) as error:
            # Freshness is lost, nothing else: training goes on with the generations there are (DESIGN §5).
            log.error("refresh %d failed, training goes on with the pool as it is: %s", self.count, error)
            self.last, self.challenges = None, []
            self.history.append(
                {
                    "refresh": self.count,
                    "generation": None,
                    "failed": str(error),
                    "seconds": time.perf_counter() - start,
                }
            )
        else:
            self.last = done
            self.challenges = [int(i) for i in done.mined.challenges]
            generations = [*data.recipe.generations]
            if done.info is not None and done.info.passed:
                generations.append((done.info.generation, done.info.passed))
            data.recipe = data.recipe.with_generations(generations[-self.keep :])
            self.history.append({"refresh": self.count, **_summary(done), "seconds": time.perf_counter() - start})
            _warn_about(done)
        self.count += 1

    def _run(self, refresher: Refresher, estimator: PoseEstimator, data: PoseDataModule, tell: Any) -> Refreshed:
        pool, tpe = data.pool, estimator.weights_hash()
        existing = pool.generations()
        # A run killed after this refresh and resumed before it finds its generation there, made by the same weights.
        seeds = {slot_seed(data.seed, self.count, slot) for slot in range(self.samples)}
        made_here = (tpe, refresher.engine.config_hash(), refresher.made_by, seeds)
        done = [g for g in existing if g.generation >= self.count and _made_by(pool, g) == made_here]
        generation = max([self.count, *(g.generation + 1 for g in existing)])
        return refresher.run(
            estimator,
            data.mining_data,
            pool,
            generation=generation,
            number=self.count,
            seed=data.seed,
            tpe_hash=tpe,
            done=done[0] if done else None,
            progress=tell,
        )

    # -- the checkpoint ----------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "epochs_done": self.epochs_done,
            "challenges": self.challenges,
            "history": self.history,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count, self.epochs_done = state_dict["count"], state_dict["epochs_done"]
        self.challenges = list(state_dict["challenges"])
        self.history = list(state_dict["history"])


def _made_by(pool: Pool, info: GenerationInfo) -> tuple[str, str, str, set[int]] | None:
    """Weights, engine configuration, synthesiser and seeds that a generation was made with."""
    rows = pool.provenance(info.generation)
    tpe, engine, seeds = (rows.column(name).to_pylist() for name in ("tpe", "engine_config", "seed"))
    return (tpe[0], engine[0], info.synthesiser, set(seeds)) if tpe else None


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


def _summary(done: Refreshed) -> dict[str, Any]:
    info: GenerationInfo | None = done.info
    return {
        "generation": info.generation if info else None,
        "made": info.count if info else 0,
        "passed": info.passed if info else 0,
        "challenge_error": _number(done.challenge_error),
        "err3d_mean": _number(done.err3d_mean),
        "fit_mean": _number(done.fit_mean),
        "eligible": done.mined.eligible,
        "not_finite": done.mined.not_finite,
        "unreadable": done.mined.unreadable,
        **({"failed_jobs": done.failed} if done.failed else {}),
        **(
            {"checks": {k: v if isinstance(v, int) else _number(v) for k, v in done.checks.items()}}
            if done.checks
            else {}
        ),
        "synthesis": {k: v if isinstance(v, int) else _number(v) for k, v in done.report.items()},
        "stages": {k: round(v, 3) for k, v in done.seconds.items()},
    }


def _number(value: float) -> float | None:
    """None for NaN, which JSON does not have."""
    return value if np.isfinite(value) else None


def _warn_about(done: Refreshed) -> None:
    mined = done.mined
    if done.report.get("fell_back"):
        figures = ("slots", "fell_back", "captions_replaced")
        reasons = [f"{n} {name}" for name, n in done.report.items() if isinstance(n, int) and n and name not in figures]
        log.warning(
            "%d of %d samples fell back to variation (%s)",
            done.report["fell_back"],
            done.report["slots"],
            ", ".join(reasons),
        )
    if done.failed:
        log.warning("%d of %d jobs could not be made", done.failed, done.info.count if done.info else done.failed)
    if mined.not_finite or mined.unreadable:
        log.warning(
            "mining skipped %d predictions that were not finite and %d unreadable pictures",
            mined.not_finite,
            mined.unreadable,
        )
    if done.info is None:
        log.warning("nobody could be mined (%d persons are eligible): the pool stays as it is", mined.eligible)
    elif done.info.passed == 0:
        log.warning(
            "none of %d synthetic samples passed the filter: raise filter.tau, or set it to null", done.info.count
        )
