"""Motion capture files as SMPL poses: AMASS (.npz), BVH, Acclaim (.amc with .asf), DeepMimic (.txt, .json).

``read_motion`` tells the format by suffix and content; ``read_motion_folder`` skips what cannot be read, counted.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from human.errors import PosesynError
from human.mocap.amass import read_amass
from human.mocap.asfamc import read_amc
from human.mocap.bvh import read_bvh
from human.mocap.clip import Motion, bank_from_motions
from human.mocap.deepmimic import read_deepmimic

__all__ = [
    "Motion",
    "bank_from_motions",
    "read_amass",
    "read_amc",
    "read_bvh",
    "read_deepmimic",
    "read_motion",
    "read_motion_files",
    "read_motion_folder",
]

log = logging.getLogger(__name__)

_READERS = {".npz": read_amass, ".bvh": read_bvh, ".amc": read_amc, ".json": read_deepmimic, ".txt": read_deepmimic}
_BESIDE = {".asf"}  # read together with a motion


def read_motion(path: str | Path) -> Motion:
    """Read one motion file; :class:`PosesynError` says in one sentence what is wrong with a bad one."""
    path = Path(path)
    if not path.is_file():
        raise PosesynError(f"there is no motion file {path}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None or path.suffix.lower() == ".txt":
        with path.open("rb") as stream:
            start = stream.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
        if start.upper().startswith(b"HIERARCHY"):
            reader = read_bvh
        elif start.startswith(b"PK"):
            reader = read_amass
        elif start.startswith(b"{"):
            reader = read_deepmimic
        else:
            known = ", ".join(_READERS)
            raise PosesynError(f"{path} is no motion file by name or content; known are {known}")
    return reader(path)


def read_motion_folder(folder: str | Path) -> list[Motion]:
    """All motions below a folder, in the order of their paths.

    Files of other kinds (pictures, licences, .asf) are passed over. A motion file that cannot be read is skipped; one
    log line counts them. Nothing readable at all is an error.
    """
    motions = [motion for _, motion in read_motion_files(folder)]
    twice = {name for name, count in Counter(m.name for m in motions).items() if count > 1}
    if twice:
        log.info("%s: %d clip names occur in several folders; they are numbered", folder, len(twice))
    return motions


def read_motion_files(folder: str | Path, failures: list[str] | None = None) -> list[tuple[Path, Motion]]:
    """As `read_motion_folder`, each motion with its file; what is wrong with a skipped one is added to ``failures``."""
    folder = Path(folder)
    if not folder.is_dir():
        raise PosesynError(f"there is no folder of motions {folder}")
    motions: list[tuple[Path, Motion]] = []
    failures = [] if failures is None else failures
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in _READERS and p.is_file()):
        if path.suffix.lower() == ".txt" and not _looks_like_json(path):
            continue  # a licence, a read-me or captions
        try:
            motions.append((path, read_motion(path)))
        except PosesynError as error:
            failures.append(str(error))
    if failures:
        log.warning("%s: skipped %d of %d motion files that cannot be read; the first: %s",
                    folder, len(failures), len(failures) + len(motions), failures[0])  # fmt: skip
    if not motions:
        what = failures[0] if failures else f"it holds no {', '.join(_READERS)} file"
        raise PosesynError(f"no motion could be read from {folder}: {what}")
    return motions


def _looks_like_json(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(64).lstrip().startswith(b"{")
