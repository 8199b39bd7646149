"""Joint sets as data, and conversion between them by name.

A joint that the target set has and the source lacks gets confidence 0, never a guess. Names stand for the joint an
annotator or model means; where two meanings differ by more than an annotator's noise they have two names
(``neck`` is SMPL's kinematic joint, ``upper_neck`` the LSP/MPII annotation). Orders follow the data sets' own files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from human.errors import PosesynError


@dataclass(frozen=True)
class Skeleton:
    """A named joint order. ``parents[i]`` is the joint that ``i`` hangs from, -1 for a root."""

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Position of ``joint``; :class:`PosesynError` names the set when it has none."""
        try:
            return self.joints.index(joint)
        except ValueError:
            raise PosesynError(
                f"skeleton {self.name!r} has no joint {joint!r}; it has {', '.join(self.joints)}"
            ) from None

    def indices(self, *joints: str) -> list[int]:
        return [self.index(j) for j in joints]

    @cached_property
    def flip_permutation(self) -> tuple[int, ...]:
        """``joints[perm]`` is the mirrored skeleton: left_x and right_x trade places."""
        return tuple(self.index(_mirror_name(j)) for j in self.joints)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) pairs, for drawing and limb lengths."""
        return tuple((p, i) for i, p in enumerate(self.parents) if p >= 0)


def _mirror_name(joint: str) -> str:
    if joint.startswith("left_"):
        return "right_" + joint[5:]
    return "left_" + joint[6:] if joint.startswith("right_") else joint


def _make(name: str, tree: str) -> Skeleton:
    """``tree`` holds ``joint<parent`` words in the set's order; a bare word is a root."""
    words = [w.split("<") for w in tree.split()]
    joints = tuple(w[0] for w in words)
    return Skeleton(name, joints, tuple(joints.index(w[1]) if len(w) > 1 else -1 for w in words))


_SMPL = """pelvis left_hip<pelvis right_hip<pelvis spine1<pelvis left_knee<left_hip right_knee<right_hip spine2<spine1
left_ankle<left_knee right_ankle<right_knee spine3<spine2 left_foot<left_ankle right_foot<right_ankle neck<spine3
left_collar<spine3 right_collar<spine3 head<neck left_shoulder<left_collar right_shoulder<right_collar
left_elbow<left_shoulder right_elbow<right_shoulder left_wrist<left_elbow right_wrist<right_elbow
left_hand<left_wrist right_hand<right_wrist"""

