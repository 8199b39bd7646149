"""Colours come to the networks as the originals scale them."""

from __future__ import annotations

import pytest
import torch
import torchvision

from lightning_modules import ESTIMATORS
from lightning_modules.normalisation import CROWDNET, HYBRIK, IMAGENET, LITE, NORMALISATIONS, Normalise
from tests.lightning_modules.tiny_estimators import TINY, make

COLOUR = torch.tensor([10, 100, 250], dtype=torch.uint8).view(1, 3, 1, 1)
#: What the originals make of it: 4D-Humans' ViTDetDataset, HybrIK's SimpleTransform3DSMPLCam, 3DCrowdNet's ToTensor.
EXPECTED = {
    "imagenet": (-1.94665639, -0.28501401, 2.55285403),
    "hybrik": (-1.63015246, -0.28947818, 2.18511868),
    "3dcrowdnet": (0.0392156877, 0.3921568692, 0.9803921580),
    "lite": (-117 / 128, -27 / 128, 123 / 128),
}
OF_ESTIMATOR = {
    "cliff": IMAGENET,
    "crowdnet3d": CROWDNET,
    "hmr": LITE,
    "hmr2": IMAGENET,
    "hybrik": HYBRIK,
    "jointreg": IMAGENET,
    "spin": IMAGENET,
}


@pytest.mark.parametrize("name", sorted(NORMALISATIONS))
def test_colours_are_the_originals(name: str) -> None:
    got = Normalise(NORMALISATIONS[name])(COLOUR)
    torch.testing.assert_close(got.flatten(), torch.tensor(EXPECTED[name]), rtol=1e-5, atol=1e-6)


def test_imagenet_is_torchvisions() -> None:
    weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    expected = torchvision.transforms.functional.normalize(COLOUR / 255, weights.mean, weights.std)
    torch.testing.assert_close(Normalise(IMAGENET)(COLOUR), expected)


@pytest.mark.parametrize("name", sorted(TINY))
def test_each_estimator_has_its_own(name: str) -> None:
    assert set(OF_ESTIMATOR) <= set(ESTIMATORS.names())
    estimator = make(name)
    assert isinstance(estimator.normalise, Normalise)
    torch.testing.assert_close(estimator.normalise(COLOUR), Normalise(OF_ESTIMATOR[name])(COLOUR))
    assert not any("normalise" in key for key in estimator.state_dict())
