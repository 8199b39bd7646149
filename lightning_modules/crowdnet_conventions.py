"""Joint sets, grids and camera of 3DCrowdNet's code, as named functions.

Pixels have integer coordinates at their centres, here as there; the original's principal point is S / 2 of a crop of
S pixels, half a pixel beside its middle, and its grids are scaled about pixel 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from human.batch import PoseBatch
from human.camera import make_intrinsics
from human.skeleton import COCO17, POSE32, SMPL24

#: Joints of the 2D pose that guides the network, and of the losses: SMPL's, the face, the top of the head.
JOINTS30 = (*SMPL24.joints, "nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top")
IN_POSE32 = POSE32.indices(*JOINTS30)
#: Joints that are found in the picture and whose features are sampled.
JOINTS15 = (
    "pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "neck", "head_top",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
#: Where they are among the 32.
GRAPH_IN_POSE32 = POSE32.indices(*JOINTS15)
_LIMBS = (
    ("pelvis", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("pelvis", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
    ("pelvis", "neck"), ("neck", "head_top"),
    ("neck", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("neck", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
)  # fmt: skip
_MIRRORED = tuple((j, f"right_{j[5:]}") for j in JOINTS15 if j.startswith("left_"))
#: Edges of the joints' graph: bones, and each joint with its mirror image.
GRAPH_EDGES = tuple((JOINTS15.index(a), JOINTS15.index(b)) for a, b in _LIMBS + _MIRRORED)

#: Pixels per cell of the guiding heat maps and of the last feature map.
GUIDE_STRIDE, FEATURE_STRIDE = 4, 32
#: Metres that the depth of the heat maps spans, with the root in the middle.
DEPTH_EXTENT = 2.0
#: Metres that fill the crop at the greatest distance the camera can say.
CAMERA_EXTENT = 2.5
#: Whose rotations the original's pose loss leaves out: in pseudo ground truth they are unreliable.
EXTREMITIES = SMPL24.indices(
    *(f"{side}_{part}" for part in ("ankle", "foot", "wrist", "hand") for side in ("left", "right"))
)

_COCO_IN_POSE32 = POSE32.indices(*COCO17.joints)
_COCO_IN_30 = [JOINTS30.index(j) for j in COCO17.joints]
_MIDDLES = tuple(
    (JOINTS30.index(j), COCO17.index(f"left_{part}"), COCO17.index(f"right_{part}"))
    for j, part in (("pelvis", "hip"), ("neck", "shoulder"))
)


def coco_joints(joints_B32: Tensor, seen_B32: Tensor) -> tuple[Tensor, Tensor]:
    """COCO's 17 of POSE32's joints: (B,17,2) and (B,17) bool."""
    return joints_B32[:, _COCO_IN_POSE32], seen_B32[:, _COCO_IN_POSE32]


def guiding_joints(joints_B17: Tensor, seen_B17: Tensor) -> tuple[Tensor, Tensor]:
    """What a 2D pose detector tells the network: COCO's joints, the middles of the hips and of the shoulders as pelvis
    and neck; (B,30,2) and (B,30) bool, False for the joints that detectors do not find.
    """
    joints = joints_B17.new_zeros(len(joints_B17), len(JOINTS30), 2)
    seen = seen_B17.new_zeros(joints.shape[:2])
    joints[:, _COCO_IN_30], seen[:, _COCO_IN_30] = joints_B17, seen_B17
    for middle, left, right in _MIDDLES:
        joints[:, middle] = (joints_B17[:, left] + joints_B17[:, right]) / 2
        seen[:, middle] = seen_B17[:, left] & seen_B17[:, right]
    return joints, seen


def inside(pixels_BJ2: Tensor, size: int) -> Tensor:
    """(B,J) bool: within the crop."""
    return ((pixels_BJ2 >= 0) & (pixels_BJ2 < size)).all(-1)


def heat_maps(pixels_BJ2: Tensor, seen_BJ: Tensor, size: int, sigma: float) -> Tensor:
    """(B,J,S/4,S/4) Gaussians of height 1 and ``sigma`` cells about the joints, 0 for those not seen (§4.2)."""
    cells = torch.arange(size // GUIDE_STRIDE, device=pixels_BJ2.device, dtype=pixels_BJ2.dtype)
    at = torch.where(seen_BJ[..., None], pixels_BJ2 / GUIDE_STRIDE, 0.0)
    bumps = torch.exp(-0.5 * ((cells - at[..., None]) / sigma).square())  # (B,J,2,cells), columns then rows
    return bumps[:, :, 1, :, None] * (bumps[:, :, 0] * seen_BJ[..., None])[:, :, None]


def depth_to_cells(depth: Tensor, cells: int) -> Tensor:
    """Metres behind the root to cells of the heat maps."""
    return (depth / (DEPTH_EXTENT / 2) + 1) / 2 * cells


def camera_to_translation(camera_B3: Tensor, focal: float, size: int) -> Tensor:
    """(tx, ty, logit) to (B,3) metres: the sigmoid of the logit is the distance, in units of that at which
    ``CAMERA_EXTENT`` fills the crop. It moves the body's origin, not its pelvis.
    """
    depth = focal * CAMERA_EXTENT / size * torch.sigmoid(camera_B3[:, 2:])
    return torch.cat([camera_B3[:, :2], depth], 1)


def crop_intrinsics(batch: int, focal: float, size: int, like: Tensor) -> Tensor:
    """(B,3,3) with the principal point at S / 2."""
    k = make_intrinsics(like.new_full((batch,), focal), size)
    k[:, :2, 2] = size / 2
    return k


def label_cells(batch: PoseBatch, cells: int, depth_cells: int) -> tuple[Tensor, Tensor]:
    """Where the labels are on a grid of ``cells`` x ``cells`` x ``depth_cells`` over the crop, for JOINTS15: (B,15,3),
    and (B,15,3) which of the coordinates are known. A joint outside the grid is not.
    """
    size = batch.size
    pixels, seen = batch.joints2d[:, GRAPH_IN_POSE32], batch.joints2d_conf[:, GRAPH_IN_POSE32] > 0
    metres, solid = batch.joints3d[:, GRAPH_IN_POSE32], batch.joints3d_conf[:, GRAPH_IN_POSE32] > 0
    pixels = torch.where(seen[..., None], pixels, 0.0)
    deep = depth_to_cells(torch.where(solid, metres[..., 2], 0.0), depth_cells)
    seen = seen & inside(pixels, size) & (~solid | ((deep >= 0) & (deep < depth_cells)))
    target = torch.cat([pixels * (cells / size), deep[..., None]], -1)
    return target, torch.stack([seen, seen, seen & solid], -1)
