"""Vertex errors per person: PVE (also called MVE), PA-PVE and PVE-T-SC."""

from __future__ import annotations

import torch
from torch import Tensor

from human.errors import PosesynError
from metrics.functional.mpjpe import MM_PER_M, joint_weights, pa_mpjpe
from metrics.functional.procrustes import Similarity, similarity_procrustes

_CHUNK = 64  # persons at a time: float64 temporaries of 6890 vertices stay small


def countable_meshes(target_BV3: Tensor, target_root_B3: Tensor | None = None) -> Tensor:
    """(B,) bool: persons whose target vertices, and root where one is given, are finite."""
    countable_B = target_BV3.isfinite().flatten(1).all(-1)
    return countable_B if target_root_B3 is None else countable_B & target_root_B3.isfinite().all(-1)


def pve(
    pred_BV3: Tensor,
    target_BV3: Tensor,
    pred_root_B3: Tensor | None = None,
    target_root_B3: Tensor | None = None,
) -> Tensor:
    """PVE of each person: the mean distance of vertices, each mesh relative to its own root.

    Args:
        pred_BV3: metres, any floating dtype; computed in float64.
        target_BV3: metres, the same V vertices.
        pred_root_B3, target_root_B3: metres, what is subtracted from each mesh: for 3DPW, EMDB and RICH the root that
            MPJPE uses, of joints regressed from the same mesh. Both or neither; None compares the meshes as they are.

    Returns:
        (B,) float64 millimetres, NaN where a number is not finite.

    Examples:
        >>> import torch
        >>> target = torch.zeros(1, 4, 3)
        >>> pve(target + torch.tensor([0.0, 0.75, 1.0]), target)
        tensor([1250.], dtype=torch.float64)
        >>> pve(target + 1, target, torch.ones(1, 3), torch.zeros(1, 3))
        tensor([0.], dtype=torch.float64)
    """
    _check(pred_BV3, target_BV3)
    if (pred_root_B3 is None) != (target_root_B3 is None):
        raise PosesynError("vertex errors need the roots of both meshes or of none, got one")
    shift_B13 = torch.zeros(len(pred_BV3), 1, 3, dtype=torch.float64, device=pred_BV3.device)
    if pred_root_B3 is not None and target_root_B3 is not None:
        if not pred_root_B3.shape == target_root_B3.shape == shift_B13[:, 0].shape:
            raise PosesynError(
                f"vertex errors need two {tuple(shift_B13[:, 0].shape)} roots in metres, "
                f"got {tuple(pred_root_B3.shape)} and {tuple(target_root_B3.shape)}"
            )
        shift_B13 = (target_root_B3.double() - pred_root_B3.double())[:, None]
    parts = zip(pred_BV3.split(_CHUNK), target_BV3.split(_CHUNK), shift_B13.split(_CHUNK), strict=True)
    return torch.cat([_mean_distance(pred.double() + shift, target) for pred, target, shift in parts])


def pa_pve(
    pred_BV3: Tensor,
    target_BV3: Tensor,
    pred_joints_BJ3: Tensor | None = None,
    target_joints_BJ3: Tensor | None = None,
    weight_BJ: Tensor | None = None,
) -> Tensor:
    """PA-PVE of each person: the mean distance of vertices after a similarity (no reflection).

    Without joints the similarity is fitted on the vertices. With joints it is fitted on those and then moves the
    vertices, as EMDB's PA-MVE (eth-ait/emdb:evaluation_metrics.py).

    Args:
        pred_BV3, target_BV3: as for :func:`pve`.
        pred_joints_BJ3, target_joints_BJ3, weight_BJ: joints to fit on; metres, and mask or confidence.

    Returns:
        (B,) float64 millimetres, NaN where a number is not finite and, with joints, where none is labelled.

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]])
        >>> pa_pve(0.5 * target + 7, target).round(decimals=9)
        tensor([0.], dtype=torch.float64)
    """
    _check(pred_BV3, target_BV3)
    if pred_joints_BJ3 is None or target_joints_BJ3 is None:
        if pred_joints_BJ3 is not None or target_joints_BJ3 is not None or weight_BJ is not None:
            raise PosesynError("PA-PVE is fitted on the joints of both bodies or on the vertices; give both or none")
        usable_B = countable_meshes(target_BV3) & countable_meshes(pred_BV3)
        return torch.where(usable_B, pa_mpjpe(pred_BV3, target_BV3), torch.nan)
    weight_BJ = joint_weights(target_joints_BJ3, weight_BJ)
    found = similarity_procrustes(pred_joints_BJ3, target_joints_BJ3, weight_BJ)
    finite_B = (pred_joints_BJ3.isfinite().all(-1) | (weight_BJ == 0)).all(-1)
    errors = []
    for first in range(0, max(1, len(pred_BV3)), _CHUNK):
        part = slice(first, first + _CHUNK)
        here = Similarity(found.rotation[part], found.scale[part], found.translation[part], found.num_joints[part])
        errors.append(_mean_distance(here.apply(pred_BV3[part]), target_BV3[part]))
    usable_B = (weight_BJ > 0).any(-1) & finite_B
    return torch.where(usable_B, torch.cat(errors), torch.nan)


def pve_t_sc(pred_BV3: Tensor, target_BV3: Tensor) -> Tensor:
    """PVE-T-SC of each person: vertex error in the T-pose after the prediction is given the target's mean and size.

    Size is the root mean square distance from the mean; nothing is rotated (Sengupta et al., BMVC 2020;
    akashsengupta1997/STRAPS-3DHumanShapePose:utils/eval_utils.py).

    Args:
        pred_BV3, target_BV3: vertices of both bodies in the T-pose, for SSP-3D both by the model of the target's
            gender; metres.

    Returns:
        (B,) float64 millimetres, NaN where a number is not finite.

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]])
        >>> pve_t_sc(0.5 * target + 7, target).round(decimals=9)
        tensor([0.], dtype=torch.float64)
    """
    _check(pred_BV3, target_BV3)
    errors = []
    for pred, target in zip(pred_BV3.double().split(_CHUNK), target_BV3.double().split(_CHUNK), strict=True):
        centre = target.mean(1, keepdim=True)
        offset = pred - pred.mean(1, keepdim=True)
        size, target_size = (x.square().sum((1, 2), keepdim=True).sqrt() for x in (offset, target - centre))
        errors.append(_mean_distance(offset * torch.where(size == 0, 1.0, target_size / size) + centre, target))
    return torch.cat(errors)


def _mean_distance(pred_BV3: Tensor, target_BV3: Tensor) -> Tensor:
    error_B = MM_PER_M * torch.linalg.vector_norm(pred_BV3 - target_BV3.double(), dim=-1).mean(-1)
    return torch.where(error_B.isfinite(), error_B, torch.nan)


def _check(pred_BV3: Tensor, target_BV3: Tensor) -> None:
    if pred_BV3.shape != target_BV3.shape or pred_BV3.ndim != 3 or pred_BV3.shape[-1] != 3:
        raise PosesynError(
            f"vertex errors need two (B,V,3) meshes in metres, "
            f"got {tuple(pred_BV3.shape)} and {tuple(target_BV3.shape)}"
        )
