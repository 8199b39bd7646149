"""Every registered estimator at tiny size."""

from __future__ import annotations

from typing import Any

import torch

from lightning_modules import ESTIMATORS, PoseEstimator
from lightning_modules.crowdnet3d import CrowdNet3D
from lightning_modules.smpl_decoder import DecoderConfig
from lightning_modules.vit import ViTConfig
from tests.tiny import SIZE

_RESNET = {"backbone": "resnet50", "backbone_options": {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]}}
#: How each registered estimator is made tiny: a new one needs an entry here.
TINY: dict[str, dict[str, Any]] = {
    "cliff": {"backbone": "test_resnet", "image_size": SIZE, "width": 48, "hidden": 32, "dropout": 0.1, "lr": 1e-3},
    "crowdnet3d": {"backbone": "test_resnet", "image_size": SIZE, "depth": 4, "width": 16, "lr": 1e-3},
    "hmr": {"backbone": "test_efficientnet", "image_size": SIZE, "hidden": 32, "channels": 8, "lr": 1e-3},
    "hmr2": {
        "backbone": ViTConfig(width=32, depth=3, heads=2, drop_path=0.1),
        "image_size": SIZE,
        "lr": 1e-3,
        "decoder": DecoderConfig(width=32, depth=2, heads=2, head_width=16, mlp_width=32),
    },
    "hybrik": {"backbone": "test_resnet", "image_size": SIZE, "deconv": [16, 16, 16], "hidden": 32, "lr": 1e-3},
    "jointreg": {"backbone": "alexnet", "image_size": SIZE, "hidden": 32, "lr": 1e-3},
    "spin": {**_RESNET, "image_size": SIZE, "hidden": 32, "dropout": 0.1, "lr": 1e-3},
}
#: Those that regress joints, and fit the body to them: how far that may be off them, metres.
FITTED = {"JointRegressor": 0.03}


def make(name: str, **changes: Any) -> PoseEstimator:
    torch.manual_seed(0)
    return ESTIMATORS.get(name)(**{**TINY[name], **changes})


def crowd(**changes: Any) -> CrowdNet3D:
    """The tiny 3DCrowdNet."""
    model = make("crowdnet3d", **changes)
    assert isinstance(model, CrowdNet3D)
    return model
