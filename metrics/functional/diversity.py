"""How various poses are, and how much of the real ones they cover."""

from __future__ import annotations

import torch
from torch import Tensor

from human.errors import PosesynError


def average_pairwise_distance(joints_NJ3: Tensor, chunk: int = 128) -> float:
    """Mean over all pairs of people of the mean distance of their joints, in the joints' unit.

    The average pairwise distance (APD) by which motion generators are measured (Yuan & Kitani, DLow, ECCV 2020,
    section 5), of single poses and per joint instead of the whole vector's norm, so that it reads as a length.
    People with a joint that is not finite are left out; NaN with fewer than two.

    Example:
        >>> import torch
        >>> average_pairwise_distance(torch.tensor([[[0.0, 0, 0]], [[3.0, 4, 0]]]))
        5.0
    """
    joints = joints_NJ3[joints_NJ3.isfinite().flatten(1).all(1)].double()
    count, total = len(joints), 0.0
    if count < 2:
        return float("nan")
    for part in joints.split(chunk):
        total += float((part[:, None] - joints[None]).norm(dim=-1).mean(-1).sum())
    return total / (count * (count - 1))


def density_and_coverage(real_NF: Tensor, made_MF: Tensor, nearest: int = 5) -> tuple[float, float]:
    """How densely made vectors lie where real ones do, and the share of the real ones that they cover.

    Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020, equations 4 and 5: about
    each real vector lies a ball that just holds its ``nearest`` real neighbours; coverage is the share of balls with a
    made vector in them, density the mean number of balls that a made vector lies in, over ``nearest``. Both sets the
    same: about 1; as large a set from the same distribution: 1 and 1 - 0.5 ** nearest. NaN where there are not more
    real vectors than ``nearest``, or no made ones.

    Example:
        >>> import torch
        >>> real = torch.arange(8.0)[:, None]
        >>> density_and_coverage(real, real[:4] + 0.1, nearest=1)
        (2.0, 0.625)
    """
    if nearest < 1:
        raise PosesynError(f"coverage looks at nearest >= 1 neighbours, got {nearest}")
    real = real_NF[real_NF.isfinite().all(1)].double()
    made = made_MF[made_MF.isfinite().all(1)].double()
    if len(real) <= nearest or not len(made):
        return float("nan"), float("nan")
    # The smallest distance is that to itself.
    radius = torch.cdist(real, real).kthvalue(nearest + 1, dim=1).values
    inside_NM = torch.cdist(real, made) <= radius[:, None]
    return float(inside_NM.sum() / (nearest * len(made))), float(inside_NM.any(1).double().mean())
