"""DeepMimic's clips (Peng et al., SIGGRAPH 2018): JSON with ``Frames`` of 44 numbers.

DeepMimic's humanoid (pybullet_data/humanoid/humanoid.urdf) stands facing +x with y up, its right at +z and its arms
hanging; all its link frames are parallel at rest. SMPL's zero pose faces +z with its left at +x and its arms spread.
So a joint rotation is conjugated by the fixed rotation C between the frames, and everything below a shoulder also by
the fixed quarter turn A about z that brings a spread arm down.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from human.errors import PosesynError
from human.mocap.clip import Motion
from human.skeleton import SMPL24

FPS = 30.0

# First column of each joint of a 44-number frame: duration, root position (3), then quaternions (w, x, y, z), angles.
QUATERNIONS = {
    "root": 4, "chest": 8, "neck": 12, "right_hip": 16, "right_ankle": 21, "right_shoulder": 25, "left_hip": 30,
    "left_ankle": 35, "left_shoulder": 39,
}  # fmt: skip
ANGLES = {"right_knee": 20, "right_elbow": 29, "left_knee": 34, "left_elbow": 43}  # radians about the link's +z

# (parent, offset in metres): joint origins of humanoid.urdf, whose unit is a quarter of a metre.
DEEPMIMIC_LINKS: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "root": (None, (0, 0, 0)),
    "chest": ("root", (0, 0.236151, 0)),
    "neck": ("chest", (0, 0.223894, 0)),
    **{f"{side}_{part}": (parent.format(side), (x, y, z * (1 if side == "right" else -1)))
       for side in ("right", "left")
       for part, parent, (x, y, z) in (
           ("hip", "root", (0, 0, 0.084887)), ("knee", "{}_hip", (0, -0.421546, 0)),
           ("ankle", "{}_knee", (0, -0.409870, 0)), ("shoulder", "chest", (-0.02405, 0.2435, 0.18311)),
           ("elbow", "{}_shoulder", (0, -0.274788, 0)), ("wrist", "{}_elbow", (0, -0.258947, 0)))},
}  # fmt: skip

TO_SMPL = Rotation.from_matrix([[0, 0, -1], [0, 1, 0], [1, 0, 0]])  # C: forward x -> z, right z -> -x
ARM_DOWN = {side: Rotation.from_euler("z", angle, degrees=True) for side, angle in (("left", -90), ("right", 90))}  # A


def read_rotations(frames_N44: np.ndarray) -> dict[str, Rotation]:
    """Joint rotations of DeepMimic frames, in the humanoid's own frames; each value holds N rotations."""
    out = {j: Rotation.from_quat(frames_N44[:, [c + 1, c + 2, c + 3, c]]) for j, c in QUATERNIONS.items()}
    out |= {j: Rotation.from_rotvec(frames_N44[:, c, None] * np.array([0.0, 0.0, 1.0])) for j, c in ANGLES.items()}
    return out


def deepmimic_joints(rotations: dict[str, Rotation]) -> dict[str, np.ndarray]:
    """Forward kinematics of the humanoid at the origin: joint name -> (N, 3) metres, in *SMPL's* axes."""
    world: dict[str, Rotation] = {}
    place: dict[str, np.ndarray] = {}
    for joint, (parent, offset) in DEEPMIMIC_LINKS.items():
        local = rotations.get(joint, Rotation.identity())  # a wrist is fixed
        if parent is None:
            world[joint], place[joint] = local, np.zeros((len(local), 3))
        else:
            place[joint] = place[parent] + world[parent].apply(offset)
            world[joint] = world[parent] * local
    return {j: TO_SMPL.apply(p) for j, p in place.items()}


def retarget_deepmimic(rotations: dict[str, Rotation]) -> tuple[np.ndarray, np.ndarray]:
    """DeepMimic joint rotations -> SMPL.

    Returns:
        root (N, 3) and body_pose (N, 23, 3) rotation vectors; y up, facing +z.
    """
    r = {j: TO_SMPL * q * TO_SMPL.inv() for j, q in rotations.items()}
    pose = np.zeros((len(rotations["root"]), 24, 3))

    def put(joint: str, rotvec_N3: np.ndarray) -> None:
        pose[:, SMPL24.index(joint)] = rotvec_N3

    put("pelvis", r["root"].as_rotvec())
    for joint in ("spine1", "spine2", "spine3"):  # equal turns about one axis compose to the chest's whole turn
        put(joint, r["chest"].as_rotvec() / 3)
    for joint in ("neck", "head"):
        put(joint, r["neck"].as_rotvec() / 2)
    for side, down in ARM_DOWN.items():
        for part in ("hip", "knee", "ankle"):
            put(f"{side}_{part}", r[f"{side}_{part}"].as_rotvec())
        put(f"{side}_shoulder", (r[f"{side}_shoulder"] * down).as_rotvec())
        put(f"{side}_elbow", (down.inv() * r[f"{side}_elbow"] * down).as_rotvec())
    return pose[:, 0], pose[:, 1:]


def resample(frames_N44: np.ndarray, fps: float) -> tuple[dict[str, Rotation], np.ndarray]:
    """A clip at a steady rate: quaternions by slerp, angles and root position (metres, SMPL axes) linearly."""
    time = np.concatenate([[0], np.cumsum(frames_N44[:-1, 0])])  # a frame's duration is the time to the next
    at = np.arange(0, time[-1] + 1e-6, 1 / fps).clip(max=time[-1])
    rotations = {j: Slerp(time, q)(at) for j, q in read_rotations(frames_N44).items()}
    position = np.stack([np.interp(at, time, frames_N44[:, c]) for c in (1, 2, 3)], axis=-1)
    return rotations, TO_SMPL.apply(position)


def read_deepmimic_frames(path: str | Path) -> np.ndarray:
    """(N, 44) float64 frames of a clip as the file has them."""
    path = Path(path)
    try:
        frames = np.array(json.loads(path.read_text(encoding="utf-8"))["Frames"], dtype=np.float64)
    except FileNotFoundError:
        raise PosesynError(f"there is no file {path}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise PosesynError(f"{path} is not a DeepMimic clip, a JSON object with 'Frames' of 44 numbers") from error
    if frames.ndim != 2 or frames.shape[1] != 44 or len(frames) == 0:
        raise PosesynError(f"{path}: a DeepMimic humanoid's frames have 44 numbers, got an array {frames.shape}")
    quaternions = np.stack([frames[:, c : c + 4] for c in QUATERNIONS.values()], axis=1)
    if not np.isfinite(frames).all() or (np.linalg.norm(quaternions, axis=-1) < 1e-6).any():
        raise PosesynError(f"{path}: a frame is not finite or has a quaternion of length zero")
    if (frames[:-1, 0] <= 0).any():
        raise PosesynError(f"{path}: a frame lasts no time")
    return frames


def read_deepmimic(path: str | Path, fps: float = FPS) -> Motion:
    """Read and retarget one clip at a steady rate."""
    path = Path(path)
    frames = read_deepmimic_frames(path)
    if len(frames) == 1:
        rotations, place = read_rotations(frames), TO_SMPL.apply(frames[:, 1:4])
    else:
        rotations, place = resample(frames, fps)
    root, pose = retarget_deepmimic(rotations)
    return Motion(pose, root, place, fps, clip_name(path))


def clip_name(path: Path) -> str:
    """ "humanoid3d_walk.txt" -> "walk"."""
    return path.stem.removeprefix("humanoid3d_").lstrip("0")
