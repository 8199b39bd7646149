"""Orientation errors of body parts per person: MPJAE and PA-MPJAE."""

from __future__ import annotations

import torch
from torch import Tensor

from human.errors import PosesynError
from human.rotations import geodesic_degrees
from metrics.functional.mpjpe import joint_weights
from metrics.functional.procrustes import similarity_procrustes

#: The 9 parts of the 3DPW challenge and EMDB by their SMPL joints: pelvis, both hips (thighs), knees (shins), shoulders
#: (upper arms) and elbows (forearms) (aymenmir1/3dpw-eval:evaluate.py).
ORIENTED_JOINTS: tuple[int, ...] = (0, 1, 2, 4, 5, 16, 17, 18, 19)


def mpjae(pred_BP33: Tensor, target_BP33: Tensor) -> Tensor:
    """MPJAE of each person: the mean geodesic angle between global rotations of parts.

    Args:
        pred_BP33: rotation of each part from the rest pose to the camera's frame, any floating dtype; computed in
            float64. For 3DPW and EMDB the ``ORIENTED_JOINTS`` of SMPL's global rotations.
        target_BP33: the same parts. A part that is not finite is not labelled.

    Returns:
        (B,) float64 degrees. NaN for a person without labelled parts and for one whose prediction of a labelled part
        is not finite.

    Examples:
        >>> import torch
        >>> quarter_turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        >>> still = torch.eye(3).expand(1, 2, 3, 3)
        >>> mpjae(torch.stack([quarter_turn, torch.eye(3)])[None], still)
        tensor([45.], dtype=torch.float64)
    """
    if pred_BP33.shape != target_BP33.shape or pred_BP33.ndim != 4 or pred_BP33.shape[-2:] != (3, 3):
        raise PosesynError(
            f"MPJAE needs two (B,P,3,3) sets of rotations, got {tuple(pred_BP33.shape)} and {tuple(target_BP33.shape)}"
        )
    labelled_BP = target_BP33.isfinite().flatten(2).all(-1)
    finite_BP = pred_BP33.isfinite().flatten(2).all(-1)
    usable_BP11 = (labelled_BP & finite_BP)[..., None, None]
    pred, target = (torch.where(usable_BP11, r.double(), 0.0) for r in (pred_BP33, target_BP33))
    angle_BP = torch.where(labelled_BP, geodesic_degrees(pred, target), torch.nan)
    return torch.where((finite_BP | ~labelled_BP).all(-1), angle_BP.nanmean(-1), torch.nan)


def pa_mpjae(
    pred_BP33: Tensor,
    target_BP33: Tensor,
    pred_joints_BJ3: Tensor,
    target_joints_BJ3: Tensor,
    weight_BJ: Tensor | None = None,
) -> Tensor:
    """PA-MPJAE of each person: :func:`mpjae` after the rotation that Procrustes finds for the joints.

    Args:
        pred_BP33, target_BP33: as for :func:`mpjae`.
        pred_joints_BJ3, target_joints_BJ3, weight_BJ: what PA-MPJPE is fitted on; the challenge's and EMDB's are all 24
            SMPL joints.

    Returns:
        (B,) float64 degrees; NaN also where no joint is labelled or one that is has a prediction that is not finite.

    Examples:
        >>> import torch
        >>> quarter_turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        >>> joints = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]])
        >>> turned = joints @ quarter_turn.T
        >>> pa_mpjae(quarter_turn[None, None], torch.eye(3)[None, None], turned, joints).round(decimals=5)
        tensor([0.], dtype=torch.float64)
    """
    weight_BJ = joint_weights(target_joints_BJ3, weight_BJ)
    rotation_B133 = similarity_procrustes(pred_joints_BJ3, target_joints_BJ3, weight_BJ).rotation[:, None]
    finite_B = (pred_joints_BJ3.isfinite().all(-1) | (weight_BJ == 0)).all(-1)
    usable_B = finite_B & (weight_BJ > 0).any(-1)
    return torch.where(usable_B, mpjae(rotation_B133 @ pred_BP33.double(), target_BP33), torch.nan)
