"""The iterative regressor of HMR with 6D rotations, as SPIN and CLIFF share it.

Kanazawa et al., "End-to-end Recovery of Human Shape and Pose", CVPR 2018, §3.2: parameters are refined from a mean,
Θ_{t+1} = Θ_t + ΔΘ(φ, Θ_t), for three steps. Kolotouros et al., "Learning to Reconstruct 3D Human Pose and Shape via
Model-fitting in the Loop", ICCV 2019, §3.1: rotations in the 6D form of Zhou et al., CVPR 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from human.rotations import sixd_to_matrix
from lightning_modules.mean_parameters import MeanParameters


class IterativeRegressor(nn.Module):
    """Two linear layers (with dropout and, as in the original, nothing else between them) and three that say what to
    add to pose, shape and camera.

    Args:
        features: width of φ.
        hidden: width of both layers.
        steps: refinements.
        dropout: of both layers.
        mean: where the refinement starts; kept with the weights, as in the original's checkpoints.
    """

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(self, features: int, hidden: int, steps: int, dropout: float, mean: MeanParameters) -> None:
        super().__init__()
        self.steps = steps
        pose, shape, camera = (len(m) for m in mean)
        self.fc1 = nn.Linear(features + pose + shape + camera, hidden)
        self.drop1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, hidden)
        self.drop2 = nn.Dropout(dropout)
        self.decpose = nn.Linear(hidden, pose)
        self.decshape = nn.Linear(hidden, shape)
        self.deccam = nn.Linear(hidden, camera)
        for layer in (self.decpose, self.decshape, self.deccam):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
            nn.init.zeros_(layer.bias)  # an untrained regressor says the mean; the original's is 0.1 off
        self.register_buffer("init_pose", mean.pose[None].clone())
        self.register_buffer("init_shape", mean.shape[None].clone())
        self.register_buffer("init_cam", mean.camera[None].clone())

    def forward(self, features_BF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotation matrices (B,24,3,3), betas (B,10), camera (s, tx, ty) (B,3)."""
        batch = len(features_BF)
        pose, shape, camera = (start.expand(batch, -1) for start in (self.init_pose, self.init_shape, self.init_cam))
        for _ in range(self.steps):
            x = torch.cat([features_BF, pose, shape, camera], 1)
            x = self.drop2(self.fc2(self.drop1(self.fc1(x))))
            pose, shape, camera = pose + self.decpose(x), shape + self.decshape(x), camera + self.deccam(x)
        return sixd_to_matrix(pose.reshape(batch, -1, 6)), shape, camera
