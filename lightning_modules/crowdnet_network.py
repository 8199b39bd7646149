"""3DCrowdNet's networks: picture and 2D pose to 3D joints, and from features at the joints to pose, shape and camera.

Choi et al., CVPR 2022, §4.2 (2D-pose-guided feature extractor) and §4.3 (joint-based regressor).
"""

from __future__ import annotations

from typing import NamedTuple

import timm
import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from human.errors import PosesynError
from lightning_modules.crowdnet_conventions import GRAPH_EDGES, JOINTS15, JOINTS30
from lightning_modules.graph import GraphConv, GraphResidual, normalised_adjacency
from lightning_modules.heatmaps3d import expected_coordinates, probabilities


class GuidedResNet(nn.Module):
    """A ResNet into which the heat maps of a 2D pose go behind the first pooling (§4.2): so the target is known from
    its neighbours while the features are still local.
    """

    _PARTS = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4")
    conv1: nn.Module
    bn1: nn.Module
    act1: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, name: str) -> None:
        super().__init__()
        if not timm.is_model(name):
            close = timm.list_models(f"*{name}*")[:5]
            raise PosesynError(
                f"timm has no backbone {name!r}" + (f"; did you mean {', '.join(close)}?" if close else "")
            )
        net = timm.create_model(name, pretrained=False, num_classes=0)
        if not isinstance(net, ResNet):
            raise PosesynError(f"backbone={name!r} is a {type(net).__name__}: crowdnet3d takes ResNets (resnet50)")
        for part in self._PARTS:  # under the ResNet's own names: weights fit as they are
            self.add_module(part, net.get_submodule(part))
        self.channels = net.num_features
        width = net.get_parameter("bn1.weight").numel()
        merge = nn.Conv2d(width + len(JOINTS30), width, 3, padding=1)
        nn.init.normal_(merge.weight, std=0.001)
        assert merge.bias is not None
        nn.init.zeros_(merge.bias)
        self.pose2feat = nn.Sequential(merge, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image_B3SS: Tensor, heat_BJHW: Tensor) -> Tensor:
        """(B,C,S/32,S/32) features of the person whose joints (B,30,S/4,S/4) are given."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(image_B3SS.contiguous(memory_format=torch.channels_last)))))
        x = self.pose2feat(torch.cat([x, heat_BJHW.to(x.dtype)], 1))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def tents(at_BJ: Tensor, cells: int) -> Tensor:
    """(B,J,cells) weights of linear interpolation at ``at_BJ``, in cells; 0 outside."""
    return (1 - (at_BJ[..., None] - torch.arange(cells, device=at_BJ.device)).abs()).relu()


class PositionNet(nn.Module):
    """Features to 3D heat maps of 15 joints, their expected coordinates, and the heat there (§4.3)."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.conv = nn.Conv2d(channels, len(JOINTS15) * depth, 1)
        nn.init.normal_(self.conv.weight, std=0.001)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, maps_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(B,15,3) x, y, z in cells and (B,15,1) confidence, float32."""
        heat = probabilities(self.conv(maps_BCHW).unflatten(1, (len(JOINTS15), self.depth)).contiguous())
        depth, rows, columns = heat.shape[2:]
        at = (expected_coordinates(heat) + 0.5) * heat.new_tensor([columns, rows, depth])
        x, y, z = (tents(c, n) for c, n in zip(at.unbind(-1), (columns, rows, depth), strict=True))
        near = (heat * z[..., :, None, None] * y[..., None, :, None] * x[..., None, None, :]).flatten(2).sum(2)
        return at, near[..., None]


class Regressed(NamedTuple):
    """``root`` (B,6) in 6D, ``pose`` (B,P), ``betas`` (B,10), ``camera`` (B,3), ``features`` (B,F)."""

    root: Tensor
    pose: Tensor
    betas: Tensor
    camera: Tensor
    features: Tensor


class JointRegressor(nn.Module):
    """Features at the joints, their coordinates and confidences, through graph convolutions, to body parameters.

    Args:
        channels: of the feature maps.
        width: of the graph convolutions.
        pose: how many numbers say the pose.
        residuals: how many residual blocks.
    """

    def __init__(self, channels: int, width: int, pose: int, residuals: int = 4) -> None:
        super().__init__()
        adjacency = normalised_adjacency(len(JOINTS15), GRAPH_EDGES)
        self.graph = nn.Sequential(
            GraphConv(adjacency, channels + 4, width), *(GraphResidual(adjacency, width) for _ in range(residuals))
        )
        self.root_pose_out, self.pose_out, self.shape_out, self.cam_out = outs = [
            nn.Linear(len(JOINTS15) * width, n) for n in (6, pose, 10, 3)
        ]
        for out in outs:
            nn.init.normal_(out.weight, std=0.01)
            nn.init.zeros_(out.bias)

    def forward(self, maps_BCHW: Tensor, at_BJ3: Tensor, score_BJ1: Tensor) -> Regressed:
        rows, columns = maps_BCHW.shape[-2:]
        x, y = tents(at_BJ3[..., 0], columns), tents(at_BJ3[..., 1], rows)
        weight = (y[..., :, None] * x[..., None, :]).flatten(2)
        # As a product, not by grid_sample: its backward pass adds in any order on a GPU.
        sampled = weight.to(maps_BCHW.dtype) @ maps_BCHW.flatten(2).transpose(1, 2)
        features = self.graph(torch.cat([sampled.float(), at_BJ3, score_BJ1], -1)).flatten(1)
        outs = self.root_pose_out, self.pose_out, self.shape_out, self.cam_out
        root, pose, betas, camera = (out(features).float() for out in outs)
        return Regressed(root, pose, betas, camera, features)
