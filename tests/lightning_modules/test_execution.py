"""Recomputed activations and compilation change how a network runs, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from human.batch import PoseBatch
from human.errors import PosesynError
from lightning_modules import ESTIMATORS, PoseEstimator
from lightning_modules.execution import blocks
from tests.lightning_modules.tiny_estimators import make
from tests.tiny import rendered_people, tiny_hmr

#: Networks that are one short chain of layers.
WITHOUT_BLOCKS = {"jointreg"}
BLOCKS = [n for n in ESTIMATORS.names() if n not in WITHOUT_BLOCKS]


@pytest.fixture(scope="module")
def people() -> PoseBatch:
    return rendered_people(range(4))


def step(model: PoseEstimator, people: PoseBatch) -> dict[str, torch.Tensor]:
    """Gradients, and what a step leaves in the buffers."""
    torch.manual_seed(1)
    model.zero_grad()
    model.training_step(people, 0).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None} | dict(model.named_buffers())


def kept(model: PoseEstimator, people: PoseBatch) -> int:
    """Bytes that a step's forward keeps for the way back, apart from weights."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        loss = model.training_step(people, 0)
    del loss
    return sum(found.values())


@pytest.mark.parametrize("name", BLOCKS)
def test_recomputed_steps_are_the_same_steps(name: str, people: PoseBatch) -> None:
    plain, again = make(name), make(name, gradient_checkpointing=True)
    assert plain.state_dict().keys() == again.state_dict().keys()
    expected, found = step(plain, people), step(again, people)
    assert expected.keys() == found.keys()
    for key, value in expected.items():  # batch statistics too: they must not move twice
        assert torch.equal(found[key], value), key
    assert plain.weights_hash() == again.weights_hash()


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit", "test_resnet"])
def test_recomputing_keeps_less(backbone: str, people: PoseBatch) -> None:
    plain, again = (tiny_hmr(backbone=backbone, pool="avg", gradient_checkpointing=on) for on in (False, True))
    assert kept(again, people) < 0.8 * kept(plain, people)  # the stem keeps its own


def test_a_copy_recomputes_with_its_own_weights(people: PoseBatch) -> None:
    model = tiny_hmr(gradient_checkpointing=True)
    other = copy.deepcopy(model)  # as averaged weights are kept
    before = other.eval().predict(people).joints3d
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert torch.equal(other.predict(people).joints3d, before)


def test_frozen_blocks_keep_their_statistics(people: PoseBatch) -> None:
    model = tiny_hmr(gradient_checkpointing=True, frozen=["blocks.0"])
    before = copy.deepcopy(model.backbone.get_submodule("blocks.0").state_dict())
    step(model, people)
    for key, value in model.backbone.get_submodule("blocks.0").state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", sorted(WITHOUT_BLOCKS))
def test_a_network_without_blocks(name: str) -> None:
    with pytest.raises(PosesynError, match="no repeated blocks"):
        make(name, gradient_checkpointing=True)


def test_blocks_are_the_outermost_repeated_parts() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])

    stage = nn.Sequential(Block(), Block())
    net = nn.ModuleDict({"stem": nn.Sequential(nn.Linear(1, 1), nn.ReLU()), "stages": nn.Sequential(stage)})
    assert list(blocks(net)) == list(stage)


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS.names())
def test_networks_are_traced_whole(name: str, people: PoseBatch) -> None:
    """Without a break of the graph, and with the same names, numbers and gradients."""
    plain = make(name)
    traced = make(name, compile={"backend": "eager", "fullgraph": True})
    assert plain.state_dict().keys() == traced.state_dict().keys()
    expected, found = step(plain, people), step(traced, people)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")
    with torch.inference_mode():
        one, other = plain.eval().predict(people), traced.eval().predict(people)
    torch.testing.assert_close(other.joints3d, one.joints3d, rtol=1e-3, atol=1e-4)


def test_a_compiled_copy_runs_its_own_weights(people: PoseBatch) -> None:
    model = tiny_hmr(compile={"backend": "eager"})
    with torch.inference_mode():
        before = model.eval().predict(people).joints3d
        other = copy.deepcopy(model)
        for p in model.parameters():
            p.zero_()
        torch.testing.assert_close(other.predict(people).joints3d, before)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True}, {"backbone": "test_vit", "pool": "avg"}])
def test_compiled_steps(changes: dict[str, Any], people: PoseBatch) -> None:
    """With the real compiler; dropout off, since it draws in another order."""
    expected = step(tiny_hmr(dropout=0.0, **changes), people)
    found = step(tiny_hmr(dropout=0.0, compile=True, **changes), people)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-2, atol=1e-3, msg=lambda m, k=key: f"{k}: {m}")