SMPL24 = _make("smpl24", _SMPL)
POSE32 = _make(
    "pose32",
    _SMPL + " nose<head left_eye<nose right_eye<nose left_ear<left_eye right_ear<right_eye upper_neck<neck"
    " head_top<upper_neck thorax<spine3",
)
COCO17 = _make(
    "coco17",
    """nose left_eye<nose right_eye<nose left_ear<left_eye right_ear<right_eye left_shoulder
    right_shoulder<left_shoulder left_elbow<left_shoulder right_elbow<right_shoulder left_wrist<left_elbow
    right_wrist<right_elbow
    left_hip<left_shoulder right_hip<right_shoulder left_knee<left_hip right_knee<right_hip left_ankle<left_knee
    right_ankle<right_knee""",
)
LSP14 = _make(
    "lsp14",
    """right_ankle<right_knee right_knee<right_hip right_hip<left_hip left_hip<upper_neck left_knee<left_hip
    left_ankle<left_knee right_wrist<right_elbow right_elbow<right_shoulder right_shoulder<upper_neck
    left_shoulder<upper_neck left_elbow<left_shoulder left_wrist<left_elbow upper_neck head_top<upper_neck""",
)
MPII16 = _make(
    "mpii16",
    """right_ankle<right_knee right_knee<right_hip right_hip<pelvis left_hip<pelvis left_knee<left_hip
    left_ankle<left_knee pelvis thorax<pelvis upper_neck<thorax head_top<upper_neck right_wrist<right_elbow
    right_elbow<right_shoulder
    right_shoulder<thorax left_shoulder<thorax left_elbow<left_shoulder left_wrist<left_elbow""",
)
H36M17 = _make(
    "h36m17",
    """pelvis right_hip<pelvis right_knee<right_hip right_ankle<right_knee left_hip<pelvis left_knee<left_hip
    left_ankle<left_knee spine_h36m<pelvis thorax<spine_h36m nose<thorax head_top<nose left_shoulder<thorax
    left_elbow<left_shoulder left_wrist<left_elbow right_shoulder<thorax right_elbow<right_shoulder
    right_wrist<right_elbow""",
)
# OpenPose's BODY_25: its neck and mid hip are middles of two joints, not joints that an annotator sees.
BODY25 = _make(
    "body25",
    """nose<mid_shoulders mid_shoulders<mid_hip right_shoulder<mid_shoulders right_elbow<right_shoulder
    right_wrist<right_elbow left_shoulder<mid_shoulders left_elbow<left_shoulder left_wrist<left_elbow mid_hip
    right_hip<mid_hip right_knee<right_hip right_ankle<right_knee left_hip<mid_hip left_knee<left_hip
    left_ankle<left_knee right_eye<nose left_eye<nose right_ear<right_eye left_ear<left_eye left_big_toe<left_ankle
    left_small_toe<left_big_toe left_heel<left_ankle right_big_toe<right_ankle right_small_toe<right_big_toe
    right_heel<right_ankle""",
)
# JHMDB's labels are joints of a puppet fitted to the picture: its neck is the throat, its head the face's middle.
JHMDB15 = _make(
    "jhmdb15",
    """throat<belly belly face<throat right_shoulder<throat left_shoulder<throat right_hip<belly left_hip<belly
    right_elbow<right_shoulder left_elbow<left_shoulder right_knee<right_hip left_knee<left_hip
    right_wrist<right_elbow left_wrist<left_elbow right_ankle<right_knee left_ankle<left_knee""",
)

# MPI-INF-3DHP's own rig (28 joints of the training set; the 17 of its test set, in their own order). Its neck is taken
# for Human3.6M's thorax by all who compare the two; its spine and head are joints of that rig only.
_DHP28 = """
    spine3_3dhp<spine2_3dhp spine4_3dhp<spine3_3dhp spine2_3dhp<spine_3dhp spine_3dhp<pelvis pelvis thorax<spine4_3dhp
    head_3dhp<thorax head_top<head_3dhp
    left_clavicle_3dhp<spine4_3dhp left_shoulder<left_clavicle_3dhp left_elbow<left_shoulder left_wrist<left_elbow
    left_hand_3dhp<left_wrist
    right_clavicle_3dhp<spine4_3dhp right_shoulder<right_clavicle_3dhp right_elbow<right_shoulder
    right_wrist<right_elbow right_hand_3dhp<right_wrist
    left_hip<pelvis left_knee<left_hip left_ankle<left_knee left_foot_3dhp<left_ankle left_toe_3dhp<left_foot_3dhp
    right_hip<pelvis right_knee<right_hip right_ankle<right_knee right_foot_3dhp<right_ankle
    right_toe_3dhp<right_foot_3dhp"""
_DHP17 = """
    head_top<head_3dhp thorax<spine_3dhp right_shoulder<thorax right_elbow<right_shoulder right_wrist<right_elbow
    left_shoulder<thorax left_elbow<left_shoulder left_wrist<left_elbow
    right_hip<pelvis right_knee<right_hip right_ankle<right_knee left_hip<pelvis left_knee<left_hip left_ankle<left_knee
    pelvis spine_3dhp<pelvis head_3dhp<thorax"""
