"""The mixture as a map-style data set over keys, and its stateful loader."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.sources import SampleSource
from datamodules.staged import Staged, join
from human.batch import PoseBatch
from human.errors import PosesynError


class MixtureDataset(Dataset[PoseBatch | Staged]):
    """Turns keys into samples, a batch at a time. Holds no state that a refresh could change."""

    def __init__(self, sources: Sequence[SampleSource]) -> None:
        self.sources = list(sources)

    def __getitem__(self, key: Sequence[int]) -> PoseBatch | Staged:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Sequence[int]]) -> PoseBatch | Staged:
        key_N4 = np.asarray(keys, dtype=np.int64)
        parts, rows = [], []
        numbers = np.unique(key_N4[:, 0]).tolist()
        for number in numbers:
            mine = np.flatnonzero(key_N4[:, 0] == number)
            parts.append(self.sources[number].fetch(key_N4[mine]))
            rows.append(mine)
        order = torch.from_numpy(np.argsort(np.concatenate(rows)))
        return join(parts, numbers, order, torch.from_numpy(key_N4))


class _Plan(Sampler[list[list[int]]]):
    """The key batches of one epoch; told what to yield before each."""

    def __init__(self) -> None:
        self.batches: Iterator[list[list[int]]] = iter(())

    def __iter__(self) -> Iterator[list[list[int]]]:
        return self.batches


def _as_is(batch: Any) -> Any:
    return batch


class Keys(Protocol):
    """What names the samples of a step: a :class:`~datamodules.recipe.Recipe`, mostly."""

    def keys(self, step: int, batch_size: int) -> np.ndarray: ...


class MixtureLoader:
    """Iterable of batches whose whole state is how many were handed out.

    They are what the data set makes of a batch of keys: PoseBatches, or :class:`Staged` where a source draws on the
    training device.

    Args:
        recipe: called at the start of every epoch; what it returns holds for that epoch.
        batch_size: of the *global* batch; each of ``world`` ranks gets every ``world``-th sample of it.
        steps: batches in an epoch.
        used: how many of them the trainer takes (its ``limit_train_batches``), so that a checkpoint at the end of such
            an epoch is known from one in the middle; default: all.
        workers: processes; they start once (``forkserver``, since Lance and Warp do not survive a fork) and live for
            the run.

    ``wait_seconds`` adds up the time that the training step waited here.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        recipe: Callable[[], Keys],
        batch_size: int,
        steps: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        prefetch: int = 4,
        used: int | None = None,
    ) -> None:
        if batch_size < 1 or steps < 1 or batch_size % world:
            raise PosesynError(
                f"batch_size={batch_size} (of all ranks together) must be positive and a multiple of the "
                f"{world} ranks, and steps={steps} at least 1"
            )
        self.recipe, self.batch_size, self.steps = recipe, batch_size, steps
        self.rank, self.world = rank, world
        self.used = steps if used is None else min(used, steps)
        self.consumed = 0
        self._into_epoch = self._resume_at = 0
        self.wait_seconds = 0.0
        self._plan = _Plan()
        self._loader = DataLoader(
            dataset,
            batch_sampler=self._plan,
            collate_fn=_as_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=prefetch if workers else None,
            multiprocessing_context="forkserver" if workers else None,
            worker_init_fn=_start_worker,
        )

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        # A generator: nothing is drawn before the first batch is asked for. Lightning makes the iterator long before
        # that, even while it counts the steps for a learning-rate schedule, when the first refresh has not run.
        # After a resume only the rest of the epoch is left; an epoch that was left early otherwise is over.
        self._into_epoch, self._resume_at = self._resume_at, 0
        first, left = self.consumed, self.used - self._into_epoch
        recipe = self.recipe()
        self._plan.batches = (
            recipe.keys(step, self.batch_size)[self.rank :: self.world].tolist() for step in range(first, first + left)
        )
        batches = iter(self._loader)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.wait_seconds += time.perf_counter() - start
            if batch is None:
                return
            self.consumed += 1
            self._into_epoch = (self._into_epoch + 1) % self.used
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"consumed": self.consumed, "into_epoch": self._into_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # Both: a checkpoint written again before the next batch says the same.
        self.consumed, self._into_epoch = state["consumed"], state["into_epoch"]
        self._resume_at = self._into_epoch


def _start_worker(worker: int) -> None:
    # Workers beside the trainer share its cores: more threads per worker only get in each other's way.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    # Terminals and SLURM signal all processes of a job. The trainer decides when to stop; a worker that died of it
    # would fail the step that is to be finished.
    for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
