"""Mean per-joint position error, after root alignment (MPJPE) or similarity Procrustes (PA-MPJPE), per person."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from human.errors import PosesynError
from metrics.functional.procrustes import similarity_procrustes

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

    Example:
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
    pred, target = pred_BJ3.double(), target_BJ3.double()
    if root is not None:
        index = list(root)
        pred, target = (points - points[:, index].mean(1, keepdim=True) for points in (pred, target))
    error_B = _weighted_error(pred, target, weight_BJ)
    return torch.where(countable_persons(target_BJ3, weight_BJ, root), error_B, torch.nan)


def pa_mpjpe(pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None = None) -> Tensor:
    """PA-MPJPE of each person: :func:`mpjpe` after the best similarity (rotation, scale, shift; no reflection).

    It is fitted on exactly the labelled joints, with the same weights. Arguments and result are those of :func:`mpjpe`.

    Example:
        >>> import torch
        >>> target = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]])
        >>> pa_mpjpe(0.5 * target + 7, target).round(decimals=9)
        tensor([0.], dtype=torch.float64)
        >>> mirrored = target * torch.tensor([-1, 1, 1])
        >>> pa_mpjpe(mirrored, target)
        tensor([550.9382], dtype=torch.float64)
    """
    _check(pred_BJ3, target_BJ3)
    weight_BJ = joint_weights(target_BJ3, weight_BJ)
    parts = zip(pred_BJ3.split(_CHUNK), target_BJ3.split(_CHUNK), weight_BJ.split(_CHUNK), strict=True)
    return torch.cat([_pa_error(pred, target, weight) for pred, target, weight in parts])


def _pa_error(pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor) -> Tensor:
    # similarity_procrustes drops joints that are not finite; _weighted_error sees them again and answers NaN.
    aligned = similarity_procrustes(pred_BJ3, target_BJ3, weight_BJ).apply(pred_BJ3)
    return _weighted_error(aligned, target_BJ3.double(), weight_BJ)


def _weighted_error(pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor) -> Tensor:
    distance_BJ = torch.linalg.vector_norm(pred_BJ3 - target_BJ3, dim=-1)
    distance_BJ = torch.where(weight_BJ > 0, distance_BJ, 0.0)
    error_B = MM_PER_M * (weight_BJ * distance_BJ).sum(-1) / weight_BJ.sum(-1)
    return torch.where(error_B.isfinite(), error_B, torch.nan)


def _check(pred_BJ3: Tensor, target_BJ3: Tensor) -> None:
    if pred_BJ3.shape != target_BJ3.shape or pred_BJ3.ndim != 3 or pred_BJ3.shape[-1] != 3:
        raise PosesynError(
            f"3D errors need two (B,J,3) sets in metres, got {tuple(pred_BJ3.shape)} and {tuple(target_BJ3.shape)}"
        )
