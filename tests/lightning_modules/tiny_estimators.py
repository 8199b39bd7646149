"""Every registered estimator at tiny size."""

from __future__ import annotations

from typing import Any

import torch

from lightning_modules import ESTIMATORS, PoseEstimator
from tests.tiny import SIZE

#: How each registered estimator is made tiny: a new one needs an entry here.
TINY: dict[str, dict[str, Any]] = {
    "hmr": {"backbone": "test_efficientnet", "image_size": SIZE, "hidden": 32, "channels": 8, "lr": 1e-3},
    "jointreg": {"backbone": "alexnet", "image_size": SIZE, "hidden": 32, "lr": 1e-3},
}
#: Those that regress joints, and fit the body to them: how far that may be off them, metres.
FITTED = {"JointRegressor": 0.03}


def make(name: str, **changes: Any) -> PoseEstimator:
    torch.manual_seed(0)
    return ESTIMATORS.get(name)(**{**TINY[name], **changes})
