"""A tiny CMU Panoptic in the layout that panoptic-toolbox makes."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np

from datamodules.readers.panoptic import project
from human.skeleton import PANOPTIC19
from tests.datasets.h36m import write_video
from tests.datasets.people import Array, People
from tests.datasets.regressed import as_skeleton, h36m_joints

#: What stands for the set's own joints here; eyes and ears are not labelled.
SAME = {"mid_shoulders": "thorax", "mid_hip": "pelvis"}
UNLABELLED = ("left_eye", "left_ear", "right_eye", "right_ear")
#: Of camera 00_16 of 160906_band1, rounded.
LENS = np.array([-0.28, 0.19, -0.0003, 0.0006, -0.05])
#: The first frame with labels; videos start before.
FIRST = 10


def joints(people: People, camera: int, person: int) -> Array:
    """(F,19,3) metres, camera frame."""
    return people.to_camera(camera, as_skeleton(h36m_joints(people, person), PANOPTIC19.joints, SAME))


def pixels(people: People, camera: int, person: int) -> Array:
    return project(joints(people, camera, person), people.intrinsics[camera], LENS)


def scene(people: People, frame: int) -> dict[str, object]:
    """A body3DScene; centimetres."""
    bodies = []
    for p in range(len(people.genders)):
        points = 100 * as_skeleton(h36m_joints(people, p), PANOPTIC19.joints, SAME)[frame]
        confidence = np.full((19, 1), 0.5)
        confidence[[PANOPTIC19.index(name) for name in UNLABELLED]] = -1
        bodies.append({"id": 3 + p, "joints19": np.concatenate([points, confidence], 1).ravel().tolist()})
    return {"version": 0.7, "univTime": 40000.0 + frame, "fpsType": "hd_29_97", "bodies": bodies}


def write(
    root: Path,
    people: People,
    sequences: tuple[str, ...],
    cameras: tuple[int, ...] = (16, 30),
    video: bool = False,
    tar: bool = False,
) -> None:
    """Frames FIRST, FIRST + 10, ...; pictures as .jpg, or as a video; scenes in files, or still in their archive."""
    drawn = [[people.picture(c, f) for f in range(people.frames)] for c in range(len(cameras))]
    for name in sequences:
        folder = root / name
        (folder / "hdPose3d_stage1_coco19").mkdir(parents=True)
        views: list[dict[str, object]] = [{"name": "01_01", "type": "vga"}]
        for c, camera in enumerate(cameras):
            matrix = people.world_to_camera[c, 0]
            views.append(
                {
                    "name": f"00_{camera:02d}", "type": "hd", "resolution": list(people.size), "panel": 0,
                    "node": camera, "K": people.intrinsics[c].tolist(), "distCoef": LENS.tolist(),
                    "R": matrix[:3, :3].tolist(), "t": (100 * matrix[:3, 3:]).tolist(),
                }
            )  # fmt: skip
            if video:
                path = folder / "hdVideos" / f"hd_00_{camera:02d}.mp4"
                write_video(path, [np.zeros_like(drawn[c][0]), *drawn[c]], FIRST)
                continue
            (folder / "hdImgs" / f"00_{camera:02d}").mkdir(parents=True)
            for f, picture in enumerate(drawn[c]):
                file = f"00_{camera:02d}_{FIRST + 10 * f:08d}.jpg"
                cv2.imwrite(str(folder / "hdImgs" / f"00_{camera:02d}" / file), picture[..., ::-1])
        (folder / f"calibration_{name}.json").write_text(json.dumps({"calibDataSource": "norm", "cameras": views}))
        poses = folder / "hdPose3d_stage1_coco19"
        for f in range(people.frames):
            (poses / f"body3DScene_{FIRST + 10 * f:08d}.json").write_text(json.dumps(scene(people, f)))
        if tar:
            with tarfile.open(folder / "hdPose3d_stage1_coco19.tar", "w") as archive:
                archive.add(poses, "hdPose3d_stage1_coco19")
            for file in poses.iterdir():
                file.unlink()
            poses.rmdir()
