"""3D poses lifted from 2D joints, for the pose space (Chen et al. 2016, §3.1: LSP's joints lifted, then learnt from).

A 2D pose has many 3D readings and no gravity. The fit returns one likely reading; the camera is taken to be upright.
Readings that miss the labels, bend a joint too far or push one limb into another are dropped.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.camera import level_flip
from human.errors import PosesynError
from human.fit import fit_joints2d
from human.rotations import matrix_to_rotvec, rotvec_to_matrix
from human.skeleton import get_skeleton
from synth.pose_validity import is_valid

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiftedPoses:
    """K poses kept of N.

    Attributes:
        body_pose: (K, 23, 3) and ``root`` (K, 3) float32 rotation vectors, y up if the camera was.
        error: (K,) mean reprojection error as a share of the person's size.
        index: (K,) which of the N.
        unfitted, misfit, impossible: how many were dropped because they could not be fitted, because they miss their
            labels, and because no body takes them.
    """

    body_pose: np.ndarray
    root: np.ndarray
    error: np.ndarray
    index: np.ndarray
    unfitted: int
    misfit: int
    impossible: int

    def __len__(self) -> int:
        return len(self.body_pose)


def lift_poses(
    joints2d_NJ2: np.ndarray,
    conf_NJ: np.ndarray,
    body: BodyModel,
    *,
    skeleton: str = "lsp14",
    intrinsics_N33: np.ndarray | None = None,
    field_of_view: float = 15.0,
    max_error: float = 0.03,
    limit_slack: float = 15.0,
    overlap: float = 0.05,
    batch: int = 256,
) -> LiftedPoses:
    """Lift 2D joints (pixels) with confidences.

    Args:
        skeleton: the joints' order.
        intrinsics_N33: cameras; None: each person fills ``field_of_view`` degrees of a camera that looks at him, about
            what a person takes of a photograph.
        max_error: largest mean reprojection error, as a share of the longer side of the person's box.
        limit_slack, overlap: see `synth.pose_validity.is_valid`.
    """
    count = len(get_skeleton(skeleton))
    if joints2d_NJ2.shape[1:] != (count, 2) or conf_NJ.shape != joints2d_NJ2.shape[:2]:
        raise PosesynError(
            f"lift_poses: {skeleton} has {count} joints, got joints {joints2d_NJ2.shape}, confidences {conf_NJ.shape}"
        )
    if len(joints2d_NJ2) == 0:
        raise PosesynError("lift_poses was given no persons")
    seen = (conf_NJ > 0) & np.isfinite(joints2d_NJ2).all(-1)
    usable = seen.sum(1) >= 3
    joints = np.where(seen[..., None], joints2d_NJ2, 0.0).astype(np.float32)
    low = np.where(seen[..., None], joints2d_NJ2, np.inf).min(1)
    high = np.where(seen[..., None], joints2d_NJ2, -np.inf).max(1)
    size = np.where(usable, (high - low).max(1, initial=1e-6, where=np.isfinite(high - low)), 1.0)
    if intrinsics_N33 is None:
        intrinsics_N33 = _looking_at((low + high) / 2, size, usable, field_of_view)

    pose, root = np.zeros((len(joints), 23, 3), np.float32), np.zeros((len(joints), 3), np.float32)
    error = np.full(len(joints), np.inf)
    rows = np.flatnonzero(usable)
    for part in np.split(rows, range(batch, len(rows), batch)):
        if len(part) == 0:
            continue
        fit = fit_joints2d(
            body,
            torch.from_numpy(joints[part]),
            torch.from_numpy(np.where(seen, conf_NJ, 0)[part].astype(np.float32)),
            torch.from_numpy(np.asarray(intrinsics_N33[part], np.float32)),
            skeleton=skeleton,
            on_bad="mask",
        )
        pose[part] = fit.body_pose.cpu().numpy()
        root[part] = camera_to_upright(fit.global_orient).cpu().numpy()
        error[part] = np.where(fit.valid.cpu().numpy(), fit.error.cpu().numpy() / size[part], np.inf)
    fitted = np.isfinite(error) & np.isfinite(pose).all((1, 2)) & np.isfinite(root).all(1)
    near = fitted & (error <= max_error)
    keep = near.copy()
    keep[near] = is_valid(pose[near], limit_slack, overlap)
    out = LiftedPoses(
        pose[keep],
        root[keep],
        error[keep].astype(np.float32),
        np.flatnonzero(keep),
        int((~fitted).sum()),
        int((fitted & ~near).sum()),
        int((near & ~keep).sum()),
    )
    log.info(
        "lifted %d of %d persons; dropped %d not fitted, %d off their labels by over %.1f %%, %d impossible poses",
        len(out), len(joints), out.unfitted, out.misfit, 100 * max_error, out.impossible,
    )  # fmt: skip
    return out


def camera_to_upright(global_orient_N3: Tensor) -> Tensor:
    """Pelvis rotations (N, 3) in the camera's frame (y down, z away) in a frame with y up in which +z is towards it."""
    return matrix_to_rotvec(level_flip(rotvec_to_matrix(global_orient_N3.double()), -2)).to(global_orient_N3.dtype)


def _looking_at(centre_N2: np.ndarray, size_N: np.ndarray, usable_N: np.ndarray, field_of_view: float) -> np.ndarray:
    out = np.tile(np.eye(3), (len(size_N), 1, 1))
    focal = size_N / 2 / np.tan(np.deg2rad(field_of_view) / 2)
    out[:, 0, 0] = out[:, 1, 1] = focal
    out[:, :2, 2] = np.where(usable_N[:, None], np.where(np.isfinite(centre_N2), centre_N2, 0), 0)
    return out
