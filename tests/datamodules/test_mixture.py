"""The mixture: the same batches whatever the workers, ranks, kills and refreshes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.mixture import MixtureDataset, MixtureLoader
from datamodules.recipe import Recipe, as_schedule
from datamodules.sources import PoolSource, RealSource, RenderedSource, SampleSource
from human.batch import PoseBatch
from human.errors import PosesynError
from human.rng import generator
from synth.pool import Pool
from synth.sample import LABEL_SHAPES, Sample, encode_image

SIZE = 32


class EchoSource(SampleSource):
    """Writes on each sample who it is and which process made it; refuses index 666."""

    def __init__(self, name: str, mark: int, count: int) -> None:
        super().__init__(name, 1.0)
        self.mark, self.count = mark, count

    @property
    def size(self) -> int:
        return self.count

    def fetch(self, key_N4: np.ndarray) -> PoseBatch:
        if (key_N4[:, 2] == 666).any():
            raise PosesynError("sample 666 does not exist")
        batch = PoseBatch.blank(len(key_N4), 4)
        batch.transl[:, 0] = self.mark
        batch.transl[:, 1] = torch.from_numpy(key_N4[:, 2].copy()).float()
        batch.transl[:, 2] = torch.from_numpy(key_N4[:, 1].copy()).float()
        batch.betas[:, 0] = os.getpid()
        return batch


def echoes() -> MixtureDataset:
    return MixtureDataset([EchoSource("a", 10, 40), EchoSource("b", 20, 0), EchoSource("c", 30, -1)])


def echo_recipe(*generations: tuple[int, int], seed: int = 1) -> Recipe:
    return Recipe(seed, tuple(as_schedule(w) for w in (1, 1, 2)), (40, 0, -1), tuple(generations))


def loader(recipe: Recipe, batch_size: int = 6, steps: int = 5, **options: Any) -> MixtureLoader:
    return MixtureLoader(echoes(), lambda: recipe, batch_size, steps, **options)


def same(a: PoseBatch, b: PoseBatch) -> bool:
    return all(torch.equal(x, b.as_dict()[name]) for name, x in a.as_dict().items())


def keys(batches: Iterable[PoseBatch]) -> list[list[int]]:
    return [row for batch in batches for row in batch.key.tolist()]


# --------------------------------------------------------------------------------------------------- the data set


def test_samples_come_in_the_order_of_their_keys() -> None:
    key = np.array([[2, 5, 3, 9], [0, -1, 7, 8], [2, 4, 1, 7], [1, -1, -1, 6], [0, -1, 0, 5], [0, -1, 7, 4]])
    batch = echoes().__getitems__(key.tolist())
    assert batch.key.tolist() == key.tolist()
    assert batch.transl[:, 0].tolist() == [30, 10, 30, 20, 10, 10]
    assert batch.transl[:, 1].tolist() == key[:, 2].tolist()
    assert batch.transl[:, 2].tolist() == key[:, 1].tolist()
    assert same(echoes()[key[2].tolist()], batch[2:3])


# ----------------------------------------------------------------------------------------------------- the loader


def test_batches_are_the_recipes_keys() -> None:
    recipe = echo_recipe((3, 20))
    batches = list(loader(recipe))
    assert len(batches) == len(loader(recipe)) == 5
    assert keys(batches) == np.concatenate([recipe.keys(s, 6) for s in range(5)]).tolist()


def test_epochs_continue_the_stream() -> None:
    recipe = echo_recipe((3, 20))
    two_epochs, one_long = loader(recipe), loader(recipe, steps=10)
    assert keys([*two_epochs, *two_epochs]) == keys(one_long)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_interleave_to_the_global_batch(world: int) -> None:
    recipe = echo_recipe((3, 20))
    ranks = [list(loader(recipe, rank=r, world=world)) for r in range(world)]
    for step, whole in enumerate(loader(recipe)):
        parts = [ranks[r][step] for r in range(world)]
        assert {len(p) for p in parts} == {6 // world}
        woven = PoseBatch.cat(parts)[[r * (6 // world) + i for i in range(6 // world) for r in range(world)]]
        assert same(woven, whole)


@pytest.mark.parametrize("batches_before", [0, 1, 3, 5, 7, 10])
def test_resume_gives_the_same_batches_and_the_rest_of_the_epoch(tmp_path: Path, batches_before: int) -> None:
    recipe = echo_recipe((3, 20))
    first, uninterrupted = loader(recipe), list(loader(recipe, steps=20))
    endless: Iterator[PoseBatch] = itertools.chain.from_iterable(first for _ in range(3))
    for batch in itertools.islice(endless, batches_before):
        last = batch
    torch.save(first.state_dict(), tmp_path / "state")
    second = loader(recipe)
    second.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    rest = list(second)
    assert len(rest) == 5 - batches_before % 5
    assert all(same(a, b) for a, b in zip(rest, uninterrupted[batches_before:], strict=False))
    if batches_before:
        assert same(last, uninterrupted[batches_before - 1])
    following = list(second)
    assert len(following) == 5
    assert same(following[0], uninterrupted[batches_before + len(rest)])


def test_a_state_saved_again_before_the_next_batch_is_the_same() -> None:
    """A run killed between its resume and its first batch loses nothing."""
    first = loader(echo_recipe((3, 20)))
    next(itertools.islice(first, 2, 3))
    second = loader(echo_recipe((3, 20)))
    second.load_state_dict(first.state_dict())
    iter(second)  # Lightning makes an iterator long before it asks for a batch
    assert second.state_dict() == first.state_dict() == {"consumed": 3, "into_epoch": 3}


def test_an_epoch_left_early_is_over() -> None:
    recipe = echo_recipe((3, 20))
    left = loader(recipe)
    begun = list(itertools.islice(left, 2))
    following = list(left)
    assert len(following) == 5
    assert keys([*begun, *following]) == keys(itertools.islice(loader(recipe, steps=9), 7))


@pytest.mark.parametrize("used", [3, 5, 99])
def test_a_checkpoint_at_the_end_of_a_limited_epoch_starts_a_whole_one(used: int) -> None:
    """limit_train_batches: the trainer takes 3 of 5 batches, saves, is killed; the next epoch has 3, not 5 - 3."""
    recipe = echo_recipe((3, 20))
    first = loader(recipe, used=used)
    taken = list(itertools.islice(first, min(used, 5)))
    second = loader(recipe, used=used)
    second.load_state_dict(first.state_dict())
    following = list(second)
    assert len(following) == min(used, 5)
    assert keys([*taken, *following]) == keys(itertools.islice(loader(recipe, steps=10), 2 * len(taken)))


def test_the_recipe_holds_for_an_epoch_and_is_asked_for_at_its_first_batch() -> None:
    recipes = [echo_recipe(), echo_recipe((3, 20))]
    asked: list[int] = []

    def current() -> Recipe:
        asked.append(0)
        return recipes[len(asked) - 1]

    changing = MixtureLoader(echoes(), current, 6, 5)
    begun = iter(changing)
    assert asked == []  # the first refresh comes between the loader's start and its first batch
    first, second = list(begun), list(changing)
    assert 2 not in {k[0] for k in keys(first)}
    assert 2 in {k[0] for k in keys(second)}
    assert len(asked) == 2


@pytest.mark.parametrize(("batch_size", "steps", "world"), [(5, 3, 2), (0, 3, 1), (-4, 3, 2), (4, 0, 1), (2, 3, 4)])
def test_batches_that_cannot_be_dealt_out_are_refused(batch_size: int, steps: int, world: int) -> None:
    with pytest.raises(PosesynError, match=f"batch_size={batch_size}.*{world} ranks.*steps={steps}"):
        MixtureLoader(echoes(), echo_recipe, batch_size, steps, world=world)


# ------------------------------------------------------------------------------------------------ with processes


def test_persistent_workers_follow_a_refresh_without_restart() -> None:
    """Three epochs of two workers: one with another recipe, one left early; then a sample that cannot be made."""
    current = echo_recipe()
    with_workers = MixtureLoader(echoes(), lambda: current, 6, 5, workers=2)
    alone = MixtureLoader(echoes(), lambda: current, 6, 5)
    first = list(with_workers)
    assert keys(first) == keys(alone)
    pids = {int(p) for batch in first for p in batch.betas[:, 0]}
    assert len(pids) == 2
    assert os.getpid() not in pids

    current = current.with_generations([(3, 20), (4, 5)])
    begun, expected = list(itertools.islice(with_workers, 2)), list(itertools.islice(alone, 2))
    assert 2 in {k[0] for k in keys(begun)}
    assert keys(begun) == keys(expected)
    # The prefetched rest of the epoch that was left does not leak into the next.
    current = current.with_generations([(9, 50)])
    second, expected = list(with_workers), list(alone)
    assert keys(second) == keys(expected)
    assert {k[1] for k in keys(second)} == {-1, 9}
    assert {int(p) for batch in [*begun, *second] for p in batch.betas[:, 0]} == pids
    assert with_workers.state_dict() == alone.state_dict() == {"consumed": 12, "into_epoch": 0}

    current = Recipe(0, ([[0, 1.0]],), (667,))
    while not (current.keys(12, 6)[:, 2] == 666).any():
        current = Recipe(current.seed + 1, current.schedules, current.sizes)
    with pytest.raises(PosesynError, match="sample 666 does not exist"):
        list(with_workers)


@pytest.fixture(scope="module")
def pool_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixture") / "pool"
    for generation in (0, 1):
        samples = []
        for seed in range(5):
            rng = generator(generation, seed)
            labels = {name: rng.normal(size=shape).astype(np.float32) for name, shape in LABEL_SHAPES.items()}
            image = encode_image(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), "png")
            samples.append(Sample(image=image, seed=seed, **labels))
        Pool(path).commit(generation, samples)
    return path


def mixed(lspet_root: Path, pool_path: Path, **options: Any) -> MixtureLoader:
    """Real, pool and rendered samples together."""
    sources = [
        RealSource("lspet", {"root": str(lspet_root)}, weight=1),
        PoolSource(weight=1),
        RenderedSource(weight=1, backgrounds="procedural", options={"supersample": 1}),
    ]
    for source in sources:
        source.prepare(SIZE, pool_path)
    recipe = Recipe(5, tuple(as_schedule(s.weight) for s in sources), tuple(s.size for s in sources), ((0, 5), (1, 5)))
    return MixtureLoader(MixtureDataset(sources), lambda: recipe, 6, 3, **options)


@pytest.fixture
def expected(lspet_root: Path, pool_path: Path) -> list[PoseBatch]:
    """Of one rank without workers."""
    batches = list(mixed(lspet_root, pool_path))
    assert {k[0] for k in keys(batches)} == {0, 1, 2}
    assert len({batch.image.sum().item() for batch in batches}) == 3
    return batches


@pytest.mark.parametrize(
    ("ranks", "workers"),
    [(1, 1), (2, 0), (2, 1), *(pytest.param(ranks, 4, marks=pytest.mark.slow) for ranks in (1, 2))],
)
def test_any_number_of_ranks_and_workers_gives_the_same_bytes(
    ranks: int, workers: int, lspet_root: Path, pool_path: Path, expected: list[PoseBatch]
) -> None:
    """Every field of every sample of the global batches."""
    parts = [list(mixed(lspet_root, pool_path, rank=r, world=ranks, workers=workers)) for r in range(ranks)]
    for step, whole in enumerate(expected):
        for name, value in whole.as_dict().items():
            woven = torch.stack([part[step].as_dict()[name] for part in parts], 1).flatten(0, 1)
            assert torch.equal(woven, value), f"{name} differs with {ranks} ranks of {workers} workers"
