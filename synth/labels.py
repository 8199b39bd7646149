"""Labels of a picture from the scene that it shows: the same for every engine."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from human.batch import NUM_JOINTS, PELVIS, PoseBatch
from human.body import load_body
from human.camera import MIN_DEPTH, project
from human.detail import load_detail
from human.errors import PosesynError
from synth.dressed import DressedBody
from synth.scene import SceneSpec
from synth.shot import Person


def labelled(image: Tensor, joints: Tensor, person: Person | SceneSpec, intrinsics: Tensor, seed: Tensor) -> PoseBatch:
    """Pictures (B,3,S,S) uint8 with exact labels.

    Args:
        joints: (B,32,3) metres, camera frame, of :meth:`synth.dressed.DressedBody.pose`.
        person: pose, shape and place.
        intrinsics: (B,3,3) pixels of these pictures.
        seed: (B,) int64; of ``key`` only this is filled.
    """
    count, device, size = len(image), image.device, image.shape[-1]
    joints2d = project(joints, intrinsics)
    inside = ((joints2d > -0.5) & (joints2d < size - 0.5)).all(-1) & (joints[..., 2] > MIN_DEPTH)
    yes = torch.ones(count, dtype=torch.bool, device=device)
    key = torch.zeros(count, 4, dtype=torch.int64, device=device)
    key[:, 3] = seed
    return PoseBatch(
        image=image,
        joints2d=joints2d,
        joints2d_conf=inside.float(),
        joints3d=joints - joints[:, PELVIS : PELVIS + 1],
        joints3d_conf=torch.ones(count, NUM_JOINTS, device=device),
        global_orient=person.global_orient,
        body_pose=person.body_pose,
        betas=person.betas,
        transl=person.transl,
        intrinsics=intrinsics,
        has_pose=yes,
        has_betas=yes.clone(),
        has_transl=yes.clone(),
        weight=torch.ones(count, device=device),
        key=key,
    )


def label_scenes(spec: SceneSpec, images: Tensor, body: str = "free") -> PoseBatch:
    """Pictures (B,3,S,S) uint8 that show ``spec``, on the CPU; ``torch.equal`` to what a rendering engine writes.

    ``spec.intrinsics`` are for pictures of these S pixels.
    """
    if len(images) != len(spec) or images.dtype != torch.uint8:
        raise PosesynError(f"{len(spec)} scenes need as many uint8 pictures, got {len(images)} of {images.dtype}")
    posed = (spec.betas.float(), spec.body_pose.float(), spec.global_orient.float(), spec.transl.float())
    with torch.inference_mode():
        _, joints = _posed(body).pose(*posed)
    joints = joints.clone()  # out of inference mode
    return labelled(images, joints, spec, spec.intrinsics.float(), spec.seed)


@cache
def _posed(body: str) -> DressedBody:
    return DressedBody(load_body(body), None if body == "free" else {}, load_detail() if body == "free" else None)
