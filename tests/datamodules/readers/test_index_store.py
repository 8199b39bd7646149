"""Indices on disk: made once, whole or not at all, by one of many processes; opened without reading them."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from datamodules.readers.index_store import Names, Skipped, index_folder, open_index, open_or_build, stamp
from human.errors import PosesynError

ROOT = Path(__file__).resolve().parents[3]


def chunk(first: int, count: int) -> dict[str, Any]:
    numbers = np.arange(first, first + count)
    return {
        "ids": [f"set/é{i}" for i in numbers],
        "pictures": [f"images/{i // 2:05d}.jpg" for i in numbers],
        "image": (numbers // 2).astype(np.int32),
        "people": np.ones(count, np.int16),
        "joints2d": np.broadcast_to(numbers[:, None, None], (count, 32, 3)).astype(np.float32),
    }


def chunks(sizes: tuple[int, ...] = (3, 1, 0, 2)) -> Iterator[dict[str, Any]]:
    first = 0
    for size in sizes:
        yield chunk(first, size)
        first += size


def build(folder: Path, skipped: Skipped | None = None) -> Any:
    return open_or_build(folder, chunks, skipped or Skipped(), [2, 2, 7])


def test_what_is_written_is_what_is_opened(tmp_path: Path) -> None:
    skipped = Skipped()
    for name in "wxyz":
        skipped.add("persons without a head", name)
    stored = build(tmp_path / "i", skipped)
    assert stored.skipped == ["4 persons without a head (as w, x, y)"]
    whole = chunk(0, 6)
    assert stored.columns["ids"] == whole["ids"]
    assert stored.columns["pictures"][-1] == "images/00002.jpg"
    assert stored.columns["people"].tolist() == [2, 2, 2, 2, 7, 7]  # also those that are not listed
    for name in ("image", "joints2d"):
        np.testing.assert_array_equal(stored.columns[name], whole[name])
        assert stored.columns[name].dtype == whole[name].dtype
    with pytest.raises(ValueError, match="read-only"):
        stored.columns["joints2d"][0] = 1
    table = pq.read_table(tmp_path / "i" / "index.parquet")
    assert table["ids"].to_pylist() == whole["ids"]
    assert table["people"].to_pylist() == [2, 2, 2, 2, 7, 7]
    np.testing.assert_array_equal(np.stack(table["joints2d"].to_pylist()), whole["joints2d"].reshape(6, -1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i", "i.lock"]


def test_it_is_built_once(tmp_path: Path) -> None:
    build(tmp_path / "i")

    def again() -> Iterator[dict[str, Any]]:
        raise AssertionError("built twice")

    assert len(open_or_build(tmp_path / "i", again, Skipped(), []).columns["ids"]) == 6


def test_nobody_is_an_index_too(tmp_path: Path) -> None:
    skipped = Skipped({"persons": 1}, {"persons": ["x"]})
    for _ in range(2):
        stored = open_or_build(tmp_path / "i", lambda: iter([]), skipped, [])
        assert (stored.columns, stored.skipped) == ({}, ["1 persons (as x)"])


def _race(folder: Path, log: Path) -> None:
    def slow() -> Iterator[dict[str, Any]]:
        with log.open("a") as file:
            file.write("built\n")
        for part in chunks():
            time.sleep(0.1)
            yield part

    with log.open("a") as file:
        file.write("started\n")
    while log.read_text().count("started") < 2:
        time.sleep(0.02)
    stored = open_or_build(folder, slow, Skipped(), [2, 2, 2])
    with log.open("a") as file:
        file.write(f"opened {len(stored.columns['ids'])}\n")


def _process(*words: str | Path) -> subprocess.Popen[bytes]:
    """This module's ``main`` in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", __name__, *map(str, words)], cwd=ROOT)


def test_of_two_processes_one_builds(tmp_path: Path) -> None:
    racers = [_process("race", tmp_path / "i", tmp_path / "log") for _ in range(2)]
    assert [racer.wait(300) for racer in racers] == [0, 0]
    told = sorted((tmp_path / "log").read_text().split())
    assert told == ["6", "6", "built", "opened", "opened", "started", "started"]


