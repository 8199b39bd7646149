"""Share of joints near their label in 3D, at one distance (3DPCK) or over a range of distances (AUC), per person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from human.errors import PosesynError
from metrics.functional.mpjpe import Align, joint_errors

#: MPI-INF-3DHP's thresholds, mm: 0, 5 ... 150 (mpii_compute_3d_pck.m of its test set's evaluation code).
MPI_INF_THRESHOLDS: tuple[float, ...] = tuple(float(t) for t in range(0, 151, 5))
#: The 3DPW challenge's, mm: 0, 1 ... 199 (aymenmir1/3dpw-eval:evaluate.py).
CHALLENGE_THRESHOLDS: tuple[float, ...] = tuple(float(t) for t in range(200))


def pck_3d(
    pred_BJ3: Tensor,
    target_BJ3: Tensor,
    weight_BJ: Tensor | None = None,
    root: Sequence[int] | None = None,
    threshold_mm: float = 150.0,
    *,
    inclusive: bool = False,
    align: Align = "none",
) -> Tensor:
    """3DPCK of each person: the share of labelled joints closer to their label than ``threshold_mm``.

    Args:
        pred_BJ3, target_BJ3, weight_BJ, root, align: as for :func:`~metrics.functional.joint_errors`; of the weights
            only whether they are > 0 matters.
        threshold_mm: 150 for MPI-INF-3DHP (Mehta et al., 3DV 2017), 50 for the 3DPW challenge.
        inclusive: count a distance equal to the threshold, as the 3DPW challenge does; MPI-INF-3DHP does not.

    Returns:
        (B,) float64 in 0..1; NaN where :func:`~metrics.functional.mpjpe` is.

    Examples:
        >>> import torch
        >>> target = torch.zeros(1, 4, 3)
        >>> pred = torch.tensor([[[0.0, 0, 0], [0.1, 0, 0], [0.15, 0, 0], [9, 0, 0]]], dtype=torch.float64)
        >>> pck_3d(pred, target, root=[0]), pck_3d(pred, target, root=[0], inclusive=True)
        (tensor([0.5000], dtype=torch.float64), tensor([0.7500], dtype=torch.float64))
    """
    return auc_3d(pred_BJ3, target_BJ3, weight_BJ, root, (threshold_mm,), inclusive=inclusive, align=align)


def auc_3d(
    pred_BJ3: Tensor,
    target_BJ3: Tensor,
    weight_BJ: Tensor | None = None,
    root: Sequence[int] | None = None,
    thresholds_mm: Sequence[float] = MPI_INF_THRESHOLDS,
    *,
    rule: Literal["mean", "trapezoid"] = "mean",
    inclusive: bool = False,
    align: Align = "none",
) -> Tensor:
    """AUC of each person: :func:`pck_3d` averaged over rising thresholds.

    Args:
        thresholds_mm: rising, mm.
        rule: "mean" of the thresholds' values (MPI-INF-3DHP) or the integral by the "trapezoid" rule over the range,
            divided by its length (3DPW challenge, with ``CHALLENGE_THRESHOLDS`` and ``inclusive``).
        others: as for :func:`pck_3d`.

    Returns:
        (B,) float64 in 0..1; NaN where :func:`~metrics.functional.mpjpe` is.

    Examples:
        >>> import torch
        >>> pred = torch.tensor([[[0.0, 0, 0], [0.0725, 0, 0]]])
        >>> auc_3d(pred, torch.zeros(1, 2, 3)) * 31  # 30 thresholds beat the first joint, 16 the second
        tensor([23.0000], dtype=torch.float64)
    """
    error_BJ = joint_errors(pred_BJ3, target_BJ3, weight_BJ, root, align)
    thresholds_T = torch.tensor(thresholds_mm, dtype=torch.float64, device=error_BJ.device)
    if len(thresholds_T) == 0 or (thresholds_T.diff() <= 0).any():
        raise PosesynError(f"thresholds must rise, got {list(thresholds_mm)}")
    if rule == "mean" or len(thresholds_T) == 1:
        share_T = torch.full_like(thresholds_T, 1 / len(thresholds_T))
    elif rule == "trapezoid":
        half_T = thresholds_T.diff() / 2 / (thresholds_T[-1] - thresholds_T[0])
        share_T = torch.nn.functional.pad(half_T, (1, 0)) + torch.nn.functional.pad(half_T, (0, 1))
    else:
        raise PosesynError(f"areas under curves are taken by the rules 'mean' and 'trapezoid', not {rule!r}")
    # A joint passes its first threshold and all after it: what those are worth together is looked up.
    worth = torch.nn.functional.pad(share_T.flip(0).cumsum(0).flip(0), (0, 1))
    first_BJ = torch.searchsorted(thresholds_T, error_BJ.contiguous(), right=not inclusive)
    return torch.where(error_BJ.isnan(), torch.nan, worth[first_BJ]).nanmean(-1)
