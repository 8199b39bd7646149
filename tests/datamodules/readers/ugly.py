"""What every reader of an official layout must stand: files that are missing, cut short, changed, or elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.readers.indexed import IndexedReader
from human.errors import PosesynError

Make = Callable[[], IndexedReader]


def check_index_is_kept(make: Make, labels: Path) -> None:
    """Opened again, nothing is scanned; after ``labels`` changed, it is."""
    first = make()
    reader = type(first)
    scans: list[Path] = []
    scan = reader.scan

    def counting(self: IndexedReader, path: Path):  # type: ignore[no-untyped-def]
        scans.append(path)
        return scan(self, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "scan", counting)
        again = make()
        assert not scans
        assert list(again.index.ids) == list(first.index.ids)
        assert again.folder == first.folder
        status = labels.stat()
        os.utime(labels, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
        assert make().folder != first.folder
        assert labels in scans


def check_damage_is_named(make: Make, labels: Path) -> None:
    """Cut short, empty, another file in its place, gone: each is one error that names the file."""
    content = labels.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"<!DOCTYPE html><html>log in</html>"):
        labels.write_bytes(broken)
        with pytest.raises(PosesynError, match=labels.name):
            make()
    labels.unlink()
    with pytest.raises(PosesynError) as caught:
        make()
    assert labels.name in str(caught.value) or make_where(caught.value)
    labels.write_bytes(content)
    make()


def make_where(error: Exception) -> bool:
    """Whether the error tells how to get the data set: where any of several files would do, none is named."""
    return "http" in str(error)


def check_wrong_root(make_at: Callable[[Path], IndexedReader], tmp_path: Path) -> None:
    """A folder that is not there, and an empty one: the error says how to get the data set."""
    for root in (tmp_path / "nowhere", tmp_path / "empty"):
        if root.name == "empty":
            root.mkdir()
        with pytest.raises(PosesynError, match="http") as caught:
            make_at(root)
        assert root.name in str(caught.value)


def check_pictures(reader: IndexedReader) -> None:
    """They decode, and the labelled joints lie on them."""
    index = reader.index
    for i in range(len(index)):
        picture = reader.read_image(i)
        assert picture.std() > 5
        points = index.joints2d[i][index.joints2d[i, :, 2] > 0, :2]
        assert (points > -0.5).all()
        assert (points < [picture.shape[1] - 0.5, picture.shape[0] - 0.5]).all()
