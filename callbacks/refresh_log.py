"""What a refresh leaves in the run's history and log."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
import numpy as np

from synth.pool import GenerationInfo
from synth.refresh import Refreshed

log = logging.getLogger("callbacks.refresh")


def summary(done: Refreshed) -> dict[str, Any]:
    info: GenerationInfo | None = done.info
    return {
        "generation": info.generation if info else None,
        "made": info.count if info else 0,
        "passed": info.passed if info else 0,
        "challenge_error": number(done.challenge_error),
        "err3d_mean": number(done.err3d_mean),
        "fit_mean": number(done.fit_mean),
        "eligible": done.mined.eligible,
        "not_finite": done.mined.not_finite,
        "unreadable": done.mined.unreadable,
        **({"failed_jobs": done.failed} if done.failed else {}),
        **(
            {"checks": {k: v if isinstance(v, int) else number(v) for k, v in done.checks.items()}}
            if done.checks
            else {}
        ),
        "synthesis": {k: v if isinstance(v, int) else number(v) for k, v in done.report.items()},
        "stages": {k: round(v, 3) for k, v in done.seconds.items()},
    }


def number(value: float) -> float | None:
    """None for NaN, which JSON does not have."""
    return value if np.isfinite(value) else None


def log_lag(trainer: L.Trainer, entry: dict[str, Any]) -> None:
    """Note how many steps were trained between the weights that a generation was made with (``step``) and the first
    batch that may hold its samples.
    """
    if "step" not in entry:  # placed by a posesyn that did not say
        return
    entry["lag_steps"] = trainer.global_step - entry["step"]
    for logger in trainer.loggers:
        logger.log_metrics({"refresh/lag_steps": entry["lag_steps"]}, step=trainer.global_step)


def warn_about(done: Refreshed) -> None:
    mined = done.mined
    if done.report.get("fell_back"):
        figures = ("slots", "fell_back", "captions_replaced")
        reasons = [f"{n} {name}" for name, n in done.report.items() if isinstance(n, int) and n and name not in figures]
        log.warning(
            "%d of %d samples fell back to variation (%s)",
            done.report["fell_back"],
            done.report["slots"],
            ", ".join(reasons),
        )
    if done.failed:
        log.warning("%d of %d jobs could not be made", done.failed, done.info.count if done.info else done.failed)
    if mined.not_finite or mined.unreadable:
        log.warning(
            "mining skipped %d predictions that were not finite and %d unreadable pictures",
            mined.not_finite,
            mined.unreadable,
        )
    if done.info is None:
        log.warning("nobody could be mined (%d persons are eligible): the pool stays as it is", mined.eligible)
    elif done.info.passed == 0:
        log.warning(
            "none of %d synthetic samples passed the filter: raise filter.tau, or set it to null", done.info.count
        )