def _hang(folder: Path, reached: Path) -> None:
    def stuck() -> Iterator[dict[str, Any]]:
        yield chunk(0, 3)
        reached.touch()
        time.sleep(600)

    open_or_build(folder, stuck, Skipped(), [2, 2])


def test_a_killed_build_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    process = _process("hang", tmp_path / "i", tmp_path / "reached")
    deadline = time.monotonic() + 300
    while not (tmp_path / "reached").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (tmp_path / "i").exists()
    assert len(list(tmp_path.glob(".i.*"))) == 1  # what it had written
    assert len(build(tmp_path / "i").columns["ids"]) == 6
    assert not list(tmp_path.glob(".i.*"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, PosesynError("the label file is damaged")])
def test_a_build_that_fails_leaves_nothing(tmp_path: Path, error: Any) -> None:
    def fails() -> Iterator[dict[str, Any]]:
        yield chunk(0, 3)
        raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        open_or_build(tmp_path / "i", fails, Skipped(), [2, 2])
    assert [p.name for p in tmp_path.iterdir()] == ["i.lock"]
    assert len(build(tmp_path / "i").columns["ids"]) == 6


def cut(folder: Path) -> None:
    file = folder / "joints2d.bin"
    file.write_bytes(file.read_bytes()[:-1])


def lose(folder: Path) -> None:
    (folder / "ids.bin").unlink()


def scribble(folder: Path) -> None:
    (folder / "meta.json").write_text('{"rows": 6')


def list_of_nothing(folder: Path) -> None:
    (folder / "meta.json").write_text("[]")


def wrong_offsets(folder: Path) -> None:
    np.full(7, 2**40).tofile(folder / "ids.offsets.bin")


def no_meta(folder: Path) -> None:
    (folder / "meta.json").unlink()


@pytest.mark.parametrize("damage", [cut, lose, scribble, list_of_nothing, wrong_offsets, no_meta])
def test_a_damaged_index_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    build(tmp_path / "i")
    damage(tmp_path / "i")
    if damage is not no_meta:
        with pytest.raises(PosesynError, match=r"index in .* is damaged"):
            open_index(tmp_path / "i")
    with caplog.at_level(logging.WARNING):
        stored = build(tmp_path / "i")
    assert stored.columns["ids"] == chunk(0, 6)["ids"]
    assert ("is damaged" in caplog.text) == (damage is not no_meta)


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(PosesynError, match="cannot write the index"):
        build(tmp_path / "file" / "i")


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    def twice() -> Iterator[dict[str, Any]]:
        yield chunk(0, 3)
        yield chunk(2, 1)

    with pytest.raises(PosesynError, match="name the person 'set/é2' twice"):
        open_or_build(tmp_path / "i", twice, Skipped(), [2, 2])
    assert not (tmp_path / "i").exists()


def test_chunks_must_have_the_same_columns(tmp_path: Path) -> None:
    def lacks(name: str, first: bool) -> Callable[[], Iterator[dict[str, Any]]]:
        less = {k: v for k, v in chunk(3, 2).items() if k != name}
        return lambda: iter([less, chunk(0, 3)] if first else [chunk(0, 3), less])

    for name in ("joints2d", "pictures"):
        for first in (True, False):
            with pytest.raises(ValueError, match=f"column {name} is not in every chunk"):
                open_or_build(tmp_path / "i", lacks(name, first), Skipped(), [2, 2, 2])
    wide = {**chunk(3, 2), "joints2d": np.zeros((2, 17, 3), np.float32)}
    with pytest.raises(ValueError, match="column joints2d"):
        open_or_build(tmp_path / "i", lambda: iter([chunk(0, 3), wide]), Skipped(), [2, 2, 2])


# ------------------------------------------------------------------------------------------------------------- stamps


