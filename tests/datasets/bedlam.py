"""BEDLAM's layout in small (pixelite1201/BEDLAM:data_processing/df_full_body.py): SMPL-X in the camera's frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from tests.datasets.people import Array, People

SCENE = "20221010_3-10_500_batch01hand_zoom_suburb_d_6fps"
CLOSEUP = "20221011_1_250_batch01hand_closeup_suburb_a_6fps"


def all_joints(people: People, camera: int, person: int) -> Array:
    """(F,55,3) metres, camera frame: SMPL-X's own."""
    betas = np.repeat(people.betas[person : person + 1], people.frames, 0)
    arguments = (betas, people.body_pose[person], people.camera_orient(camera, person))
    with torch.no_grad():
        out = people.body(person)(
            *map(torch.from_numpy, arguments), torch.from_numpy(people.camera_transl(camera, person))
        )
    return out.all_joints.numpy()


def columns(people: People, camera: int = 0, sequence: str = "seq_000004") -> dict[str, list[Any]]:
    """The lists that the official script saves: body by body, each through all frames."""
    rng = np.random.default_rng(0)
    out: dict[str, list[Any]] = {}
    width, height = people.size
    hands = [people.body(p).get_buffer("hands_mean").numpy() for p in range(len(people.genders))]
    for p in range(len(people.genders)):
        joints = all_joints(people, camera, p)
        pixels = people.project(camera, joints)
        for f in range(people.frames):
            pose = np.zeros(165)
            pose[:3] = people.camera_orient(camera, p)[f]
            pose[3:66] = people.body_pose[p, f, :21].ravel()
            pose[66:69] = 0.02  # the jaw
            pose[75:165] = hands[p].ravel()
            world = pose.copy()
            world[:3] = people.global_orient[p, f]
            body_from_camera = rng.normal(size=3)
            extrinsics = np.zeros((4, 4))
            extrinsics[:3, :3] = people.world_to_camera[camera, f, :3, :3]
            extrinsics[:, 3] = [*body_from_camera, 1]
            low, high = pixels[f, :22].min(0), pixels[f, :22].max(0)
            landmarks = np.concatenate([pixels[f], np.zeros((72, 2))])
            row = {
                "imgname": f"{sequence}/{sequence}_{5 * f:04d}.png",
                "center": list((low + high) / 2),
                "scale": (high - low).max() / 200 * 1.2,
                "pose_cam": pose,
                "pose_world": world,
                "shape": np.r_[people.betas[p], 0.0],
                "trans_cam": people.camera_transl(camera, p)[f] - body_from_camera,
                "trans_world": people.transl[p, f],
                "gtkps": np.c_[landmarks, np.ones(127)].astype(np.float32),
                "cam_int": people.intrinsics[camera],
                "cam_ext": extrinsics,
                "gender": "mf"[p % 2],
                "proj_verts": np.zeros((437, 3), np.float32),
                "motion_info": f"walk {width}x{height}",
                "sub": f"rp_subject_{p:03d}",
            }
            for key, value in row.items():
                out.setdefault(key, []).append(value)
    return out


def write(root: Path, people: People, scene: str = SCENE, sequence: str = "seq_000004", camera: int = 0) -> Path:
    """One scene with one sequence; pictures of upright people lie on their side. The label file's path."""
    folder = root / "training_images" / scene / "png" / sequence
    folder.mkdir(parents=True)
    for f in range(people.frames):
        picture = people.picture(camera, f)[..., ::-1]
        if people.size[0] < people.size[1]:
            picture = cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE)
        cv2.imwrite(str(folder / f"{sequence}_{5 * f:04d}.png"), picture)
    path = root / "training_labels" / "all_npz_12_training" / f"{scene}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **columns(people, camera, sequence))
    return path
