"""Errors of motion, one value per frame of a sequence: acceleration error and jitter."""

from __future__ import annotations

import torch
from torch import Tensor

from human.errors import PosesynError
from metrics.functional.mpjpe import MM_PER_M, joint_weights


def unbroken(
    length: int, span: int, frames_T: Tensor | None = None, sequence_T: Tensor | None = None, *, device: torch.device
) -> Tensor:
    """(T - span + 1,) bool: whether the ``span`` frames from each on follow each other within one sequence.

    Args:
        frames_T: frame numbers; a step other than 1 is a gap. None: no gaps.
        sequence_T: number of the sequence that a frame belongs to. None: one sequence.

    Examples:
        >>> import torch
        >>> unbroken(5, 2, torch.tensor([0, 1, 3, 4, 5]), torch.tensor([0, 0, 0, 0, 1]), device=torch.device("cpu"))
        tensor([ True, False,  True, False])
    """
    follows = torch.ones(max(0, length - 1), dtype=torch.bool, device=device)
    for name, numbers, step in (("frame numbers", frames_T, 1), ("sequence numbers", sequence_T, 0)):
        if numbers is not None:
            if numbers.shape != (length,):
                raise PosesynError(f"{name} must be one per frame, ({length},), got {tuple(numbers.shape)}")
            follows &= numbers.to(device).diff() == step
    if length < span:
        return follows[:0]
    return follows.unfold(0, span - 1, 1).all(-1) if span > 1 else follows.new_ones(length)


def countable_frames(
    target_TJ3: Tensor,
    weight_TJ: Tensor | None = None,
    frames_T: Tensor | None = None,
    sequence_T: Tensor | None = None,
    margin: int = 0,
) -> Tensor:
    """(T,) bool: frames that have an acceleration error: see :func:`acceleration_error`."""
    return _countable_joints(target_TJ3, weight_TJ, frames_T, sequence_T, margin).any(-1)


def acceleration_error(
    pred_TJ3: Tensor,
    target_TJ3: Tensor,
    fps: float | None = None,
    weight_TJ: Tensor | None = None,
    frames_T: Tensor | None = None,
    sequence_T: Tensor | None = None,
    margin: int = 0,
) -> Tensor:
    """Acceleration error of each frame: mean over joints of the length of the second differences' difference.

    Kanazawa et al., CVPR 2019; yohanshin/WHAM:lib/eval/eval_utils.py. Sequences may follow each other in one call.

    Args:
        pred_TJ3: metres, any floating dtype; computed in float64. The published figures shift every frame by its root
            first; neither rotation nor scale is aligned.
        target_TJ3: metres.
        fps: None gives mm/frame^2; frames per second give m/s^2 (WHAM: 30).
        weight_TJ: mask or confidence; a joint counts where it is labelled in all three frames, by 1.
        frames_T: frame numbers; no difference is taken over a gap (WHAM takes them over frames it has left out). None:
            no gaps.
        sequence_T: number of the sequence that a frame belongs to. None: one.
        margin: leave out this many further values at both ends of every unbroken run; WHAM 1.

    Returns:
        (T,) float64 at the middle frame of three; NaN without two neighbours, without labelled joints, and where a
        prediction of a counted joint is not finite.

    Examples:
        >>> import torch
        >>> time = torch.arange(5.0, dtype=torch.float64)
        >>> pred = 0.01 * (time**2)[:, None, None].expand(5, 2, 3) * torch.tensor([1.0, 0, 0])
        >>> acceleration_error(pred, torch.zeros(5, 2, 3))
        tensor([    nan, 20.0000, 20.0000, 20.0000,     nan], dtype=torch.float64)
        >>> acceleration_error(pred, torch.zeros(5, 2, 3), fps=30, margin=1)
        tensor([    nan,     nan, 18.0000,     nan,     nan], dtype=torch.float64)
    """
    if pred_TJ3.shape != target_TJ3.shape or pred_TJ3.ndim != 3 or pred_TJ3.shape[-1] != 3:
        raise PosesynError(
            f"acceleration errors need two (T,J,3) sets in metres, "
            f"got {tuple(pred_TJ3.shape)} and {tuple(target_TJ3.shape)}"
        )
    counted_TJ = _countable_joints(target_TJ3, weight_TJ, frames_T, sequence_T, margin)
    error_TJ = torch.zeros_like(counted_TJ, dtype=torch.float64)
    if len(pred_TJ3) > 2:
        second = (pred_TJ3.double() - target_TJ3.double()).diff(dim=0, n=2)
        error_TJ[1:-1] = torch.linalg.vector_norm(second, dim=-1)
    unit = MM_PER_M if fps is None else fps**2
    error_T = unit * torch.where(counted_TJ, error_TJ, 0.0).sum(-1) / counted_TJ.sum(-1)
    return torch.where(error_T.isfinite(), error_T, torch.nan)


def jitter(
    pred_TJ3: Tensor, fps: float = 30.0, frames_T: Tensor | None = None, sequence_T: Tensor | None = None
) -> Tensor:
    """Jitter of each frame: mean over joints of the length of the third difference, in the unit of the tables.

    Yi et al. (PIP), CVPR 2022, as yohanshin/WHAM:lib/eval/eval_utils.py: 10 m/s^3. EMDB's evaluator sets 9 of 24 joints
    to 0 and averages over all 24: that is 15/24 of this over the other 15.

    Args:
        pred_TJ3: metres in the world; computed in float64.
        fps: frames per second.
        frames_T, sequence_T: as for :func:`acceleration_error`.

    Returns:
        (T,) float64, 10 m/s^3, at the second of four frames; NaN where those are not there or not finite.

    Examples:
        >>> import torch
        >>> time = torch.arange(5.0, dtype=torch.float64)
        >>> jitter((time**3)[:, None, None] * torch.tensor([0.0, 1, 0]), fps=10)
        tensor([ nan, 600., 600.,  nan,  nan], dtype=torch.float64)
    """
    if pred_TJ3.ndim != 3 or pred_TJ3.shape[-1] != 3:
        raise PosesynError(f"jitter needs (T,J,3) joints in metres, got {tuple(pred_TJ3.shape)}")
    value_T = torch.full(pred_TJ3.shape[:1], torch.nan, dtype=torch.float64, device=pred_TJ3.device)
    if len(pred_TJ3) > 3:
        third = torch.linalg.vector_norm(pred_TJ3.double().diff(dim=0, n=3), dim=-1).mean(-1) * fps**3 / 10
        whole = unbroken(len(pred_TJ3), 4, frames_T, sequence_T, device=pred_TJ3.device)
        value_T[1:-2] = torch.where(whole & third.isfinite(), third, torch.nan)
    return value_T


def _countable_joints(
    target_TJ3: Tensor, weight_TJ: Tensor | None, frames_T: Tensor | None, sequence_T: Tensor | None, margin: int
) -> Tensor:
    """(T,J) bool: joints labelled in the frame and both neighbours, of frames with ``margin`` + 1 neighbours."""
    labelled_TJ = joint_weights(target_TJ3, weight_TJ) > 0
    counted_TJ = torch.zeros_like(labelled_TJ)
    span = 3 + 2 * margin
    whole = unbroken(len(target_TJ3), span, frames_T, sequence_T, device=target_TJ3.device)
    if len(whole):
        middle = slice(1 + margin, len(target_TJ3) - 1 - margin)
        three = labelled_TJ[2:] & labelled_TJ[1:-1] & labelled_TJ[:-2]
        counted_TJ[middle] = three[margin : len(three) - margin] & whole[:, None]
    return counted_TJ
