"""When and where a refresh is made: the contract of a mode, and the first one, "inline", where training waits."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import lightning as L

from callbacks.background_folder import Task
from callbacks.ema import averaged_weights
from callbacks.progress import stage_progress
from callbacks.refresh_log import summary, warn_about
from datamodules.pose import PoseDataModule
from human.errors import PosesynError
from lightning_modules.base import PoseEstimator
from synth.eem import MiningData
from synth.fleet.commit import find_generation
from synth.planning import slot_seed
from synth.pool import Pool
from synth.refresh import Progress, Refreshed, Refresher
from synth.spread import HERE, Spread

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


class Later(Mode):
    """One that takes a generation in some time after it was ordered.

    Attributes:
        pending: what is ordered and not taken in, oldest first.
    """

    pending: list[Any]

    @property
    def waiting(self) -> bool:
        return bool(self.pending)

    def used(self) -> dict[str, Any] | None:
        return next((e for e in reversed(self.host.history) if e["generation"] is not None), super().used())


class Inline(Mode):
    """Everything between two epochs, in the training process."""

    def refresh(self, trainer: L.Trainer, estimator: PoseEstimator, data: PoseDataModule, due: bool) -> None:
        host, start = self.host, time.perf_counter()
        refresher = host.refresher(data.image_size)  # what cannot be built is an error, not a refresh that failed
        try:
            with averaged_weights(trainer, estimator), stage_progress(trainer, f"refresh {host.count}") as tell:
                task = Task(host.count, data.seed, estimator.weights_hash(), str(data.pool_path))
                done = run_refresh(host, refresher, estimator, data.mining_data, task, tell, host.spread)
        except (PosesynError, OSError) as error:
            host.failed(error, {"refresh": host.count, "generation": None}, start)
        else:
            host.last = done
            host.challenges = [int(i) for i in done.mined.challenges]
            host.use(data, done.info)
            host.history.append({"refresh": host.count, **summary(done), "seconds": time.perf_counter() - start})
            warn_about(done)
        host.count += 1


def run_refresh(
    host: Refresh,
    refresher: Refresher,
    estimator: PoseEstimator,
    people: MiningData,
    task: Task,
    tell: Progress,
    spread: Spread = HERE,
) -> Refreshed:
    """Mine, make and commit what ``task`` names, in this process; what the pool has of it already is mined only.

    A worker that died before it could say so, and a run that is killed and resumed, find their generation there, made
    by the same weights.
    """
    pool = Pool(task.pool)
    seeds = {slot_seed(task.seed, task.number, slot) for slot in range(host.slots)}
    config = refresher.engine.config_hash()
    return refresher.run(
        estimator,
        people,
        pool,
        generation=max([task.number, *(g.generation + 1 for g in pool.generations())]),
        number=task.number,
        seed=task.seed,
        tpe_hash=task.tpe,
        done=find_generation(pool, task.tpe, config, refresher.made_by, seeds, task.number),
        progress=tell,
        spread=spread,
    )