def test_a_changed_label_file_makes_another_index(tmp_path: Path) -> None:
    file = tmp_path / "labels" / "a.pkl"
    file.parent.mkdir()
    file.write_bytes(b"12")

    def folder(**more: Any) -> Path:
        return index_folder("set", {"files": stamp([file], tmp_path), **more}, tmp_path / "cache")

    first = folder()
    assert folder() == first
    assert folder(split="val") != first
    status = file.stat()
    file.write_bytes(b"34")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # same size, a nanosecond later
    later = folder()
    assert later != first
    file.write_bytes(b"345")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # same time, another size
    assert folder() not in (first, later)
    file.unlink()
    with pytest.raises(PosesynError, match=r"no label file .*a\.pkl: is .* the data set's root"):
        folder()


# -------------------------------------------------------------------------------------------------------------- Names


def names(texts: list[str]) -> Names:
    coded = [t.encode() for t in texts]
    offsets = np.cumsum([0, *map(len, coded)]).astype(np.int64)
    return Names(offsets, np.frombuffer(b"".join(coded), np.uint8))


def test_names_are_a_sequence_of_strings() -> None:
    texts = [f"{'ä' * (i % 5)}{i}" for i in range(9000)] + ["", "z"]
    found = names(texts)
    assert list(found) == texts
    assert found == texts
    assert found != texts[:-1]
    assert found != [*texts[:-1], "y"]
    assert (found[0], found[-1], found[9000], found[np.int64(4097)]) == (texts[0], "z", "", texts[4097])
    assert found[4090:4100] == texts[4090:4100]
    assert found[::-1000] == texts[::-1000]
    assert found[5:2] == []
    assert found.__add__(["more"]) == [*texts, "more"]
    assert "x4500" not in found
    assert texts[4501] in found
    for wrong in (9002, -9003):
        with pytest.raises(IndexError):
            found[wrong]
    assert list(names([])) == []
    assert pickle.loads(pickle.dumps(found)) == texts


# ------------------------------------------------------------------------------------------------------------- memory

_MEMORY = """
import sys
from pathlib import Path
import numpy as np
from datamodules.readers.base import PersonIndex
from datamodules.readers.index_store import Skipped, open_or_build

def own():  # MiB of this process's own memory; mapped files are the page cache's
    line = next(l for l in Path("/proc/self/status").read_text().split("\\n") if l.startswith("RssAnon"))
    return int(line.split()[1]) / 1024

count, most = int(sys.argv[2]), 0.0
def chunks():
    global most
    rng = np.random.default_rng(0)
    joints = rng.normal(size=(4096, 32, 7)).astype(np.float32)
    for first in range(0, count, 4096):
        numbers = np.arange(first, first + 4096)
        most = max(most, own())
        yield {
            "ids": [f"set/{i:09d}" for i in numbers], "pictures": [f"images/{i:09d}.jpg" for i in numbers],
            "image": numbers.astype(np.int32), "people": np.ones(4096, np.int16),
            "joints2d": joints[..., :3], "joints3d": joints[..., 3:],
        }
open_or_build(Path(sys.argv[1]), lambda: iter([]), Skipped(), []) if count == 0 else None
before = own()
stored = open_or_build(Path(sys.argv[1]), chunks, Skipped(), [1] * count)
total = sum(int(np.asarray(c[::97]).sum() != 0) for n, c in stored.columns.items() if n not in ("ids", "pictures"))
ids = sum(len(i) for i in stored.columns["ids"])
print(before, most, own(), total, ids)
"""


def _memory(folder: Path, count: int) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(folder), str(count)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [float(v) for v in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    grown = []
    for count in (4096 * 10, 4096 * 50):  # 36 and 183 MiB of joints
        folder = tmp_path / str(count)
        before, building, after, columns, _ = _memory(folder, count)
        assert columns == 4
        grown.append((building - before, after - before))
    assert np.ptp(grown, axis=0).max() < 40, grown
    before, _, after, _, ids = _memory(folder, count)  # opening, and reading parts of it
    assert ids == count * len("set/000000000")
    assert after - before < 8


if __name__ == "__main__":
    {"race": _race, "hang": _hang}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
