"""Mode "background": a process of its own makes all of a refresh, from weights that were handed over."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
import re
import shutil
import time
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L

from callbacks.background_folder import HandedOver, Task
from callbacks.background_keeper import Background, Keeper
from callbacks.background_worker import pack
from callbacks.ema import averaged_weights
from callbacks.journal import Journal
from callbacks.refresh_log import log_lag, warn_about
from callbacks.refresh_modes import Later
from datamodules.pose import PoseDataModule
from human.errors import PosesynError
from lightning_modules.base import PoseEstimator
from synth.engines.base import ENGINES
from synth.pool import GenerationInfo

if TYPE_CHECKING:
    from callbacks.refresh import Refresh

log = logging.getLogger("callbacks.refresh")
#: Arguments of the callback that do not decide what a refresh makes; ``checks`` are told by their entries.
_ELSEWHERE = {"checks", "fleet", "background", "mode", "every", "before_first", "keep"}


class BackgroundMode(Later):
    """Weights are handed over after an epoch; a generation is taken in after the epoch in which it was committed.

    At most one refresh is made and one waits; newer weights replace those that wait.

    Attributes:
        pending: what is handed over and not taken in, oldest first: ``name``, number of the ``refresh``, ``step`` of
            the weights, and numbers of the refreshes that were ``skipped`` for it.
        folder: of the refreshes, once known.
    """

    def __init__(self, host: Refresh, settings: Background) -> None:
        super().__init__(host)
        self.settings = settings
        self.pending: list[dict[str, Any]] = []
        self.folder: str | None = None
        self._keeper: Keeper | None = None

    def resumed(self, data: PoseDataModule) -> None:
        if self.pending and data.trainer is not None:  # what was under way is made meanwhile, or found in the pool
            estimator: Any = data.trainer.lightning_module
            self._set_to_work(self._keep(data.trainer, estimator, data))

    def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def state(self) -> dict[str, Any]:
        return {"background": {"pending": [dict(p) for p in self.pending], "folder": self.folder}}

    def load(self, state: dict[str, Any]) -> None:
        found = state.get("background", {})
        self.pending, self.folder = [dict(p) for p in found.get("pending", [])], found.get("folder")

    # -- between epochs ----------------------------------------------------------------------------------------------
    def refresh(self, trainer: L.Trainer, estimator: PoseEstimator, data: PoseDataModule, due: bool) -> None:
        host, start, known = self.host, time.perf_counter(), len(self.host.history)
        keeper = self._keep(trainer, estimator, data)
        try:
            entering, skipped = self._decide(keeper, due)
        except (PosesynError, OSError) as error:
            log.error("nothing can be taken in from the background, training goes on without: %s", error)
            entering, skipped, due = [], [], due and not self.pending
        for item in entering:
            self._take_in(item, trainer, data)
        if due:
            self._hand_over(trainer, estimator, data, skipped)
        self._set_to_work(keeper)
        if self.settings.wait_first and host.epochs_done == 0 and self.pending:
            entering = [self.pending.pop()]
            keeper.wait_for(entering[0]["name"])
            self._take_in(entering[0], trainer, data)
        for entry in host.history[known:]:
            entry["seconds"] = time.perf_counter() - start
        self._tidy(entering)

    def _decide(self, keeper: Keeper, due: bool) -> tuple[list[dict[str, Any]], list[int]]:
        """What is taken in now, in order, and numbers of what is given up for newer weights; written down first."""
        epoch, names = self.host.epochs_done, [p["name"] for p in self.pending]
        journal = self._journal
        noted = journal.noted(epoch, names)
        if noted is None:
            entered = list(takewhile(lambda name: self._handed(name).finished, names))
            skipped = [name for name in names[len(entered) :] if due and keeper.withdraw(name)]
            journal.note(epoch, names, entered=entered, skipped=skipped)
        else:
            entered, skipped = noted["entered"], noted["skipped"]
            for name in skipped:
                keeper.withdraw(name)
        by_name = {p["name"]: p for p in self.pending}
        self.pending = [p for p in self.pending if p["name"] not in (*entered, *skipped)]
        given_up = [n for name in skipped for n in (*by_name[name]["skipped"], by_name[name]["refresh"])]
        return [by_name[name] for name in entered], given_up

    def _take_in(self, item: dict[str, Any], trainer: L.Trainer, data: PoseDataModule) -> None:
        """An outcome into the recipe, the history and what the pictures show."""
        host, handed = self.host, self._handed(item["name"])
        entry: dict[str, Any] = {"refresh": item["refresh"], "generation": None, "step": item["step"]}
        entry |= {"entered": host.epochs_done, **({"skipped": item["skipped"]} if item["skipped"] else {})}
        try:
            outcome = handed.outcome()
            if "failed" in outcome:
                raise PosesynError(outcome["failed"])
            info = GenerationInfo(**outcome["info"]) if outcome["info"] else None
            if info is not None and info not in data.pool.generations():
                raise PosesynError(f"its generation {info.generation} is gone from {data.pool}")
            shown = handed.shown()
        except (PosesynError, OSError) as error:
            log.error("refresh %d in the background failed, training goes on with the pool: %s", item["refresh"], error)
            host.last, host.challenges = None, []
            host.history.append({**entry, "failed": str(error)})
            return
        host.last = None if shown is None else replace(shown, number=item["refresh"])
        host.challenges = outcome["challenges"]
        host.use(data, info)
        entry |= {**outcome["summary"], "background_seconds": outcome["seconds"]}
        if info is not None:
            log_lag(trainer, entry)
        host.history.append(entry)
        if shown is not None:
            warn_about(shown)

    def _hand_over(
        self, trainer: L.Trainer, estimator: PoseEstimator, data: PoseDataModule, skipped: list[int]
    ) -> None:
        host, start = self.host, time.perf_counter()
        if skipped:
            said = "refresh %d was not begun and is skipped: refresh %d has newer weights"
            log.warning(said, skipped[-1], host.count)
        item: dict[str, Any] = {"refresh": host.count, "step": trainer.global_step, "skipped": skipped}
        try:
            with averaged_weights(trainer, estimator):
                tpe = estimator.weights_hash()
                item["name"] = f"{host.count:05d}-{tpe}-{settings_hash(host, data)}"
                task = Task(host.count, data.seed, tpe, str(data.pool_path.absolute()))
                self._handed(item["name"]).place(task, estimator.trained_state())
        except (OSError, RuntimeError) as error:  # torch wraps a full disk
            host.failed(error, {"refresh": host.count, "generation": None}, start)
        else:
            self.pending.append(item)
        host.count += 1

    def _set_to_work(self, keeper: Keeper) -> None:
        """Give the worker what is left to make, without what is going to be skipped, as it was before a resume."""
        later = (e for epoch, e in self._noted().items() if int(epoch) > self.host.epochs_done)
        doomed = {name for entry in later for name in entry["skipped"]}
        names = [p["name"] for p in self.pending if p["name"] not in doomed]
        keeper.give([name for name in names if not self._handed(name).finished])

    def _noted(self) -> dict[str, Any]:
        try:
            return self._journal.read()
        except PosesynError:  # said where it matters
            return {}

    def _tidy(self, entered: list[dict[str, Any]]) -> None:
        """Keep weights of what is under way, pictures of what came in just now, and outcomes, which are small."""
        assert self.folder is not None
        here = {p["name"] for p in self.pending}
        fresh = {p["name"] for p in entered}
        for path in Path(self.folder).iterdir():
            if not path.is_dir() or path.name in here:
                continue
            handed = HandedOver(path)
            with contextlib.suppress(OSError):
                if handed.finished:
                    handed.tidy(drop_shown=path.name not in fresh)
                else:
                    shutil.rmtree(path)

    # -- parts -------------------------------------------------------------------------------------------------------
    def _keep(self, trainer: L.Trainer, estimator: PoseEstimator, data: PoseDataModule) -> Keeper:
        if self._keeper is None or not self._keeper.alive:
            ENGINES.get(self.host.engine)  # an unknown one is an error now
            self.folder = self.folder or str((data.run_dir / "background").absolute())
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            device = self.settings.device or str(trainer.strategy.root_device)
            parts = pack(self.host, data, estimator)
            self._keeper = Keeper(Path(self.folder), self.settings, device, parts)
        return self._keeper

    def _handed(self, name: str) -> HandedOver:
        assert self.folder is not None
        return HandedOver(Path(self.folder) / name)

    @property
    def _journal(self) -> Journal:
        assert self.folder is not None
        return Journal(Path(self.folder) / "journal.json")


def settings_hash(host: Refresh, data: PoseDataModule) -> str:
    """Names what a refresh is made of besides weights: with other settings it is another refresh."""
    names = {n for kind in type(host).__mro__ for n in inspect.signature(kind).parameters} - _ELSEWHERE
    values = {name: getattr(host, name) for name in sorted(names) if hasattr(host, name)}
    about = (data.image_size, data.box_scale, data.body, data.mine)
    text = re.sub(r" at 0x[0-9a-f]+", "", f"{type(host).__name__} {values} {host.check_entries} {about}")
    return hashlib.sha256(text.encode()).hexdigest()[:8]
