"""Joint position errors per person: as they are or by their roots (MPJPE), scaled (N-MPJPE), aligned (PA-MPJPE)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from human.errors import PosesynError
from metrics.functional.procrustes import similarity_procrustes
from metrics.functional.procrustes_warp import pa_mpjpe_warp

Align = Literal["none", "scale", "procrustes"]
MM_PER_M = 1000.0
_CHUNK = 2048  # persons aligned at a time: their float64 temporaries stay in a CPU's cache


def joint_weights(target_BJC: Tensor, weight_BJ: Tensor | None) -> Tensor:
    """(B,J) float64 weights: ``weight_BJ`` (mask or confidence, None is 1), 0 where the target is not finite."""
    labelled_BJ = target_BJC.isfinite().all(-1)
    if weight_BJ is None:
        return labelled_BJ.double()
    if weight_BJ.shape != labelled_BJ.shape:
        raise PosesynError(f"joint weights must be {tuple(labelled_BJ.shape)}, got {tuple(weight_BJ.shape)}")
    return torch.where(labelled_BJ, weight_BJ.double().nan_to_num(0.0).clamp_min(0.0), 0.0)


def countable_persons(target_BJC: Tensor, weight_BJ: Tensor | None = None, root: Sequence[int] | None = None) -> Tensor:
    """(B,) bool: persons that have a labelled joint, and all ``root`` joints labelled where a root is asked for."""
    weight_BJ = joint_weights(target_BJC, weight_BJ)
    countable_B = (weight_BJ > 0).any(-1)
    return countable_B if root is None else countable_B & (weight_BJ[:, list(root)] > 0).all(-1)


def mpjpe(
    pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None = None, root: Sequence[int] | None = None
) -> Tensor:
    """MPJPE of each person: the weighted mean over joints of the distance, each skeleton relative to its own root.

    Args:
        pred_BJ3: metres, any floating dtype; computed in float64.
        target_BJ3: metres. A joint that is not finite is not labelled.
        weight_BJ: mask or confidence >= 0 of the labels; None is 1.
        root: indices of the joints whose mean is the root, as ``[pelvis]`` or ``[left_hip, right_hip]``; None compares
            the sets as they are. The root counts among the joints.

    Returns:
        (B,) float64 millimetres. NaN for a person that is not countable (:func:`countable_persons`) and for one with a
        prediction that is not finite at a labelled joint.

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[0.0, 0, 0], [0, 1, 0], [0, 2, 0]]])
        >>> pred = 5 + target.double() + torch.tensor([[0.0, 0, 0], [0.03, 0, 0], [0, 0, 0.06]])
        >>> mpjpe(pred, target, root=[0])
        tensor([30.0000], dtype=torch.float64)
        >>> mpjpe(pred, target, weight_BJ=torch.tensor([[1, 0, 1]]), root=[0])
        tensor([30.0000], dtype=torch.float64)
    """
    _check(pred_BJ3, target_BJ3)
    weight_BJ = joint_weights(target_BJ3, weight_BJ)
    error_B = weighted_error(*_rooted(pred_BJ3, target_BJ3, root), weight_BJ)
    return torch.where(countable_persons(target_BJ3, weight_BJ, root), error_B, torch.nan)


def n_mpjpe(
    pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None = None, root: Sequence[int] | None = None
) -> Tensor:
    """N-MPJPE of each person: :func:`mpjpe` after the prediction, relative to its root, is scaled by least squares.

    Rhodin et al., CVPR 2018, §4: the scale is sum <p,t> / sum <p,p> over labelled joints, here with their weights, and
    never below 0. Arguments and result are those of :func:`mpjpe`.

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[0.0, 0, 0], [0, 1, 0], [0, 2, 0]]])
        >>> n_mpjpe(0.5 * target + 7, target, root=[0])
        tensor([0.], dtype=torch.float64)
    """
    _check(pred_BJ3, target_BJ3)
    weight_BJ = joint_weights(target_BJ3, weight_BJ)
    pred, target = _rooted(pred_BJ3, target_BJ3, root)
    error_B = weighted_error(_scaled(pred, target, weight_BJ), target, weight_BJ)
    return torch.where(countable_persons(target_BJ3, weight_BJ, root), error_B, torch.nan)


def pa_mpjpe(pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None = None) -> Tensor:
    """PA-MPJPE of each person: :func:`mpjpe` after the best similarity (rotation, scale, shift; no reflection).

    It is fitted on exactly the labelled joints, with the same weights. Arguments and result are those of :func:`mpjpe`.
    A batch on the CPU is shared out over ``torch.get_num_threads()`` threads. Without gradients: to learn from aligned
    joints use :func:`~metrics.functional.similarity_procrustes`.

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]])
        >>> pa_mpjpe(0.5 * target + 7, target).round(decimals=9)
        tensor([0.], dtype=torch.float64)
        >>> mirrored = target * torch.tensor([-1, 1, 1])
        >>> pa_mpjpe(mirrored, target)
        tensor([550.9382], dtype=torch.float64)
    """
    _check(pred_BJ3, target_BJ3)
    if weight_BJ is not None:
        weight_BJ = joint_weights(target_BJ3, weight_BJ)
    error_B, hard = pa_mpjpe_warp(pred_BJ3, target_BJ3, weight_BJ)
    if len(hard) == 0:
        return error_B
    if weight_BJ is None:  # mostly sets with joints that are not labelled
        pred_BJ3, target_BJ3 = pred_BJ3[hard], target_BJ3[hard]
        weight_BJ = joint_weights(target_BJ3, None)
        error_B[hard] = pa_mpjpe(pred_BJ3, target_BJ3, weight_BJ)
        return error_B
    for part in hard.split(_CHUNK):
        pred, target, weight = pred_BJ3[part], target_BJ3[part], weight_BJ[part]
        error_B[part] = weighted_error(_moved(pred, target, weight), target, weight)
    return error_B


def joint_errors(
    pred_BJ3: Tensor,
    target_BJ3: Tensor,
    weight_BJ: Tensor | None = None,
    root: Sequence[int] | None = None,
    align: Align = "none",
) -> Tensor:
    """Distance of each joint after alignment: what :func:`mpjpe`, :func:`n_mpjpe` and :func:`pa_mpjpe` average.

    Args:
        pred_BJ3, target_BJ3, weight_BJ, root: as for :func:`mpjpe`.
        align: what follows the shift of the roots: "none", "scale" as :func:`n_mpjpe`, "procrustes" as
            :func:`pa_mpjpe` (which needs no root).

    Returns:
        (B,J) float64 millimetres, NaN for joints that are not labelled and for all joints of a person who has no error
        (see :func:`mpjpe`).

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[0.0, 0, 0], [0, 1, 0], [0, 2, 0]]])
        >>> pred = 5 + target.double() + torch.tensor([[0.0, 0, 0], [0.03, 0, 0], [0, 0, 0.06]])
        >>> joint_errors(pred, target, torch.tensor([[1, 1, 0]]), root=[0])
        tensor([[ 0.0000, 30.0000,     nan]], dtype=torch.float64)
    """
    _check(pred_BJ3, target_BJ3)
    weight_BJ = joint_weights(target_BJ3, weight_BJ)
    pred, target = _rooted(pred_BJ3, target_BJ3, root)
    if align == "scale":
        pred = _scaled(pred, target, weight_BJ)
    elif align == "procrustes":
        parts = zip(pred.split(_CHUNK), target.split(_CHUNK), weight_BJ.split(_CHUNK), strict=True)
        pred = torch.cat([_moved(*part) for part in parts])
    elif align != "none":
        raise PosesynError(f"joint errors know the alignments 'none', 'scale' and 'procrustes', not {align!r}")
    error_BJ = MM_PER_M * torch.linalg.vector_norm(pred - target, dim=-1)
    labelled_BJ = weight_BJ > 0
    usable_B = countable_persons(target_BJ3, weight_BJ, root) & (error_BJ.isfinite() | ~labelled_BJ).all(-1)
    return torch.where(labelled_BJ & usable_B[:, None], error_BJ, torch.nan)


def weighted_error(pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor) -> Tensor:
    """(B,) mm: the weighted mean distance over joints of weight > 0; NaN where there is none or it is not finite."""
    distance_BJ = torch.linalg.vector_norm(pred_BJ3 - target_BJ3.double(), dim=-1)
    distance_BJ = torch.where(weight_BJ > 0, distance_BJ, 0.0)
    error_B = MM_PER_M * (weight_BJ * distance_BJ).sum(-1) / weight_BJ.sum(-1)
    return torch.where(error_B.isfinite(), error_B, torch.nan)


def _rooted(pred_BJ3: Tensor, target_BJ3: Tensor, root: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    pred, target = pred_BJ3.double(), target_BJ3.double()
    if root is None:
        return pred, target
    index = list(root)
    return pred - pred[:, index].mean(1, keepdim=True), target - target[:, index].mean(1, keepdim=True)


def _scaled(pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor) -> Tensor:
    labelled_BJ1 = (weight_BJ > 0)[..., None]
    pred, target = (torch.where(labelled_BJ1, points, 0.0) for points in (pred_BJ3, target_BJ3))
    both_B = (weight_BJ * (pred * target).sum(-1)).sum(-1)
    own_B = (weight_BJ * (pred * pred).sum(-1)).sum(-1)
    scale_B = torch.where(own_B == 0, 1.0, both_B / own_B).clamp_min(0.0)
    return scale_B[:, None, None] * pred_BJ3


def _moved(pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor) -> Tensor:
    # similarity_procrustes drops joints that are not finite; whoever takes distances sees them again and answers NaN.
    return similarity_procrustes(pred_BJ3, target_BJ3, weight_BJ).apply(pred_BJ3)


def _check(pred_BJ3: Tensor, target_BJ3: Tensor) -> None:
    if pred_BJ3.shape != target_BJ3.shape or pred_BJ3.ndim != 3 or pred_BJ3.shape[-1] != 3:
        raise PosesynError(
            f"3D errors need two (B,J,3) sets in metres, got {tuple(pred_BJ3.shape)} and {tuple(target_BJ3.shape)}"
        )
