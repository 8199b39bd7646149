"""What an estimator says of a batch: the other half of the TPE contract."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor, nn

from human.batch import PoseBatch


@dataclass(frozen=True)
class Prediction:
    """B predictions, same units and frames as :class:`human.batch.PoseBatch`.

    ``joints3d`` (B,32,3) metres relative to the predicted pelvis; ``joints2d`` (B,32,2) pixels of the crop;
    ``global_orient`` (B,3), ``body_pose`` (B,23,3) rotation vectors; ``betas`` (B,10); ``transl`` (B,3) metres under
    the estimator's own camera ``intrinsics`` (B,3,3).
    """

    joints3d: Tensor
    joints2d: Tensor
    global_orient: Tensor
    body_pose: Tensor
    betas: Tensor
    transl: Tensor
    intrinsics: Tensor

    @property
    def finite(self) -> Tensor:
        """(B,) bool: every number of that prediction is finite."""
        return torch.stack([getattr(self, f.name).flatten(1).isfinite().all(1) for f in fields(self)]).all(0)

    def cpu(self) -> Prediction:
        return Prediction(**{f.name: getattr(self, f.name).float().cpu() for f in fields(self)})

    def __getitem__(self, index: slice | Tensor | list[int]) -> Prediction:
        return Prediction(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def cat(cls, parts: list[Prediction]) -> Prediction:
        return cls(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)})


class Estimator(Protocol):
    """The one call by which an estimator is trained, mined, filtered and benchmarked (DESIGN §4, TPE).

    Any LightningModule with this method is a target pose estimator; ``lightning_modules.base.PoseEstimator`` is ours.
    """

    def predict(self, batch: PoseBatch) -> Prediction: ...


def module_of(estimator: Estimator) -> nn.Module:
    """The estimator as the ``nn.Module`` that it also is."""
    assert isinstance(estimator, nn.Module), f"{type(estimator).__name__} must be an nn.Module"
    return estimator