DHP28 = _make("mpi_inf_3dhp28", _DHP28)
DHP17 = _make("mpi_inf_3dhp17", _DHP17)
# The 21 joints of MuCo-3DHP as 3DMPPE's JSON has them.
MUCO21 = _make(
    "muco21",
    _DHP17 + " right_hand_3dhp<right_wrist left_hand_3dhp<left_wrist right_toe_3dhp<right_ankle"
    " left_toe_3dhp<left_ankle",
)
# Ski-Pose PTZ: Human3.6M's order; its head joint lies elsewhere than Human3.6M's nose.
SKI17 = Skeleton("ski17", tuple("head_ski" if j == "nose" else j for j in H36M17.joints), H36M17.parents)
# CMU Panoptic's "coco19". The middle of the shoulders and of the hips, as OpenPose labels them.
PANOPTIC19 = _make(
    "panoptic19",
    """mid_shoulders<mid_hip nose<mid_shoulders mid_hip left_shoulder<mid_shoulders left_elbow<left_shoulder
    left_wrist<left_elbow left_hip<mid_hip left_knee<left_hip left_ankle<left_knee right_shoulder<mid_shoulders
    right_elbow<right_shoulder right_wrist<right_elbow right_hip<mid_hip right_knee<right_hip right_ankle<right_knee
    left_eye<nose left_ear<left_eye right_eye<nose right_ear<right_eye""",
)

# SMPL-X's own 55 joints; the eyes are the centres of the eyeballs, not the points that annotators mean.
_FINGERS = " ".join(
    f"{side}_{finger}{k}<{side}_{'wrist' if k == 1 else f'{finger}{k - 1}'}"
    for side in ("left", "right")
    for finger in ("index", "middle", "pinky", "ring", "thumb")
    for k in (1, 2, 3)
)
SMPLX55 = _make(
    "smplx55",
    " ".join(_SMPL.split()[:22]) + f" jaw<head left_eyeball<head right_eyeball<head {_FINGERS}",
)

SKELETONS: dict[str, Skeleton] = {
    s.name: s
    for s in (
        SMPL24,
        POSE32,
        COCO17,
        LSP14,
        MPII16,
        H36M17,
        BODY25,
        JHMDB15,
        DHP28,
        DHP17,
        MUCO21,
        SKI17,
        PANOPTIC19,
        SMPLX55,
    )
}


@cache
def _mapping(src: str, dst: str) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    source, target = get_skeleton(src), get_skeleton(dst)
    found = tuple(j in source.joints for j in target.joints)
    return tuple(source.joints.index(j) if ok else 0 for j, ok in zip(target.joints, found, strict=True)), found


def get_skeleton(name: str) -> Skeleton:
    """The skeleton called ``name``; :class:`PosesynError` lists the known ones."""
    if name not in SKELETONS:
        raise PosesynError(f"no skeleton is called {name!r}; known: {', '.join(SKELETONS)}")
    return SKELETONS[name]


def convert(values: Any, conf: Any, src: str, dst: str) -> tuple[Any, Any]:
    """Re-order joints by name.

    Args:
        values: (..., J_src, C) numpy array or tensor.
        conf: (..., J_src) confidences.
        src, dst: names in :data:`SKELETONS`.

    Returns:
        ((..., J_dst, C), (..., J_dst)); joints that ``src`` lacks are 0 with confidence 0.
    """
    n = len(get_skeleton(src))
    if values.shape[-2] != n or conf.shape[-1] != n:
        raise PosesynError(
            f"skeleton {src!r} has {n} joints, got values {tuple(values.shape)} and confidences {tuple(conf.shape)}"
        )
    index, found = _mapping(src, dst)
    if isinstance(values, torch.Tensor):
        order = torch.tensor(index, device=values.device)
        keep = torch.tensor(found, device=values.device)
        zero = torch.zeros((), device=values.device)
        return (
            torch.where(keep[:, None], values[..., order, :], zero.to(values.dtype)),
            torch.where(keep, conf[..., order], zero.to(conf.dtype)),
        )
    keep_np = np.asarray(found)
    return (
        np.where(keep_np[:, None], values[..., list(index), :], 0).astype(values.dtype),
        np.where(keep_np, conf[..., list(index)], 0).astype(conf.dtype),
    )


# Joints whose error the papers weigh; the names exist in every set above but spine-only ones.
LIMB_JOINTS: tuple[str, ...] = tuple(
    f"{side}_{part}" for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist") for side in ("left", "right")
)
