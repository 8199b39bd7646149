"""Object keypoint similarity per person."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from human.errors import PosesynError
from metrics.functional.mpjpe import joint_weights

#: COCO's sigmas in the order of :data:`human.skeleton.COCO17` (cocodataset/cocoapi:PythonAPI/pycocotools/cocoeval.py).
COCO_SIGMAS: tuple[float, ...] = (
    *(0.026, 0.025, 0.025, 0.035, 0.035),
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)


def oks(
    pred_BJ2: Tensor,
    target_BJ2: Tensor,
    area_B: Tensor,
    weight_BJ: Tensor | None = None,
    sigmas: Sequence[float] = COCO_SIGMAS,
) -> Tensor:
    """OKS of each prediction with its person: mean over labelled joints of exp(-d^2 / (2 area (2 sigma)^2)).

    Args:
        pred_BJ2: pixels, any floating dtype; computed in float64.
        target_BJ2: pixels. A joint that is not finite is not labelled.
        area_B: square pixels, of the person's segment (COCO's ``area``), not of the box.
        weight_BJ: visibility or mask of the labels; only whether it is > 0 matters.
        sigmas: one per joint.

    Returns:
        (B,) float64 in 0..1. NaN without labelled joints, without a positive area, or with a prediction that is not
        finite at a labelled joint.

    Examples:
        >>> import torch
        >>> target = torch.zeros(1, 17, 2)
        >>> pred = target + torch.tensor([30.0, 40.0])
        >>> area = torch.tensor([100.0**2])
        >>> oks(target, target, area), oks(pred[:, :1], target[:, :1], area, sigmas=[0.25]).log()
        (tensor([1.], dtype=torch.float64), tensor([-0.5000], dtype=torch.float64))
    """
    if pred_BJ2.shape != target_BJ2.shape or pred_BJ2.ndim != 3 or pred_BJ2.shape[-1] != 2:
        raise PosesynError(
            f"OKS needs two (B,J,2) sets in pixels, got {tuple(pred_BJ2.shape)} and {tuple(target_BJ2.shape)}"
        )
    if area_B.shape != pred_BJ2.shape[:1] or len(sigmas) != pred_BJ2.shape[1]:
        raise PosesynError(
            f"OKS of {tuple(pred_BJ2.shape)} joints needs one area per person and one sigma per joint, "
            f"got {tuple(area_B.shape)} and {len(sigmas)}"
        )
    labelled_BJ = joint_weights(target_BJ2, weight_BJ) > 0
    variance_J = (2 * torch.tensor(sigmas, dtype=torch.float64, device=pred_BJ2.device)) ** 2
    square_BJ = (pred_BJ2.double() - target_BJ2.double()).square().sum(-1)
    similarity_BJ = torch.exp(-square_BJ / (2 * variance_J * area_B.double()[:, None]))
    similarity_BJ = torch.where(pred_BJ2.isfinite().all(-1) | ~labelled_BJ, similarity_BJ, torch.nan)
    total_B = torch.where(labelled_BJ, similarity_BJ, 0.0).sum(-1)
    usable_B = area_B.isfinite() & (area_B > 0)
    return torch.where(usable_B, total_B / labelled_BJ.sum(-1), torch.nan)
