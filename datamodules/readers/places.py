"""Where data sets lie on this machine, and what is missing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from datamodules.readers.base import READERS
from datamodules.readers.indexed import IndexedReader
from human.assets import cache_root
from human.errors import PosesynError

VARIABLE = "POSESYN_DATA"


@dataclass(frozen=True)
class Place:
    """A data set's ``folder`` (None: not found) and the splits whose label files are there, by number of files;
    ``problem`` says what is missing or how to get it."""

    name: str
    folder: Path | None
    splits: dict[str, int]
    problem: str = ""


def data_folders() -> list[Path]:
    """Folders of data sets, in order: ``$POSESYN_DATA`` (several apart by the system's path separator), ``data`` in the
    working directory, ``data`` in posesyn's cache."""
    own = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [*own, Path("data").absolute(), cache_root() / "data"]


def find_dataset(name: str) -> Path | None:
    """The first folder of these that is called as the reader, or as one of its ``folders``; upper and lower case are
    one, and - and _ too."""
    reader = READERS.get(name)
    wanted = {_plain(n) for n in (name, *getattr(reader, "folders", ()))}
    for parent in data_folders():
        if parent.is_dir():
            for folder in sorted(parent.iterdir()):
                if _plain(folder.name) in wanted and folder.is_dir():
                    return folder
    return None


def require_dataset(name: str) -> Path:
    """:func:`find_dataset`, or one error that says where it was looked for and how to get the set."""
    folder = find_dataset(name)
    if folder is None:
        raise PosesynError(
            f"no folder of {name} in {', '.join(map(str, data_folders()))}: say where it is ({name}=FOLDER, or its "
            f"parent in {VARIABLE}); to get it: {getattr(READERS.get(name), 'where', 'see its documentation')}"
        )
    return folder


def look(name: str) -> Place:
    """What is there of a data set that is read from official files; nothing is indexed."""
    reader = READERS.get(name)
    assert issubclass(reader, IndexedReader)
    folder = find_dataset(name)
    if folder is None:
        return Place(name, None, {}, reader.where)
    splits: dict[str, int] = {}
    problem = ""
    for split in reader.splits:
        try:
            files = reader.list_labels(folder, split)
        except PosesynError as error:
            problem = problem or str(error)
            continue
        if files:
            splits[split] = len(files)
    if not splits and not problem:
        problem = f"no label files there: {reader.where}"
    return Place(name, folder, splits, problem)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")
