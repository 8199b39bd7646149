"""AGORA's layout in small (pixelite1201/agora_evaluation): pandas frames of whole pictures, scans' fits, pictures."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from scipy.spatial.transform import Rotation

from human.kid_template import find_kid_template
from human.licensed import load_licensed
from tests.datasets.people import Array, People

#: Pictures' names; by these come lens (mm), place (cm), yaw and pitch (degrees) of their cameras.
NAMES = (
    "ag_{split}set_renderpeople_bfh_archviz_5_10_cam02_00001.png",
    "ag_{split}set_renderpeople_body_hdri_50mm_5_10_00002.png",
    "ag_{split}set_renderpeople_bfh_flowers_5_15_00003.png",
)
LENSES = (18.0, 50.0, 28.0)
PLACES = ((-490.0, 170.0, 265.0), (0.0, 0.0, 170.0), (120.0, -80.0, 10.0))
YAWS = (-45.0, 0.0, 35.0)
PITCHES = (30.0, 0.0, 0.0)
GROUNDS = (0.0, 0.0, -1.7)
GENDERS = ("male", "female", "male")
WIDTH, HEIGHT = 3840, 2160


@dataclass(frozen=True)
class Crowd:
    """The persons of each picture: ``people`` with the camera of that picture; picture k shows their frame k."""

    people: People

    def seen(self, picture: int, width: int = 1280) -> People:
        """With the picture's own intrinsics."""
        focal = LENSES[picture] / 36 * width
        height = width * 9 // 16
        k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return replace(self.people, intrinsics=k[None], size=(width, height))

    def all_joints(self, picture: int, person: int) -> Array:
        """(127,3) metres, camera frame: SMPL-X's 55 joints, and points in place of its landmarks."""
        people, p = self.people, person
        arguments = (
            people.betas[p],
            people.body_pose[p, picture],
            people.camera_orient(0, p)[picture],
            people.camera_transl(0, p)[picture],
        )
        with torch.no_grad():
            joints = people.body(p)(*(torch.from_numpy(a)[None] for a in arguments)).all_joints[0].numpy()
        return with_landmarks(joints)

    def rest_pelvis(self, person: int) -> Array:
        betas = torch.from_numpy(self.people.betas[person : person + 1])
        with torch.no_grad():
            zero = torch.zeros(1, 23, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
            return self.people.body(person).joints(betas, *zero)[0, 0].numpy()


def with_landmarks(joints: Array) -> Array:
    """(J+72,3): points beyond the joints in place of SMPL-X's landmarks."""
    a, b = np.random.default_rng(5).integers(0, len(joints), (2, 72))
    return np.concatenate([joints, 1.1 * joints[a] - 0.1 * joints[b]])


def projected(joints: Array, yaw: float, place: Array, picture: int) -> tuple[Array, Array]:
    """px of 3840x2160 and metres in the camera's frame, step by step as the official projection."""
    joints = joints * [1, -1, -1]
    joints = joints @ cv2.Rodrigues(np.array([0, np.deg2rad(yaw - 90), 0]))[0].T
    joints = joints + np.roll(place / 100, 2) * [1, -1, 1]
    camera = np.roll(np.array(PLACES[picture]) / 100, 2) * [1, -1, 1] + [0, GROUNDS[picture], 0]
    joints = (joints - camera) @ cv2.Rodrigues(np.array([0, np.deg2rad(-YAWS[picture]), 0]))[0].T
    joints = joints @ cv2.Rodrigues(np.array([np.deg2rad(PITCHES[picture]), 0, 0]))[0].T
    focal = LENSES[picture] / 36 * WIDTH
    return joints[:, :2] / joints[:, 2:] * focal + [WIDTH / 2, HEIGHT / 2], joints


def fit_of(crowd: Crowd, picture: int, person: int, yaw: float, place: Array) -> dict[str, Array]:
    """The scan's body such that the official steps put it where the truth is; SMPL's have other names."""
    people, p = crowd.people, person
    turn = Rotation.from_rotvec([np.deg2rad(PITCHES[picture]), 0, 0]) * Rotation.from_rotvec(
        [0, np.deg2rad(-YAWS[picture]), 0]
    )
    whole = (turn * Rotation.from_rotvec([0, np.deg2rad(yaw - 90), 0])).as_matrix() @ np.diag([1.0, -1, -1])
    moved = projected(np.zeros((1, 3)), yaw, place, picture)[1][0]
    rest = crowd.rest_pelvis(p)
    root = whole.T @ Rotation.from_rotvec(people.camera_orient(0, p)[picture]).as_matrix()
    content = {
        "betas": people.betas[p],
        "global_orient": Rotation.from_matrix(root).as_rotvec(),
        "body_pose": people.body_pose[p, picture, : 21 if people.kind == "smplx" else 23].ravel(),
        "transl": whole.T @ (rest + people.camera_transl(0, p)[picture] - moved) - rest,
        "left_hand_pose": np.zeros(45),
        "right_hand_pose": np.zeros(45),
        "jaw_pose": np.zeros(3),
        "leye_pose": np.zeros(3),
        "reye_pose": np.zeros(3),
        "expression": np.zeros(10),
    }
    if people.kind == "smpl":
        kept = {"global_orient": "root_pose", "transl": "translation", "body_pose": "body_pose", "betas": "betas"}
        content = {name: content[ours] for ours, name in kept.items()}
    return {name: np.asarray(value, np.float64).reshape(1, -1) for name, value in content.items()}


def frame(crowd: Crowd, root: Path, split: str = "validation", children: tuple[int, ...] = (1,)) -> pd.DataFrame:
    """The data frame of all pictures; writes the fits. The last person of each picture is hidden: not valid."""
    rng, rows = np.random.default_rng(0), []
    persons = range(len(crowd.people.genders))
    for picture, name in enumerate(NAMES):
        yaws, places = rng.uniform(-180, 180, len(persons)), rng.uniform(-300, 300, (len(persons), 3))
        scans, points, solid = [], [], []
        for p in persons:
            scan = f"{crowd.people.kind}_gt/{split}set_renderpeople_adults_bfh/rp_{picture}_{p}_0_0.obj"
            fit = fit_of(crowd, picture, p, yaws[p], places[p])
            if p in children:
                fit["betas"] = np.concatenate([fit["betas"], [[0.7]]], 1)
            file = (root / scan).with_suffix(".pkl")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(pickle.dumps(fit, 2))
            # The official steps, on the body that the scan's fit poses in its own frame.
            kind = crowd.people.kind
            names = ("global_orient", "transl") if kind == "smplx" else ("root_pose", "translation")
            body, shape = crowd.people.body(p), fit["betas"][:, :10]
            if p in children and find_kid_template(kind) is not None:  # boys are male, girls neutral
                model = "smplx_male" if (kind, crowd.people.genders[p]) == ("smplx", "male") else kind
                body, shape = load_licensed(model, kid=True).double(), fit["betas"]
            arguments = (shape, fit["body_pose"].reshape(1, -1, 3), *(fit[n] for n in names))
            betas, pose, orient, transl = map(torch.from_numpy, arguments)
            with torch.no_grad():
                pose = torch.cat([pose, torch.zeros(1, 23 - pose.shape[1], 3, dtype=torch.float64)], 1)
                joints = body(betas, pose, orient, transl).all_joints[0].numpy()
            pixels, seen = projected(with_landmarks(joints), yaws[p], places[p], picture)
            scans.append(scan)
            points.append(pixels)
            solid.append(seen)
        rows.append(
            {
                "imgPath": name.format(split=split),
                "X": places[:, 0].tolist(),
                "Y": places[:, 1].tolist(),
                "Z": places[:, 2].tolist(),
                "Yaw": yaws.tolist(),
                "camX": PLACES[picture][0] if picture == 2 else 0.0,
                "camY": PLACES[picture][1] if picture == 2 else 0.0,
                "camZ": PLACES[picture][2] if picture == 2 else 0.0,
                "camYaw": YAWS[picture] if picture == 2 else 0.0,
                "gender": list(crowd.people.genders),
                "kid": [p in children for p in persons],
                "occlusion": [10.0 * p if p < len(persons) - 1 else 95.0 for p in persons],
                "isValid": [p < len(persons) - 1 for p in persons],
                "age": ["31-50"] * len(persons),
                "ethnicity": ["white"] * len(persons),
                "gt_path_smpl": [s.replace("smplx_gt", "smpl_gt") for s in scans],
                "gt_path_smplx": [s.replace("smpl_gt", "smplx_gt") for s in scans],
                "gt_joints_2d": points,
                "gt_joints_3d": solid,
                "gt_verts": [np.zeros((10475, 3), np.float32)] * len(persons),
            }
        )
    columns = {
        name: pd.Series([row[name] for row in rows], dtype=object if isinstance(rows[0][name], (str, list)) else None)
        for name in rows[0]
    }
    made = pd.DataFrame(columns)
    made.columns = pd.Index(list(columns), dtype=object)  # as before pandas had strings of its own
    return made


def write(root: Path, people: People, split: str = "validation", children: tuple[int, ...] = (1,)) -> Path:
    """One data frame of three pictures, of the people's first three frames; its path."""
    crowd = Crowd(people)
    title = people.kind.upper()
    path = root / f"{split}_{title}" / title / f"{split}_0_withjv.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame(crowd, root, split, children).to_pickle(path, protocol=4)
    folder = root / ("validation" if split == "validation" else "train_0")
    folder.mkdir()
    for picture, name in enumerate(NAMES):
        image = crowd.seen(picture).picture(0, picture)[..., ::-1]
        cv2.imwrite(str(folder / name.format(split=split).replace(".png", "_1280x720.png")), image)
    return path
