"""What a LightningModule does to be trained with domain adaptation: one optimiser, two sets of weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from human.batch import PoseBatch
from human.errors import PosesynError
from lightning_modules.domain_adaptation import DomainAdaptation, Trains, accuracy, confusion, without_gradients
from lightning_modules.ranks import rank_mean


class DomainTraining(L.LightningModule):
    """Part of every estimator; does nothing without a ``domain``.

    Both stages run under Lightning's automatic optimisation with one optimiser, so that averaged weights, clipping,
    schedules and resuming work as they do without. Which stage a step is in follows from its number alone.
    """

    image_size: int

    def __init__(self, domain: DomainAdaptation | None) -> None:
        super().__init__()
        self.domain = domain

    @abstractmethod
    def regress(self, batch: PoseBatch) -> Any:
        """What the network says of the pictures, with ``features`` (B,F) or None."""

    # -- before training ---------------------------------------------------------------------------------------------
    def build_domain(self) -> None:
        """Fit the mixer to the network's features; :class:`PosesynError` from a network that gives none."""
        if self.domain is None:
            return
        modes = [(m, m.training) for m in self.modules()]
        self.eval()  # statistics and dropout are for pictures
        blank = PoseBatch.blank(1, self.image_size).to(next(self.parameters()).device)
        with torch.no_grad():
            features = self.regress(blank).features
        for module, mode in modes:
            module.training = mode
        if features is None or features.ndim != 2:
            got = "none" if features is None else f"some of shape {tuple(features.shape)}"
            raise PosesynError(
                f"{type(self).__name__} cannot be trained with domain adaptation: its regress() must return "
                f"Regression(..., features=) of shape (B,F), got {got}; return them, or set `domain: null`"
            )
        self.domain.build(features.shape[1])

    def tell_domain(self, synthetic: Sequence[bool] | None) -> None:
        """Before training: which sources are synthetic (:meth:`DomainAdaptation.tell_sources`)."""
        if self.domain is None:
            return
        if self.domain.mixer is None:
            raise PosesynError(
                f"{type(self).__name__} was given `domain` but made no mixer for it: "
                "call load_initial_weights() as the last thing in its constructor"
            )
        self.domain.tell_sources(synthetic)

    # -- a step ------------------------------------------------------------------------------------------------------
    def trains(self) -> Trains:
        """Which weights the present optimiser step moves."""
        return Trains(False, True) if self.domain is None else self.domain.trains(self.global_step)

    def with_domain_loss(self, pose_loss: Tensor, features_BF: Tensor | None, batch: PoseBatch) -> Tensor:
        """The loss of the present step, of what it trains; logs how well the mixer tells the domains apart."""
        if self.domain is None:
            return pose_loss
        assert features_BF is not None  # looked at when the mixer was made
        which, step = self.domain.domains(batch.key), self.global_step
        progress = step / self.total_steps() if self._trainer is not None else 0.0
        terms, logits = self.domain.losses(features_BF, which, batch.weight, step, progress)
        figures = {
            "domain/accuracy": accuracy(logits, which, batch.weight),
            "domain/confusion": confusion(logits, which, batch.weight),
        }
        told = {f"loss/{k}": rank_mean(v.detach()) for k, v in terms.items()}
        self.log_dict(told, batch_size=len(batch))
        self.log_dict(figures, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch))
        parts = [*terms.values(), *([pose_loss] if self.trains().estimator else [])]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # Ranks wait for a gradient of every weight; those that this step leaves alone get a 0, dropped below.
            parts += [0.0 * p.sum() for p in self._idle()]
        return torch.stack(parts).sum()

    @abstractmethod
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""

    @abstractmethod
    def opponent(self) -> list[nn.Parameter]:
        """Weights that are trained against the network."""

    def split_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The mixer's, and the estimator's own."""
        mixer = [] if self.domain is None else list(self.domain.parameters())
        ids = {id(p) for p in mixer}
        return mixer, [p for p in self.parameters() if id(p) not in ids]

    def _idle(self) -> list[nn.Parameter]:
        """The weights that the present optimiser step leaves alone."""
        (mixer, own), trains = self.split_parameters(), self.trains()
        idle = [*([] if trains.mixer else mixer), *([] if trains.estimator else own)]
        return [p for p in idle if p.requires_grad]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.domain is not None:
            for p in self._idle():
                p.grad = None  # with a 0 momentum and weight decay would move the weight all the same

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Each set on its own: what the mixer or an opponent learns must not make the pose's steps shorter.
        mixer, own = self.split_parameters()
        for others in (mixer, own) if mixer else ([],):
            with without_gradients([*others, *self.opponent()]):
                self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
