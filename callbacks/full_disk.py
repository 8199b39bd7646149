"""Tables and pictures that a full disk has no room for are missed, and training goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.loggers import CSVLogger

log = logging.getLogger(__name__)


@contextmanager
def missed(what: str) -> Iterator[None]:
    """A file of a run that cannot be written is one logged error."""
    try:
        yield
    except OSError as error:
        log.error("%s could not be written (%s): training goes on without", what, error)


def protect_loggers(trainer: L.Trainer) -> None:
    """The same for Lightning's own table of metrics, which keeps what it could not write for the next time."""

    def forgiving(save: Callable[[], None], what: str) -> Callable[[], None]:
        def saved() -> None:
            with missed(what):
                save()

        return saved

    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger):
            given: Any = logger
            given.save = forgiving(logger.save, f"metrics.csv in {logger.log_dir}")
