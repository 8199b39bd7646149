"""Label files of data sets, read so that nothing in them runs or reaches outside, whatever they hold.

Each function gives plain Python and numpy, or one :class:`PosesynError` that names the file, what is wrong with it and
what to do. Pickles (and object arrays in .npz) go through ``human.safe_pickle``; XML may have no DOCTYPE, so no entity
is ever expanded; HDF5 may not link to other files; paths named in label files stay below the root.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import h5py
import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from human.errors import PosesynError
from human.safe_pickle import ArrayFile, resolve, unpickle

_AGAIN = "get it again from the data set's official archive"


def safe_name(name: Any, where: str | Path) -> str:
    """A path that a label file names, relative, with / and no ``.``; refused if it leads out of the root.

    Args:
        name: as written; ``str``.
        where: the label file, for the error.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise PosesynError(f"{where} names the file {name!r}, which is no path: {_AGAIN}")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or path.parts[0].endswith(":"):
        raise PosesynError(f"{where} names the file {name!r}, which is not below the data set's root: {_AGAIN}")
    return path.as_posix()


def safe_join(root: Path, name: Any, where: str | Path) -> Path:
    """``root / name`` for a path that the label file ``where`` names; :class:`PosesynError` if it leads elsewhere."""
    return root / safe_name(name, where)


def shaped(value: Any, shape: Sequence[int | None], where: str | Path, what: str) -> npt.NDArray[np.float64]:
    """``value`` as numbers of that shape (None: any length), or :class:`PosesynError` that tells both shapes."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise PosesynError(f"{where}: {what} does not hold numbers: {_AGAIN}") from None
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise PosesynError(f"{where}: {what} has the shape {array.shape}, not ({wanted}): {_AGAIN}")
    return array


def read_text(path: Path) -> str:
    """A whole file of UTF-8 text."""
    try:
        return _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PosesynError(f"{path} is not text ({error}): {_AGAIN}") from None


def read_pickle(path: Path, keys: Sequence[str] = ()) -> Any:
    """What a pickle holds, as :func:`human.safe_pickle.resolve` gives it; strings of Python 2 are read as latin1.

    Args:
        keys: of a pickled dictionary, which must be there; only these are given.
    """
    _bytes(path, head=True)
    try:
        with path.open("rb") as file:
            content = unpickle(file, str(path))
        if keys and isinstance(content, dict):
            content = _only(path, content, keys)
        elif keys:
            raise PosesynError(f"{path} holds no dictionary: {_AGAIN}")
        return resolve(content)
    except PosesynError:
        raise
    except Exception as error:  # records that contradict themselves fail anywhere
        raise PosesynError(f"{path} is damaged ({type(error).__name__}: {error}): {_AGAIN}") from error


def read_npz(path: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Arrays of an .npz, those in ``keys`` (which must be there) or all; objects in them as in a pickle."""
    if not _bytes(path, head=True).startswith(b"PK"):
        raise PosesynError(f"{path} is no .npz: {_AGAIN}")
    file = ArrayFile(path)
    return {key: file[key] for key in keys or file.keys()}


def read_json(path: Path) -> Any:
    """A JSON file."""
    try:
        return json.loads(_bytes(path))
    except (ValueError, RecursionError) as error:
        raise PosesynError(f"{path} is damaged or no JSON ({error}): {_AGAIN}") from None


def read_mat(path: Path, keys: Sequence[str], simplify: bool = True) -> dict[str, Any]:
    """Variables ``keys`` of a MATLAB file up to version 7 (7.3 is HDF5: :func:`read_h5`).

    Args:
        simplify: structures as dictionaries, cells as lists or object arrays, axes of length 1 dropped; else as scipy's
            ``loadmat`` gives them (numbers keep their axes).
    """
    if _bytes(path, head=True).startswith(b"\x89HDF"):
        raise PosesynError(f"{path} is a MATLAB 7.3 file, which this data set does not have here: {_AGAIN}")
    try:
        content = loadmat(str(path), variable_names=list(keys), simplify_cells=simplify, appendmat=False)
    except Exception as error:  # scipy fails in any way on a damaged file
        raise PosesynError(f"{path} is damaged or no MATLAB file ({type(error).__name__}: {error}): {_AGAIN}") from None
    return _only(path, content, keys)


