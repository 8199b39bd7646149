"""A tiny Human3.6M in the release's layout, and in 3DMPPE's."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from cdflib.cdfwrite import CDF
from scipy.spatial.transform import Rotation

from datamodules.readers.h36m import KEPT
from datamodules.readers.h36m_cameras import CAMERAS, Camera
from tests.datasets.people import Array, People
from tests.datasets.regressed import h36m_joints

#: The lens of camera 54138969 of the release, rounded.
LENS = np.array([-0.2071, 0.2478, -0.00142, -0.00098, -0.00308])


def cameras(people: People) -> list[Camera]:
    return [Camera(people.world_to_camera[c, 0], people.intrinsics[c], LENS) for c in range(len(people.intrinsics))]


def write_cdf(path: Path, values: Array) -> None:
    """``Pose`` of (1, F, N) float32 in MATLAB's order, as the release has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    file = CDF(path, cdf_spec={"Majority": "column_major"})
    spec = {
        "Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Var_Type": "zVariable",
        "Dim_Sizes": list(values.shape),
    }  # fmt: skip
    column_major = values.astype(np.float32).T.reshape(values.shape)
    file.write_var(spec, var_data=column_major[None])
    file.close()


def all32(joints_F17: Array) -> Array:
    """(F,32,C): the copies are where the release has them, toes and fingers at the joint they hang from."""
    out = np.empty((len(joints_F17), 32, joints_F17.shape[-1]))
    near = {
        4: 3,
        5: 3,
        9: 8,
        10: 8,
        11: 0,
        16: 13,
        20: 19,
        21: 19,
        22: 19,
        23: 19,
        24: 13,
        28: 27,
        29: 27,
        30: 27,
        31: 27,
    }
    out[:, KEPT] = joints_F17
    for joint, source in near.items():
        out[:, joint] = out[:, source]
    return out


def write_video(path: Path, pictures: list[Array], hold: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures[0].shape[:2]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 50, (width, height))
    for picture in pictures:
        for _ in range(hold):
            video.write(np.ascontiguousarray(picture[..., ::-1]))
    video.release()


def write_metadata(path: Path, views: list[Camera]) -> None:
    """The list ``<w0>`` of the release's metadata.xml: the same cameras for all 11 subjects."""
    outer = np.zeros((4, 11, 6))
    inner = np.zeros((4, 9))
    for c in range(4):
        view = views[min(c, len(views) - 1)]
        turn = view.matrix[:3, :3]
        outer[c, :, :3] = Rotation.from_matrix(turn).as_euler("XYZ")
        outer[c, :, 3:] = -turn.T @ view.matrix[:3, 3] * 1000
        k1, k2, p1, p2, k3 = view.lens
        inner[c] = [*view.intrinsics.diagonal()[:2], *view.intrinsics[:2, 2], k1, k2, k3, p1, p2]
    numbers = " ".join(repr(float(n)) for n in np.concatenate([outer.ravel(), inner.ravel()]))
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n<metadata><w0>[{numbers}]</w0></metadata>\n')


def write_parameters(path: Path, views: list[Camera]) -> None:
    """``camera-parameters.json`` as at github.com/karfly/human36m-camera-parameters."""
    inner, outer = {}, {}
    for c, name in enumerate(CAMERAS):
        view = views[min(c, len(views) - 1)]
        inner[name] = {"calibration_matrix": view.intrinsics.tolist(), "distortion": view.lens.tolist()}
        outer[name] = {"R": view.matrix[:3, :3].tolist(), "t": (view.matrix[:3, 3:] * 1000).tolist()}
    path.write_text(json.dumps({"intrinsics": inner, "extrinsics": {f"S{s}": outer for s in range(1, 12)}}))


def write(
    root: Path,
    people: People,
    subjects: tuple[int, ...] = (9, 11),
    title: str = "Directions 1",
    hold: int = 5,
    calibration: str = "metadata.xml",
    flat: bool = False,
    pictures: bool = True,
) -> None:
    """Person k is subject ``subjects[k]``; each of the people's frames lasts ``hold`` frames of the sequence.

    flat: also D2_Positions. pictures: as videos.
    """
    root.mkdir(parents=True, exist_ok=True)
    views = cameras(people)
    drawn = [[people.picture(c, f) for f in range(people.frames)] for c in range(len(views))] if pictures else []
    if calibration:
        (write_metadata if calibration.endswith(".xml") else write_parameters)(root / calibration, views)
    for k, subject in enumerate(subjects):
        world = h36m_joints(people, k)
        for c, view in enumerate(views):
            name = f"{title}.{CAMERAS[c]}"
            points = np.repeat(people.to_camera(c, world), hold, 0)
            folder = root / f"S{subject}" / "MyPoseFeatures"
            write_cdf(folder / "D3_Positions_mono" / f"{name}.cdf", all32(points * 1000).reshape(len(points), -1))
            if flat:
                write_cdf(folder / "D2_Positions" / f"{name}.cdf", all32(view.project(points)).reshape(len(points), -1))
            if pictures:
                write_video(root / f"S{subject}" / "Videos" / f"{name}.mp4", drawn[c], hold)


def write_json(root: Path, people: People, subjects: tuple[int, ...] = (9, 11), hold: int = 5, action: int = 2) -> None:
    """3DMPPE's annotations and images; frames 0, hold, 2 hold, ... of ``act_02_subact_01``."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    drawn = [[people.picture(c, f) for f in range(people.frames)] for c in range(len(people.intrinsics))]
    for k, subject in enumerate(subjects):
        images, annotations, views = [], [], {}
        world = h36m_joints(people, k)
        joints = {str(action): {"1": {str(hold * f): (world[f] * 1000).tolist() for f in range(people.frames)}}}
        for c, view in enumerate(cameras(people)):
            inner = view.intrinsics
            views[str(c + 1)] = {
                "R": view.matrix[:3, :3].tolist(),
                "t": (view.matrix[:3, 3] * 1000).tolist(),
                "f": [inner[0, 0], inner[1, 1]],
                "c": inner[:2, 2].tolist(),
            }
            folder = f"s_{subject:02d}_act_{action:02d}_subact_01_ca_{c + 1:02d}"
            (root / "images" / folder).mkdir(parents=True)
            pixels = people.project(c, people.to_camera(c, world))
            for f in range(people.frames):
                name, number = f"{folder}/{folder}_{hold * f + 1:06d}.jpg", len(images)
                cv2.imwrite(str(root / "images" / name), drawn[c][f][..., ::-1])
                images.append(
                    {
                        "id": number, "file_name": name, "width": people.size[0], "height": people.size[1],
                        "subject": subject, "action_name": "Directions", "action_idx": action, "subaction_idx": 1,
                        "cam_idx": c + 1, "frame_idx": hold * f,
                    }
                )  # fmt: skip
                low, high = pixels[f].min(0), pixels[f].max(0)
                annotations.append(
                    {"id": number, "image_id": number, "keypoints_vis": [True] * 17, "bbox": [*low, *(high - low)]}
                )
        fits = {
            str(hold * f): {
                "pose": np.concatenate([people.global_orient[k, f], people.body_pose[k, f].ravel()]).tolist(),
                "shape": people.betas[k].tolist(),
                "trans": people.transl[k, f].tolist(),
            }
            for f in range(people.frames)
        }
        stem = str(root / "annotations" / f"Human36M_subject{subject}_")
        for what, content in (
            ("data", {"images": images, "annotations": annotations}), ("camera", views), ("joint_3d", joints),
            ("smpl_param", {str(action): {"1": fits}}),
        ):  # fmt: skip
            Path(f"{stem}{what}.json").write_text(json.dumps(content))
