"""When and where a refresh is made: the contract of a mode, and the first one, "inline", where training waits."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import lightning as L

from callbacks.ema import averaged_weights
from callbacks.progress import stage_progress
from callbacks.refresh_log import summary, warn_about
from datamodules.pose import PoseDataModule
from human.errors import PosesynError
from lightning_modules.base import PoseEstimator
from synth.fleet.commit import find_generation
from synth.planning import slot_seed
from synth.refresh import Refreshed, Refresher

if TYPE_CHECKING:
    from callbacks.refresh import Refresh


class Mode(ABC):
    """One way to make refreshes for ``host``, whose counters, history and settings it uses.

    All but the state is asked on the rank that refreshes only, between epochs.
    """

    def __init__(self, host: Refresh) -> None:
        self.host = host

    @abstractmethod
    def refresh(self, trainer: L.Trainer, estimator: PoseEstimator, data: PoseDataModule, due: bool) -> None:
        """Take in what is finished and, where ``due``, mine and have samples made; advances the host's counters."""

    @property
    def waiting(self) -> bool:
        """Whether something ordered is not taken in yet: then :meth:`refresh` is called after every epoch."""
        return False

    def used(self) -> dict[str, Any] | None:
        """The newest entry of the history that the mixture draws from."""
        return self.host.history[-1] if self.host.history else None

    def resumed(self, data: PoseDataModule) -> None:  # noqa: B027
        """A run goes on from a checkpoint."""

    def stop(self) -> None:  # noqa: B027
        """The run ends: leave no process."""

    def state(self) -> dict[str, Any]:
        """Plain numbers and strings for the checkpoint."""
        return {}

    def load(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Of an earlier run; its keys are missing where that ran in another mode."""


class Inline(Mode):
    """Everything between two epochs, in the training process."""

    def refresh(self, trainer: L.Trainer, estimator: PoseEstimator, data: PoseDataModule, due: bool) -> None:
        host, start = self.host, time.perf_counter()
        refresher = host.refresher(data.image_size)  # what cannot be built is an error, not a refresh that failed
        try:
            with averaged_weights(trainer, estimator), stage_progress(trainer, f"refresh {host.count}") as tell:
                done = self._run(refresher, estimator, data, tell)
        except (PosesynError, OSError) as error:
            host.failed(error, {"refresh": host.count, "generation": None}, start)
        else:
            host.last = done
            host.challenges = [int(i) for i in done.mined.challenges]
            host.use(data, done.info)
            host.history.append({"refresh": host.count, **summary(done), "seconds": time.perf_counter() - start})
            warn_about(done)
        host.count += 1

    def _run(self, refresher: Refresher, estimator: PoseEstimator, data: PoseDataModule, tell: Any) -> Refreshed:
        host, pool, tpe = self.host, data.pool, estimator.weights_hash()
        # A run killed after this refresh and resumed before it finds its generation there, made by the same weights.
        seeds = {slot_seed(data.seed, host.count, slot) for slot in range(host.slots)}
        done = find_generation(pool, tpe, refresher.engine.config_hash(), refresher.made_by, seeds, host.count)
        existing = pool.generations()
        generation = max([host.count, *(g.generation + 1 for g in existing)])
        return refresher.run(
            estimator,
            data.mining_data,
            pool,
            generation=generation,
            number=host.count,
            seed=data.seed,
            tpe_hash=tpe,
            done=done,
            progress=tell,
            spread=host.spread,
        )