def read_h5(path: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Data sets of an HDF5 file by path ("group/name"), those in ``keys`` (which must be there) or all; text as str."""

    def read(dataset: h5py.Dataset) -> Any:
        if dataset.external or dataset.is_virtual:
            raise PosesynError(f"{path}: {dataset.name} points to another file, which is not followed: {_AGAIN}")
        if dataset.dtype.hasobject:
            if h5py.check_string_dtype(dataset.dtype) is None:
                return None  # references of MATLAB cells: no numbers
            return dataset.asstr()[()]
        return dataset[()]

    found: dict[str, Any] = {}
    walked: set[int] = set()

    def walk(group: h5py.Group, prefix: str) -> None:
        address = h5py.h5o.get_info(group.id).addr
        if address in walked:  # a circle of hard links
            return
        walked.add(address)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue  # soft and external links may lead to other files
            item, full = group[name], f"{prefix}{name}"
            if isinstance(item, h5py.Group):
                if not keys or any(key.startswith(f"{full}/") for key in keys):
                    walk(item, f"{full}/")
            elif isinstance(item, h5py.Dataset) and (not keys or full in keys):
                found[full] = read(item)

    _bytes(path, head=True)
    try:
        with h5py.File(path, "r") as file:
            walk(file, "")
    except PosesynError:
        raise
    except Exception as error:  # the library fails in many ways on a damaged file
        raise PosesynError(f"{path} is damaged or no HDF5 file ({error}): {_AGAIN}") from None
    return _only(path, found, keys)


def read_xml(path: Path) -> ElementTree.Element:
    """The root element of an XML file; a DOCTYPE (the door to entities and other files) is refused."""
    tree = ElementTree.TreeBuilder()

    def refuse(*args: Any) -> None:
        raise PosesynError(f"{path} declares a DOCTYPE, which no label file needs, and is not read: {_AGAIN}")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.data
    try:
        parser.Parse(_bytes(path), True)
        return tree.close()
    except (expat.ExpatError, AssertionError) as error:
        raise PosesynError(f"{path} is damaged or no XML ({error}): {_AGAIN}") from None


def read_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the regular files in a .tar, .tar.gz, .tar.bz2 or .tar.xz, in order; nothing is unpacked.

    Links and devices are passed over; a name that leads out of the archive is an error.
    """
    _bytes(path, head=True)
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = safe_name(member.name, path)
                file = archive.extractfile(member) if member.isreg() else None
                if file is not None:
                    content = file.read()
                    if len(content) != member.size:
                        raise tarfile.ReadError("unexpected end of data")
                    yield name, content
    except PosesynError:
        raise
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise PosesynError(f"{path} is a damaged archive ({error}): {_AGAIN}") from None


def names_in(folder: Path) -> frozenset[str]:
    """Names of what a folder holds, nothing where there is none; remembered until the folder changes."""
    try:
        return _names(str(folder), folder.stat().st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


@lru_cache(maxsize=4)
def _names(folder: str, changed: int) -> frozenset[str]:
    return frozenset(os.listdir(folder))


def require(path: Path) -> None:
    """:class:`PosesynError` unless there is a file that is neither empty nor a placeholder."""
    _bytes(path, head=True)


def _only(path: Path, content: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    missing = [key for key in keys if key not in content]
    if missing:
        raise PosesynError(f"{path} has no {missing[0]!r}: {_AGAIN}")
    return {key: content[key] for key in keys} if keys else content


def _bytes(path: Path, head: bool = False) -> bytes:
    """A file's bytes (the first 64 with ``head``); an error where it is missing, empty or stands for the real file."""
    try:
        with path.open("rb") as file:
            content = file.read(64 if head else -1)
    except FileNotFoundError:
        raise PosesynError(f"no label file {path}: unpack the data set's archives whole below its root") from None
    except OSError as error:
        raise PosesynError(f"{path} cannot be read ({error}): check the path and its permissions") from None
    if not content:
        raise PosesynError(f"{path} is empty: {_AGAIN}")
    start = content[:64].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"version https://git-lfs")):
        raise PosesynError(f"{path} is a web page or a placeholder, not the file itself: download it again, logged in")
    return content
