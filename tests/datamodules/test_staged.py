"""Rendering in the loader's workers and on the training device: the same samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.pose import PoseDataModule
from datamodules.sources import RealSource, RenderedSource
from datamodules.staged import Staged
from human.batch import PoseBatch
from human.errors import PosesynError
from tests.tiny import CHEAP, SIZE, write_data


def module(folder: Path, place: Any, workers: int = 0) -> PoseDataModule:
    rendered = RenderedSource(options=CHEAP, backgrounds="procedural", place=place)
    sources = [RealSource("lspet", {"root": str(folder / "train")}), rendered]
    return PoseDataModule(sources, image_size=SIZE, batch_size=8, steps_per_epoch=2, workers=workers)


def batches(data: PoseDataModule) -> list[PoseBatch]:
    return [data.on_after_batch_transfer(batch.to("cpu"), 0) for batch in data.train_dataloader()]


@pytest.mark.parametrize("workers", [0, 1])
def test_device_draws_what_workers_draw(tmp_path: Path, workers: int) -> None:
    folder = write_data(tmp_path)
    drawn = batches(module(folder, "worker"))
    staged = batches(module(folder, "device", workers))
    assert {int(n) for n in drawn[0].key[:, 0]} == {0, 1}, "both sources in one batch"
    for a, b in zip(drawn, staged, strict=True):
        for name, value in a.as_dict().items():
            assert torch.equal(value, getattr(b, name)), name


def test_a_batch_is_staged_only_where_something_is_left_to_draw(tmp_path: Path) -> None:
    folder = write_data(tmp_path)
    assert isinstance(next(iter(module(folder, "device").train_dataloader())), Staged)
    assert isinstance(next(iter(module(folder, "worker").train_dataloader())), PoseBatch)


def test_a_limit_repeats_samples() -> None:
    source = RenderedSource(options=CHEAP, backgrounds="procedural", limit=3)
    source.prepare(SIZE, Path())
    assert source.size == 3
    key = np.array([[0, -1, 2, 10], [0, -1, 2, 11], [0, -1, 1, 12]])
    batch = source.fetch(key)
    assert isinstance(batch, PoseBatch)
    assert torch.equal(batch.image[0], batch.image[1])
    assert not torch.equal(batch.image[0], batch.image[2])


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(PosesynError, match="worker or device"):
        RenderedSource(place="gpu")  # type: ignore[arg-type]
