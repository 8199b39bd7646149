"""Being asked to stop: a signal leaves a note, and long work is broken off where that does no harm.

Whoever can pick the work up again wraps it in :func:`breakable`; loops over batches and jobs call :func:`safe_point`,
which does nothing anywhere else.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(SystemExit):
    """Ends the process with the status that shells give to the signal: 143 for SIGTERM, 130 for Ctrl-C."""

    def __init__(self, signum: int, status: int | None = None) -> None:
        super().__init__(128 + signum if status is None else status)
        self.signum = signum

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}"


_asked: int | None = None
_breakable = 0


def ask(signum: int) -> None:
    """Leave the note; the first one counts."""
    global _asked
    _asked = signum if _asked is None else _asked


def asked() -> int | None:
    """The signal that asks this process to stop."""
    return _asked


def forget() -> None:
    """Take the note away: a new run begins in this process."""
    global _asked
    _asked = None


@contextmanager
def breakable(allowed: bool = True) -> Iterator[None]:
    """What runs inside may be broken off at any :func:`safe_point` and done again."""
    global _breakable
    _breakable += allowed
    try:
        yield
    finally:
        _breakable -= allowed


def safe_point() -> None:
    """Raises :class:`Interrupted` inside :func:`breakable` where the process was asked to stop."""
    if _breakable and _asked is not None:
        raise Interrupted(_asked)
