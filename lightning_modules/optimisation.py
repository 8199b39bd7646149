"""How an estimator's weights are moved: optimiser, parameter groups and the schedule of the learning rate."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from human.errors import PosesynError

_OPTIMIZERS = ("adamw", "adam", "sgd")
_SCHEDULES = ("cosine", "linear", "step", "constant")
#: ``….blocks.7.…``, ``….stages.2.…``, ``….layer3.…``, ``….stage4.…``: the stack of a network, however timm names it.
_STACK = re.compile(r"(?:^|\.)(?:(?:blocks|layers|stages|stages_)[._]?(\d+)|layer(\d+)|stage(\d+))(?:\.|$)")
_FIRST = re.compile(r"(?:^|\.)(?:patch_embed|pos_embed|cls_token|stem|conv_stem|conv1|bn1|conv2|bn2)(?:\.|$)")


@dataclass(frozen=True)
class Optimisation:
    """What the recipes of the papers differ in, beside ``lr``, ``weight_decay``, ``warmup_steps`` and
    ``final_lr_fraction`` of the estimator.

    Args:
        optimizer: "adamw" (decoupled weight decay), "adam" (weight decay as an L2 term) or "sgd".
        betas: of Adam. momentum: of SGD (the first of its kind, not Nesterov's).
        schedule: after the linear warm-up: "cosine" or "linear" down to ``final_lr_fraction`` of the learning rate at
            the last step; "step", times ``gamma`` at each of ``milestones``; "constant".
        milestones: of "step": parts of the run, between 0 and 1.
        lr_factors: factor on the learning rate of the weights whose names begin with a key ("backbone": 0.1); of
            several keys the longest counts.
        layer_decay: factor on the learning rate from each layer of a backbone to the one before it; what comes after
            the backbone has the full rate (Clark et al., ELECTRA, 2020, §3.1; Bao et al., BEiT, 2022, §A).
        decay_all: weight decay also on biases, normalisation and embeddings, as an optimiser without groups does.
        no_decay: parts of names without weight decay, beside biases and normalisation.
    """

    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    schedule: str = "cosine"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    lr_factors: dict[str, float] = field(default_factory=dict)
    layer_decay: float = 1.0
    decay_all: bool = False
    no_decay: tuple[str, ...] = ("pos_embed", "cls_token")

    def __post_init__(self) -> None:
        if self.optimizer not in _OPTIMIZERS:
            raise PosesynError(f"optimisation: optimizer={self.optimizer!r} is none of {', '.join(_OPTIMIZERS)}")
        if self.schedule not in _SCHEDULES:
            raise PosesynError(f"optimisation: schedule={self.schedule!r} is none of {', '.join(_SCHEDULES)}")
        if (self.schedule == "step") != bool(self.milestones):
            raise PosesynError("optimisation: `milestones` belong to schedule: step, which needs at least one")
        if any(not 0 < m < 1 for m in self.milestones) or list(self.milestones) != sorted(set(self.milestones)):
            raise PosesynError(
                f"optimisation: milestones={list(self.milestones)} must be parts of the run, between 0 and 1, rising"
            )
        if not 0 < self.layer_decay <= 1 or not self.gamma > 0:
            raise PosesynError(
                f"optimisation needs 0 < layer_decay <= 1 and gamma > 0, got {self.layer_decay} and {self.gamma}"
            )
        if any(not f >= 0 for f in self.lr_factors.values()):
            raise PosesynError(f"optimisation: lr_factors={self.lr_factors} must not be negative")


class GroupPlan:
    """Which group each weight is in, decided when the network is made.

    Later is too late: a strategy that shards renames weights or changes their number of dimensions.

    Args:
        weights: the network's, by name.
        layer_of: the layer a name belongs to: 0 for what comes first, rising; the highest has the full rate.

    Raises:
        PosesynError: an ``lr_factors`` key that is the beginning of no weight's name.
    """

    def __init__(self, weights: Mapping[str, Tensor], options: Optimisation, layer_of: Callable[[str], int]) -> None:
        unknown = [k for k in options.lr_factors if not any(_under(name, k) for name in weights)]
        if unknown:
            children = sorted({name.split(".")[0] for name in weights})
            raise PosesynError(
                f"optimisation: lr_factors names {unknown[0]!r}, with which no weight's name begins; they begin with "
                f"{', '.join(children)}"
            )
        last = max(map(layer_of, weights), default=0)
        self._of: dict[str, tuple[bool, float]] = {}
        for name, weight in weights.items():
            plain = weight.ndim > 1 and not any(part in name for part in options.no_decay)
            keys = sorted((k for k in options.lr_factors if _under(name, k)), key=len)
            factor = options.lr_factors[keys[-1]] if keys else 1.0
            self._of[name] = (plain or options.decay_all, factor * options.layer_decay ** (last - layer_of(name)))

    def groups(self, named: Iterable[tuple[str, nn.Parameter]], lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups of the weights that are trained, the full learning rate first."""
        found: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for name, weight in named:
            if weight.requires_grad:
                found.setdefault(self._of[name], []).append(weight)
        return [
            {"params": found[key], "lr": lr * key[1], "weight_decay": weight_decay if key[0] else 0.0}
            for key in sorted(found, key=lambda k: (-k[1], not k[0]))
        ]


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix.rstrip(".") + ".")


@functools.cache
def stack_layers(names: tuple[str, ...], backbone: str = "backbone.") -> dict[str, int]:
    """Layer number of every name: stem 0, then the blocks of the backbone's stack, then all else.

    Blocks within stages count within the stage: a rate for each stage, as timm's coarse groups have it.
    """
    numbers: dict[str, int] = {}
    for name in names:
        if name.startswith(backbone):
            found = _STACK.search(name.removeprefix(backbone))
            if found:
                numbers[name] = int(next(g for g in found.groups() if g is not None))
    base = min(numbers.values(), default=0)
    last = max(numbers.values(), default=-1) - base + 2
    layers = {}
    for name in names:
        if name in numbers:
            layers[name] = numbers[name] - base + 1
        else:
            first = name.startswith(backbone) and _FIRST.search(name.removeprefix(backbone))
            layers[name] = 0 if first else last
    return layers


def make_optimizer(groups: list[dict[str, Any]], options: Optimisation, lr: float) -> torch.optim.Optimizer:
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=options.momentum)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=lr, betas=options.betas, weight_decay=0.0)


def lr_factor(options: Optimisation, warmup_steps: int, final_fraction: float, total: int) -> Callable[[int], float]:
    """Factor on the learning rate by optimiser step, of a run of ``total`` steps."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = min(1.0, (step - warmup_steps) / max(1, total - warmup_steps))
        if options.schedule == "cosine":
            return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(done * math.pi))
        if options.schedule == "linear":
            return 1 - (1 - final_fraction) * done
        if options.schedule == "step":
            return options.gamma ** sum(step >= m * total for m in options.milestones)
        return 1.0

    return factor
