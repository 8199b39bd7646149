"""Rich progress for every stage: the training bar, and a task for what happens between epochs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def stage_progress(trainer: L.Trainer, title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yields ``tell(stage, done, total)``, which moves a bar on rank 0.

    A second live display beside the training bar is not possible in Rich, so that one's is paused meanwhile.
    """
    if not trainer.is_global_zero:
        yield lambda stage, done, total: None
        return
    bar = getattr(trainer, "progress_bar_callback", None)
    live = getattr(bar, "progress", None) if isinstance(bar, RichProgressBar) else None
    if live is not None:
        live.stop()
    try:
        columns = (TextColumn(f"{title}: {{task.description}}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
            tasks: dict[str, object] = {}

            def tell(stage: str, done: int, total: int) -> None:
                task = tasks.setdefault(stage, progress.add_task(stage, total=total) if stage not in tasks else None)
                progress.update(task, completed=done, total=total)  # type: ignore[arg-type]

            yield tell
    finally:
        if live is not None:
            live.start()
