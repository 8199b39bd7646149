"""PoseDataModule: what a config may say, what a checkpoint keeps, what validation sees."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from scipy.io import loadmat, savemat

from datamodules.pose import CropLoader, PoseDataModule, ReaderConfig
from datamodules.sources import PoolSource, RealSource, RenderedSource
from human.batch import PoseBatch
from human.errors import PosesynError

SIZE = 32


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "cache"))


def module(root: Path, **changes: Any) -> PoseDataModule:
    lspet = {"root": str(root)}
    options: dict[str, Any] = {
        "sources": [RealSource("lspet", lspet, name="real", weight=[[0, 1], [10, 0.5]]), PoolSource()],
        "mine": [ReaderConfig("lspet", lspet)],
        "validate": [ReaderConfig("lspet", lspet, "leeds")],
        "image_size": SIZE,
        "batch_size": 4,
        "steps_per_epoch": 5,
        "workers": 0,
        "pool": str(root / "pool"),
    }
    return PoseDataModule(**{**options, **changes})


def same(a: PoseBatch, b: PoseBatch) -> bool:
    return all(torch.equal(x, b.as_dict()[name]) for name, x in a.as_dict().items())


def test_configs_that_cannot_work_are_refused(lspet_root: Path) -> None:
    with pytest.raises(PosesynError, match=r"data\.sources is empty"):
        module(lspet_root, sources=[])
    twins = [RealSource("lspet"), RenderedSource(), RealSource("lspet")]
    with pytest.raises(PosesynError, match=r"two sources have one name \(lspet, rendered, lspet\)"):
        module(lspet_root, sources=twins)
    with pytest.raises(PosesynError, match=r"data\.validate: two sets have one name \(lspet, lspet\)"):
        module(lspet_root, validate=[ReaderConfig("lspet"), ReaderConfig("lspet", {"split": "val"})])
    with pytest.raises(PosesynError, match=r"number >= 0"):
        _ = module(lspet_root, sources=[RenderedSource(weight=-1)]).recipe
    with pytest.raises(PosesynError, match=r"name at least one reader under data\.mine"):
        _ = module(lspet_root, mine=[]).mining_data
    with pytest.raises(PosesynError, match=r"lspet.*part"):
        module(lspet_root, validate=[ReaderConfig("lspet", {"root": "x", "part": 1})]).val_dataloader()


def test_training_batches_come_from_the_recipe(lspet_root: Path) -> None:
    data = module(lspet_root)
    assert data.source_names == ["real", "pool"]
    assert data.recipe.sizes == (6, -1)
    batches = list(data.train_dataloader())
    assert len(batches) == 5
    for step, batch in enumerate(batches):
        assert batch.key.tolist() == data.recipe.keys(step, 4).tolist()
        assert batch.size == SIZE
    assert data.loader is not None
    assert data.loader.wait_seconds > 0


def test_a_new_recipe_holds_from_the_next_epoch(lspet_root: Path) -> None:
    data = module(lspet_root, sources=[RealSource("lspet", {"root": str(lspet_root)}), PoolSource()])
    loader = data.train_dataloader()
    assert {k for batch in loader for k in batch.key[:, 0].tolist()} == {0}
    data.recipe = data.recipe.with_generations([(0, 3)])
    asked = list(loader)  # for what this pool, which is empty, does not have
    assert {k for batch in asked for k in batch.key[:, 0].tolist()} == {0, 1}
    assert all(torch.equal(batch.weight == 0, batch.key[:, 0] == 1) for batch in asked)
    with pytest.raises(PosesynError, match=r"generations \[0\] of the pool .* has none with pictures: name"):
        data.train_dataloader()  # as after a resume


def saved(data: PoseDataModule, folder: Path) -> dict[str, Any]:
    """Its state through a checkpoint file."""
    torch.save(data.state_dict(), folder / "c.ckpt")
    return torch.load(folder / "c.ckpt", weights_only=True)


def test_state_round_trip(lspet_root: Path, tmp_path: Path) -> None:
    uninterrupted = list(module(lspet_root, steps_per_epoch=10).train_dataloader())
    first = module(lspet_root)
    begun = list(itertools.islice(first.train_dataloader(), 3))
    state = saved(first, tmp_path)
    again = module(lspet_root)
    again.load_state_dict(state)
    assert again.recipe == first.recipe
    assert saved(again, tmp_path) == state  # killed before its loader was made
    resumed = again.train_dataloader()
    rest, following = list(resumed), list(resumed)
    assert (len(rest), len(following)) == (2, 5)
    assert all(same(a, b) for a, b in zip([*begun, *rest, *following], uninterrupted, strict=True))


def test_a_refreshed_recipe_travels_and_finds_its_pool(lspet_root: Path, tmp_path: Path) -> None:
    first = module(lspet_root)
    first.recipe = first.recipe.with_generations([(2, 7)])
    state = saved(first, tmp_path)
    unnamed, moved = module(lspet_root, pool=None), module(lspet_root, pool=str(tmp_path / "moved"))
    for data in (unnamed, moved):
        data.load_state_dict(state)
        assert data.recipe == first.recipe
    assert unnamed.pool_path == first.pool_path  # the generations that the recipe names are there
    assert moved.pool_path == tmp_path / "moved"  # but who moved the run says where


def test_a_checkpoint_of_other_sources_or_other_data_is_refused(lspet_root: Path) -> None:
    state = module(lspet_root).state_dict()
    other = module(lspet_root, sources=[PoolSource(), RealSource("lspet", {"root": str(lspet_root)}, name="real")])
    with pytest.raises(PosesynError, match=r"\['real', 'pool'\].*\['pool', 'real'\].*--model\.checkpoint"):
        other.load_state_dict(state)
    # Two persons were deleted since: the recipe's keys would point past the end.
    joints = loadmat(lspet_root / "joints.mat")["joints"]
    savemat(lspet_root / "joints.mat", {"joints": joints[..., :5]})
    fewer = module(lspet_root)
    fewer.load_state_dict(state)
    assert sum(len(batch) for batch in fewer.val_dataloader()[0]) == 4  # measuring it is no problem
    with pytest.raises(PosesynError, match=r"\(6, -1\) samples, now they have \(4, -1\): restore the data"):
        fewer.train_dataloader()


@pytest.mark.parametrize(("limit", "used"), [(2, 2), (99, 5), (0.5, 2), (1.0, 5), (None, 5)])
def test_the_loader_knows_the_trainers_limit(lspet_root: Path, limit: float | None, used: int) -> None:
    data = module(lspet_root)
    data.trainer = L.Trainer(limit_train_batches=limit, accelerator="cpu", logger=False, enable_checkpointing=False)
    loader = data.train_dataloader()
    assert len(loader) == 5  # Lightning applies its limit to this
    assert len(list(loader)) == used
    assert loader.state_dict() == {"consumed": used, "into_epoch": 0}


@pytest.mark.parametrize("persons", [6, 1])
def test_validation_shows_every_person_once(lspet_root: Path, persons: int, monkeypatch: pytest.MonkeyPatch) -> None:
    joints = loadmat(lspet_root / "joints.mat")["joints"][..., : persons + (persons > 4)]
    savemat(lspet_root / "joints.mat", {"joints": joints})
    lspet = {"root": str(lspet_root)}
    data = module(lspet_root, validate=[ReaderConfig("lspet", lspet, "leeds"), ReaderConfig("lspet", lspet)])
    assert data.validation_names == ["leeds", "lspet"]
    loaders = data.val_dataloader()
    assert len(loaders) == 2
    for loader in loaders:
        loader.batch_size = 4
        batches = list(loader)
        assert [len(b) for b in batches] == [4, 2] if persons == 6 else [1]
        whole = PoseBatch.cat(batches)
        assert whole.key[:, 2].tolist() == list(range(persons))
        assert same(whole, data.mining_data.crops(whole.key[:, 2].numpy()))  # the same crops, not augmented
        assert all(same(a, b) for a, b in zip(loader, batches, strict=True))


@pytest.mark.parametrize("persons", [6, 1])
def test_ranks_validate_every_person_once(lspet_root: Path, persons: int) -> None:
    joints = loadmat(lspet_root / "joints.mat")["joints"][..., : persons + (persons > 4)]
    savemat(lspet_root / "joints.mat", {"joints": joints})
    crops = module(lspet_root).mining_data.sets[0]
    loaders = [CropLoader(crops, 2, rank, 2) for rank in (0, 1)]
    assert len(loaders[0]) == len(loaders[1])  # DDP waits for equally many
    batches = [batch for loader in loaders for batch in loader]
    counted = torch.cat([batch.key[batch.weight > 0, 2] for batch in batches])
    assert sorted(counted.tolist()) == list(range(persons))


def test_nobody_to_validate_on_is_an_error(lspet_root: Path) -> None:
    joints = loadmat(lspet_root / "joints.mat")["joints"]
    joints[:, 2] = 0
    savemat(lspet_root / "joints.mat", {"joints": joints})
    with pytest.raises(PosesynError, match="leeds has no usable person"):
        module(lspet_root).val_dataloader()


def test_the_pool_lies_in_the_run_folder(lspet_root: Path, tmp_path: Path) -> None:
    data = module(lspet_root, pool=None)
    data.trainer = L.Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False)
    assert data.pool_path == tmp_path / "pool"
    assert data.pool.generations() == []
    assert not data.pool_path.exists()  # asking makes nothing
