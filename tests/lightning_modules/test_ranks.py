"""Losses on parts of a batch: the ranks' gradients average to the whole batch's, whatever each has labels for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from human.batch import PoseBatch
from lightning_modules import ESTIMATORS, DomainConfusion, GradientReversal, PoseEstimator
from lightning_modules.hmr2_losses import HMR2LossWeights
from lightning_modules.ranks import whole_batch
from tests.lightning_modules.threads import on_ranks
from tests.lightning_modules.tiny_estimators import make
from tests.tiny import rendered_people

RANKS = 2
#: What makes every term of a loss take part, and prediction not wait for a detector.
OPTIONS: dict[str, dict[str, Any]] = {
    "hmr2": {"loss": HMR2LossWeights(adversary=0.001)},
    "crowdnet3d": {"pose2d": "labels"},
}


@pytest.fixture(scope="module")
def uneven() -> PoseBatch:
    """Eight people; rank 1 (every second) has hardly any label, and one picture that cannot be read."""
    people = rendered_people(range(8))
    second = torch.arange(8) % 2 == 1
    some = torch.rand(8, 32, generator=torch.Generator().manual_seed(0)) < 0.5
    few = torch.where(second[:, None], some & (torch.arange(8) < 4)[:, None], True)
    return people.replace(
        joints2d_conf=people.joints2d_conf * few,
        joints3d_conf=people.joints3d_conf * few,
        has_pose=people.has_pose & ~second,
        has_betas=people.has_betas & ~(second & (torch.arange(8) > 1)),
        weight=torch.tensor([1.0, 0.5, 1.0, 0.0, 1.0, 1.0, 0.25, 1.0]),
    )


def gradients(model: PoseEstimator, batch: PoseBatch) -> tuple[list[Tensor], Tensor]:
    """Of every weight that is trained, and the terms of the loss."""
    weights = [p for p in model.parameters() if p.requires_grad]
    terms = torch.stack(list(model.losses(model.solve(batch), batch).values()))
    found = torch.autograd.grad(terms.sum(), weights, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(weights, found, strict=True)], terms.detach()


@pytest.mark.parametrize("name", ESTIMATORS.names())
def test_the_ranks_gradients_average_to_the_batchs(
    name: str, uneven: PoseBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(name, **OPTIONS.get(name, {})).eval()  # no dropout, and statistics of no batch
    whole, terms = gradients(model, uneven)
    models = [copy.deepcopy(model) for _ in range(RANKS)]  # as processes have
    parts = on_ranks(RANKS, lambda rank: gradients(models[rank], uneven[slice(rank, None, RANKS)]), monkeypatch)
    torch.testing.assert_close(torch.stack([t for _, t in parts]).mean(0), terms, rtol=1e-5, atol=1e-6)
    scale = max(g.abs().max() for g in whole)
    assert scale > 1e-4
    for one, *others in zip(whole, *(g for g, _ in parts), strict=True):
        average = torch.stack(others).mean(0)
        torch.testing.assert_close(average / scale, one / scale, rtol=1e-4, atol=1e-6)
    # A mean of means is something else: the test would notice it.
    alone = [gradients(model, uneven[slice(rank, None, RANKS)])[0] for rank in range(RANKS)]
    off = max((torch.stack(g).mean(0) - one).abs().max() for one, *g in zip(whole, *alone, strict=True))
    assert off > 1e-3 * scale


@pytest.mark.parametrize("domain", [DomainConfusion(period=0), GradientReversal()], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("apart", [False, True])
def test_domains_count_alike_over_all_ranks(
    domain: DomainConfusion | GradientReversal, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one rank has real pictures only and the other synthetic ones."""
    torch.manual_seed(0)
    domain.build(6)
    features = torch.randn(8, 6)
    which = torch.arange(8) % 2 if apart else torch.tensor([0, 0, 0, 1, 0, 0, 1, 1])
    weight = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.5])

    def step(rows: slice) -> list[Tensor]:
        x, own = features[rows].clone().requires_grad_(), copy.deepcopy(domain)
        terms, _ = own.losses(x, which[rows], weight[rows], 0, 0.5)
        total = torch.stack(list(terms.values())).sum()
        return [*torch.autograd.grad(total, list(own.parameters())), total.detach()]

    whole = step(slice(None))
    parts = on_ranks(RANKS, lambda rank: step(slice(rank, None, RANKS)), monkeypatch)
    for one, *others in zip(whole, *parts, strict=True):
        torch.testing.assert_close(torch.stack(others).mean(0), one, rtol=1e-5, atol=1e-6)


def test_rows_of_all_ranks_come_in_the_order_of_the_global_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.arange(12).reshape(6, 2)
    assert whole_batch(rows) is rows
    for found in on_ranks(3, lambda rank: whole_batch(rows[rank::3]), monkeypatch):
        assert torch.equal(found, rows)
