"""PoseBatch: the one thing that travels between packages."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from human.record import Record
from human.skeleton import POSE32

NUM_JOINTS = len(POSE32)
# Relative to which joint(s) `joints3d` is given: the pelvis where a set has one, else the middle of the hips.
PELVIS = POSE32.index("pelvis")
HIPS = POSE32.indices("left_hip", "right_hip")


@dataclass(frozen=True)
class PoseBatch(Record):
    """B samples. Units and frames are these, everywhere:

    * ``image`` (B,3,H,W) uint8 RGB
    * ``joints2d`` (B,32,2) pixels in the crop, integer coordinates are pixel centres; ``joints2d_conf`` (B,32)
    * ``joints3d`` (B,32,3) metres, OpenCV camera frame (x right, y down, z forward), relative to the root: the pelvis
      where it is labelled, else the middle of the hips; ``joints3d_conf`` (B,32)
    * ``global_orient`` (B,3), ``body_pose`` (B,23,3) rotation vectors, radians; the root turns the body into the camera
      frame; ``betas`` (B,10); ``transl`` (B,3) metres, camera frame
    * ``intrinsics`` (B,3,3) pixels of the crop: the camera of the whole picture, carried to the crop, so that it also
      says where in the picture the crop lies; where a picture's camera is not known, CLIFF's guess
      (``human.camera.guess_intrinsics``); identity where not even the picture's size is known
    * ``has_pose``, ``has_betas``, ``has_transl`` (B,) bool: labels that are absent are masked, never zero-filled
      silently
    * ``weight`` (B,) weight in the loss
    * ``key`` (B,4) int64: (source, generation, index, seed), names the sample for ever
    """

    image: Tensor
    joints2d: Tensor
    joints2d_conf: Tensor
    joints3d: Tensor
    joints3d_conf: Tensor
    global_orient: Tensor
    body_pose: Tensor
    betas: Tensor
    transl: Tensor
    intrinsics: Tensor
    has_pose: Tensor
    has_betas: Tensor
    has_transl: Tensor
    weight: Tensor
    key: Tensor

    @classmethod
    def blank(cls, batch: int, size: int) -> PoseBatch:
        """``batch`` samples with black pictures of ``size`` x ``size`` and no labels."""
        j, f = NUM_JOINTS, torch.zeros
        return cls(
            image=f(batch, 3, size, size, dtype=torch.uint8),
            joints2d=f(batch, j, 2),
            joints2d_conf=f(batch, j),
            joints3d=f(batch, j, 3),
            joints3d_conf=f(batch, j),
            global_orient=f(batch, 3),
            body_pose=f(batch, 23, 3),
            betas=f(batch, 10),
            transl=f(batch, 3),
            intrinsics=torch.eye(3).repeat(batch, 1, 1),
            has_pose=f(batch, dtype=torch.bool),
            has_betas=f(batch, dtype=torch.bool),
            has_transl=f(batch, dtype=torch.bool),
            weight=torch.ones(batch),
            key=f(batch, 4, dtype=torch.int64),
        )

    def as_dict(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def replace(self, **changes: Any) -> PoseBatch:
        return replace(self, **changes)

    @property
    def size(self) -> int:
        """Side of the square pictures, pixels."""
        return self.image.shape[-1]


def root_of(joints_BJ3: Tensor, conf_BJ: Tensor) -> Tensor:
    """(B,3) root of POSE32 joints: the pelvis where it has confidence, else the mean of the hips."""
    has_pelvis = conf_BJ[:, PELVIS, None] > 0
    return torch.where(has_pelvis, joints_BJ3[:, PELVIS], joints_BJ3[:, HIPS].mean(1))
