"""Work spread over real ranks: its order, its errors, and a rank that dies."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from callbacks.ranks import RankLostError, Ranks
from human.errors import PosesynError
from lightning_modules.ranks import rank_mean, same_statistics, whole_batch

WORLD = 3
Said = dict[int, tuple[str, Any, float]]


def square(item: int) -> tuple[int, int]:
    """The square, and who says so."""
    return item * item, dist.get_rank()


def moody(item: int) -> int:
    """Items of ten and more do not work out, in one way or another."""
    if item == 11:
        raise PosesynError("item 11 is no good")
    if item == 12:
        raise OSError(28, "No space left on device")
    if item == 13:
        raise ZeroDivisionError("item 13 is a bug")
    if item == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


TASKS = {"square": square, "moody": moody}


def spread(ranks: Ranks, task: str, items: list[int]) -> list[Any] | None:
    if ranks.rank == 0:
        with ranks.leading():
            return list(ranks(task, TASKS[task], items))
    ranks.serve(TASKS)
    return None


def on_ranks(folder: Path, work: Callable[[Ranks], Any]) -> Said:
    """What ``work`` returned or raised on each rank that lived, and the seconds that it took."""
    context = multiprocessing.get_context("fork")  # nothing is imported again; the children compute nothing
    queue = context.Queue()
    processes = [context.Process(target=_rank, args=(rank, folder, work, queue)) for rank in range(WORLD)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    said: Said = {}
    while not queue.empty():
        rank, *rest = queue.get()
        said[rank] = tuple(rest)  # type: ignore[assignment]
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
    assert not hanging
    return said


def _rank(rank: int, folder: Path, work: Callable[[Ranks], Any], queue: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    ranks, start = Ranks(timedelta(seconds=60)), time.monotonic()
    try:
        said = ("said", work(ranks))
    except Exception as error:
        said = (type(error).__name__, str(error))
    queue.put((rank, *said, time.monotonic() - start))
    queue.close()
    queue.join_thread()
    os._exit(0)  # not into pytest's own end


def test_items_come_back_in_order_whoever_did_them(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> list[Any]:
        return [spread(ranks, "square", list(range(count))) for count in (7, 0, 1, 3)]

    said = on_ranks(tmp_path, work)
    assert said[1][:2] == said[2][:2] == ("said", [None] * 4)
    assert said[0][1][0] == [(0, 0), (1, 1), (4, 2), (9, 0), (16, 1), (25, 2), (36, 0)]
    assert said[0][1][1:] == [[], [(0, 0)], [(0, 0), (1, 1), (4, 2)]]


def test_an_error_on_any_rank_is_one_of_the_refresh_and_the_next_goes_well(tmp_path: Path) -> None:
    """Rank 0 makes of it what a mode makes of an error: it ends the refresh, not the run."""

    def work(ranks: Ranks) -> list[str]:
        said = []
        for items in ([1, 11, 3], [1, 2, 3, 12], [1, 2, 3, 4, 5, 11]):
            if ranks.rank:
                ranks.serve(TASKS)
                said.append("served")
                continue
            with ranks.leading():
                try:
                    list(ranks("moody", moody, items))
                except PosesynError as error:
                    said.append(str(error))
        return [*said, str(spread(ranks, "moody", [5, 6]))]

    said = on_ranks(tmp_path, work)
    assert said[0][1] == [
        "rank 1: item 11 is no good",
        "rank 0: [Errno 28] No space left on device",
        "rank 2: item 11 is no good",
        "[5, 6]",
    ]
    assert said[1][1] == said[2][1] == ["served"] * 3 + ["None"]


@pytest.mark.parametrize(
    ("items", "leader", "others"),
    [
        ([1, 2, 13], ("RankLostError", "rank 2: ZeroDivisionError: item 13 is a bug"), "item 13 is a bug"),
        ([13], ("RankLostError", "rank 0: ZeroDivisionError: item 13 is a bug"), "item 13 is a bug"),
        ([1, 11], ("PosesynError", "rank 1: item 11 is no good"), "rank 1: item 11 is no good"),
    ],
)
def test_what_nobody_expected_ends_the_run_on_every_rank(
    items: list[int], leader: tuple[str, str], others: str, tmp_path: Path
) -> None:
    said = on_ranks(tmp_path, lambda ranks: spread(ranks, "moody", items))
    assert said[0][:2] == leader
    for rank in (1, 2):
        assert said[rank][0] == "PosesynError"
        assert said[rank][1].startswith("rank 0 ended the run")
        assert others in said[rank][1]


@pytest.mark.parametrize("items", [[1, 2, 3, 4, 14], [14]], ids=["a helper", "the leader"])
def test_when_a_rank_is_killed_the_others_end(items: list[int], tmp_path: Path) -> None:
    """At once, not when their patience (60 s) is over."""
    said = on_ranks(tmp_path, lambda ranks: spread(ranks, "moody", items))
    dead = (len(items) - 1) % WORLD
    assert dead not in said
    assert len(said) == WORLD - 1
    for kind, why, seconds in said.values():
        assert (kind, "is gone or stuck" in why) == ("RankLostError", True), why
        assert seconds < 50


def test_a_process_beside_the_ranks_works_alone(tmp_path: Path) -> None:
    """What is handed to the process of another refresh mode may hold the ranks."""

    def work(ranks: Ranks) -> list[int]:
        return list(pickle.loads(pickle.dumps(ranks))("moody", moody, [1, 2, 3, 4]))

    assert [said[1] for said in on_ranks(tmp_path, work).values()] == [[1, 2, 3, 4]] * WORLD


def test_large_items_travel(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> list[int] | None:
        tasks = {"sum": lambda x: x + 1}
        if ranks.rank:
            return ranks.serve(tasks)
        with ranks.leading():
            big = [np.full((2_000_000,), i, np.int64) for i in range(4)]
            return [int(x.sum()) for x in ranks("sum", tasks["sum"], big)]

    assert on_ranks(tmp_path, work)[0][1] == [2_000_000 * (i + 1) for i in range(4)]


def test_statistics_become_those_of_rank_0_and_sums_go_over_all_ranks(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> list[Any]:
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm1d(1)))
        for norm in (model[1], model[2][0]):
            norm.running_mean.fill_(10.0 + ranks.rank)
            norm.running_var.fill_(20.0 + ranks.rank)
        model[0].weight.data.fill_(float(ranks.rank))
        same_statistics(model)
        own = torch.tensor([1.0 + ranks.rank, 2.0], requires_grad=True)
        mean, rows = rank_mean(own), whole_batch(torch.arange(6).reshape(6, 1)[ranks.rank :: WORLD])
        return [
            *(v.tolist() for norm in (model[1], model[2][0]) for v in (norm.running_mean, norm.running_var)),
            model[0].weight[0, 0].item(),
            mean.tolist(),
            mean.requires_grad,
            own.tolist(),
            rows[:, 0].tolist(),
        ]

    for rank, (_, said, _) in on_ranks(tmp_path, work).items():
        assert said[:4] == [[10.0, 10.0], [20.0, 20.0], [10.0], [20.0]]
        assert said[4:] == [float(rank), [2.0, 2.0], False, [1.0 + rank, 2.0], list(range(6))]


def test_the_error_of_a_lost_rank_ends_a_refresh_and_the_run() -> None:
    """It is none of those after which training goes on with the pool as it is."""
    assert not issubclass(RankLostError, PosesynError | OSError)
