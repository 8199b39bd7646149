"""Percentage of correct keypoints in the picture, and the lengths it is measured in."""

from __future__ import annotations

import torch
from torch import Tensor

from human.errors import PosesynError
from human.skeleton import get_skeleton
from metrics.functional.mpjpe import joint_weights


def correct_joints(
    pred_BJ2: Tensor,
    target_BJ2: Tensor,
    normaliser_B: Tensor | None,
    threshold: float = 0.2,
    weight_BJ: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Which joints lie closer to their label than ``threshold`` times the person's normaliser.

    Strictly closer, as mmpose counts (mmpose/evaluation/functional/keypoint_eval.py).

    Args:
        pred_BJ2: pixels, any floating dtype; compared in float64.
        target_BJ2: pixels. A joint that is not finite is not labelled.
        normaliser_B: pixels; a person whose normaliser is not finite and positive is not counted. None: ``threshold``
            itself is in pixels.
        weight_BJ: mask or confidence of the labels; PCK uses only whether it is > 0.

    Returns:
        (B,J) bool correct, (B,J) bool counted; ``correct`` implies ``counted``. A prediction that is not finite is
        wrong.

    Examples:
        >>> import torch
        >>> target = torch.zeros(1, 3, 2)
        >>> pred = torch.tensor([[[19.0, 0], [0, 20], [1, 1]]])
        >>> correct_joints(pred, target, torch.tensor([100.0]), 0.2, torch.tensor([[1, 1, 0]]))
        (tensor([[ True, False, False]]), tensor([[ True,  True, False]]))
    """
    if pred_BJ2.shape != target_BJ2.shape or pred_BJ2.ndim != 3 or pred_BJ2.shape[-1] != 2:
        raise PosesynError(
            f"PCK needs two (B,J,2) sets in pixels, got {tuple(pred_BJ2.shape)} and {tuple(target_BJ2.shape)}"
        )
    if normaliser_B is None:
        normaliser_B = torch.ones(len(pred_BJ2), dtype=torch.float64, device=pred_BJ2.device)
    if normaliser_B.shape != pred_BJ2.shape[:1]:
        raise PosesynError(f"PCK needs one normaliser per person, {len(pred_BJ2)}, got {tuple(normaliser_B.shape)}")
    usable_B = normaliser_B.isfinite() & (normaliser_B > 0)
    counted_BJ = (joint_weights(target_BJ2, weight_BJ) > 0) & usable_B[:, None]
    distance_BJ = torch.linalg.vector_norm(pred_BJ2.double() - target_BJ2.double(), dim=-1)
    return (distance_BJ < threshold * normaliser_B.double()[:, None]) & counted_BJ, counted_BJ


def pck(
    pred_BJ2: Tensor,
    target_BJ2: Tensor,
    normaliser_B: Tensor | None,
    threshold: float = 0.2,
    weight_BJ: Tensor | None = None,
) -> Tensor:
    """PCK of each person: the share of :func:`correct_joints` among the counted.

    Arguments are those of :func:`correct_joints`. MPII's PCKh@0.5 and @0.6 have :func:`head_size` as normaliser, tPCK
    :func:`torso_length`; with None the threshold is in pixels (SMART: 22.4). Most data sets' figures are not the mean
    over persons but over joints or labels: see :class:`metrics.PCK`.

    Returns:
        (B,) float64 in 0..1; NaN for a person who is not counted, has no label, or has a prediction that is not finite
        at one.

    Examples:
        >>> import torch
        >>> target = torch.zeros(1, 3, 2)
        >>> pred = torch.tensor([[[19.0, 0], [0, 20], [1, 1]]])
        >>> pck(pred, target, torch.tensor([100.0])), pck(pred, target, None, threshold=3)
        (tensor([0.6667], dtype=torch.float64), tensor([0.3333], dtype=torch.float64))
    """
    correct_BJ, counted_BJ = correct_joints(pred_BJ2, target_BJ2, normaliser_B, threshold, weight_BJ)
    invalid_B = (counted_BJ & ~pred_BJ2.isfinite().all(-1)).any(-1)
    share_B = correct_BJ.sum(-1).double() / counted_BJ.sum(-1)
    return torch.where(invalid_B, torch.nan, share_B)


def torso_length(
    joints_BJ2: Tensor, weight_BJ: Tensor | None = None, skeleton: str = "lsp14", fallback_BJ2: Tensor | None = None
) -> Tensor:
    """(B,) pixels from left shoulder to right hip, NaN where one is not labelled.

    The torso of PCK@0.2 and tPCK as mmpose measures it (mmpose/evaluation/metrics/keypoint_2d_metrics.py, JHMDB). There
    the predicted joints stand in where the labelled torso is shorter than 1 px: give them as ``fallback_BJ2``.

    Examples:
        >>> import torch
        >>> joints = torch.zeros(1, 14, 2)
        >>> joints[0, 9], joints[0, 2] = torch.tensor([30.0, 0]), torch.tensor([0.0, 40])
        >>> torso_length(joints)
        tensor([50.], dtype=torch.float64)
    """
    shoulder, hip = get_skeleton(skeleton).indices("left_shoulder", "right_hip")
    labelled_B = (joint_weights(joints_BJ2, weight_BJ)[:, [shoulder, hip]] > 0).all(-1)
    length_B = torch.linalg.vector_norm(joints_BJ2[:, shoulder].double() - joints_BJ2[:, hip].double(), dim=-1)
    if fallback_BJ2 is not None:
        other_B = torch.linalg.vector_norm(fallback_BJ2[:, shoulder].double() - fallback_BJ2[:, hip].double(), dim=-1)
        length_B = torch.where(length_B < 1, other_B, length_B)
    return torch.where(labelled_B, length_B, torch.nan)


def box_side(joints_BJ2: Tensor, weight_BJ: Tensor | None = None, margin: float = 1.0) -> Tensor:
    """(B,) pixels: longer side of the box around the labelled joints, times ``margin``; NaN without labelled joints.

    4D-Humans' normaliser is this with margin 1.2 (hmr2/utils/pose_utils.py).

    Examples:
        >>> import torch
        >>> box_side(torch.tensor([[[10.0, 10], [30, 15], [400, 400]]]), torch.tensor([[1, 1, 0]]), margin=1.2)
        tensor([24.], dtype=torch.float64)
    """
    labelled_BJ1 = (joint_weights(joints_BJ2, weight_BJ) > 0)[..., None]
    joints = joints_BJ2.double()
    high_B2 = torch.where(labelled_BJ1, joints, -torch.inf).amax(1)
    low_B2 = torch.where(labelled_BJ1, joints, torch.inf).amin(1)
    return torch.where(labelled_BJ1.any(1)[:, 0], margin * (high_B2 - low_B2).amax(-1), torch.nan)


def head_size(head_box_B4: Tensor) -> Tensor:
    """(B,) pixels: 0.6 times the diagonal of the head box (x1, y1, x2, y2), the normaliser of MPII's PCKh.

    Examples:
        >>> import torch
        >>> head_size(torch.tensor([[10.0, 10, 40, 50]]))
        tensor([30.], dtype=torch.float64)
    """
    box = head_box_B4.double()
    return 0.6 * torch.linalg.vector_norm(box[:, 2:] - box[:, :2], dim=-1)
