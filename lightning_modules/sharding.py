"""Weights, gradients and optimiser states in shards: ``trainer.strategy: fsdp2``.

Rajbhandari et al., "ZeRO", SC 2020, stage 3, as PyTorch's ``fully_shard``. Each block of a network gathers its weights
when it is called and lets them go afterwards, so that an estimator predicts between training steps as it does alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from human.errors import PosesynError
from lightning_modules.base import PoseEstimator
from lightning_modules.execution import blocks


class FSDP2(ModelParallelStrategy):
    """Data parallel over all ranks, with sharded weights; one checkpoint file, as every other strategy writes it.

    Args:
        timeout_minutes: for which ranks wait for each other, as one does for the others' mining.
    """

    def __init__(self, timeout_minutes: float = 30.0) -> None:
        super().__init__(
            tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timedelta(minutes=timeout_minutes)
        )

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_processes * self.num_nodes
        super().setup_environment()

    def setup(self, trainer: L.Trainer) -> None:
        # Not in `configure_model`: averaged weights call it on their own, without a strategy, when it exists.
        assert self.accelerator is not None
        assert self.model is not None
        model = self.lightning_module
        if not isinstance(model, PoseEstimator):
            raise PosesynError(f"trainer.strategy=fsdp2 is for estimators, not for a {type(model).__name__}")
        refuse(trainer, model)
        self.accelerator.setup(trainer)
        self.model_to_device()
        shard(model, self.device_mesh["data_parallel"])
        self.barrier()
        fitting = trainer.state.fn == TrainerFn.FITTING
        if fitting:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()


def refuse(trainer: L.Trainer, model: PoseEstimator) -> None:
    """:class:`PosesynError` for what cannot be had with shards."""
    if any(isinstance(c, WeightAveraging) for c in trainer.callbacks):  # type: ignore[attr-defined]
        raise PosesynError(
            "trainer.strategy=fsdp2 keeps shards of the weights, of which callbacks.EMA has no average: remove EMA "
            "from trainer.callbacks, or train with strategy ddp"
        )
    if model.domain is not None:
        raise PosesynError("trainer.strategy=fsdp2 does not go with domain adaptation: train with strategy ddp")


def shard(model: PoseEstimator, mesh: torch.distributed.DeviceMesh) -> None:
    """Shard the networks of ``model`` over ``mesh``: every block on its own, then what is left of each network.

    Raises:
        PosesynError: weights outside the networks: no rank would hear of the others' gradients for them.
    """
    for weight in model.parameters():
        weight.data = weight.data.contiguous()  # fully_shard takes no channels_last
    for network in model.networks():
        for block in blocks(network):
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
        fully_shard(network, mesh=mesh, reshard_after_forward=True)
    whole = [n for n, p in model.named_parameters() if p.requires_grad and not isinstance(p, DTensor)]
    if whole:
        raise PosesynError(
            f"{type(model).__name__} has weights outside its networks(), which fsdp2 cannot share: {', '.join(whole)}"
        )


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """Every rank has every weight of ``model`` inside, and may run it on its own; all ranks must enter and leave.

    Does nothing where weights are not sharded.
    """
    shards = [m for m in model.modules() if isinstance(m, FSDPModule)]
    for module in shards:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in shards:
            module.reshard()
            module.set_reshard_after_forward(True, recurse=False)


if "fsdp2" not in StrategyRegistry:
    StrategyRegistry.register("fsdp2", FSDP2, description="Weights in shards, gathered block by block")
