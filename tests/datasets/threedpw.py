"""3DPW's layout in small: what ``sequenceFiles/*/*.pkl`` (Python 2) and ``imageFiles`` hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from human.skeleton import POSE32
from tests.datasets.people import Array, People
from tests.licensed_files import write_python2

#: OpenPose's COCO model, the joints of ``poses2d``.
COCO18 = (
    "nose", "upper_neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear",
)  # fmt: skip


def labels(people: People, sequence: str, camera: int = 0) -> dict[str, Any]:
    """The dictionary of a label file."""
    persons, frames = range(len(people.genders)), people.frames

    def poses2d(p: int) -> Array:
        pixels = people.pixels(camera, p)[:, POSE32.indices(*COCO18)]
        return np.concatenate([pixels, np.full((frames, 18, 1), 0.9)], 2).transpose(0, 2, 1).copy()

    poses = [np.concatenate([people.global_orient[p][:, None], people.body_pose[p]], 1) for p in persons]
    return {
        "sequence": sequence,
        "betas": [people.betas[p].copy() for p in persons],
        "poses": [pose.reshape(frames, 72) for pose in poses],
        "trans": [people.transl[p].copy() for p in persons],
        "poses_60Hz": [np.repeat(pose.reshape(frames, 72), 2, 0) for pose in poses],
        "trans_60Hz": [np.repeat(people.transl[p], 2, 0) for p in persons],
        "jointPositions": [people.world_joints(p)[:, :24].reshape(frames, 72) for p in persons],
        "poses2d": [poses2d(p) for p in persons],
        "cam_poses": people.world_to_camera[camera].copy(),
        "cam_intrinsics": people.intrinsics[camera].copy(),
        "campose_valid": [np.ones(frames, np.int64) for _ in persons],
        "img_frame_ids": np.arange(frames),
        "genders": [gender[0] for gender in people.genders],
        "texture_maps": [np.zeros((2, 2, 3), np.uint8) for _ in persons],
        "v_template_clothed": [np.zeros((10, 3)) for _ in persons],
        "betas_clothed": [people.betas[p].copy() for p in persons],
    }


def write_labels(root: Path, split: str, content: dict[str, Any]) -> Path:
    return write_python2(root / "sequenceFiles" / split / f"{content['sequence']}.pkl", content)


def write(root: Path, people: People, split: str = "test", sequence: str = "downtown_arguing_00") -> Path:
    """One sequence of the people before their first camera."""
    write_labels(root, split, labels(people, sequence))
    folder = root / "imageFiles" / sequence
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(people.frames):
        cv2.imwrite(str(folder / f"image_{frame:05d}.jpg"), people.picture(0, frame)[..., ::-1])
    return root
