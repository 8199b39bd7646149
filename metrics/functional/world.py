"""Errors of motion in the world, as EMDB 2 is reported: one value per frame of a sequence.

The definitions are those of yohanshin/WHAM:lib/eval/eval_utils.py and evaluate_emdb.py. Frames that do not count
(``good_frames_mask``) are left out by the caller first, which joins what lies before and behind them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from human.errors import PosesynError
from metrics.functional.mpjpe import MM_PER_M, mpjpe
from metrics.functional.procrustes import similarity_procrustes

#: WHAM's vertices for foot sliding: two under each foot of SMPL.
FOOT_VERTICES: tuple[int, ...] = (3216, 3387, 6617, 6787)


def w_mpjpe(pred_TJ3: Tensor, target_TJ3: Tensor, chunk: int = 100, first: int = 2) -> Tensor:
    """W-MPJPE of each frame: :func:`~metrics.functional.mpjpe` after the similarity that fits the ``first`` frames of
    its chunk.

    Args:
        pred_TJ3, target_TJ3: joints in the world, metres; one sequence.
        chunk: frames that are aligned together; the last chunk may be shorter.

    Returns:
        (T,) float64 millimetres, NaN where numbers are not finite.

    Examples:
        >>> import torch
        >>> target = torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> drift = torch.arange(4.0)[:, None, None].clamp_min(1) * torch.tensor([1.0, 0, 0])
        >>> w_mpjpe(target + drift, target).round(decimals=6)
        tensor([   0.,    0., 1000., 2000.], dtype=torch.float64)
    """
    return _chunked(pred_TJ3, target_TJ3, chunk, first)


def wa_mpjpe(pred_TJ3: Tensor, target_TJ3: Tensor, chunk: int = 100) -> Tensor:
    """WA-MPJPE of each frame: as :func:`w_mpjpe` after the similarity that fits all frames of the chunk.

    Examples:
        >>> import torch
        >>> target = torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> wa_mpjpe(0.5 * target + 3, target).round(decimals=6)
        tensor([0., 0., 0., 0.], dtype=torch.float64)
    """
    return _chunked(pred_TJ3, target_TJ3, chunk, chunk)


def rte(pred_T3: Tensor, target_T3: Tensor) -> Tensor:
    """RTE of each frame: the distance of root positions after a rigid alignment of the whole path, in percent of its
    length.

    Args:
        pred_T3, target_T3: root positions in the world, metres; one sequence.

    Returns:
        (T,) float64 percent; NaN where numbers are not finite and for a path of length 0.

    Examples:
        >>> import torch
        >>> target = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 3], [2, 1, 3]])
        >>> rte(target @ torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) + 5, target).round(decimals=5)
        tensor([0., 0., 0., 0.], dtype=torch.float64)
    """
    if pred_T3.shape != target_T3.shape or pred_T3.ndim != 2 or pred_T3.shape[-1] != 3:
        raise PosesynError(
            f"RTE needs two (T,3) paths in metres, got {tuple(pred_T3.shape)} and {tuple(target_T3.shape)}"
        )
    pred, target = pred_T3.double(), target_T3.double()
    rotation = similarity_procrustes(pred[None], target[None]).rotation[0]
    moved = (pred - pred.mean(0)) @ rotation.mT + target.mean(0)
    length = torch.linalg.vector_norm(target.diff(dim=0), dim=-1).sum()
    value_T = 100 * torch.linalg.vector_norm(moved - target, dim=-1) / length
    return torch.where(value_T.isfinite(), value_T, torch.nan)


def foot_sliding(pred_TF3: Tensor, target_TF3: Tensor, contact_m: float = 0.01) -> Tensor:
    """How far predicted foot points move, from each frame to the next, while the true ones stand.

    Args:
        pred_TF3, target_TF3: foot points in the world (``FOOT_VERTICES``), metres; one sequence.
        contact_m: a true point stands if it moves less than this from a frame to the next.

    Returns:
        (T,F) float64 millimetres; NaN in the last frame, where the true point does not stand, and where numbers are not
        finite. WHAM's figure is the mean of all others.

    Examples:
        >>> import torch
        >>> target = torch.tensor([0.0, 0.0, 0.5])[:, None, None] * torch.tensor([1.0, 0, 0])
        >>> pred = torch.tensor([0.0, 0.03, 0.5], dtype=torch.float64)[:, None, None] * torch.tensor([0.0, 0, 1])
        >>> foot_sliding(pred, target)[:, 0]
        tensor([30., nan, nan], dtype=torch.float64)
    """
    if pred_TF3.shape != target_TF3.shape or pred_TF3.ndim != 3 or pred_TF3.shape[-1] != 3:
        raise PosesynError(
            f"foot sliding needs two (T,F,3) sets in metres, got {tuple(pred_TF3.shape)} and {tuple(target_TF3.shape)}"
        )
    value_TF = torch.full(pred_TF3.shape[:2], torch.nan, dtype=torch.float64, device=pred_TF3.device)
    if len(pred_TF3) > 1:
        moved, true = (torch.linalg.vector_norm(p.double().diff(dim=0), dim=-1) for p in (pred_TF3, target_TF3))
        value_TF[:-1] = torch.where((true < contact_m) & moved.isfinite(), MM_PER_M * moved, torch.nan)
    return value_TF


def _chunked(pred_TJ3: Tensor, target_TJ3: Tensor, chunk: int, first: int) -> Tensor:
    if pred_TJ3.shape != target_TJ3.shape or pred_TJ3.ndim != 3 or pred_TJ3.shape[-1] != 3:
        raise PosesynError(
            f"world errors need two (T,J,3) sets in metres, got {tuple(pred_TJ3.shape)} and {tuple(target_TJ3.shape)}"
        )
    if chunk < 1 or first < 1:
        raise PosesynError(f"world errors need chunks and alignments of at least 1 frame, got {chunk} and {first}")
    errors = []
    for pred, target in zip(pred_TJ3.double().split(chunk), target_TJ3.double().split(chunk), strict=True):
        moved = similarity_procrustes(pred[:first].reshape(1, -1, 3), target[:first].reshape(1, -1, 3)).apply(
            pred.reshape(1, -1, 3)
        )
        errors.append(mpjpe(moved.reshape(pred.shape), target))
    return torch.cat(errors)
