"""A mixture of Gaussians over body poses, for fits whose data leave something open.

As in SMPLify (Bogo et al., ECCV 2016, Eq. 4) the nearest component stands for the sum (max-mixture, Olson and Agarwal,
RSS 2012), which keeps the energy quadratic. Learned from a motion bank when first used; nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from human.motion import load_motion_bank, mirror_pose
from human.record import Record

# A bank of a few clips shows less than people do: every joint may deviate from it by about this much, radians.
FLOOR_RAD = 0.2


@dataclass(frozen=True)
class PosePrior(Record):
    """K Gaussians over (23 * 3) rotation-vector components.

    Attributes:
        mean: (K, 69) radians.
        precision: (K, 69, 69) inverse covariances.
        offset: (K,) what a component adds to the energy: log determinant and weight, the smallest is 0.
    """

    mean: Tensor
    precision: Tensor
    offset: Tensor

    def nearest(self, pose_B69: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energy (B,) = Mahalanobis distance squared + offset; half its gradient (B, 69); the component (B,)."""
        away_KBD = pose_B69 - self.mean[:, None]
        pull_KBD = away_KBD @ self.precision
        energy, which = ((away_KBD * pull_KBD).sum(-1) + self.offset[:, None]).min(0)
        return energy, pull_KBD.gather(0, which[None, :, None].expand(1, *pose_B69.shape))[0], which


def fit_prior(poses_N233: np.ndarray, components: int = 8) -> PosePrior:
    """Clusters of poses (and their mirror images) with full covariances; deterministic."""
    both = np.concatenate([poses_N233, mirror_pose(poses_N233)]).reshape(-1, 69).astype(np.float64)
    centres, label = kmeans2(both, components, minit="++", seed=0)
    rows = [(centres[k], both[label == k]) for k in range(components) if (label == k).any()]
    mean = np.stack([centre for centre, _ in rows])
    covariance = np.stack(
        [(part - centre).T @ (part - centre) / len(part) + FLOOR_RAD**2 * np.eye(69) for centre, part in rows]
    )
    offset = np.linalg.slogdet(covariance)[1] - 2 * np.log([len(part) / len(both) for _, part in rows])
    as_tensor = torch.from_numpy
    return PosePrior(
        as_tensor(mean).float(), as_tensor(np.linalg.inv(covariance)).float(), as_tensor(offset - offset.min()).float()
    )


@lru_cache(maxsize=4)
def bank_prior(bank: str = "free") -> PosePrior:
    """The prior of a registered motion bank, made once per process (0.1 s)."""
    return fit_prior(load_motion_bank(bank).poses)
