"""Pools with several writers and readers: killed, racing, in processes of their own."""

from __future__ import annotations

import multiprocessing as mp
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from human.batch import PoseBatch
from human.errors import PosesynError
from synth.pool import GenerationInfo, NumberTaken, Pool, Sample
from tests.synth.pool_samples import data_files, make_sample, make_samples, same

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path / "pool")


KILLED_WRITER = """
import os, signal, sys
from synth.pool import Pool
from synth.pool_rows import Rows
from tests.synth.pool_samples import make_samples
pool = Pool({path!r})

def engine():
    for n, sample in enumerate(make_samples(400)):
        if n == {kill_at}:
            os.kill(os.getpid(), signal.SIGKILL)
        yield sample

if {kill_at} < 400:
    pool.commit(1, engine())
else:  # all data files written, the manifest not
    pool.generations()
    with pool._writing():
        Rows(engine(), 1).write(pool._dataset)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kill_at", [0, 300, 400])
def test_killed_writer_leaves_the_pool_as_it_was(pool: Pool, kill_at: int) -> None:
    pool.commit(0, make_samples(6))
    before, files = pool.read(0, [0, 3]), data_files(pool)
    script = KILLED_WRITER.format(path=str(pool.path), kill_at=kill_at)
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], env=env, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    leftovers = set(data_files(pool)) - set(files)
    assert bool(leftovers) == (kill_at > 0)
    assert [i.generation for i in Pool(pool.path).generations()] == [0]
    assert same(Pool(pool.path).read(0, [0, 3]), before)
    assert pool.commit(1, make_samples(5, first=9)).count == 5
    assert pool.read(1, [0]).key[0, 3] == 9
    assert not leftovers & set(data_files(pool)), "the next commit cleans up"
    assert len(data_files(pool)) == 2


def test_repair(pool: Pool) -> None:
    assert pool.repair() == 0
    pool.commit(0, make_samples(6))
    orphan = pool.path / "data" / "0123456789.lance"
    orphan.write_bytes(data_files(pool)[0].read_bytes())
    with pool._writing():  # cleans up at the start; now a writer is at work
        assert not orphan.exists()
        orphan.write_bytes(b"half a file")
        with pytest.raises(PosesynError, match="a writer is at work"):
            Pool(pool.path).repair()
    assert pool.repair() == len(b"half a file")
    assert len(data_files(pool)) == 1
    assert len(pool.read(0, [0, 1])) == 2


def test_a_killed_creator_leaves_a_usable_folder(pool: Pool) -> None:
    (pool.path / "_versions").mkdir(parents=True)
    (pool.path / ".posesyn-pool.lock").touch()
    assert pool.generations() == []
    assert pool.commit(0, make_samples(3)).passed == 2


def test_two_writers_never_share_a_number(pool: Pool) -> None:
    """Both start before the pool exists and write while the other one does; each contested number has one winner."""
    results: list[GenerationInfo | PosesynError] = []
    barrier = threading.Barrier(4)

    def write(writer: int) -> None:
        def engine() -> Iterator[Sample]:
            barrier.wait(timeout=30)  # all are inside a commit
            yield from make_samples(6, first=1000 * writer)

        mine = Pool(pool.path)
        for generation in (0, 1 + writer):
            try:
                results.append(mine.commit(generation, engine()))
            except PosesynError as error:
                results.append(error)

    threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    infos = [r for r in results if isinstance(r, GenerationInfo)]
    errors = [r for r in results if isinstance(r, PosesynError)]
    assert sorted(i.generation for i in infos) == [0, 1, 2, 3, 4]
    assert len(errors) == 3
    assert all("generation 0 is committed already" in str(e) for e in errors)
    assert len({i.version for i in infos}) == 5
    assert pool.generations() == sorted(infos, key=lambda i: i.generation)
    for writer in range(4):
        assert pool.read(1 + writer, [0, 3])[:].key[:, 3].tolist() == [1000 * writer, 1000 * writer + 4]
    pool.repair()  # the losers' files
    assert len(data_files(pool)) == 5


def test_reader_is_pinned_while_another_process_appends(pool: Pool) -> None:
    pool.commit(0, make_samples(6))
    reader = Pool(pool.path)
    before = reader.read(0, [0, 1])
    assert reader._dataset is not None
    version = reader._dataset.version
    context = mp.get_context("forkserver")
    writer = context.Process(target=_commit_two, args=(pool,))
    writer.start()
    while writer.is_alive():
        assert same(reader.read(0, [0, 1]), before)
    writer.join()
    assert reader._dataset.version == version, "reading a known generation opens nothing"
    assert reader.read(2, [0]).key[0].tolist() == [0, 2, 0, 20]
    assert reader._dataset.version > version


def _commit_two(pool: Pool) -> None:
    for generation in (1, 2):
        pool.commit(generation, make_samples(6, first=10 * generation))


class _Keys(torch.utils.data.Dataset[PoseBatch]):
    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return 8

    def __getitems__(self, indices: list[int]) -> PoseBatch:
        return self.pool.read(0, indices)


def _first(batch: Any) -> Any:
    return batch


def test_workers_of_a_loader(pool: Pool) -> None:
    """The parent has used the pool before the workers start."""
    pool.commit(0, make_samples(12))
    expected = pool.read(0, list(range(8)))
    loader = torch.utils.data.DataLoader(
        _Keys(pool), batch_size=2, num_workers=2, collate_fn=_first, multiprocessing_context="forkserver"
    )
    assert same(PoseBatch.cat(list(loader)), expected)


def test_pickles_as_its_path(pool: Pool) -> None:
    pool.commit(0, make_samples(6))
    data = pickle.dumps(pool)
    assert len(data) < 500
    assert same(pickle.loads(data).read(0, [1]), pool.read(0, [1]))


def _use(pool: Pool, queue: Any) -> None:
    try:
        pool.read(0, [0])
    except PosesynError as error:
        queue.put(str(error))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_gets_an_error_instead_of_a_hang(pool: Pool) -> None:
    pool.commit(0, make_samples(6))
    context = mp.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_use, args=(pool, queue))
    child.start()
    assert "use the 'forkserver' or 'spawn'" in queue.get(timeout=20)
    child.join(timeout=20)


def test_a_number_that_another_writer_has_is_left_to_it(pool: Pool) -> None:
    """Also one that it has not committed yet."""
    numbers = []

    def slow() -> Iterator[Sample]:
        yield make_sample(0)
        numbers.append(Pool(pool.path).commit(3, make_samples(2), or_next=True).generation)
        yield make_sample(1)

    numbers.append(pool.commit(3, slow(), or_next=True).generation)
    assert numbers == [4, 3]
    assert pool.commit(3, make_samples(1), or_next=True).generation == 5
    with pytest.raises(NumberTaken, match="generation 3 is committed already"):
        pool.commit(3, make_samples(1))
    with pytest.raises(ValueError, match="engine"):
        pool.commit(3, (_ for _ in ()).throw(ValueError("engine")), or_next=True)
    assert pool.commit(3, make_samples(1), or_next=True).generation == 6
    assert not list(pool.path.glob(".writing-*"))


@pytest.mark.parametrize("years", [-30, 30])
def test_clocks_that_change_lose_nothing(pool: Pool, years: int) -> None:
    """Files from the past or the future: commits, repairs and readers go by versions."""
    pool.commit(0, make_samples(6))
    reader = Pool(pool.path)
    before = reader.read(0, [0, 3])
    for file in [f for f in pool.path.rglob("*") if f.is_file()]:
        shifted = file.stat().st_mtime + years * 365 * 86400
        os.utime(file, (shifted, shifted))
    pool.commit(1, make_samples(6, first=50))
    (pool.path / "data" / "leftover.lance").write_bytes(b"of a writer that was killed")
    pool.repair()
    assert [i.generation for i in Pool(pool.path).generations()] == [0, 1]
    for one in (reader, pool, Pool(pool.path)):
        assert same(one.read(0, [0, 3]), before)
    assert pool.forget([1]) > 0
    assert same(Pool(pool.path).read(0, [0, 3]), before)
