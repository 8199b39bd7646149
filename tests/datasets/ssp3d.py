"""SSP-3D's layout in small (akashsengupta1997/SSP-3D:data/ssp3d_dataset.py): pictures of 512 px, focal length 5000."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from datamodules.readers.ssp3d import FOCAL, SIDE
from human.raster import rasterise
from human.skeleton import COCO17, POSE32
from tests.datasets.people import Array, People

Labels = dict[str, Array]


def before_the_camera(people: People) -> People:
    """The same people seen by SSP-3D's camera, from as far away as fills the picture."""
    focal = np.array([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]])
    away = people.world_to_camera.copy()
    away[..., 2, 3] += 22.0
    cameras = len(people.intrinsics)
    return replace(people, intrinsics=np.tile(focal, (cameras, 1, 1)), world_to_camera=away, size=(SIDE, SIDE))


def labels(people: People) -> Labels:
    """labels.npz: a row per person, all from the first frame of the first camera."""
    persons = range(len(people.genders))
    joints = np.stack([people.pixels(0, p)[0, POSE32.indices(*COCO17.joints)] for p in persons])
    low, high = joints.min(1), joints.max(1)
    poses = [np.concatenate([people.camera_orient(0, p)[0], people.body_pose[p, 0].ravel()]) for p in persons]
    return {
        "fnames": np.array([f"{p:05d}-clip_{p}.png" for p in persons]),
        "shapes": people.betas.astype(np.float32),
        "poses": np.stack(poses).astype(np.float32),
        "genders": np.array([gender[0] for gender in people.genders]),
        "joints2D": np.concatenate([joints, np.full((len(joints), 17, 1), 0.95)], 2).astype(np.float32),
        "cam_trans": np.stack([people.camera_transl(0, p)[0] for p in persons]).astype(np.float32),
        "bbox_centres": ((low + high) / 2)[:, ::-1].astype(np.float32),  # rows, columns
        "bbox_whs": (high - low).max(1).astype(np.float32),
    }


def write(root: Path, people: People) -> Path:
    """``people`` of :func:`before_the_camera`; each has a picture with all of them and a silhouette of their own."""
    content = labels(people)
    for folder in ("images", "silhouettes"):
        (root / folder).mkdir(parents=True)
    np.savez(root / "labels.npz", **content)
    picture = people.picture(0, 0)[..., ::-1]
    for p, name in enumerate(content["fnames"]):
        cv2.imwrite(str(root / "images" / name), picture)
        cv2.imwrite(str(root / "silhouettes" / name), silhouette(people, p).astype(np.uint8))
    return root


def silhouette(people: People, person: int) -> Array:
    """(512,512) bool: the body of the labels, as they are stored, drawn alone. (The made-up bodies have gaps.)"""
    stored = labels(people)
    betas, pose, transl = (torch.from_numpy(stored[k][[person]]).double() for k in ("shapes", "poses", "cam_trans"))
    body = people.body(person)
    with torch.no_grad():
        vertices = body(betas, pose[:, 3:].unflatten(1, (23, 3)), pose[:, :3], transl).vertices
    cameras = torch.from_numpy(people.intrinsics[:1]).float()
    return rasterise(vertices.float(), body.faces, cameras, (SIDE, SIDE)).mask[0].numpy()
