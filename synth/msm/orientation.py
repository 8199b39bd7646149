"""A motion turned so that it starts as the reference's person stands before the reference's camera.

PoseSyn (section 3.2, equations 7-10) starts the motion at the reference's orientation theta_G and turns frame l by
R_l R_{l-1}^{-1} R_init, R_l being the motion's own orientation. Equation 9 leaves two things open:

1. The accumulated turn. As printed, every frame is R_init with the turn of one step: a person who turns around never
   leaves the first orientation by more than a step. Meant is R'_l = R_l R_{l-1}^{-1} R'_{l-1}, that is
   R_l R_1^{-1} R_init.
2. The axes of the turn. R_l R_1^{-1} is written in the motion's axes (y up), R_init maps to the camera's (OpenCV: x
   right, y down, z away). A product of the two takes a turn about the motion's +y, to the person's left, for one about
   the camera's +y: to the right. A bow becomes a bow about the camera's x axis, sideways for a person seen from the
   side.

Here the turn is taken to the camera's axes by the one rotation M that places the whole motion before the camera,
M = R_init R_1^{-1}. Then R'_l = M (R_l R_1^{-1}) M^{-1} R_init = R_init R_1^{-1} R_l: the first frame is the reference,
and between any two frames the person turns as in the motion, in its own axes R_k^{-1} R_l. With ``keep="full"`` the
motion's vertical goes where the reference's first frame puts it. That is right where the motion's first frame is the
reference's pose, upright as it was. Where it is not (a motion that begins lying or upside down), ``keep="heading"``
keeps gravity: M takes the motion's up to the camera's, and only its turn about the vertical comes from the reference.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from human.camera import level_flip
from human.errors import PosesynError

Keep = Literal["full", "heading"]


def align_orientation(
    orient_BT33: Tensor, reference_B33: Tensor, *, keep: Keep = "full", literal: bool = False
) -> Tensor:
    """Orientations (B, T, 3, 3) in the reference's camera frame (y down) of a motion (y up) that starts like it.

    Args:
        orient_BT33: the motion's pelvis rotations, body to world.
        reference_B33: the reference's pelvis rotation, body to camera.
        keep: what of the reference the first frame takes, see `camera_from_motion`.
        literal: equation 9 as printed, R_l R_{l-1}^{-1} R_init (frame 1: R_init), for comparison.
    """
    _check_orientations(orient_BT33, reference_B33)
    if not literal:
        if not orient_BT33.shape[1]:
            return orient_BT33
        return camera_from_motion(orient_BT33[:, 0], reference_B33, keep=keep)[:, None] @ orient_BT33
    if keep != "full":
        raise PosesynError(f"equation 9 as printed knows no keep={keep!r}: use literal=False")
    step = orient_BT33[:, 1:] @ orient_BT33[:, :-1].mT
    reference_B133 = reference_B33[:, None]
    return torch.cat([reference_B133, step @ reference_B133], 1)[:, : orient_BT33.shape[1]]


def align_motion(
    points_BTN3: Tensor,
    first_B33: Tensor,
    reference_B33: Tensor,
    place_B3: Tensor | None = None,
    *,
    keep: Keep = "full",
) -> Tensor:
    """Joints or vertices of a motion (y up) before the reference's camera (y down), turned with `align_orientation`.

    Args:
        points_BTN3: metres; point 0 is the pelvis. A root path is (B, T, 1, 3).
        first_B33: the motion's pelvis rotation in its first frame, body to world.
        reference_B33: the reference's pelvis rotation, body to camera.
        place_B3: where the first frame's pelvis goes, metres before the camera; None: the origin.

    Returns:
        (B, T, N, 3); the path is turned as the person is.
    """
    if points_BTN3.ndim != 4 or points_BTN3.shape[-1] != 3 or len(points_BTN3) != len(first_B33):
        raise PosesynError(
            f"align_motion needs points of shape (B, T, N, 3) for {len(first_B33)} first orientations, "
            f"got {tuple(points_BTN3.shape)}"
        )
    turn = camera_from_motion(first_B33, reference_B33, keep=keep)
    if not points_BTN3.shape[1]:
        return points_BTN3
    placed = (points_BTN3 - points_BTN3[:, :1, :1]) @ turn[:, None].mT
    return placed if place_B3 is None else placed + place_B3[:, None, None]


def camera_from_motion(first_B33: Tensor, reference_B33: Tensor, *, keep: Keep = "full") -> Tensor:
    """M (B, 3, 3), which takes the motion's axes (y up) to the camera's (y down).

    Args:
        first_B33: the motion's pelvis rotation in its first frame, body to world.
        reference_B33: the reference's pelvis rotation, body to camera.
        keep: "full": the first frame gets the reference's orientation exactly. "heading": M takes up to up, for a level
            camera, and turns about the vertical so that the first frame comes as near to the reference as it can (least
            angle; where all headings are as near, the motion's +z comes towards the camera).
    """
    _check_orientations(first_B33[:, None], reference_B33)
    if keep == "full":
        return reference_B33 @ first_B33.mT
    if keep != "heading":
        raise PosesynError(f"keep must be 'full' or 'heading', got {keep!r}")
    rest = level_flip(reference_B33 @ first_B33.mT, -2)
    # The turn about y that is nearest to ``rest``: it has the greatest trace(turn^T rest).
    sin, cos = rest[:, 0, 2] - rest[:, 2, 0], rest[:, 0, 0] + rest[:, 2, 2]
    size = torch.hypot(sin, cos)
    free = size < 1e-6
    sin, cos = (torch.where(free, value, part / size.clamp_min(1e-6)) for part, value in ((sin, 0.0), (cos, 1.0)))
    zero, one = torch.zeros_like(sin), torch.ones_like(sin)
    turn = torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], -1).unflatten(-1, (3, 3))
    return level_flip(turn, -2)


def _check_orientations(orient_BT33: Tensor, reference_B33: Tensor) -> None:
    batch = len(orient_BT33)
    if orient_BT33.ndim != 4 or orient_BT33.shape[2:] != (3, 3) or reference_B33.shape != (batch, 3, 3):
        raise PosesynError(
            "orientations must be rotation matrices (B, T, 3, 3) of the motion and (B, 3, 3) of the reference, got "
            f"{tuple(orient_BT33.shape)} and {tuple(reference_B33.shape)}"
        )
