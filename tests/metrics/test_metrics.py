"""Every metric against a slow reference, as a function, a class, and on two ranks."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from human.errors import PosesynError
from human.skeleton import LSP14
from metrics.functional import box_side, correct_joints, head_size, mpjpe, pa_mpjpe, torso_length
from tests.metrics.batches import ROOT, J
from tests.metrics.cases import CASES, mpjpe_persons
from tests.metrics.tester import MetricCase, check, run_class, run_dtype

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@by_name
def test_class(case: MetricCase) -> None:
    run_class(case)


@by_name
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_inputs(case: MetricCase, dtype: torch.dtype) -> None:
    run_dtype(case, dtype)


@by_name
def test_the_reference_sees_ugly_input(case: MetricCase) -> None:
    entries = [e for batch in case.batches for e in case.persons(batch)]
    assert any(isinstance(e, str) for e in entries)
    assert any(e is None for e in entries)
    assert sum(isinstance(e, np.ndarray) for e in entries) > 5


def _rank(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    try:
        for case in CASES:
            metric = case.make()
            for batch in case.batches[rank::2]:
                metric.update(**batch)
            check(metric, case, case.batches)  # computes over both ranks
            metric.update(**case.batches[0])  # and goes on from this rank's own sums
            check(metric, case, [*case.batches, case.batches[0], case.batches[0]])
        Path(folder, f"rank{rank}").touch()
    finally:
        torch.distributed.destroy_process_group()


def test_two_ranks(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, args=(port, str(tmp_path)), nprocs=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rank0", "rank1"]


def test_functions_give_one_value_per_person() -> None:
    batch = CASES[0].batches[2]
    persons = mpjpe_persons(batch, ROOT)
    values = mpjpe(**batch, root=ROOT)
    assert values.shape == (8,)
    for value, person in zip(values.tolist(), persons, strict=True):
        assert value == pytest.approx(person[0]) if isinstance(person, np.ndarray) else np.isnan(value)


def test_an_integer_mask_and_a_bool_mask_agree() -> None:
    target = torch.randn(4, J, 3, generator=torch.Generator().manual_seed(0))
    pred = target.roll(1, 0)
    mask = torch.arange(J).remainder(3).eq(0).expand(4, J)
    for function in (mpjpe, pa_mpjpe):
        assert torch.equal(function(pred, target, mask), function(pred, target, mask.long()))
        assert torch.allclose(function(pred, target, mask), function(pred[:, mask[0]], target[:, mask[0]]), rtol=1e-9)


def test_pck_is_strict_and_scales_with_each_person() -> None:
    target = torch.zeros(2, 2, 2)
    pred = torch.tensor([[[10.0, 0], [9.99, 0]], [[10.0, 0], [20.0, 0]]])
    correct, counted = correct_joints(pred, target, torch.tensor([50.0, 100.0]), 0.2)
    assert correct.tolist() == [[False, True], [True, False]]
    assert counted.all()


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_persons_without_a_usable_normaliser_are_not_counted(bad: float) -> None:
    correct, counted = correct_joints(torch.zeros(1, J, 2), torch.zeros(1, J, 2), torch.tensor([bad]))
    assert not correct.any()
    assert not counted.any()


def test_normalisers() -> None:
    joints = torch.full((3, J, 2), 7.0)
    joints[0, LSP14.index("left_shoulder")] = torch.tensor([10.0, 4.0])
    mask = torch.ones(3, J)
    mask[1, LSP14.index("right_hip")] = 0
    mask[2] = 0
    torso, side = torso_length(joints, mask), box_side(joints, mask, margin=1.2)
    assert torso[0] == pytest.approx(18**0.5)
    assert torso[1:].isnan().all()
    assert side[:2].tolist() == pytest.approx([3.6, 0])
    assert side[2].isnan()
    assert head_size(torch.tensor([[0.0, 0, 3, 4]])).item() == pytest.approx(3)


def test_user_errors() -> None:
    with pytest.raises(PosesynError, match=r"need two \(B,J,3\)"):
        mpjpe(torch.zeros(2, J, 3), torch.zeros(2, J - 1, 3))
    with pytest.raises(PosesynError, match=r"need two \(B,J,3\)"):
        pa_mpjpe(torch.zeros(2, J, 2), torch.zeros(2, J, 2))
    with pytest.raises(PosesynError, match=r"joint weights must be \(2, 14\)"):
        mpjpe(torch.zeros(2, J, 3), torch.zeros(2, J, 3), torch.ones(2, J, 1))
    with pytest.raises(PosesynError, match="one normaliser per person"):
        correct_joints(torch.zeros(2, J, 2), torch.zeros(2, J, 2), torch.ones(2, J))
    with pytest.raises(PosesynError, match=r"PCK needs two \(B,J,2\)"):
        correct_joints(torch.zeros(2, J, 3), torch.zeros(2, J, 3), torch.ones(2))
