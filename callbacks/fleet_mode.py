"""Mode "fleet": other processes make the pictures; mining, planning and judging stay between epochs."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L

from callbacks.ema import averaged_weights
from callbacks.fleet_orders import FleetOrders
from callbacks.refresh_log import log_lag, number, summary, warn_about
from callbacks.refresh_modes import Later
from datamodules.pose import PoseDataModule
from human.errors import PosesynError
from lightning_modules.base import PoseEstimator
from synth.fleet.commit import commit_order
from synth.fleet.driver import Fleet
from synth.fleet.folder import PlacedOrder
from synth.intake import TakenIn
from synth.planning import Clock
from synth.pool import GenerationInfo

if TYPE_CHECKING:
    from callbacks.refresh import Refresh

log = logging.getLogger("callbacks.refresh")


class FleetMode(Later):
    """Orders are placed after an epoch and taken in after the one in which they were finished.

    Attributes:
        pending: names of orders that are not taken in yet, oldest first.
        jobs: their folder, once known.
    """

    def __init__(self, host: Refresh, fleet: Fleet) -> None:
        super().__init__(host)
        self.fleet = fleet
        self.pending: list[str] = []
        self.jobs: str | None = None
        self._orders: FleetOrders | None = None

    def resumed(self, data: PoseDataModule) -> None:
        if self.pending:  # what was ordered is made meanwhile
            self.orders(data).look_after()

    def stop(self) -> None:
        if self._orders is not None:
            self._orders.stop()
            self._orders = None

    def state(self) -> dict[str, Any]:
        return {"pending": list(self.pending), "jobs": self.jobs}

    def load(self, state: dict[str, Any]) -> None:
        self.pending, self.jobs = list(state.get("pending", [])), self.fleet.jobs or state.get("jobs")

    def orders(self, data: PoseDataModule) -> FleetOrders:
        if self._orders is None:
            self.jobs = self.jobs or str(Path(self.fleet.jobs or data.run_dir / "jobs").absolute())
            self._orders = FleetOrders(Path(self.jobs), self.fleet, self.pending)
        return self._orders

    def refresh(self, trainer: L.Trainer, estimator: PoseEstimator, data: PoseDataModule, due: bool) -> None:
        host, orders = self.host, self.orders(data)
        with averaged_weights(trainer, estimator):
            taken = None
            try:
                finished = orders.due(host.epochs_done)
            except (PosesynError, OSError) as error:
                log.error("nothing can be taken in from the fleet, training goes on without: %s", error)
                finished = []
            for placed in finished:
                taken = self._take_in(placed, estimator, data, trainer) or taken
            if due and orders.full:
                log.warning(
                    "%d orders wait for the fleet: no refresh after epoch %d", len(self.pending), host.epochs_done
                )
            elif due:
                self._place(orders, estimator, data, taken, trainer.global_step)
        orders.look_after()

    def _take_in(
        self, placed: PlacedOrder, estimator: PoseEstimator, data: PoseDataModule, trainer: L.Trainer
    ) -> TakenIn | None:
        host = self.host
        entry = next(e for e in host.history if e.get("order") == placed.name)
        entry["entered"] = host.epochs_done
        log_lag(trainer, entry)
        try:
            taken = commit_order(placed, data.pool, host.refresher(data.image_size).judging, estimator)
        except (PosesynError, OSError) as error:
            log.error("an order of the fleet cannot be taken in, training goes on without it: %s", error)
            entry["failed"] = str(error)
            return None
        info = taken if isinstance(taken, GenerationInfo) else taken.info
        entry |= {"generation": info.generation, "made": info.count, "passed": info.passed}
        host.use(data, info)
        if isinstance(taken, GenerationInfo):
            return None
        entry["err3d_mean"] = number(taken.err3d_mean)
        entry |= {"checks": taken.found.summary()} if taken.found.summary() else {}
        entry |= {"failed_jobs": taken.failed} if taken.failed else {}
        return taken

    def _place(
        self,
        orders: FleetOrders,
        estimator: PoseEstimator,
        data: PoseDataModule,
        taken: TakenIn | None,
        step: int,
    ) -> None:
        """Mine, plan and order; ``taken`` is what was just taken in, for the pictures."""
        host, start, clock, tpe = self.host, time.perf_counter(), Clock(), estimator.weights_hash()
        refresher = host.refresher(data.image_size)
        entry: dict[str, Any] = {"refresh": host.count, "generation": None, "step": step}
        try:
            mined = refresher.mine(
                estimator, data.mining_data, number=host.count, seed=data.seed, clock=clock, spread=host.spread
            )
            host.last = done = refresher.summary(mined, clock)
            host.challenges = [int(i) for i in mined.challenges]
            if mined.crops is None:
                warn_about(done)
            else:
                how: dict[str, Any] = {"number": host.count, "seed": data.seed, "tpe_hash": tpe, "clock": clock}
                plan = refresher.plan(estimator, data.mining_data, mined, **how)
                with clock("order"):
                    order = host.order(refresher, plan, data.image_size, number=host.count, tpe=tpe)
                    entry["order"] = orders.place(order, plan).name
                done = replace(done, fit_mean=plan.fit_mean, report=plan.report, films=plan.films)
                if taken is not None:
                    shown = (taken.samples, taken.sample_errors, taken.sample_passed)
                    done = replace(done, samples=shown[0], sample_errors=shown[1], sample_passed=shown[2])
                host.last = done
            entry |= summary(done)
        except (PosesynError, OSError) as error:
            host.failed(error, entry, start)
        else:
            host.history.append({**entry, "seconds": time.perf_counter() - start})
        host.count += 1
