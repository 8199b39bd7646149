"""How the papers' estimators scale the colours of their pictures."""

from __future__ import annotations

from typing import NamedTuple

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn


class Normalisation(NamedTuple):
    """``mean`` and ``std`` of red, green and blue in 0..255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def of_unit_range(mean: tuple[float, float, float], std: tuple[float, float, float]) -> Normalisation:
    """From the usual numbers, of colours in 0..1."""
    return Normalisation((255 * mean[0], 255 * mean[1], 255 * mean[2]), (255 * std[0], 255 * std[1], 255 * std[2]))


#: SPIN, CLIFF, HMR2 and torchvision's classifiers (nkolot/SPIN:constants.py, IMG_NORM_MEAN; haofanwang/CLIFF:common/
#: constants.py; shubham-goel/4D-Humans:hmr2/datasets/vitdet_dataset.py, DEFAULT_MEAN).
IMAGENET = of_unit_range(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
#: HybrIK subtracts these from red, green and blue in this order, blue's from red, and so was trained
#: (Jeff-sjtu/HybrIK:hybrik/utils/presets/simple_transform_3d_smpl_cam.py).
HYBRIK = of_unit_range((0.406, 0.457, 0.480), (0.225, 0.224, 0.229))
#: 3DCrowdNet: 0..1, nothing subtracted (hongsukchoi/3DCrowdNet_RELEASE:common/base.py, ToTensor).
CROWDNET = of_unit_range((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
#: EfficientNet-Lite's classifiers.
LITE = Normalisation((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))

NORMALISATIONS = {"imagenet": IMAGENET, "hybrik": HYBRIK, "3dcrowdnet": CROWDNET, "lite": LITE}


class Normalise(nn.Module):
    """Pictures (B,3,H,W) of 0..255 to the network's colours, in the estimator's dtype. No checkpoint holds it."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        for name, value in zip(("mean", "std"), normalisation, strict=True):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1), persistent=False)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return (image_B3HW.to(self.mean.dtype) - self.mean) / self.std
