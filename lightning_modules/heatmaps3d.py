"""Volumetric heat maps and their expected coordinates (Sun et al., "Integral Human Pose Regression", ECCV 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Heatmaps3d(nn.Module):
    """Feature maps to a volume of logits per joint.

    Args:
        channels: of the feature maps.
        joints, depth: how many volumes, how many cells deep.
        deconv: widths of the transposed convolutions, each of which doubles the resolution (Xiao et al., "Simple
            Baselines", ECCV 2018); none for maps that have it already.
    """

    def __init__(self, channels: int, joints: int, depth: int, deconv: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        self.joints, self.depth = joints, depth
        layers: list[nn.Module] = []
        for width in deconv:
            layers += [nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(channels, joints * depth, 1)
        for layer in (*layers, self.final_layer):
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.001)
        assert self.final_layer.bias is not None
        nn.init.zeros_(self.final_layer.bias)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """(B,J,D,H,W) logits."""
        # With channels last in memory the volumes, 30 MB per picture at 256 px, would have to be copied.
        maps = self.deconv_layers(maps_BCHW).contiguous()
        return self.final_layer(maps).unflatten(1, (self.joints, self.depth))


def probabilities(logits_BJDHW: Tensor) -> Tensor:
    """float32 softmax over each volume."""
    return logits_BJDHW.flatten(2).softmax(-1, dtype=torch.float32).view_as(logits_BJDHW)


def expected_coordinates(heat_BJDHW: Tensor) -> Tensor:
    """(B,J,3) expected (u, v, d): cell k of n lies at k / n - 0.5."""
    plane = heat_BJDHW.sum(2)
    marginals = plane.sum(2), plane.sum(3), heat_BJDHW.flatten(3).sum(3)
    at = [m @ torch.arange(m.shape[-1], dtype=m.dtype, device=m.device) / m.shape[-1] - 0.5 for m in marginals]
    return torch.stack(at, -1)


def mirrored(logits_BJDHW: Tensor, swap: Sequence[int]) -> Tensor:
    """Volumes of mirrored pictures as those of the pictures: left and right joints trade places, and columns move by
    one cell, so that the middle, cell n / 2, stays. The first column stands in for the one that would come in.
    """
    flipped = logits_BJDHW[:, list(swap)].flip(-1)
    return torch.cat([flipped[..., :1], flipped[..., :-1]], -1)


class HRNetMaps(nn.Module):
    """timm's HRNet (Sun et al., CVPR 2019) under its own names: (its maps at a quarter of the resolution, the deep maps
    of its classification head).
    """

    conv1: nn.Module
    bn1: nn.Module
    act1: nn.Module
    conv2: nn.Module
    bn2: nn.Module
    act2: nn.Module
    layer1: nn.Module
    stage2: nn.Module
    stage3: nn.Module
    stage4: nn.Module
    final_layer: nn.Module
    transition1: nn.ModuleList
    transition2: nn.ModuleList
    transition3: nn.ModuleList
    incre_modules: nn.ModuleList
    downsamp_modules: nn.ModuleList

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        for name, child in net.named_children():
            if not isinstance(child, nn.Identity) and name not in ("global_pool", "head_drop", "classifier"):
                self.add_module(name, child)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.act1(self.bn1(self.conv1(image)))
        x = self.layer1(self.act2(self.bn2(self.conv2(x))))
        branches = self.stage2([widen(x) for widen in self.transition1])
        for transition, stage in ((self.transition2, self.stage3), (self.transition3, self.stage4)):
            # a branch that goes on, and one that begins from the coarsest
            sources = [branches[i] if isinstance(t, nn.Identity) else t(branches[-1]) for i, t in enumerate(transition)]
            branches = stage(sources)
        deep = self.incre_modules[0](branches[0])
        for branch, widen, down in zip(branches[1:], self.incre_modules[1:], self.downsamp_modules, strict=True):
            deep = widen(branch) + down(deep)
        return branches[0], self.final_layer(deep)
