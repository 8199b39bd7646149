"""Filters: which synthetic samples are kept.

PoseSyn §3.4, equation 6: a sample stays when the estimator's own 3D pose on its picture is within tau of the label.
With generated pictures that removes those which do not show their label; with rendered ones, whose labels are exact,
it bounds how far beyond the estimator's reach a sample may lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from human.batch import PoseBatch, root_of
from human.errors import PosesynError
from human.prediction import Estimator
from human.skeleton import SMPL24
from synth.eem import inference
from synth.within_memory import predict


def err3d(predicted_BJ3: Tensor, target_BJ3: Tensor, conf_BJ: Tensor, reduction: str = "mean") -> Tensor:
    """(B,) mm between root-relative 3D joints (SMPL's 24, those labelled): their mean, sum or largest."""
    n = len(SMPL24)
    difference = (predicted_BJ3 - root_of(predicted_BJ3, conf_BJ)[:, None] - target_BJ3)[:, :n].norm(dim=-1) * 1000
    valid = conf_BJ[:, :n] > 0
    difference = torch.where(valid, difference, torch.zeros_like(difference))
    if reduction == "max":
        return difference.max(1).values
    total = difference.sum(1)
    return total / valid.sum(1).clamp_min(1) if reduction == "mean" else total


@dataclass
class Err3DFilter:
    """Equation 6.

    Args:
        tau: largest error that passes, mm (the paper's 120); None keeps everything and only measures.
        reduction: over joints: "mean", "sum" or "max".
        batch_size: pictures per forward pass.
    """

    tau: float | None = 120.0
    reduction: str = "mean"
    batch_size: int = 128

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "sum", "max"):
            raise PosesynError(f"filter reduction={self.reduction!r}: choose 'mean', 'sum' or 'max'")
        if (self.tau is not None and not self.tau >= 0) or self.batch_size < 1:
            raise PosesynError(
                f"the filter needs tau >= 0 (mm) or null, and batch_size >= 1, got {self.tau} and {self.batch_size}"
            )

    def __call__(self, estimator: Estimator, batch: PoseBatch) -> tuple[np.ndarray, np.ndarray]:
        """(B,) errors in mm and (B,) bool which pass; a prediction that is not finite does not."""
        errors = []
        with inference(estimator):
            for start in range(0, len(batch), self.batch_size):
                part = batch[start : start + self.batch_size]
                predicted = predict(estimator, part)
                error = err3d(predicted.joints3d, part.joints3d, part.joints3d_conf, self.reduction)
                errors.append(torch.where(predicted.finite, error, torch.nan))
        error_B = torch.cat(errors).numpy()
        passed = np.isfinite(error_B) if self.tau is None else np.nan_to_num(error_B, nan=np.inf) <= self.tau
        return error_B, passed
