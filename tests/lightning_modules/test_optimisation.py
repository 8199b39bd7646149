"""Groups of weights, optimisers and schedules."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from human.errors import PosesynError
from lightning_modules import ESTIMATORS, DomainConfusion
from lightning_modules.optimisation import GroupPlan, Optimisation, lr_factor, make_optimizer, stack_layers
from tests.lightning_modules.tiny_estimators import TINY, make
from tests.tiny import tiny_hmr


def optimizer_of(model: Any, monkeypatch: pytest.MonkeyPatch, steps: int = 100) -> torch.optim.Optimizer:
    monkeypatch.setattr(model, "total_steps", lambda: steps)
    return model.configure_optimizers()["optimizer"]


def rates(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """(learning rate at the schedule's height, weight decay) by name."""
    found = {id(p): (g["initial_lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    return {n: found[id(p)] for n, p in model.named_parameters() if id(p) in found}


# -- groups ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(TINY))
def test_every_trained_weight_is_in_one_group(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(name)
    optimizer = optimizer_of(model, monkeypatch)
    grouped = [id(p) for g in optimizer.param_groups for p in g["params"]]
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == trained
    for weight, (lr, decay) in rates(model, optimizer).items():
        assert lr == model.lr, weight
        assert decay == (model.weight_decay if decays(model.get_parameter(weight), weight) else 0.0), weight


def decays(weight: torch.Tensor, name: str) -> bool:
    return weight.ndim > 1 and "pos_embed" not in name and "cls_token" not in name


def test_parts_learn_at_rates_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Optimisation(lr_factors={"backbone": 0.1, "backbone.conv_stem": 0.0, "head.delta": 2.0})
    model = tiny_hmr(optimisation=options, lr=1e-3)
    found = rates(model, optimizer_of(model, monkeypatch))
    assert found["backbone.conv_stem.weight"][0] == 0
    assert {round(lr, 9) for n, (lr, _) in found.items() if n.startswith("backbone.blocks.")} == {1e-4}
    assert found["head.delta.bias"] == (pytest.approx(2e-3), 0.0)
    assert found["head.refine.0.weight"][0] == 1e-3


def test_rates_fall_layer_by_layer_to_the_stem(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_hmr(backbone="test_vit", pool="avg", optimisation=Optimisation(layer_decay=0.5), lr=1.0)
    depth = 1 + max(int(n.split("blocks.")[1].split(".")[0]) for n, _ in model.named_parameters() if "blocks." in n)
    for name, (lr, decay) in rates(model, optimizer_of(model, monkeypatch)).items():
        if "blocks." in name:
            assert lr == 0.5 ** (depth - int(name.split("blocks.")[1].split(".")[0])), name
        elif "patch_embed" in name or "pos_embed" in name or "cls_token" in name:
            assert lr == 0.5 ** (depth + 1), name
            assert decay == 0 or name.endswith("proj.weight")
        else:
            assert lr == 1.0, name


def test_stages_of_a_convolutional_network_are_its_layers() -> None:
    names = ("backbone.conv1.weight", "backbone.bn1.bias", "backbone.layer1.0.conv1.weight",
             "backbone.layer4.2.bn3.bias", "head.fc.weight")  # fmt: skip
    assert list(stack_layers(names).values()) == [0, 0, 1, 4, 5]


def test_frozen_parts_are_not_optimised(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_hmr(frozen=["backbone"])
    found = rates(model, optimizer_of(model, monkeypatch))
    assert found
    assert not [n for n in found if n.startswith("backbone.")]
    assert not any(m.training for m in model.train().backbone.modules())
    assert model.head.training


def test_a_mixer_keeps_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_hmr(domain=DomainConfusion(lr=0.123), optimisation=Optimisation(layer_decay=0.9))
    found = rates(model, optimizer_of(model, monkeypatch))
    mixers = {lr for n, (lr, _) in found.items() if n.startswith("domain.")}
    assert mixers == {0.123}
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(model.get_parameter(n)) for n in found}


def test_groups_are_known_by_the_names_of_the_start() -> None:
    """A strategy that shards leaves flat pieces of the weights: matrices must still decay, biases not."""
    net = nn.Linear(3, 2)
    plan = GroupPlan(dict(net.named_parameters()), Optimisation(), lambda name: 0)
    flat = [("weight", nn.Parameter(torch.zeros(6))), ("bias", nn.Parameter(torch.zeros(2)))]
    by_decay = {g["weight_decay"]: g["params"] for g in plan.groups(flat, 1e-3, 0.05)}
    assert by_decay[0.05][0] is flat[0][1]
    assert by_decay[0.0][0] is flat[1][1]


@pytest.mark.parametrize(
    ("kind", "expected"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_optimisers(kind: str, expected: type[torch.optim.Optimizer], monkeypatch: pytest.MonkeyPatch) -> None:
    options = Optimisation(optimizer=kind, betas=(0.8, 0.95), momentum=0.7)
    optimizer = make_optimizer([{"params": [nn.Parameter(torch.zeros(2))], "weight_decay": 0.5}], options, 0.25)
    assert type(optimizer) is expected
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.5)
    assert group["momentum"] == 0.7 if kind == "sgd" else group["betas"] == (0.8, 0.95)


def test_decay_all_is_an_optimiser_without_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_hmr(optimisation=Optimisation(decay_all=True), weight_decay=0.5)
    assert {decay for _, decay in rates(model, optimizer_of(model, monkeypatch)).values()} == {0.5}


# -- schedules -------------------------------------------------------------------------------------------------------
def schedule(kind: str, **changes: Any) -> list[float]:
    options = Optimisation(schedule=kind, **changes)
    factor = lr_factor(options, warmup_steps=10, final_fraction=0.1, total=110)
    return [factor(s) for s in range(130)]


@pytest.mark.parametrize(
    ("kind", "changes"), [("cosine", {}), ("linear", {}), ("constant", {}), ("step", {"milestones": (0.5,)})]
)
def test_every_schedule_warms_up_linearly(kind: str, changes: dict[str, Any]) -> None:
    assert schedule(kind, **changes)[:11] == pytest.approx([*(k / 10 for k in range(1, 11)), 1.0])


def test_what_schedules_do_after_the_warm_up() -> None:
    cosine, linear, constant = schedule("cosine"), schedule("linear"), schedule("constant")
    for step in (10, 35, 60, 109, 110, 129):
        done = min(1.0, (step - 10) / 100)
        assert cosine[step] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)
        assert linear[step] == pytest.approx(1 - 0.9 * done)
        assert constant[step] == 1
    step = schedule("step", milestones=(0.5, 0.75), gamma=0.2)
    assert (step[54], step[55], step[82], step[83], step[129]) == pytest.approx((1, 0.2, 0.2, 0.04, 0.04))


# -- what users mistype ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"optimizer": "adan"}, "adamw, adam, sgd"),
        ({"schedule": "cosin"}, "cosine, linear, step, constant"),
        ({"schedule": "step"}, "milestones"),
        ({"milestones": (0.5,)}, "schedule: step"),
        ({"schedule": "step", "milestones": (90, 120)}, "parts of the run"),
        ({"schedule": "step", "milestones": (0.9, 0.5)}, "rising"),
        ({"layer_decay": 0.0}, "layer_decay"),
        ({"lr_factors": {"backbone": -1.0}}, "negative"),
    ],
)
def test_options_that_make_no_sense(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        Optimisation(**wrong)


def test_a_part_that_is_not_there() -> None:
    with pytest.raises(PosesynError, match=r"'backbon'.*begin with backbone, head, pool"):
        tiny_hmr(optimisation=Optimisation(lr_factors={"backbon": 0.1}))


def test_every_estimator_can_be_grouped_by_layer() -> None:
    for name in ESTIMATORS.names():
        model = make(name)
        layers = {n: model.layer_of(n) for n, p in model.named_parameters() if p.requires_grad}
        assert min(layers.values()) >= 0
        assert {v for n, v in layers.items() if n.startswith("head.")} == {max(layers.values())}, name
