"""PoseBatch: what is cut, joined and moved keeps its rows together."""

from __future__ import annotations

import dataclasses
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch.utils.data import DataLoader

from human.batch import HIPS, NUM_JOINTS, PELVIS, PoseBatch, root_of
from human.record import Record


def random_batch(n: int, size: int = 8, seed: int = 0) -> PoseBatch:
    """Every field of every sample differs."""
    rng = torch.Generator().manual_seed(seed)
    blank = PoseBatch.blank(n, size)
    fields = {}
    for name, value in blank.as_dict().items():
        noise = torch.rand(value.shape, generator=rng)
        fields[name] = noise > 0.5 if value.dtype == torch.bool else (noise * 200).to(value.dtype)
    return PoseBatch(**fields)


def same(a: PoseBatch, b: PoseBatch) -> bool:
    return all(
        torch.equal(x, b.as_dict()[name]) and x.dtype == b.as_dict()[name].dtype for name, x in a.as_dict().items()
    )


def test_blank_has_no_labels_but_counts() -> None:
    batch = PoseBatch.blank(3, 16)
    assert (len(batch), batch.size) == (3, 16)
    assert batch.image.dtype == torch.uint8
    assert not (batch.has_pose | batch.has_betas | batch.has_transl).any()
    assert batch.joints2d_conf.sum() == batch.joints3d_conf.sum() == 0
    assert batch.weight.tolist() == [1, 1, 1]
    for value in batch.as_dict().values():
        assert value.shape[0] == 3
    assert batch.joints2d.shape == (3, NUM_JOINTS, 2)


def test_blank_rows_do_not_share_memory() -> None:
    batch = PoseBatch.blank(2, 4)
    batch.intrinsics[0, 0, 0] = 9
    assert batch.intrinsics[1, 0, 0] == 1


@pytest.mark.parametrize("cut", [0, 1, 3, 5])
def test_cut_and_cat_are_inverse(cut: int) -> None:
    batch = random_batch(5)
    assert same(PoseBatch.cat([batch[:cut], batch[cut:]]), batch)


def test_rows_by_list_tensor_and_mask() -> None:
    batch = random_batch(5)
    order = [4, 0, 0, 2]
    by_list, by_tensor = batch[order], batch[torch.tensor(order)]
    assert same(by_list, by_tensor)
    assert torch.equal(by_list.image[1], batch.image[0])
    assert torch.equal(by_list.key[0], batch.key[4])
    mask = torch.tensor([True, False, True, False, False])
    assert same(batch[mask], batch[[0, 2]])
    assert len(batch[[]]) == 0


def test_to_and_pickle_keep_values_and_dtypes() -> None:
    batch = random_batch(3)
    assert same(batch.to("cpu", non_blocking=True), batch)
    assert same(pickle.loads(pickle.dumps(batch)), batch)


@dataclasses.dataclass(frozen=True)
class Parts(Record):
    """A record with everything that a field can be."""

    batch: PoseBatch
    odd: torch.Tensor
    empty: torch.Tensor
    number: torch.Tensor
    absent: torch.Tensor | None = None
    words: str = "as they are"


def through_a_pipe(record: Record) -> Record:
    out: Record = pickle.loads(ForkingPickler.dumps(record))
    return out


def test_between_processes_a_record_travels_as_one_block() -> None:
    odd = torch.arange(9.0).view(3, 3).T[:, :2]  # not contiguous
    sent = Parts(random_batch(3), odd, torch.empty(3, 0), torch.tensor(2.5, dtype=torch.float64))
    got = through_a_pipe(sent)
    assert isinstance(got, Parts)
    assert same(got.batch, sent.batch)
    for name in ("odd", "empty", "number"):
        assert torch.equal(getattr(got, name), getattr(sent, name))
        assert getattr(got, name).dtype == getattr(sent, name).dtype
    assert got.absent is None
    assert got.words == sent.words
    places = {t.untyped_storage().data_ptr() for t in (got.batch.image, got.batch.key, got.odd, got.number)}
    assert len(places) == 1
    got.batch.image.zero_()
    assert torch.equal(got.odd, odd)


def test_records_that_are_no_block_travel_too() -> None:
    nothing = random_batch(0)
    got = through_a_pipe(nothing)
    assert isinstance(got, PoseBatch)
    assert same(got, nothing)
    learnt = random_batch(2).replace(weight=torch.nn.Parameter(torch.ones(2)))
    got = through_a_pipe(learnt)
    assert isinstance(got, PoseBatch)
    assert got.weight.requires_grad
    assert same(got, learnt)


class Batches(torch.utils.data.Dataset):
    def __getitem__(self, index: int) -> PoseBatch:
        return random_batch(2, seed=index)


def test_a_loaders_worker_sends_a_batch() -> None:
    loader = DataLoader(
        Batches(),
        batch_size=None,
        sampler=range(3),
        num_workers=1,
        multiprocessing_context="forkserver",  # type: ignore[arg-type]
    )
    for index, batch in enumerate(loader):
        assert same(batch, random_batch(2, seed=index))


def test_a_batch_is_frozen_and_replace_leaves_it_alone() -> None:
    batch = random_batch(2)
    changed = batch.replace(weight=torch.zeros(2))
    assert changed.weight.sum() == 0
    assert batch.weight.sum() != 0
    assert changed.image is batch.image
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.weight = torch.zeros(2)  # type: ignore[misc]
    with pytest.raises(TypeError, match="pose"):
        batch.replace(pose=torch.zeros(2))


def test_root_is_the_pelvis_else_the_middle_of_the_hips() -> None:
    joints, conf = torch.rand(2, NUM_JOINTS, 3), torch.ones(2, NUM_JOINTS)
    conf[1, PELVIS] = 0
    joints[1, PELVIS] = float("nan")  # junk of an unlabelled joint
    root = root_of(joints, conf)
    assert torch.equal(root[0], joints[0, PELVIS])
    torch.testing.assert_close(root[1], joints[1, HIPS].mean(0))
