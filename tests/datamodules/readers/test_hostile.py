"""Hostile label files, for every registered reader and every kind of file that it parses: nothing in them runs."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from datamodules.readers import make_reader
from human.errors import PosesynError
from human.safe_pickle import ArrayFile
from tests.datasets import panoptic
from tests.datasets.instances import INSTANCES
from tests.datasets.people import make_people

pytestmark = pytest.mark.usefixtures("body_files")
Hostile = Iterator[tuple[str, bytes]]


class Bomb:
    """Makes the folder ``mark`` when somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_the_bomb_goes_off_in_an_ordinary_unpickler(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").is_dir()


def bombs(mark: Path) -> Hostile:
    """Files of other kinds, for readers that would look at what a file is rather than what it is called."""
    yield "a pickle", pickle.dumps(Bomb(mark), 2)
    yield "a pickle in text", pickle.dumps(Bomb(mark), 0)
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(mark)], object), allow_pickle=True)
    yield "an array of objects", buffer.getvalue()


def pickles(path: Path, mark: Path) -> Hostile:
    yield from bombs(mark)
    yield "bombs below keys", pickle.dumps({"betas": Bomb(mark), "camera": {"intrinsics": [Bomb(mark)]}}, 4)
    yield "a bomb behind the real content", path.read_bytes()[:-1] + b"0" + pickle.dumps(Bomb(mark), 0)


def archives(path: Path, mark: Path) -> Hostile:
    """Each member in turn an array of objects; the others as they are."""
    yield from bombs(mark)
    file = ArrayFile(path)
    content = {key: np.asarray(file[key]) for key in file.keys()}  # noqa: SIM118
    for key, column in content.items():
        buffer = io.BytesIO()
        np.savez(buffer, **{**content, key: np.array([Bomb(mark)] * max(1, column.size), object)})
        yield f"bombs in {key}", buffer.getvalue()


def matlab(path: Path, mark: Path) -> Hostile:
    """MATLAB files hold no code of ours: variables whose bytes are pickles."""
    yield from bombs(mark)
    if path.read_bytes().startswith(b"\x89HDF"):
        yield from hdf(path, mark)
        return
    bomb = np.frombuffer(pickle.dumps(Bomb(mark)), np.uint8)
    buffer = io.BytesIO()
    savemat(buffer, dict.fromkeys(("joints", "pos_img", "part_mask", "RELEASE", "annot2"), bomb))
    yield "variables that are pickles", buffer.getvalue()


def hdf(path: Path, mark: Path) -> Hostile:
    """Data sets that are pickles, as people store objects in HDF5, and links to other files."""
    yield from bombs(mark)
    with h5py.File(path, "r") as file:
        keys = list(file)
    values: dict[str, Any] = {
        "pickles": np.void(pickle.dumps(Bomb(mark))), "links": h5py.ExternalLink("/etc/hostname", "/"),
        "text": f"__import__('os').mkdir('{mark}')",
    }  # fmt: skip
    for what, value in values.items():
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            for key in keys:
                file[key] = value
        yield what, buffer.getvalue()


def text(path: Path, mark: Path) -> Hostile:
    yield from bombs(mark)
    code = f"__import__('os').mkdir({str(mark)!r})"
    yield "Python", code.encode()
    yield "Python in text", f'{{"bodies": "{code}", "images": ["{code}"], "cameras": "{code}"}}'.encode()
    if path.suffix == ".xml":
        yield "an entity", f'<!DOCTYPE a [<!ENTITY e SYSTEM "{path.as_uri()}">]><a><w0>&e;</w0></a>'.encode()


#: By the ending of a label file: hostile contents in its place.
KINDS: dict[str, Callable[[Path, Path], Hostile]] = {
    ".pkl": pickles, ".npz": archives, ".mat": matlab, ".h5": hdf, ".json": text, ".xml": text, ".txt": text,
    ".cdf": matlab,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(n for n, instance in INSTANCES.items() if instance.labels))
def test_nothing_in_label_files_runs(name: str, tmp_path: Path) -> None:
    """One file for each pattern of the table: one error of ours, or persons left out, and no bomb goes off."""
    instance, mark = INSTANCES[name], tmp_path / "executed"
    options = instance.write(tmp_path / "root", make_people, 2, tmp_path / "cache")
    files = [next(tmp_path.glob(f"root/{pattern}")) for pattern in instance.labels]
    for path in files:
        whole, refused = path.read_bytes(), 0
        for what, hostile in list(KINDS[path.suffix](path, mark)):
            path.write_bytes(hostile)
            try:
                assert len(make_reader(name, options).index)
            except PosesynError:
                refused += 1
            assert not mark.exists(), f"{path.name} of {name}: {what} ran"
        assert refused, f"{path.name} of {name} is not even read"
        path.write_bytes(whole)


def test_members_of_archives_stay_inside(tmp_path: Path) -> None:
    """Panoptic's joints may still be in their .tar: links and names that lead out are not followed."""
    people, sequence = make_people(("neutral",), 2, cameras=2), "171204_pose1"
    panoptic.write(tmp_path / "root", people, (sequence,), tar=True)
    archive = tmp_path / "root" / sequence / "hdPose3d_stage1_coco19.tar"
    for name, link in (("../../out/body3DScene_00000010.json", ""), ("body3DScene_00000010.json", "/etc/hostname")):
        with tarfile.open(archive, "w") as file:
            member = tarfile.TarInfo(name)
            if link:
                member.type, member.linkname = tarfile.SYMTYPE, link
            file.addfile(member)
        with pytest.raises(PosesynError):
            make_reader("panoptic", {"root": tmp_path / "root", "split": "all", "cache": tmp_path / "cache"})
    assert not (tmp_path / "out").exists()
