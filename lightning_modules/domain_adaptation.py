"""Domain adaptation: features that do not tell a synthetic picture from a real one.

Three parts: the feature extractor and the pose head are the estimator's own, and the *domain mixer* is a small
classifier, synthetic or real, on the features between them (:attr:`lightning_modules.base.Regression.features`). It
learns from every picture whose domain is known, labelled or not, so pictures without any label can guide the extractor.

* :class:`DomainConfusion`, Chen et al., "Synthesizing Training Images for Boosting Human 3D Pose Estimation", 3DV 2016,
  §3.4: two alternating stages, the second towards a mixer that says (0.5, 0.5) of everything.
* :class:`GradientReversal`, Ganin & Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015: one
  stage, in which the gradient of the mixer's loss changes sign on its way into the extractor.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from human.errors import PosesynError
from lightning_modules.ranks import rank_mean

REAL, SYNTHETIC = 0, 1


class Trains(NamedTuple):
    """Which weights an optimiser step moves."""

    mixer: bool
    estimator: bool


class DomainAdaptation(nn.Module, ABC):
    """Base of the strategies; an argument of every estimator (``domain``).

    The mixer is part of the estimator's checkpoint, and never of what it predicts: neither mining nor validation runs
    it, and :meth:`~lightning_modules.base.PoseEstimator.trained_state` leaves it out.

    Args:
        weight: of the mixer's say in what the extractor learns, beside the pose loss.
        hidden: widths of the mixer's hidden layers.
        lr: learning rate of the mixer, on the estimator's schedule.
    """

    def __init__(self, weight: float = 1.0, hidden: Sequence[int] = (256, 256), lr: float = 1e-3) -> None:
        super().__init__()
        if not weight >= 0 or not lr > 0 or any(h < 1 for h in hidden):
            raise PosesynError(
                "domain adaptation needs weight >= 0, lr > 0 and hidden widths >= 1, "
                f"got {weight}, {lr}, {list(hidden)}"
            )
        self.weight, self.hidden, self.lr = weight, tuple(hidden), lr
        self.mixer: nn.Module | None = None
        self._synthetic: tuple[bool, ...] = ()

    # -- made known by the estimator ---------------------------------------------------------------------------------
    def build(self, features: int) -> None:
        """Make the mixer, for vectors of ``features`` numbers."""
        # Normalised without weights of its own: an extractor cannot hide in the scale of its features, and any fits.
        layers: list[nn.Module] = [nn.LayerNorm(features, elementwise_affine=False)]
        for before, after in zip((features, *self.hidden[:-1]), self.hidden, strict=False):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.1)]
        self.mixer = nn.Sequential(*layers, nn.Linear(self.hidden[-1] if self.hidden else features, 2))

    def tell_sources(self, synthetic: Sequence[bool] | None) -> None:
        """Which of the mixture's sources, by number, are synthetic; :class:`PosesynError` unless both domains occur."""
        if synthetic is None:
            raise PosesynError(
                "domain adaptation must know which samples are synthetic: train with a PoseDataModule, or give your "
                "data module a list of bools `synthetic_sources`, one for each number in PoseBatch.key[:, 0]"
            )
        if len(set(synthetic)) < 2:
            kind = "synthetic" if all(synthetic) else "real"
            raise PosesynError(
                f"domain adaptation needs a synthetic and a real source, but data.sources are all {kind}: add one "
                "(real pictures without labels will do: a RealSource with `labels: false`), or set `domain: null`"
            )
        self._synthetic = tuple(bool(s) for s in synthetic)

    def domains(self, key_B4: Tensor) -> Tensor:
        """(B,) REAL or SYNTHETIC by the samples' keys."""
        # Not a buffer: averaged weights are copied before this is known, and must have the same buffers.
        return torch.tensor(self._synthetic, device=key_B4.device)[key_B4[:, 0]].long()

    # -- what a strategy says ----------------------------------------------------------------------------------------
    def trains(self, step: int) -> Trains:
        """What the optimiser step number ``step`` moves."""
        return Trains(True, True)

    @abstractmethod
    def losses(
        self, features_BF: Tensor, domain_B: Tensor, weight_B: Tensor, step: int, progress: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of the loss by name, and the mixer's logits (B,2) without gradient.

        ``weight_B`` is that of the samples (0: not readable), ``progress`` 0..1 through the training.
        """

    def says(self, features_BF: Tensor, frozen: bool = False) -> Tensor:
        """(B,2) logits; ``frozen``: with gradients for the features only, none for the mixer."""
        assert self.mixer is not None
        if not frozen:
            return self.mixer(features_BF).float()
        weights = {name: p.detach() for name, p in self.mixer.named_parameters()}
        return torch.func.functional_call(self.mixer, weights, (features_BF,)).float()


class DomainConfusion(DomainAdaptation):
    """Two alternating stages (Chen et al. 2016, §3.4).

    Stage 1 trains the mixer to tell the domains apart, by cross-entropy, on features that stay as they are. Stage 2
    trains the feature extractor and the pose head: the pose loss, and the cross-entropy between what the mixer, which
    stays as it is, says and (0.5, 0.5), the target for both domains.

    Args:
        period: optimiser steps of each stage before the other's turn. 0: both stages in every step, from one forward
            pass. The gradients are those of the two stages at the same weights, since either stage's loss reaches
            only the weights that it trains; the difference is that the extractor then meets the mixer of one step
            before. A run of N steps has N steps of the pose loss with ``period: 0``, and N/2 otherwise.
        weight, hidden, lr: see :class:`DomainAdaptation`.
    """

    def __init__(
        self, period: int = 1, weight: float = 1.0, hidden: Sequence[int] = (256, 256), lr: float = 1e-3
    ) -> None:
        super().__init__(weight, hidden, lr)
        if period < 0:
            raise PosesynError(f"period={period}: give the steps of a stage, or 0 for both stages in every step")
        self.period = period

    def trains(self, step: int) -> Trains:
        if self.period == 0:
            return Trains(True, True)
        first = (step // self.period) % 2 == 0
        return Trains(mixer=first, estimator=not first)

    def losses(
        self, features_BF: Tensor, domain_B: Tensor, weight_B: Tensor, step: int, progress: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        trains, terms, logits = self.trains(step), {}, features_BF.new_zeros(0)
        if trains.mixer:
            logits = self.says(features_BF.detach())
            terms["mixer"] = discrimination(logits, domain_B, weight_B)
        if trains.estimator:
            logits = self.says(features_BF, frozen=True)
            terms["confuse"] = self.weight * confusion(logits, domain_B, weight_B)
        return terms, logits.detach()


class GradientReversal(DomainAdaptation):
    """Gradient reversal (Ganin & Lempitsky 2015): every step trains the mixer to tell the domains apart, and, by the
    reversed gradient, the extractor to the contrary.

    Args:
        gamma: steepness of the schedule of the reversed gradient's factor, :func:`reversal_schedule`.
        weight, hidden, lr: see :class:`DomainAdaptation`; ``weight`` multiplies the schedule (1 in the paper).
    """

    def __init__(
        self, gamma: float = 10.0, weight: float = 1.0, hidden: Sequence[int] = (256, 256), lr: float = 1e-3
    ) -> None:
        super().__init__(weight, hidden, lr)
        self.gamma = gamma

    def losses(
        self, features_BF: Tensor, domain_B: Tensor, weight_B: Tensor, step: int, progress: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        factor = self.weight * reversal_schedule(progress, self.gamma)
        logits = self.says(reverse_gradient(features_BF, factor))
        return {"mixer": discrimination(logits, domain_B, weight_B)}, logits.detach()


# -- the losses ------------------------------------------------------------------------------------------------------
def _by_domain(value_B: Tensor, domain_B: Tensor, weight_B: Tensor) -> tuple[Tensor, Tensor]:
    """(2,) weighted means of each domain over all ranks (0 where it has no sample), and (2,) whether it has any."""
    weight_B2 = F.one_hot(domain_B, 2) * weight_B[:, None]
    total = rank_mean(weight_B2.sum(0))
    # where, not a product: the value of a sample that is left out may be anything.
    value = torch.where(weight_B2 > 0, value_B[:, None], 0.0) * weight_B2
    return value.sum(0) / total.clamp_min(1e-6), total > 0


def discrimination(logits_B2: Tensor, domain_B: Tensor, weight_B: Tensor) -> Tensor:
    """Cross-entropy with the true domains, both counting alike however many samples they have: else a mixer that
    knows nothing would say the mixture's shares instead of (0.5, 0.5). 0 if a domain is absent: nothing can be told
    apart.
    """
    mean, present = _by_domain(F.cross_entropy(logits_B2, domain_B, reduction="none"), domain_B, weight_B)
    return torch.where(present.all(), mean.mean(), 0.0 * mean.sum())


def confusion(logits_B2: Tensor, domain_B: Tensor, weight_B: Tensor) -> Tensor:
    """Cross-entropy with (0.5, 0.5), less its least value log 2: the Kullback-Leibler divergence from (0.5, 0.5), in
    nats, 0 when the mixer cannot tell. Domains that are present count alike.
    """
    divergence = -logits_B2.log_softmax(1).mean(1) - math.log(2)
    mean, present = _by_domain(divergence, domain_B, weight_B)
    return mean.sum() / present.sum().clamp_min(1)


def accuracy(logits_B2: Tensor, domain_B: Tensor, weight_B: Tensor) -> Tensor:
    """Share of samples whose domain the mixer says, averaged over the domains that are present; 0.5 is a guess, and
    what it is without samples.
    """
    mean, present = _by_domain((logits_B2.argmax(1) == domain_B).float(), domain_B, weight_B)
    return torch.where(present.any(), mean.sum() / present.sum().clamp_min(1), 0.5)


def reversal_schedule(progress: float, gamma: float = 10.0) -> float:
    """Factor of the reversed gradient, 0 at the start and nearly 1 at the end: 2 / (1 + exp(-gamma p)) - 1
    (Ganin & Lempitsky 2015, §3.1: lambda_p, with gamma 10).
    """
    return 2 / (1 + math.exp(-gamma * min(1.0, max(0.0, progress)))) - 1


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * -ctx.factor, None


def reverse_gradient(x: Tensor, factor: float) -> Tensor:
    """``x``, whose gradient comes back times ``-factor``."""
    return _Reversal.apply(x, factor)


@contextmanager
def without_gradients(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """The parameters have no gradient inside, their own again outside."""
    kept = [(p, p.grad) for p in parameters]
    for p, _ in kept:
        p.grad = None
    try:
        yield
    finally:
        for p, grad in kept:
            p.grad = grad
