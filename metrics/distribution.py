"""How far made pictures are from real ones: FID and KID of feature vectors, by torchmetrics.

FID (Heusel et al., NeurIPS 2017) is biased: it grows as samples get fewer (Chong & Forsyth, CVPR 2020), so that only
figures of equally many samples compare. KID (Binkowski et al., ICLR 2018) is not.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

#: Fewest samples of each side from which an FID is usually quoted (Heusel et al.'s code wants more than its features).
ENOUGH = 2048


class _Given(nn.Module):
    """Features that are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features_BF: Tensor) -> Tensor:
        return features_BF


def finite_rows(features_NF: Tensor) -> Tensor:
    """Those rows that are finite, float64."""
    return features_NF[features_NF.isfinite().all(1)].double()


def fid(real_NF: Tensor, made_MF: Tensor) -> float:
    """Frechet distance between the Gaussians of two sets of features; NaN with fewer than two finite rows of one."""
    real, made = finite_rows(real_NF), finite_rows(made_MF)
    if min(len(real), len(made)) < 2:
        return float("nan")
    # Few samples span less than the space; in a basis of what they span the distance is the same, and sooner known.
    if len(real) + len(made) < real.shape[1]:
        basis = torch.linalg.qr(torch.cat([real, made]).T).Q
        real, made = real @ basis, made @ basis
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1]))
    metric.update(real, real=True)
    metric.update(made, real=False)
    # Rounding makes it a little negative where both are one.
    return max(0.0, float(metric.compute()))


def kid(
    real_NF: Tensor, made_MF: Tensor, subsets: int = 50, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Kernel distance (polynomial of degree 3): mean and standard deviation over random subsets, as large as the
    smaller set allows; NaN with fewer than two finite rows of one. Drawn from ``seed``: other generators stay as they
    are.
    """
    real, made = finite_rows(real_NF), finite_rows(made_MF)
    size = min(subset_size, len(real), len(made))
    if size < 2:
        return float("nan"), float("nan")
    if size == len(real) == len(made):
        subsets = 1  # each is the whole
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that features are kept
        metric = KernelInceptionDistance(feature=_Given(real.shape[1]), subsets=subsets, subset_size=size)
    metric.update(real, real=True)
    metric.update(made, real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, std = metric.compute()
    return float(mean), float(std) if subsets > 1 else float("nan")
