"""Persons of data sets as an evaluation looks at them: crops about the sets' own boxes, decoded as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.crops import label_batch, read_crop
from datamodules.readers.base import PoseReader
from human.batch import PoseBatch
from human.crop import Array, crop_affine, square_box


class PersonCrops(Dataset[PoseBatch]):
    """Crops of a reader's persons, several at a time; column 2 of the keys is the person's row."""

    def __init__(self, reader: PoseReader, size: int, box_scale: float | str) -> None:
        self.reader, self.size, self.box_scale = reader, size, box_scale

    def affine(self, row: int) -> Array:
        """(2,3) picture px to crop px."""
        cx, cy, side = square_box(self.reader.index.bbox_xyxy[row], self.box_scale)
        return crop_affine((cx, cy), side, self.size)

    def __getitem__(self, rows: Sequence[int]) -> PoseBatch:
        index = np.asarray(rows, np.int64)
        affines = [self.affine(int(r)) for r in index]
        found = [read_crop(self.reader, int(r), a, self.size) for r, a in zip(index, affines, strict=True)]
        images, sizes = [image for image, _ in found], [size for _, size in found]
        batch = label_batch(self.reader.index, index, affines, images, [False] * len(index), sizes)
        if batch.size != self.size:  # none of the pictures can be read
            batch = PoseBatch.blank(len(index), self.size).replace(weight=torch.zeros(len(index)))
        batch.key[:, 2] = torch.from_numpy(index)
        return batch


class BenchmarkLoader:
    """Batches of a reader's persons, those of every ``world``-th batch on each rank.

    Args:
        done: asked when looping starts, for the ids that need not be looked at.
        limit: the first so many persons, spread over the whole set; 0: all.
    """

    def __init__(
        self,
        reader: PoseReader,
        size: int,
        box_scale: float | str,
        batch_size: int = 64,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        done: Callable[[], Collection[str]] = tuple,
        limit: int = 0,
    ) -> None:
        self.crops = PersonCrops(reader, size, box_scale)
        self.batch_size, self.workers, self.rank, self.world, self.done = batch_size, workers, rank, world, done
        count = len(reader.index)
        chosen = np.linspace(0, count - 1, min(limit or count, count)).round().astype(int)
        self.rows = np.unique(chosen)

    def _todo(self) -> list[list[int]]:
        done, ids = set(self.done()), self.crops.reader.index.ids
        rows = [int(r) for r in self.rows if not done or ids[int(r)] not in done]
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        return batches[self.rank :: self.world]

    def __len__(self) -> int:
        return len(self._todo())

    def __iter__(self) -> Iterator[PoseBatch]:
        batches = self._todo()
        loader: DataLoader[PoseBatch] = DataLoader(
            self.crops,
            batch_size=None,
            sampler=batches,  # type: ignore[arg-type]
            num_workers=min(self.workers, len(batches)),
            multiprocessing_context="forkserver" if self.workers and batches else None,
        )
        yield from loader


class BenchmarkData(L.LightningDataModule):
    """The readers that an estimator is measured on, by the names their tables have."""

    def __init__(self, readers: dict[str, PoseReader], size: int, box_scale: float | str, batch_size: int = 64,
                 workers: int = 0, limit: int = 0) -> None:  # fmt: skip
        super().__init__()
        self.readers, self.size, self.box_scale = readers, size, box_scale
        self.batch_size, self.workers, self.limit = batch_size, workers, limit
        #: Asked for the ids of a set that are done already.
        self.done: Callable[[str], Collection[str]] = lambda name: ()

    @property
    def benchmark(self) -> BenchmarkData:
        return self

    @property
    def test_names(self) -> list[str]:
        return list(self.readers)

    def test_dataloader(self) -> list[BenchmarkLoader]:
        return self.loaders(*((self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)))

    def loaders(self, rank: int, world: int) -> list[BenchmarkLoader]:
        def loader(name: str) -> BenchmarkLoader:
            return BenchmarkLoader(self.readers[name], self.size, self.box_scale, self.batch_size, self.workers, rank,
                                   world, lambda: self.done(name), self.limit)  # fmt: skip

        return [loader(name) for name in self.readers]
