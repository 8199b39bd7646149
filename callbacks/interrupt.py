"""SIGTERM, Ctrl-C and SLURM's signal before the time is up: save, say how to go on, and end.

A signal only leaves a note (:mod:`human.interruption`): Lightning saves and broadcasts in its signal handlers, which is
in the middle of anything. What is saved here is always the state after the last whole step, which resumes exactly:

* in a step: after it, on all ranks;
* in validation, mining or rendering on one rank: at once, with the loops', callbacks' and data's state as it was after
  the step; the epoch's end is done again on resume, and finds the generation where one was committed;
* there on several ranks: after the first step that follows.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.trainer import call

from human.interruption import Interrupted, ask, asked, breakable, forget, safe_point

log = logging.getLogger(__name__)

FILE = "last-interrupted.ckpt"  # Lightning's `--ckpt_path last` looks for last*.ckpt


class Interrupt(Callback):
    """Lets a run stop at the next safe point when it is told to; list it last. The ``lightning`` command adds it.

    The process ends with status 143 (SIGTERM), 130 (Ctrl-C; a second one ends it at once) or 138 (SIGUSR1), the ranks
    other than the first with 0, since a launcher kills the rest where one fails. On SLURM the state goes where
    Lightning resumes from by itself (``hpc_ckpt_N.ckpt`` in ``trainer.default_root_dir``), and its requeue signal
    requeues the job.

    Attributes:
        saved: the checkpoint of the interruption.
    """

    def __init__(self) -> None:
        self.saved: Path | None = None
        self._before: dict[int, Any] = {}  # the handlers that were there
        self._after_step: dict[str, Any] | None = None  # of the checkpoint, between a step and the next

    # -- signals -----------------------------------------------------------------------------------------------------
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            forget()
            self.saved = self._after_step = None
            self._listen(trainer)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)  # Lightning's handlers came after on_fit_start

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)

    def _listen(self, trainer: L.Trainer) -> None:
        wanted = [signal.SIGTERM, signal.SIGINT]
        slurm = _slurm(trainer)
        if slurm is not None and slurm.auto_requeue:
            wanted.append(slurm.requeue_signal or signal.SIGUSR1)
        with suppress(ValueError):  # not the main thread
            for signum in wanted:
                if signum == signal.SIGINT and asked() is not None:
                    continue  # another one is to end the process
                before = signal.signal(signum, self._note)
                self._before.setdefault(signum, before)
                # What Lightning goes back to when it is done, if it looked already.
                if signum in trainer._signal_connector._original_handlers:
                    trainer._signal_connector._original_handlers[signum] = self._before[signum]

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # also where Python code does not come to run
        if asked() is None:
            again = ", or end at once on another Ctrl-C" if signum == signal.SIGINT else ""
            said = f"\n{signal.Signals(signum).name}: going to save and stop at the next safe point{again}\n"
            with suppress(OSError):  # nobody listens any more
                os.write(2, said.encode())  # a print in a handler may come in the middle of another
        ask(signum)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._restore()

    def _restore(self) -> None:
        with suppress(ValueError):
            for signum, handler in self._before.items():
                if signal.getsignal(signum) == self._note:
                    signal.signal(signum, handler)
        self._before = {}

    # -- safe points -------------------------------------------------------------------------------------------------
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._after_step = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop._should_accumulate():
            return  # gradients are not saved
        if trainer.strategy.reduce_boolean_decision(asked() is not None, all=False):
            signum = asked() or signal.SIGTERM  # another rank's
            self._save(trainer, None, signum)
            raise Interrupted(signum, None if trainer.is_global_zero else 0)
        if trainer.world_size == 1:
            self._after_step = _state(trainer)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **more: Any
    ) -> None:
        with breakable(trainer.world_size == 1):
            safe_point()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        signum = asked()
        try:
            if signum is not None and self.saved is None:
                self._save_broken_off(trainer, exception, signum)
        finally:
            self._restore()

    def _save_broken_off(self, trainer: L.Trainer, exception: BaseException, signum: int) -> None:
        # Of an exception that is not ours: a loader process that got the signal too, and died of it.
        if self._after_step is not None:
            self._save(trainer, self._after_step, signum)
        elif isinstance(exception, Interrupted) and trainer.is_global_zero:
            said = f"; resume from {trainer.ckpt_path} again" if trainer.ckpt_path else ": start it again"
            _say(f"stopped by {signal.Signals(signum).name} before the first step, there is nothing to save{said}")

    # -- the checkpoint ----------------------------------------------------------------------------------------------
    def _save(self, trainer: L.Trainer, after_step: dict[str, Any] | None, signum: int) -> None:
        slurm = _slurm(trainer)
        connector = trainer._checkpoint_connector
        path = Path(connector.hpc_save_path(str(trainer.default_root_dir)) if slurm else _folder(trainer) / FILE)
        path = Path(trainer.strategy.broadcast(str(path)))
        checkpoint = connector.dump_checkpoint(False)
        trainer.strategy.save_checkpoint({**checkpoint, **(after_step or {})}, path)
        trainer.strategy.barrier("an interruption's checkpoint")
        self.saved = path
        if not trainer.is_global_zero:
            return
        how = "the requeued job goes on from it" if slurm else f"go on with the same command and --ckpt_path {path}"
        if path.exists():
            _say(f"stopped by {signal.Signals(signum).name} after step {trainer.global_step}, saved {path}: {how}")
        if slurm is not None and slurm.auto_requeue and signum == (slurm.requeue_signal or signal.SIGUSR1):
            _requeue()


def _state(trainer: L.Trainer) -> dict[str, Any]:
    """What of a checkpoint changes between a step and the next; the rest is tensors, which do not."""
    loop, data = trainer.fit_loop.epoch_loop, trainer.datamodule  # type: ignore[attr-defined]
    state: dict[str, Any] = {"loops": deepcopy(trainer._checkpoint_connector._get_loops_state_dict())}
    fetcher = trainer.fit_loop._data_fetcher
    if loop._num_ready_batches_reached() or (fetcher is not None and loop._should_check_val_fx(fetcher)):
        state["callbacks"] = deepcopy(call._call_callbacks_state_dict(trainer))
        state["lr_schedulers"] = deepcopy([c.scheduler.state_dict() for c in trainer.lr_scheduler_configs])
        if data is not None:
            state[type(data).__qualname__] = deepcopy(call._call_lightning_datamodule_hook(trainer, "state_dict"))
    return state


def _slurm(trainer: L.Trainer) -> SLURMEnvironment | None:
    environment = trainer._accelerator_connector.cluster_environment
    return environment if isinstance(environment, SLURMEnvironment) else None


def _folder(trainer: L.Trainer) -> Path:
    """Where the run's checkpoints go."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath:
            return Path(callback.dirpath)
    return Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"


def _requeue() -> None:
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID", "")
    number = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
    if not re.fullmatch("[0-9_-]+", number):
        log.error("the job cannot be requeued: SLURM_JOB_ID=%r is no number", number)
        return
    try:
        done = subprocess.run(["scontrol", "requeue", number], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.error("the job %s could not be requeued (%s): submit it again", number, error)
        return
    if done.returncode:
        log.error("the job %s could not be requeued (%s): submit it again", number, done.stderr.strip())
    else:
        _say(f"requeued job {number}")


def _say(sentence: str) -> None:
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)
