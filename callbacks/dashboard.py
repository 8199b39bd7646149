"""The dashboard of a run: figures of every refresh and epoch for all loggers, pictures and artifacts for W&B."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger

from callbacks.after_refresh import AfterRefresh
from callbacks.dashboard_figures import Overlap, numbers, record_figures, refresh_figures, row_figures
from callbacks.dashboard_wandb import Artifacts, checkpoint_name, log_histogram, log_pictures
from callbacks.drawing import caption, grid
from callbacks.ema import averaged_weights
from callbacks.epoch_table import EpochTable
from callbacks.followed import Followed
from callbacks.guard import Guard
from callbacks.record import Record
from callbacks.refresh import Refresh, data_of
from callbacks.tiles import challenge_tiles, resized, sample_tiles, titled
from callbacks.wandb_logger import WandbLogger
from human.errors import PosesynError
from lightning_modules.base import PoseEstimator
from lightning_modules.sharding import whole_weights
from synth.refresh import Refreshed

log = logging.getLogger(__name__)
_WHOLE = ("checkpoints", "generations")


class Dashboard(AfterRefresh):
    """Logs what a run mines, makes and learns under the names of docs/dashboards.md.

    Every logger gets the figures; W&B gets pictures, histograms and artifacts too.

    Args:
        pictures: in each grid; 0 for none.
        columns: of the grids.
        side: of each picture in them, pixels.
        follow: people of the first refresh whose predictions are shown from refresh to refresh; 0 for none.
        first, every: pictures are sent of the first ``first`` refreshes, then of every ``every``-th: long runs stay
            small.
        artifacts: log checkpoints and generations as artifacts.
        whole: what goes into them as a whole: "checkpoints" (else where the file lies), "generations" (else provenance
            and a few pictures).

    List it after ``Refresh``, ``EpochTable`` and ``Record``, whose figures it uses. What W&B fails to take is reported
    once and never ends a run.
    """

    def __init__(
        self,
        pictures: int = 16,
        columns: int = 4,
        side: int = 224,
        follow: int = 6,
        first: int = 10,
        every: int = 5,
        artifacts: bool = True,
        whole: list[str] | None = None,
    ) -> None:
        super().__init__()
        if pictures < 0 or columns < 1 or side < 32 or follow < 0 or first < 0 or every < 1:
            raise PosesynError(
                "the dashboard needs pictures, follow and first >= 0, columns and every >= 1, side >= 32, got "
                f"{pictures}, {follow}, {first}, {columns}, {every} and {side}"
            )
        if unknown := set(whole or ()) - set(_WHOLE):
            raise PosesynError(f"the dashboard's whole={sorted(unknown)}: choose of {', '.join(_WHOLE)}")
        self.pictures, self.columns, self.side = pictures, columns, side
        self.first, self.every = first, every
        self.artifacts, self.whole = artifacts, tuple(whole or ())
        self.overlap, self.followed = Overlap(), Followed(follow)
        self.sent = 0  # rows of the epoch table
        self.checkpoint: str | None = None  # name of the artifact of the newest checkpoint
        self._run: str | None = None  # W&B run that the rows went to
        self._saved: tuple[Path, int, int] | None = None  # newest checkpoint without an artifact: file, step, epoch
        self._trained_on: list[int] = []
        self._known: list[int] = []  # generations that have an artifact
        self._mined_at: dict[str, int] = {}  # refresh -> step, until its generation has an artifact
        self._looked = 0  # refreshes after which the followed were looked at, or were not due
        self._told = False
        self._seconds = 0.0  # spent here since the last row

    # -- hooks -------------------------------------------------------------------------------------------------------
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        before = trainer.callbacks[: trainer.callbacks.index(self)]  # type: ignore[attr-defined]
        lacking = [kind.__name__ for kind in (EpochTable, Record) if not any(isinstance(c, kind) for c in before)]
        if lacking:
            raise PosesynError(
                f"callbacks.Dashboard shows what {' and '.join(f'callbacks.{n}' for n in lacking)} found: list "
                f"{'it' if len(lacking) == 1 else 'them'} before it under trainer.callbacks"
            )
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                logger.on_checkpoint = [lambda saved: self._note_checkpoint(trainer, saved)]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trained_on = _generations(trainer)
        self._resume(trainer)
        self._after_epoch(trainer, pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Checkpoints of an epoch's end are written after every other callback's.
        self._log_checkpoint(trainer)
        self._trained_on = _generations(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._after_epoch(trainer, pl_module)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._log_checkpoint(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._log_checkpoint(trainer)

    def _after_epoch(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        refresh, start = _find(trainer, Refresh), time.perf_counter()
        if refresh is not None and refresh.count != self._looked:
            self._looked = refresh.count
            if refresh.challenges and self.followed.people and self._due(refresh.count - 1):
                self._follow(trainer, pl_module, refresh)
        self._once(trainer)
        if trainer.is_global_zero:
            self._send_rows(trainer, trainer.loggers)
            self._log_generations(trainer, refresh)
        self._seconds += time.perf_counter() - start

    def _follow(self, trainer: L.Trainer, pl_module: L.LightningModule, refresh: Refresh) -> None:
        assert isinstance(pl_module, PoseEstimator)
        with whole_weights(pl_module):  # entered by all ranks
            if trainer.is_global_zero:
                with averaged_weights(trainer, pl_module):
                    mined = data_of(trainer).mining_data
                    self.followed.look(pl_module, mined, refresh.eem, refresh.count - 1, refresh.challenges)

    # -- figures -----------------------------------------------------------------------------------------------------
    def _send_rows(self, trainer: L.Trainer, loggers: list[Logger]) -> None:
        table = _find(trainer, EpochTable)
        assert table is not None
        guard = _find(trainer, Guard)
        for row in table.rows[self.sent :]:
            figures = row_figures(row)
            if guard is not None and row is table.rows[-1]:
                figures["guard/skipped"] = float(guard.skipped)
            if row is table.rows[-1]:
                figures["time/dashboard"], self._seconds = self._seconds, 0.0
            self._log(loggers, figures, row.get("step", 0))
        self.sent = len(table.rows)

    def _resume(self, trainer: L.Trainer) -> None:
        """A run that goes on as another run of W&B gets there what it was before."""
        run = next((str(logger.version) for logger in _wandb(trainer)), None)
        if self._run is not None and trainer.global_step:
            # What a checkpoint remembers was known before it had a name itself.
            self.checkpoint = checkpoint_name(self._run, trainer.global_step)
        if trainer.is_global_zero and self.sent and run is not None and run != self._run:
            self.sent = 0
            self._send_rows(trainer, list(_wandb(trainer)))
        self._run = run

    def draw(self, trainer: L.Trainer, run_dir: Path, number: int, done: Refreshed) -> None:
        refresh, record = _find(trainer, Refresh), _find(trainer, Record)
        assert refresh is not None
        assert record is not None
        step = self._mined_at[str(number)] = trainer.global_step
        entry = next((e for e in reversed(refresh.history) if e["refresh"] == number), {"refresh": number})
        figures = refresh_figures(entry)
        figures.update(self.overlap.add([int(i) for i in done.mined.challenges]))
        kept = record.last if record.last is not None and record.last["refresh"] == number else {}
        figures.update(record_figures(kept) if kept else {})
        if self.followed.seen and self.followed.seen[-1]["refresh"] == number:
            figures.update(numbers({"followed/error": self.followed.error}))
        self._log(trainer.loggers, figures, step)
        histogram = kept.get("histogram")
        loggers = _wandb(trainer)
        pictures = self._pictures(trainer, refresh, number, done) if loggers and self._due(number) else {}
        for logger in loggers:
            if histogram:
                self._try(logger, "a histogram", log_histogram, logger, "errors/histogram", *histogram.values(), step)
            if pictures:
                self._try(logger, "pictures", log_pictures, logger, pictures, f"refresh {number}", step)

    def _due(self, number: int) -> bool:
        return number < self.first or number % self.every == 0

    def _pictures(self, trainer: L.Trainer, refresh: Refresh, number: int, done: Refreshed) -> dict[str, np.ndarray]:
        out: dict[str, np.ndarray] = {}
        errors = done.mined.errors[done.mined.challenges]
        worst = [resized(t, self.side) for t in challenge_tiles(done.mined, self.pictures)]
        worst = [caption(t, f"Err {e:.0f} px") for t, e in zip(worst, errors, strict=False)]
        if worst:
            words = f"Refresh {number}: challenges, worst first. Green: label. Blue, orange: predicted left, right."
            out["pictures/challenges"] = titled(grid(worst, self.columns), words)
        made = [resized(t, self.side) for t in sample_tiles(done, self.pictures)]
        made = [caption(t, f"Err3D {e:.0f} mm") for t, e in zip(made, done.sample_errors, strict=False)]
        if made:
            words = f"Refresh {number}: samples by {refresh.engine}. Blue, orange: left, right. Framed: filtered out."
            out[f"pictures/samples/{refresh.engine}"] = titled(grid(made, self.columns), words)
        followed = self.followed.draw(data_of(trainer).mining_data, self.side)
        if followed is not None:
            words = "The first challenges, refresh by refresh. Green: label. Blue, orange: predicted left, right."
            out["pictures/followed"] = titled(followed, words)
        return out

    # -- artifacts ---------------------------------------------------------------------------------------------------
    def _log_generations(self, trainer: L.Trainer, refresh: Refresh | None) -> None:
        """Those that the mixture has begun to draw from, whoever made them and when."""
        fresh = [g for g in _generations(trainer) if g not in self._known]
        loggers, data = _wandb(trainer), data_of(trainer)
        if not fresh or not loggers or not self.artifacts or refresh is None:
            return
        try:
            infos = {info.generation: info for info in data.pool.generations()}
        except (PosesynError, OSError) as error:
            log.warning("generations %s become no artifacts (%s); training goes on", fresh, error)
            infos = {}
        for number in (g for g in fresh if g in infos):
            info = infos[number]
            entry = next((e for e in refresh.history if e.get("generation") == number), {})
            mined_at = self._mined_at.pop(str(entry.get("refresh")), None)
            facts = {
                "generation": number,
                "refresh": entry.get("refresh"),
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "synthesiser": info.synthesiser,
                "made": info.count,
                "passed": info.passed,
                "pool": str(data.pool_path.absolute()),
            }
            for logger in loggers:
                names = Artifacts(logger, self.whole)
                start = getattr(trainer.lightning_module, "checkpoint", None)
                mined_by = {"step": mined_at, "checkpoint": names.checkpoint_name(mined_at) if mined_at else start}
                act = names.log_generation
                told = {**facts, "mined_by": mined_by}
                self._try(logger, "a generation", act, data.pool, number, told, self.pictures, self.side)
        self._known = sorted({*self._known, *fresh})

    def _note_checkpoint(self, trainer: L.Trainer, saved: ModelCheckpoint) -> None:
        path = Path(getattr(saved, "_last_checkpoint_saved", "") or "")
        if path.name and path.exists():
            self._saved = path, trainer.global_step, trainer.current_epoch

    def _log_checkpoint(self, trainer: L.Trainer) -> None:
        """One artifact an epoch: of the checkpoint that was written last."""
        if self._saved is None or not self.artifacts:
            return
        (path, step, epoch), self._saved = self._saved, None
        if not path.exists():  # replaced by a newer one
            return
        module = trainer.lightning_module
        for logger in _wandb(trainer):
            names = Artifacts(logger, self.whole)
            facts = {
                "step": step,
                "epoch": epoch,
                "file": str(path.absolute()),
                "bytes": sum(p.stat().st_size for p in path.rglob("*")) if path.is_dir() else path.stat().st_size,
                "follows": self.checkpoint or getattr(module, "checkpoint", None),
                "trained_on": [names.generation_name(g) for g in self._trained_on],
                "scores": getattr(module, "last_scores", {}),
            }
            self._try(logger, "a checkpoint", names.log_checkpoint, path, facts)
            self.checkpoint = names.checkpoint_name(step)

    # -- logging that never ends a run -------------------------------------------------------------------------------
    def _log(self, loggers: list[Logger], figures: dict[str, float], step: int) -> None:
        for logger in loggers:
            if isinstance(logger, LightningWandbLogger):
                self._try(logger, "figures", logger.log_metrics, figures, step)
            else:
                logger.log_metrics(figures, step)

    def _try(self, logger: LightningWandbLogger, what: str, act: Callable[..., Any], *args: Any) -> None:
        try:
            act(*args)
        except Exception as error:
            if isinstance(logger, WandbLogger):
                logger.tell(f"{what} could not be logged to W&B", error)
            elif not self._told:
                self._told = True
                log.warning("%s could not be logged to W&B (%s); training goes on", what, error)

    # -- the checkpoint ----------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "run": self._run,
            "checkpoint": self.checkpoint,
            "generations": self._known,
            "mined_at": self._mined_at,
            "looked": self._looked,
            "overlap": self.overlap.state(),
            "followed": self.followed.state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.sent, self._run = state_dict["sent"], state_dict["run"]
        self.checkpoint = state_dict["checkpoint"]
        self._known, self._mined_at = list(state_dict["generations"]), dict(state_dict["mined_at"])
        self._looked = state_dict["looked"]
        self.overlap.load(state_dict["overlap"])
        self.followed.load(state_dict["followed"])


def _find(trainer: L.Trainer, kind: type[Any]) -> Any:
    return next((c for c in trainer.callbacks if isinstance(c, kind)), None)  # type: ignore[attr-defined]


def _wandb(trainer: L.Trainer) -> list[LightningWandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, LightningWandbLogger)]


def _generations(trainer: L.Trainer) -> list[int]:
    """Those that the batches draw from."""
    return [number for number, _ in data_of(trainer).recipe.generations]
