"""Checkpoints that are there wholly or not at all, and what to do about those that are not.

Lightning's own are written in the temporary folder and moved: on another disk a move is a copy, which a kill leaves
half done over the file of before, and nothing is synced. A disk that is full ends the run there.
"""

from __future__ import annotations

import errno
import logging
import os
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.plugins.io.wrapper import _WrappingCheckpointIO
from lightning.pytorch.strategies import Strategy

from human.errors import PosesynError

__all__ = ["WholeCheckpoints", "broken", "is_whole", "newest_of_run", "newest_whole", "protect_checkpoints"]

log = logging.getLogger(__name__)

# What a disk says that is full or away for a while; anything else (no permission, no folder) is the user's to mend.
_PASSING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENFILE,
    errno.EMFILE,
}
_PART, _AN_HOUR = ".part", 3600


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, syncs it and renames it; the one of before stays until then.

    Where the disk is full the write is one logged error, training goes on, and nothing is removed that the missing
    checkpoint was to replace. Files that are not on this machine's file systems are left to Lightning.
    """

    def __init__(self) -> None:
        super().__init__()
        self._missing: str | None = None  # the newest checkpoint, where it could not be written
        self._stand_ins: dict[str, list[str]] = {}  # kept for one that could not be written

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        file = Path(path)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _write(checkpoint, file)
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            self._missing = str(path)
            there = newest_whole(file)
            log.error(
                "the checkpoint %s could not be written (%s): training goes on, the newest whole one is %s",
                path,
                error.strerror,
                there or "nowhere",
            )
        else:
            self._missing = None
            for kept in self._stand_ins.pop(str(path), []):
                super().remove_checkpoint(kept)

    def remove_checkpoint(self, path: Any) -> None:
        instead = self._stand_ins.pop(str(path), [])
        if self._missing is not None and self._missing != str(path):
            present = [str(path)] if Path(path).exists() else []
            self._stand_ins.setdefault(self._missing, []).extend([*instead, *present])
            return
        for kept in [str(path), *instead]:
            super().remove_checkpoint(kept)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        file = Path(path)
        try:
            return super().load_checkpoint(path, map_location, weights_only)
        except Exception as error:
            if "://" in str(path) or is_whole(file):
                raise
            raise broken(file) from error


def broken(file: Path) -> PosesynError:
    """What to tell about a checkpoint that cannot be read."""
    what = "is cut off or empty" if file.exists() else "is not there"
    whole = newest_whole(file)
    instead = f"the newest whole one near it is {whole}" if whole else "there is no whole one near it"
    return PosesynError(f"the checkpoint {file} {what}: {instead}")


def require_whole(file: Path) -> None:
    """:class:`PosesynError` for a file that is empty or the beginning of a checkpoint."""
    with file.open("rb") as opened:
        begun = opened.read(2) in (b"", b"PK")
    if begun and not is_whole(file):
        raise broken(file)


def _write(checkpoint: dict[str, Any], file: Path) -> None:
    for left in file.parent.glob(f".*{_PART}"):  # of a run that was killed; another run may be writing its own here
        with suppress(FileNotFoundError):
            if left.name.startswith(f".{file.name}.") or time.time() - left.stat().st_mtime > _AN_HOUR:
                left.unlink()
    part = file.with_name(f".{file.name}.{os.getpid()}{_PART}")
    try:
        with part.open("wb") as out:
            told = _Told(out)
            try:
                torch.save(checkpoint, cast(Any, told))  # it asks for write and flush only
            except RuntimeError as error:  # torch's writer says only that something was not written
                raise told.error or error from error
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, file)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot
            os.fsync(folder)
    finally:
        os.close(folder)


class _Told:
    """A file that remembers what went wrong."""

    def __init__(self, out: Any) -> None:
        self.out = out
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return int(self.out.write(data))
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.out.flush()


def is_whole(file: str | Path) -> bool:
    """Whether a checkpoint was written to its end: the table of contents of its archive comes last."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def newest_whole(near: str | Path) -> Path | None:
    """The newest whole checkpoint in a folder, or beside a file."""
    folder = Path(near) if Path(near).is_dir() else Path(near).parent
    return max((f for f in _checkpoints(folder) if is_whole(f)), key=lambda f: f.stat().st_mtime_ns, default=None)


def newest_of_run(trainer: L.Trainer) -> Path | None:
    """The newest whole checkpoint of the runs that log where this one does (a run resumed has another version)."""
    folders = {Path(c.dirpath) for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.dirpath}
    for logger in trainer.loggers[:1]:
        folders.add(Path(logger.save_dir or trainer.default_root_dir) / str(logger.name))
    folders = folders or {Path(trainer.default_root_dir) / "checkpoints"}
    found = [one for folder in folders if folder.is_dir() and (one := newest_whole(folder)) is not None]
    if SLURMEnvironment.detect():  # where a job that was stopped left its state
        found += [file for file in Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt") if is_whole(file)]
    if not found:
        log.warning(
            "there is no whole checkpoint under %s: starting from the beginning", ", ".join(sorted(map(str, folders)))
        )
        return None
    return max(found, key=lambda file: file.stat().st_mtime_ns)


def _checkpoints(folder: Path) -> Iterator[Path]:
    return (f for f in folder.rglob("*.ckpt") if f.is_file() and not f.name.startswith("."))


def protect_checkpoints(trainer: L.Trainer) -> None:
    """Have ``trainer`` write whole checkpoints, where its strategy writes plain files and nobody chose another way."""
    strategy: Any = trainer.strategy
    if type(strategy).checkpoint_io is not Strategy.checkpoint_io:
        return  # XLA's own
    given = strategy._checkpoint_io
    if isinstance(given, _WrappingCheckpointIO):
        if given.checkpoint_io is None:
            given.checkpoint_io = WholeCheckpoints()
    elif given is None or type(given) is TorchCheckpointIO:
        strategy.checkpoint_io = WholeCheckpoints()
