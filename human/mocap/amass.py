"""AMASS archives (Mahmood et al., ICCV 2019): SMPL-H or SMPL-X parameters of mocap, z up.

A SMPL-H file holds ``poses`` (N, 156), ``trans`` (N, 3), ``gender`` (text or bytes) and ``mocap_framerate``; the
SMPL-X releases say ``mocap_frame_rate`` and may split the pose into ``root_orient`` and ``pose_body``. Nothing is
unpickled.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from human.errors import PosesynError
from human.mocap.clip import Motion

_Z_TO_Y_UP = Rotation.from_euler("x", -90, degrees=True)
# SMPL turns about the pelvis of its rest pose, which lies here and not at the origin (neutral SMPL, metres). The
# actor's own pelvis differs by a few millimetres that only the licensed body could tell.
_REST_PELVIS = np.array([-0.0018, -0.2233, 0.0282])
_RATES = ("mocap_framerate", "mocap_frame_rate", "fps")


def read_amass(path: str | Path) -> Motion:
    """Read one ``*.npz``; :class:`PosesynError` says what is wrong with a file that is none of AMASS's."""
    path = Path(path)
    data = read_npz(path)
    if "poses" in data:
        poses = _numbers(path, data["poses"], "poses")
        if poses.ndim != 2 or poses.shape[1] < 66:
            raise PosesynError(f"{path}: 'poses' must be (N, 156) as AMASS has it, got {poses.shape}")
    elif "root_orient" in data and "pose_body" in data:
        parts = [_numbers(path, data[k], k) for k in ("root_orient", "pose_body")]
        if parts[0].shape[1:] != (3,) or parts[1].shape != (len(parts[0]), 63):
            raise PosesynError(
                f"{path}: 'root_orient', 'pose_body' must be (N, 3), (N, 63), got {[p.shape for p in parts]}"
            )
        poses = np.concatenate(parts, axis=1)
    else:
        raise PosesynError(f"{path} is no AMASS file: it has neither 'poses' nor 'root_orient' and 'pose_body'")
    if "trans" not in data:
        raise PosesynError(f"{path} is no AMASS file: it has no 'trans'")
    trans = _numbers(path, data["trans"], "trans")
    if trans.shape != (len(poses), 3):
        raise PosesynError(f"{path}: 'trans' must be ({len(poses)}, 3) to go with 'poses', got {trans.shape}")
    rate = next((data[k] for k in _RATES if k in data), None)
    if rate is None:
        raise PosesynError(f"{path}: no frame rate, looked for {', '.join(_RATES)}")
    try:
        fps = float(_text(rate))
    except ValueError:
        raise PosesynError(f"{path}: the frame rate is {_text(rate)!r}, not a number") from None

    if not (np.isfinite(poses[:, :66]).all() and np.isfinite(trans).all()):
        raise PosesynError(f"{path}: poses or translations are not finite")
    # SMPL's 21 body joints are SMPL-H's; its two hand joints exist only in SMPL's own 72 numbers.
    pose = np.zeros((len(poses), 24, 3))
    pose[:, :22] = poses[:, :66].reshape(-1, 22, 3)
    if poses.shape[1] == 72:
        pose[:, 22:] = poses[:, 66:72].reshape(-1, 2, 3)
    root = (_Z_TO_Y_UP * Rotation.from_rotvec(pose[:, 0])).as_rotvec() if len(pose) else pose[:, 0]
    place = _Z_TO_Y_UP.apply(trans + _REST_PELVIS) if len(pose) else trans
    betas = np.asarray(data["betas"], np.float32).reshape(-1) if _is_numeric(data.get("betas")) else None
    gender = _text(data["gender"]).lower() if data.get("gender") is not None else "neutral"
    gender = gender if gender in ("male", "female") else "neutral"
    return Motion(pose[:, 1:], root, place, fps, path.stem.removesuffix("_poses"), betas, gender)


def read_npz(path: Path) -> dict[str, Any]:
    """The arrays of an npz without unpickling; members that are pickled objects come as None."""
    if not path.is_file():
        raise PosesynError(f"there is no file {path}")
    out: dict[str, Any] = {}
    try:
        with np.load(path, allow_pickle=False) as data:
            for key in data.files:
                try:
                    out[key] = data[key]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
                    out[key] = None
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise PosesynError(f"{path} is not a readable npz archive ({error or type(error).__name__})") from error
    return out


def _is_numeric(values: Any) -> bool:
    return values is not None and values.dtype.kind in "fiu"


def _numbers(path: Path, values: Any, key: str) -> np.ndarray:
    if not _is_numeric(values):
        raise PosesynError(f"{path}: '{key}' does not hold plain numbers")
    return np.asarray(values, np.float64)


def _text(value: Any) -> str:
    item = np.asarray(value).reshape(-1)[0] if np.size(value) else ""
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
