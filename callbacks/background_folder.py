"""Refreshes handed to another process, as files:

    RUN/background/journal.json           what came in after which epoch (callbacks.journal)
    RUN/background/worker.log             what the process said
    RUN/background/REFRESH/weights.pt     the estimator's weights of that moment
    RUN/background/REFRESH/task.json      number, seed, pool; written last: a refresh is handed over wholly or not
    RUN/background/REFRESH/shown.pt       what was mined and the first samples, for pictures
    RUN/background/REFRESH/outcome.json   what became of it, written last; the pool had it before

All are plain numbers and tensors; reading them runs nothing.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from callbacks.refresh_log import summary
from human.batch import PoseBatch
from human.errors import PosesynError
from human.prediction import Prediction
from synth.eem import Mined
from synth.pool import GenerationInfo
from synth.refresh import Refreshed
from synth.synthesis import Film

FORMAT = 1


@dataclass(frozen=True)
class Task:
    """Which refresh it is.

    Attributes:
        number: of the refresh in its run.
        seed: of the run.
        tpe: names the weights.
        pool: its folder.
    """

    number: int
    seed: int
    tpe: str
    pool: str


class HandedOver:
    """One refresh in its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def finished(self) -> bool:
        """It has an outcome, good or bad."""
        return self._outcome.is_file()

    # -- by the trainer ----------------------------------------------------------------------------------------------
    def place(self, task: Task, weights: dict[str, Tensor]) -> None:
        """Write a refresh; one that is there already stays as it is, with what came of it."""
        if self.finished or self._task.is_file():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        write(self._weights, lambda file: torch.save(weights, file))
        write(self._task, lambda file: file.write(json.dumps({"format": FORMAT, **asdict(task)}).encode()))

    def settle(self) -> None:
        """On the disk, not only on its way there; slow where the disk is, so not for the trainer's own thread."""
        for path in (self._weights, self._task, self.path):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def outcome(self) -> dict[str, Any]:
        """``failed``: why; or ``summary``, ``info``, ``challenges``, ``seconds``.

        Raises :class:`PosesynError` where there is none.
        """
        try:
            content = json.loads(self._outcome.read_bytes())
            if content["format"] != FORMAT:
                raise PosesynError(f"{self._outcome} is of another format: resume with the posesyn that wrote it")
            return dict(content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PosesynError(f"the refresh {self.path} has no outcome: {error}") from error

    def shown(self) -> Refreshed | None:
        """For pictures and tables; None where it is not kept any more."""
        if not self._shown.is_file():
            return None
        try:
            return unpack(torch.load(self._shown, weights_only=True))
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise PosesynError(f"{self._shown} is damaged ({error}): delete it") from error

    def tidy(self, drop_shown: bool = False) -> None:
        """Delete what nobody needs: the weights of what is finished, and what killed writers left."""
        gone = list(self.path.glob(".*.partial"))
        gone += [self._weights, self._task] if self.finished else []
        gone += [self._shown] if drop_shown else []
        for path in gone:
            path.unlink(missing_ok=True)

    def fail(self, why: str) -> None:
        self._write_outcome(failed=why)

    # -- by the worker -----------------------------------------------------------------------------------------------
    def task(self) -> Task:
        """Raises :class:`PosesynError` where there is none."""
        try:
            content = json.loads(self._task.read_bytes())
            if content.pop("format") != FORMAT:
                raise PosesynError(f"{self._task} is of another format")
            return Task(**content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PosesynError(f"the refresh {self.path} is gone or damaged: {error}") from error

    def weights(self, device: torch.device) -> dict[str, Tensor]:
        """Raises :class:`PosesynError` where the file is gone or damaged."""
        try:
            return dict(torch.load(self._weights, map_location=device, weights_only=True))
        except (OSError, RuntimeError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise PosesynError(f"{self._weights} is gone or damaged: {error}") from error

    def finish(self, done: Refreshed, seconds: float) -> None:
        """The pool has it: say so."""
        write(self._shown, lambda file: torch.save(pack(done), file))
        self._write_outcome(
            summary=summary(done),
            info=asdict(done.info) if done.info else None,
            challenges=[int(i) for i in done.mined.challenges],
            seconds=seconds,
        )

    def _write_outcome(self, **content: Any) -> None:
        text = json.dumps({"format": FORMAT, **content}).encode()
        self.path.mkdir(parents=True, exist_ok=True)
        write(self._outcome, lambda file: file.write(text))

    # -- files -------------------------------------------------------------------------------------------------------
    @property
    def _weights(self) -> Path:
        return self.path / "weights.pt"

    @property
    def _task(self) -> Path:
        return self.path / "task.json"

    @property
    def _shown(self) -> Path:
        return self.path / "shown.pt"

    @property
    def _outcome(self) -> Path:
        return self.path / "outcome.json"


def write(path: Path, fill: Callable[[Any], Any]) -> None:
    """Whole or not at all, also for who reads meanwhile."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            fill(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)


# -- a refresh as plain tensors and numbers --------------------------------------------------------------------------
def pack(done: Refreshed) -> dict[str, Any]:
    mined = done.mined
    return {
        "info": asdict(done.info) if done.info else None,
        "mined": {
            **{f.name: getattr(mined, f.name) for f in fields(mined)},
            **{n: torch.from_numpy(np.array(getattr(mined, n))) for n in ("errors", "challenges", "references")},
            "predictions": None if mined.predictions is None else _columns(mined.predictions),
            "crops": None if mined.crops is None else mined.crops.as_dict(),
        },
        "samples": None if done.samples is None else done.samples.as_dict(),
        "sample_errors": torch.from_numpy(np.array(done.sample_errors)),
        "sample_passed": torch.from_numpy(np.array(done.sample_passed)),
        "films": [_columns(film) for film in done.films],
        "report": {k: _plain(v) for k, v in done.report.items()},
        "checks": {k: _plain(v) for k, v in done.checks.items()},
        "seconds": dict(done.seconds),
        "failed": done.failed,
        **{n: float(getattr(done, n)) for n in ("challenge_error", "err3d_mean", "fit_mean")},
    }


def unpack(content: dict[str, Any]) -> Refreshed:
    mined = dict(content["mined"])
    mined |= {n: mined[n].numpy() for n in ("errors", "challenges", "references")}
    mined["predictions"] = None if mined["predictions"] is None else Prediction(**mined["predictions"])
    mined["crops"] = None if mined["crops"] is None else PoseBatch(**mined["crops"])
    samples = content["samples"]
    return Refreshed(
        **{
            **content,
            "info": GenerationInfo(**content["info"]) if content["info"] else None,
            "mined": Mined(**mined),
            "samples": None if samples is None else PoseBatch(**samples),
            "sample_errors": content["sample_errors"].numpy(),
            "sample_passed": content["sample_passed"].numpy(),
            "films": tuple(Film(**film) for film in content["films"]),
        }
    )


def _columns(record: Any) -> dict[str, Any]:
    return {f.name: getattr(record, f.name) for f in fields(record)}


def _plain(value: Any) -> int | float:
    return int(value) if isinstance(value, int | np.integer) else float(value)
