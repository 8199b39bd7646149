"""Readers of data sets in their official layout: what each has to say, and everything they share.

A data set's reader names its label files and turns each into :class:`Persons`, in the set's own joints. Here these
become one checked index (POSE32 beside the native joints), kept on disk (``index_store``) and opened as memory maps.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from datamodules.readers.base import EXTRAS, PersonIndex, PoseReader
from datamodules.readers.index_store import Skipped, Stored, index_folder, open_index, open_or_build, stamp
from datamodules.readers.pictures import read_picture
from human.errors import PosesynError
from human.skeleton import convert, get_skeleton

log = logging.getLogger(__name__)
Array = npt.NDArray[Any]


@dataclass
class Persons:
    """N persons of one label file, as the data set labels them; see ``base.EXTRAS`` for units and frames.

    ids: unique in the data set. pictures: paths below the root with /; a video's frame is "PATH#NUMBER" (from 0).
    native2d (N,J,3) and/or native3d (N,J,4) in the reader's skeleton. Without ``native2d`` the 3D joints are projected
    by ``intrinsics`` (N,3,3). ``bbox`` (N,4) px: the set's own box where the protocol wants it, else it is the tight
    box of the 2D joints with confidence. ``people`` (N,): persons in the picture where not all are listed. ``more``:
    further columns of ``base.EXTRAS``; of a body, what a person lacks (see ``may_lack``) is all NaN.
    """

    ids: Sequence[str]
    pictures: Sequence[str]
    native2d: Array | None = None
    native3d: Array | None = None
    intrinsics: Array | None = None
    bbox: Array | None = None
    people: Array | None = None
    more: Mapping[str, Array] = field(default_factory=dict)


class IndexedReader(PoseReader):
    """A data set below ``root``.

    Class attributes: ``name``, ``licence``, ``skeleton``, ``body`` as in :class:`PoseReader`; ``where``: how to get the
    data; ``splits``: their names, the first is the default; ``version``: raise it when :meth:`scan` changes.

    Args:
        root: the folder that the official archives unpack to.
        split: part of the data set.
        cache: where indices are kept; the user's cache by default.

    Raises:
        PosesynError: no such split, a label file that is missing or damaged (which, and what to do), no usable person.
    """

    where: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]
    #: Names that the root folder often has, beside the reader's own.
    folders: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    #: Fewest 2D joints with confidence that a person needs.
    least_joints: ClassVar[int] = 2
    #: Of pose, betas and transl, those that a person may lack, all NaN; else who lacks one is left out.
    may_lack: ClassVar[tuple[str, ...]] = ()
    checked = True  # when it was built

    def __init__(self, root: str | Path, split: str | None = None, cache: str | Path | None = None) -> None:
        self.root = Path(root)
        self.split = split or self.splits[0]
        if self.split not in self.splits:
            raise PosesynError(f"{self.name} has no split {split!r}; known: {', '.join(self.splits)}.")
        if not self.root.is_dir():
            raise PosesynError(f"no folder {self.root.absolute()} for {self.name}: {self.where}")
        self.source = str(self.root.resolve())
        self.skipped = Skipped()
        files = self.label_files()
        if not files:
            raise PosesynError(f"no labels of {self.name} ({self.split}) below {self.root.absolute()}: {self.where}")
        facts = {"root": self.source, "files": stamp(files, self.root), **self.facts()}
        self.folder = index_folder(f"{self.name}-{self.split}", facts, Path(cache) if cache else None)
        people: list[int] = []
        stored = open_or_build(self.folder, lambda: self._chunks(files, people), self.skipped, people)
        for line in stored.skipped:
            log.warning("%s (%s): left out %s", self.name, self.split, line)
        if not stored.columns:
            why = "; ".join(stored.skipped) or "the label files name nobody"
            raise PosesynError(f"{self.name} ({self.split}) has no usable person below {self.root.absolute()}: {why}")
        self._use(stored)

    def _use(self, stored: Stored) -> None:
        columns = dict(stored.columns)
        self.pictures = columns.pop("pictures")
        base = {
            n: columns.pop(n) for n in ("ids", "bbox_xyxy", "joints2d", "joints3d", "intrinsics", "people", "image")
        }
        self.index = PersonIndex(**base, extras=columns)

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled by value; a loader's process maps it anew.
        return {k: v for k, v in self.__dict__.items() if k not in ("index", "pictures")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        try:
            self._use(open_index(self.folder))
        except FileNotFoundError:
            raise PosesynError(
                f"the index {self.folder} of {self.name} is gone: start again, it is made anew"
            ) from None

    @classmethod
    def list_labels(cls, root: Path, split: str) -> list[Path]:
        """The label files of a split that are there; nothing is read. Errors as the constructor's."""
        reader = cls.__new__(cls)
        reader.root, reader.split, reader.skipped = Path(root), split, Skipped()
        return [path for path in reader.label_files() if path.is_file()]

    # -- what a data set's reader says ---------------------------------------------------------------------------------
    @abstractmethod
    def label_files(self) -> list[Path]:
        """The files that the index of this split is made from; those that must exist are listed even if they do not."""

    @abstractmethod
    def scan(self, path: Path) -> Persons | Iterator[Persons]:
        """The persons of one label file, or chunks of them; what is left out is told to ``self.skipped``."""

    def facts(self) -> dict[str, Any]:
        """Options that change the index; a reader with options of its own adds them."""
        return {"split": self.split, "version": self.version}

    # -- shared --------------------------------------------------------------------------------------------------------
    def read_image(self, i: int) -> npt.NDArray[np.uint8]:
        return read_picture(self.root, self.pictures[i])

    def _chunks(self, files: Sequence[Path], people: list[int]) -> Iterator[dict[str, Any]]:
        numbers: dict[str, int] = {}  # of pictures; a picture's persons may lie in several files
        console = Console(stderr=True)
        for path in track(files, f"indexing {self.name} ({self.split})", transient=True, console=console):
            for persons in self._scanned(path):
                image = np.array([numbers.setdefault(p, len(numbers)) for p in persons.pictures], np.int32)
                people.extend([0] * (len(numbers) - len(people)))
                for number in image.tolist():  # also of those that are left out below: they are in the picture
                    people[number] += 1
                if chunk := self._columns(persons, image, path):
                    yield chunk

    def _scanned(self, path: Path) -> Iterator[Persons]:
        """What :meth:`scan` gives; a file of the right kind with other things in it may fail there in any way."""
        try:
            scanned = self.scan(path)
            yield from [scanned] if isinstance(scanned, Persons) else scanned
        except OSError as error:
            raise PosesynError(f"{path} cannot be read ({error}): check its disk and permissions") from error
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise PosesynError(
                f"{path} does not hold what {self.name} should have there ({type(error).__name__}: {error}): "
                "get the official file again"
            ) from error

    def _columns(self, persons: Persons, image: Array, path: Path) -> dict[str, Any]:
        """One chunk as checked columns; persons that cannot be used are counted and left out."""
        n, j = len(persons.ids), len(get_skeleton(self.skeleton))
        if n == 0:
            return {}
        unknown = np.full((n, 3, 3), np.nan)
        camera = unknown if persons.intrinsics is None else np.broadcast_to(persons.intrinsics, (n, 3, 3))
        native3d = np.zeros((n, j, 4)) if persons.native3d is None else np.asarray(persons.native3d, np.float64)
        native3d = _cleared(native3d)
        native2d = (
            _projected(native3d, camera) if persons.native2d is None else np.asarray(persons.native2d, np.float64)
        )
        native2d = _cleared(native2d)
        if native2d.shape != (n, j, 3) or native3d.shape != (n, j, 4):
            raise PosesynError(
                f"{path}: {self.skeleton} joints of shape {native2d.shape}, {native3d.shape} for {n} persons"
            )
        seen = native2d[..., 2:] > 0
        low = np.where(seen, native2d[..., :2], np.inf).min(1)
        high = np.where(seen, native2d[..., :2], -np.inf).max(1)
        bbox = np.concatenate([low, high], 1) if persons.bbox is None else np.asarray(persons.bbox, np.float64)
        with np.errstate(invalid="ignore"):
            reasons = {
                f"persons with fewer than {self.least_joints} labelled joints": seen[..., 0].sum(1) < self.least_joints,
                "persons without a box": ~(np.isfinite(bbox).all(1) & (bbox[:, 2:] > bbox[:, :2]).all(1)),
                "persons behind the camera": ((native3d[..., 3] > 0) & (native3d[..., 2] <= 0)).any(1)
                & np.isfinite(camera).all((1, 2)),
            }
        for name, column in persons.more.items():
            if name not in EXTRAS:
                raise KeyError(f"{self.name}: no column is called {name!r}; known: {', '.join(EXTRAS)}")
            if name in ("pose", "betas", "transl"):
                finite = np.isfinite(np.asarray(column, np.float64).reshape(n, -1))
                reasons[f"persons whose {name} is not finite"] = ~finite.all(1) & (
                    finite.any(1) | (name not in self.may_lack)
                )
        keep = np.ones(n, bool)
        for reason, bad in reasons.items():
            for i in np.flatnonzero(bad & keep).tolist():
                self.skipped.add(reason, persons.ids[i])
            keep &= ~bad
        rows: list[int] = np.flatnonzero(keep).tolist()
        if not rows:
            return {}
        p2, c2 = convert(native2d[..., :2], native2d[..., 2], self.skeleton, "pose32")
        p3, c3 = convert(native3d[..., :3], native3d[..., 3], self.skeleton, "pose32")
        pictures = [persons.pictures[i] for i in rows]
        people = np.ones(n, np.int16) if persons.people is None else np.asarray(persons.people)
        numeric: dict[str, Any] = {
            "bbox_xyxy": bbox[rows],
            "joints2d": np.concatenate([p2, c2[..., None]], -1)[rows],
            "joints3d": np.concatenate([p3, c3[..., None]], -1)[rows],
            "intrinsics": camera[rows],
            "native2d": native2d[rows],
        }
        if persons.native3d is not None:
            numeric["native3d"] = native3d[rows]
        columns: dict[str, Any] = {name: np.asarray(column, np.float32) for name, column in numeric.items()}
        columns |= {name: np.asarray(column)[rows].astype(EXTRAS[name][0]) for name, column in persons.more.items()}
        ids = [persons.ids[i] for i in rows]
        columns |= {"image": image[rows], "people": people[rows].astype(np.int16)}
        PersonIndex(ids=ids, **{
            k: columns[k] for k in ("image", "people", "bbox_xyxy", "joints2d", "joints3d", "intrinsics")
        }).validate()  # fmt: skip
        return {"ids": ids, "pictures": pictures, **columns}


def _cleared(values: Array) -> Array:
    """Coordinates 0 and confidence 0 where a joint is not labelled or not finite."""
    labelled = (values[..., -1] > 0) & np.isfinite(values).all(-1)
    return np.where(labelled[..., None], values, 0.0)


def _projected(native3d: Array, camera: Array) -> Array:
    homogeneous = np.einsum("nij,nkj->nki", camera, native3d[..., :3])
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = homogeneous[..., :2] / homogeneous[..., 2:]
    return np.concatenate([pixels, native3d[..., 3:]], -1)
