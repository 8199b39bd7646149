"""Graph convolutions over the joints of a person, each joint with a kernel of its own.

Choi et al., "Learning to Estimate Robust 3D Human Mesh from In-the-Wild Crowded Scenes" (3DCrowdNet), CVPR 2022, §4.3;
after Liu et al., "A Comprehensive Study of Weight Sharing in Graph Networks for 3D Human Pose Estimation", ECCV 2020
(no sharing).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def normalised_adjacency(joints: int, edges: Iterable[tuple[int, int]]) -> Tensor:
    """(J,J) D^-1/2 (A + I) D^-1/2 of an undirected graph, D the degrees of A + I (Kipf and Welling, ICLR 2017)."""
    adjacency = torch.eye(joints, dtype=torch.float64)
    for a, b in edges:
        adjacency[a, b] = adjacency[b, a] = 1
    scale = adjacency.sum(0).rsqrt()
    return (scale[:, None] * adjacency * scale).float()


class GraphConv(nn.Module):
    """ReLU of the neighbours' mean of batch-normalised features, which each joint makes with its own matrix.

    The joints' layers are one batched product and one batch normalisation over (joint, channel).
    """

    adjacency: Tensor

    def __init__(self, adjacency_JJ: Tensor, dim_in: int, dim_out: int) -> None:
        super().__init__()
        joints = len(adjacency_JJ)
        self.register_buffer("adjacency", adjacency_JJ, persistent=False)
        self.weight = nn.Parameter(torch.empty(joints, dim_out, dim_in).normal_(std=0.01))
        self.bias = nn.Parameter(torch.zeros(joints * dim_out))
        self.norm = nn.BatchNorm1d(joints * dim_out)

    def forward(self, features_BJC: Tensor) -> Tensor:
        """(B,J,dim_in) to (B,J,dim_out)."""
        own = (features_BJC.transpose(0, 1) @ self.weight.transpose(1, 2)).transpose(0, 1)
        own = self.norm(own.flatten(1) + self.bias).view_as(own)
        return torch.relu(self.adjacency @ own)


class GraphResidual(nn.Module):
    """Two graph convolutions beside an identity."""

    def __init__(self, adjacency_JJ: Tensor, dim: int) -> None:
        super().__init__()
        self.first = GraphConv(adjacency_JJ, dim, dim)
        self.second = GraphConv(adjacency_JJ, dim, dim)

    def forward(self, features_BJC: Tensor) -> Tensor:
        return features_BJC + self.second(self.first(features_BJC))
