"""Sources that follow what the estimator is bad at: their weights move with the errors of validation sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback

from callbacks.ema import averaged_weights
from callbacks.refresh import data_of
from datamodules.pose import PoseDataModule
from human.errors import PosesynError
from lightning_modules.base import PoseEstimator
from metrics.protocol import PoseScores
from synth.eem import inference

_MEASURES = ("mpjpe", "pa_mpjpe", "pck_torso", "pck_box")


class SourceWeights(Callback):
    """After every epoch that was validated, the weight of a source is its schedule's times a factor, which goes towards
    (error of its set / mean error of the sets) ** ``alpha``.

    Args:
        follow: the validation set that each source follows, by their names; other sources keep their weights.
        measure: the error: "mpjpe", "pa_mpjpe", or what "pck_torso" or "pck_box" leave to 1.
        alpha: 0 changes nothing, 1 is proportional, less than 0 gives more to what is learned.
        low, high: bounds of the factor; 1 lies between them.
        smoothing: share of the factor before in the one after.

    The factors are in the recipe, and so in the checkpoint. A set without a figure leaves the factor of its sources as
    it is.
    """

    def __init__(
        self,
        follow: dict[str, str],
        measure: str = "mpjpe",
        alpha: float = 1.0,
        low: float = 0.5,
        high: float = 2.0,
        smoothing: float = 0.5,
    ) -> None:
        if measure not in _MEASURES:
            raise PosesynError(f"SourceWeights: measure={measure!r}; choose one of {', '.join(_MEASURES)}")
        fine = 0 < low <= 1 <= high < float("inf") and 0 <= smoothing < 1 and abs(alpha) < float("inf")
        if not follow or not fine:
            raise PosesynError(
                "SourceWeights needs a source to follow a set, 0 < low <= 1 <= high, 0 <= smoothing < 1 and a finite "
                f"alpha, got {follow}, {low}, {high}, {smoothing} and {alpha}"
            )
        self.follow, self.measure, self.alpha = dict(follow), measure, alpha
        self.low, self.high, self.smoothing = low, high, smoothing
        self.epochs_done = 0
        self._validated = False

    # -- hooks -------------------------------------------------------------------------------------------------------
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = data_of(trainer)
        for kind, given, known in (
            ("source", self.follow.keys(), data.source_names),
            ("validation set", self.follow.values(), data.validation_names),
        ):
            if unknown := sorted(set(given) - set(known)):
                raise PosesynError(
                    f"SourceWeights: no {kind} is called {', '.join(unknown)}; there are {', '.join(known) or 'none'}"
                )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated = self._validated or not trainer.sanity_checking

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A checkpoint of an epoch's last step resumes in the next epoch: that one's validation never comes.
        if self.epochs_done < trainer.current_epoch and trainer.enable_validation:
            every = trainer.check_val_every_n_epoch
            if every is None or trainer.current_epoch % every == 0:
                assert isinstance(pl_module, PoseEstimator)
                self._move(trainer, _validate(trainer, pl_module, set(self.follow.values())))
        self.epochs_done = trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epochs_done = trainer.current_epoch + 1
        if self._validated:
            assert isinstance(pl_module, PoseEstimator)
            self._move(trainer, pl_module.last_scores)
        self._validated = False

    def _move(self, trainer: L.Trainer, scores: Mapping[str, Mapping[str, float]]) -> None:
        data = data_of(trainer)
        sets = [self.follow.get(name) for name in data.source_names]
        errors = np.array([np.nan if s is None else self._error(scores.get(s, {})) for s in sets])
        before = np.array(data.recipe.factors or [1.0] * len(sets))
        factors = next_factors(before, errors, self.alpha, self.low, self.high, self.smoothing)
        data.recipe = data.recipe.with_factors(factors.tolist())
        shares = data.recipe.weights(data.loader.consumed if data.loader else 0)
        for logger in trainer.loggers:
            figures = {f"share/{name}": float(v) for name, v in zip(data.source_names, shares, strict=True)}
            logger.log_metrics(figures, step=trainer.global_step)

    def _error(self, figures: Mapping[str, float]) -> float:
        value = figures.get(self.measure, float("nan"))
        return 1.0 - value if self.measure.startswith("pck") else value

    # -- the checkpoint ----------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        return {"epochs_done": self.epochs_done, "validated": self._validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs_done, self._validated = state_dict["epochs_done"], state_dict["validated"]


def next_factors(
    before_S: np.ndarray, error_S: np.ndarray, alpha: float, low: float, high: float, smoothing: float
) -> np.ndarray:
    """(S,) factors of the sources after an epoch; where an error is not finite, the one before."""
    known = np.isfinite(error_S) & (error_S >= 0)
    mean = float(error_S[known].mean()) if known.any() else 0.0
    if not 0 < mean < np.inf:  # nothing is known, or nothing is wrong
        return before_S
    ratio = np.maximum(error_S[known] / mean, 1e-6)
    after = before_S.astype(np.float64)
    with np.errstate(over="ignore"):
        wanted = np.clip(ratio**alpha, low, high)
    after[known] = smoothing * before_S[known] + (1 - smoothing) * wanted
    return after


def _validate(trainer: L.Trainer, estimator: PoseEstimator, wanted: set[str]) -> dict[str, dict[str, float]]:
    """The figures that the validation after the last step would have had."""
    data: PoseDataModule = data_of(trainer)
    out = {}
    for name, loader in zip(data.validation_names, data.val_dataloader(), strict=True):
        if name not in wanted:
            continue
        with averaged_weights(trainer, estimator), inference(estimator) as device:
            scores = PoseScores().to(device)
            with trainer.precision_plugin.val_step_context():
                for batch in loader:
                    there = batch.to(device)
                    scores.update(estimator.predict(there), there)
            out[name] = scores.compute()
    return out
