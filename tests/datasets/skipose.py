"""A tiny Ski-Pose PTZ in the official layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np

from tests.datasets.people import Array, People
from tests.datasets.regressed import h36m_joints

SIDE = 256


def joints(people: People, camera: int, person: int) -> Array:
    """(F,17,3) metres, camera frame."""
    return people.to_camera(camera, h36m_joints(people, person))


def rows(people: People) -> list[tuple[int, int, int]]:
    """(person, camera, frame) of each row of labels.h5; the person is the sequence."""
    return [
        (p, c, f)
        for p in range(len(people.genders))
        for c in range(len(people.intrinsics))
        for f in range(people.frames)
    ]


def write(root: Path, people: People, split: str = "test", cameras: bool = True) -> None:
    """``people`` of size (256, 256). cameras: with the keys that tell of them."""
    assert people.size == (SIDE, SIDE)
    columns: dict[str, list[Array]] = {}
    drawn = [[people.picture(c, f) for f in range(people.frames)] for c in range(len(people.intrinsics))]
    for p, c, f in rows(people):
        points = joints(people, c, p)[f]
        matrix = people.world_to_camera[c, f]
        row = {
            "seq": p, "cam": c, "frame": f, "subj": p + 1,
            "3D": (points - points[0]).ravel(),
            "2D": people.project(c, points[None])[0].ravel() / SIDE,
        }  # fmt: skip
        if cameras:
            row |= {
                "cam_intrinsic": (np.diag([1 / SIDE, 1 / SIDE, 1]) @ people.intrinsics[c]).ravel(),
                "cam_position": -matrix[:3, :3].T @ matrix[:3, 3],
                "R_cam_2_world": matrix[:3, :3].T.ravel(),
            }
        for key, value in row.items():
            columns.setdefault(key, []).append(np.asarray(value))
        folder = root / split / f"seq_{p:03d}" / f"cam_{c:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"image_{f:06d}.png"), drawn[c][f][..., ::-1])
    with h5py.File(root / split / "labels.h5", "w") as file:
        for key, values in columns.items():
            file[key] = np.stack(values)
