"""From feature maps to one vector: averaged as HMR does, kept in place, or gathered at the joints."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from human.batch import NUM_JOINTS


class Pooled(NamedTuple):
    """``features`` (B,F); from joints also where they are, (B,32,2) in -1..1 over the crop (cell centres lie half a
    cell inside), and the logarithm of their heat maps (B,32,R,C), each summing to 1."""

    features: Tensor
    joints: Tensor | None = None
    log_heat: Tensor | None = None


class AveragePool(nn.Module):
    """The mean over the last map (HMR)."""

    def __init__(self, widths: list[int], channels: int, side: int) -> None:
        super().__init__()
        self.out_features = widths[-1]

    def forward(self, maps: list[Tensor]) -> Pooled:
        return Pooled(maps[-1].mean((2, 3)))


class FlattenPool(nn.Module):
    """A 1x1 convolution to ``channels``, then every cell of the last map."""

    def __init__(self, widths: list[int], channels: int, side: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(widths[-1], channels, 1)
        self.out_features = channels * side * side

    def forward(self, maps: list[Tensor]) -> Pooled:
        return Pooled(self.reduce(maps[-1]).flatten(1))


class JointPool(nn.Module):
    """Where each joint is, and the features there.

    Two maps are fused, one heat map per POSE32 joint is read as an expectation over its cells (Sun et al., "Integral
    Human Pose Regression", ECCV 2018), and features are averaged under each heat map, as 3DCrowdNet samples them at
    2D joints (Choi et al., CVPR 2022, §3.2). Regression from joints and their features learns from far fewer pictures
    than from a pooled vector.
    """

    def __init__(self, widths: list[int], channels: int, side: int) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(widths[-2], channels, 1), nn.Conv2d(widths[-1], channels, 1)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        )
        self.sharpen = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels), nn.ReLU(),
        )  # fmt: skip
        self.heat = nn.Conv2d(channels, NUM_JOINTS, 1)
        # Flat heat maps all read as the middle of the crop, and learn slowly: begin with some contrast.
        nn.init.normal_(self.heat.weight, std=3 / channels**0.5)
        self.sample = nn.Conv2d(channels, channels // 4, 1)
        self.out_features = NUM_JOINTS * (channels // 4 + 3) + channels

    def forward(self, maps: list[Tensor]) -> Pooled:
        fine, coarse = self.fine(maps[-2]), self.coarse(maps[-1])
        fused = self.mix(fine + F.interpolate(coarse, fine.shape[-2:], mode="nearest"))
        fused = self.sharpen(F.interpolate(fused, scale_factor=2, mode="nearest"))
        rows, cols = fused.shape[-2:]
        log_heat = self.heat(fused).float().flatten(2).log_softmax(-1)
        heat = log_heat.exp()
        y, x = torch.meshgrid(_centres(rows, heat), _centres(cols, heat), indexing="ij")
        grid = torch.stack([x.flatten(), y.flatten()], -1)
        uv = heat @ grid
        # How spread a heat map is tells how sure the joint is.
        spread = (heat @ grid.square().sum(-1, keepdim=True) - uv.square().sum(-1, keepdim=True)).clamp_min(0)
        at_joints = heat @ self.sample(fused).float().flatten(2).transpose(1, 2)
        joints = torch.cat([at_joints, uv, spread], -1).flatten(1)
        features = torch.cat([joints, coarse.float().mean((2, 3))], 1)
        return Pooled(features, uv, log_heat.unflatten(-1, (rows, cols)))


def _centres(cells: int, like: Tensor) -> Tensor:
    return (torch.arange(cells, device=like.device, dtype=like.dtype) + 0.5) * (2 / cells) - 1


POOLS: dict[str, type[AveragePool | FlattenPool | JointPool]] = {
    "avg": AveragePool,
    "flatten": FlattenPool,
    "joints": JointPool,
}
