"""What the trainers of the motion networks share: normalisation, optimisation, and that a step is a function of its
number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from human.checkpoints import check_state
from human.errors import PosesynError
from human.motion_skeleton import FeatureLayout, get_layout
from human.rng import derive_seed
from lightning_modules.optimisation import GroupPlan, Optimisation, lr_factor, make_optimizer

_Network = TypeVar("_Network", bound=nn.Module)


def read_note(path: str | Path, key: str, what: str, config: str) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """The file, and note and weights of a Lightning checkpoint.

    Args:
        key: under which the trainer keeps its note.
        what, config: the network and the config that trains it, for the error.

    Raises:
        PosesynError: no such file, a damaged one, or a checkpoint of something else.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise PosesynError(f"there is no checkpoint of a {what} at {file.absolute()}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a file can be damaged in many ways
        raise PosesynError(f"checkpoint {file} cannot be read ({type(error).__name__}): it is damaged") from error
    if not isinstance(content, dict) or not {key, "state_dict"} <= content.keys():
        raise PosesynError(f"{file} is no checkpoint of a {what} (trained with {config})")
    return file, content[key], content["state_dict"]


def restored(network: _Network, state: dict[str, Tensor], name: str, file: Path) -> _Network:
    """``network`` with the weights that a trainer keeps under ``name``."""
    own = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
    check_state(own, network.state_dict(), file, type(network).__name__, "Was it trained with other sizes?")
    network.load_state_dict(own)
    return network


class MotionTrainer(L.LightningModule, ABC):
    """Base of :class:`~lightning_modules.motion_vqvae.MotionVQVAETrainer` and
    :class:`~lightning_modules.motion_transformer.TextToMotionTrainer`.

    Args:
        layout: of the features, "humanml3d" or "kit".
        lr, weight_decay, warmup_steps, final_lr_fraction, optimisation: as of the pose estimators.
        figures: names of what is validated.
    """

    mean_F: Tensor
    std_F: Tensor

    def __init__(
        self,
        layout: str,
        lr: float,
        weight_decay: float,
        warmup_steps: int,
        final_lr_fraction: float,
        optimisation: Optimisation,
        figures: Sequence[str],
    ) -> None:
        super().__init__()
        self.figures = nn.ModuleDict({name: MeanMetric() for name in figures})
        self.layout: FeatureLayout = get_layout(layout)
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.final_lr_fraction, self.optimisation = final_lr_fraction, optimisation
        self.register_buffer("mean_F", torch.zeros(self.layout.size))
        self.register_buffer("std_F", torch.ones(self.layout.size))

    @abstractmethod
    def trained(self) -> nn.Module:
        """The network that is trained."""

    @property
    def data(self) -> Any:
        """The data module of the run."""
        data = getattr(self.trainer, "datamodule", None)
        if data is None or not hasattr(data, "normalisation"):
            raise PosesynError(f"{type(self).__name__} is trained with data.class_path: datamodules.MotionDataModule")
        if data.layout.name != self.layout.name:
            raise PosesynError(
                f"the model is for features of {self.layout.name}, the data's are {data.layout.name}: set model.layout"
            )
        return data

    def figure(self, name: str) -> MeanMetric:
        """A figure of the validation, the mean over what it was told."""
        return cast(MeanMetric, self.figures[name])

    def normalised(self, features_BTF: Tensor) -> Tensor:
        return (features_BTF - self.mean_F) / self.std_F

    def set_normalisation(self, mean_F: Any, std_F: Any) -> None:
        self.mean_F.copy_(torch.as_tensor(mean_F))
        self.std_F.copy_(torch.as_tensor(std_F))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout and corruption are functions of the step: a resumed run draws what the whole run drew.
        step = self.trainer.fit_loop.total_batch_idx
        torch.manual_seed(derive_seed(getattr(self.data, "seed", 0), "motion step", step, self.global_rank))

    def configure_optimizers(self) -> Any:
        named = [(name, p) for name, p in self.trained().named_parameters() if p.requires_grad]
        plan = GroupPlan(dict(named), self.optimisation, lambda _: 0)
        optimizer = make_optimizer(plan.groups(named, self.lr, self.weight_decay), self.optimisation, self.lr)
        factor = lr_factor(self.optimisation, self.warmup_steps, self.final_lr_fraction, self.total_steps())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def total_steps(self) -> int:
        """Optimiser steps of the whole run, for the schedule."""
        trainer = self.trainer
        if trainer.max_steps > 0:
            return trainer.max_steps
        return max(1, (trainer.max_epochs or 1) * self.data.steps_per_epoch // trainer.accumulate_grad_batches)

    @property
    def run_dir(self) -> Path:
        return Path(self.trainer.log_dir or self.trainer.default_root_dir)


def adam(betas: tuple[float, float], milestones: Iterable[float], gamma: float = 0.05) -> Optimisation:
    """T2M-GPT's: AdamW, and at the milestones (parts of the run) the learning rate times ``gamma``."""
    return Optimisation(betas=betas, schedule="step", milestones=tuple(milestones), gamma=gamma, decay_all=True)
