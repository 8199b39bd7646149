"""RICH's layout in small (paulchhuang/rich_toolkit): SMPL-X in the frame of the scene's cameras."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np

from tests.datasets.people import Array, People

#: A subject of each gender, in RICH's numbers.
SUBJECTS = {"male": 2, "female": 12}


def matrix_xml(name: str, values: Array) -> str:
    rows, columns = values.shape
    data = " ".join(f"{v:.16e}" for v in values.ravel())
    return (
        f'<{name} type_id="opencv-matrix">\n<rows>{rows}</rows>\n<cols>{columns}</cols>\n<dt>d</dt>\n'
        f"<data>\n  {data}</data></{name}>\n"
    )


def calibration_xml(world_to_camera: Array, intrinsics: Array) -> str:
    matrices = {"CameraMatrix": world_to_camera[:3], "Intrinsics": intrinsics, "Distortion": np.zeros((1, 5))}
    body = "".join(matrix_xml(name, values) for name, values in matrices.items())
    return f'<?xml version="1.0"?>\n<opencv_storage>\n{body}</opencv_storage>\n'


def write(
    root: Path, people: People, split: str = "test", scene: str = "Gym", action: str = "lunge1", extension: str = "bmp"
) -> str:
    """One sequence of the people before all their (resting) cameras; gives its name. Frames count from 1.

    The bodies are stored in the frame of camera 0, which is the scene's.
    """
    subjects = [SUBJECTS[gender] for gender in people.genders]
    sequence = "_".join([scene, *(f"{n:03d}" for n in subjects), action])
    reference = people.world_to_camera[0, 0]
    for c, matrices in enumerate(people.world_to_camera):
        path = root / "scan_calibration" / scene / "calibration" / f"{c:03d}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(calibration_xml(matrices[0] @ np.linalg.inv(reference), people.intrinsics[c]))
        folder = root / "images" / split / sequence / f"cam_{c:02d}"
        folder.mkdir(parents=True)
        for f in range(people.frames):
            cv2.imwrite(str(folder / f"{f + 1:05d}_{c:02d}.{extension}"), people.picture(c, f)[..., ::-1])
    for p, subject in enumerate(subjects):
        orient, transl = people.camera_orient(0, p), people.camera_transl(0, p)
        for f in range(people.frames):
            content = {
                "betas": people.betas[p],
                "expression": np.full(10, 0.3),
                "global_orient": orient[f],
                "body_pose": people.body_pose[p, f, :21],
                "transl": transl[f],
                "left_hand_pose": np.full(12, 0.1),
                "right_hand_pose": np.full(12, -0.1),
                "jaw_pose": np.full(3, 0.05),
                "leye_pose": np.zeros(3),
                "reye_pose": np.zeros(3),
            }
            path = root / "bodies" / split / sequence / f"{f + 1:05d}" / f"{subject:03d}.pkl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps({k: v.reshape(1, -1).astype(np.float32) for k, v in content.items()}, 2))
    return sequence
