"""Ranks as threads of one process, for what :mod:`lightning_modules.ranks` does between ranks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules import ranks


def on_ranks(count: int, work: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What ``work`` returns on each rank; the ranks wait for each other as processes do, and for a minute at most."""
    barrier, me, said = threading.Barrier(count, timeout=60), threading.local(), [torch.empty(0)] * count

    def exchange(x: Tensor) -> Tensor:
        said[me.rank] = x
        barrier.wait()
        everything = torch.stack(said)
        barrier.wait()
        return everything

    def run(rank: int) -> Any:
        me.rank = rank
        try:
            return work(rank)
        except BaseException:
            barrier.abort()
            raise

    with monkeypatch.context() as patch:
        patch.setattr(ranks, "place", lambda: (me.rank, count))
        patch.setattr("lightning_modules.hmr2.place", lambda: (me.rank, count))
        patch.setattr(ranks, "_all_gather", exchange)
        patch.setattr(ranks, "_all_reduce", lambda x: exchange(x).sum(0))
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(run, range(count)))
