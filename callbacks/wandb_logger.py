"""Lightning's logger for Weights & Biases, safe to leave alone: offline unless told, and never the end of a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger

log = logging.getLogger(__name__)


class WandbLogger(LightningWandbLogger):
    """Lightning's ``WandbLogger``. It writes to ``SAVE_DIR/wandb`` and sends nothing unless ``offline`` is false.

    Args:
        project: of the W&B entity.
        save_dir: folder for its files.
        offline: keep everything here; `wandb sync` sends it later.
        kwargs: Lightning's arguments, and those of ``wandb.init`` (entity, group, tags, ...).

    Where W&B cannot be reached, or nobody is logged in, the run is logged offline; where nothing can be written, not
    at all. Either is a warning, told once, and training goes on.
    """

    def __init__(
        self, project: str = "posesyn", save_dir: str | Path = "runs", offline: bool = True, **kwargs: Any
    ) -> None:
        # Said to W&B itself: the variable that Lightning sets is not read again once a process has used W&B.
        mode = {"mode": "offline"} if offline else {}
        super().__init__(project=project, save_dir=save_dir, offline=offline, **{**mode, **kwargs})
        self._wandb_init.pop("anonymous", None)  # W&B warns of it, whatever Lightning says there
        self.told = False
        #: Called with every checkpoint that was written.
        self.on_checkpoint: list[Callable[[ModelCheckpoint], None]] = []

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run."""
        if self._experiment is None:
            self._start()
        return self._experiment

    def _start(self) -> None:
        Path(self._save_dir or ".").mkdir(parents=True, exist_ok=True)
        # W&B reports its own errors to its makers, offline too; and keeps copies of artifacts in the home folder.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        for name in ("DATA", "CACHE"):
            folder = Path(self._save_dir or ".", "wandb", name.lower())
            os.environ.setdefault(f"WANDB_{name}_DIR", str(folder.absolute()))
        start: Callable[[Any], Any] = LightningWandbLogger.__dict__["experiment"].fget
        try:
            start(self)
            return
        except Exception as error:
            first = error
        try:
            if not self._offline:
                self._offline, self._wandb_init["mode"] = True, "offline"
                start(self)
                self.tell(f"W&B cannot be used online, this run is logged in {self._save_dir}/wandb instead", first)
                return
        except Exception as error:
            first = error
        import wandb

        self._experiment = wandb.init(mode="disabled")
        self.tell("W&B does not start, nothing is logged there", first)

    def tell(self, what: str, error: BaseException) -> None:
        """Report trouble, the first time only."""
        if not self.told:
            self.told = True
            log.warning("%s (%s: %s); training goes on", what, type(error).__name__, error)

    def attempt(self, what: str, act: Callable[[], Any]) -> None:
        """Do something with W&B that may fail."""
        try:
            act()
        except Exception as error:
            self.tell(f"{what} could not be logged to W&B", error)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        self.attempt("settings", lambda: super(WandbLogger, self).log_hyperparams(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.attempt("figures", lambda: super(WandbLogger, self).log_metrics(metrics, step))

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        self.attempt("a checkpoint", lambda: super(WandbLogger, self).after_save_checkpoint(checkpoint_callback))
        for tell in self.on_checkpoint:
            tell(checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.attempt("the end of the run", lambda: super(WandbLogger, self).finalize(status))
