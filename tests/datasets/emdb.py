"""EMDB's layout in small (eth-ait/emdb:dataset.md): one person per sequence before a moving camera."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.datasets.people import People


def labels(people: People, name: str, emdb1: bool = True, emdb2: bool = False, person: int = 0) -> dict[str, Any]:
    """The dictionary of a label file. The reader must turn the body into the camera's frame."""
    frames = people.frames
    pixels = people.pixels(0, person)[:, :24]
    boxes = np.concatenate([pixels.min(1) - 4, pixels.max(1) + 4], 1)
    return {
        "gender": people.genders[person],
        "name": name,
        "emdb1": emdb1,
        "emdb2": emdb2,
        "n_frames": frames,
        "good_frames_mask": np.ones(frames, bool),
        "camera": {
            "intrinsics": people.intrinsics[0].copy(),
            "extrinsics": people.world_to_camera[0].copy(),
            "width": people.size[0],
            "height": people.size[1],
        },
        "smpl": {
            "poses_root": people.global_orient[person].copy(),
            "poses_body": people.body_pose[person].reshape(frames, 69).copy(),
            "trans": people.transl[person].copy(),
            "betas": people.betas[person].copy(),
        },
        "kp2d": pixels.copy(),
        "bboxes": {"bboxes": boxes, "invalid_idxs": np.zeros(0, np.int64)},
    }


def write_labels(root: Path, content: dict[str, Any]) -> Path:
    subject, _, sequence = content["name"].partition("_")
    path = root / subject / sequence / f"{content['name']}_data.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path


def write(
    root: Path, people: People, name: str = "P0_00_mvs_a", emdb1: bool = True, emdb2: bool = False, person: int = 0
) -> Path:
    """One sequence: a person of the people before their first camera."""
    folder = write_labels(root, labels(people, name, emdb1, emdb2, person)).parent / "images"
    folder.mkdir(exist_ok=True)
    for frame in range(people.frames):
        cv2.imwrite(str(folder / f"{frame:05d}.jpg"), people.picture(0, frame)[..., ::-1])
    return root
