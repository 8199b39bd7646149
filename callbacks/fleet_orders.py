"""Refreshes made by a fleet: orders placed, awaited without waiting, and taken in between epochs.

Training never waits: at the end of an epoch what is finished is judged by the estimator as it is then, committed and
used from the next epoch on. When that happens depends on the fleet's speed, so it is written down in the job folder
(:mod:`callbacks.journal`) before it takes effect.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

from callbacks.journal import Journal
from human.errors import PosesynError
from synth.fleet.driver import Fleet
from synth.fleet.folder import JobFolder, Order, PlacedOrder
from synth.planning import Plan

log = logging.getLogger(__name__)


class FleetOrders:
    """The orders of a run, and the process that has them made.

    Args:
        folder: of the jobs.
        fleet: settings.
        pending: names of orders that are placed and not taken in, oldest first.
    """

    def __init__(self, folder: Path, fleet: Fleet, pending: list[str]) -> None:
        self.folder, self.fleet, self.pending = JobFolder(folder), fleet, pending
        self.journal = Journal(self.folder.path / "journal.json")
        self._process: subprocess.Popen[bytes] | None = None

    def place(self, order: Order, plan: Plan) -> PlacedOrder:
        placed = self.folder.submit(order, plan.jobs)
        if placed.name not in self.pending:
            self.pending.append(placed.name)
        return placed

    @property
    def full(self) -> bool:
        return len(self.pending) >= self.fleet.backlog

    def due(self, epoch: int) -> list[PlacedOrder]:
        """Orders that are taken in after ``epoch``; no longer pending."""
        noted = self.journal.noted(epoch, self.pending)
        if noted is not None:
            names = [name for name in noted["entered"] if name in self.pending]
        else:
            names = []
            for name in self.pending:  # in order, so that a later one never overtakes
                try:
                    if not PlacedOrder(self.folder.path / name).finished:
                        break
                except PosesynError as error:  # taking it in will fail, once, and the run goes on without it
                    log.error("an order of the fleet is gone: %s", error)
                names.append(name)
            self.journal.note(epoch, list(self.pending), entered=names)
        self.pending[:] = [name for name in self.pending if name not in names]
        return [PlacedOrder(self.folder.path / name) for name in names]

    # -- the process -------------------------------------------------------------------------------------------------
    def look_after(self) -> None:
        """Start the fleet where it is ours to start; say so where it died."""
        if not self.fleet.launch or not self.pending:
            return
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            log.error("the fleet ended with %d, training goes on; it is started again: %s", code, self._last_words())
        try:
            self.folder.path.mkdir(parents=True, exist_ok=True)
            with open(self._log, "ab") as out:
                self._process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        except OSError as error:
            log.error("the fleet cannot be started, training goes on with the pool as it is: %s", error)

    def command(self) -> list[str]:
        """What serves the folder."""
        given = ("workers", "ray", "gpus", "cpus", "threads", "retries", "price")
        values = {name: getattr(self.fleet, name) for name in given}
        options = [f"--fleet.{name}={value}" for name, value in values.items() if value is not None]
        words = ["--jobs", str(self.folder.path), "--wait", "true", "--parent", str(os.getpid()), *options]
        return [sys.executable, "-m", "cli.posesyn", "synth", *words]

    def stop(self) -> None:
        """End the fleet, if it is ours; its jobs stay as they are."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def _log(self) -> Path:
        return self.folder.path / "fleet.log"

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return f"{lines[-1] if lines else 'it said nothing'} ({self._log})"
