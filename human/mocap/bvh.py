"""Biovision hierarchy files (.bvh): any hierarchy, any order of rotation channels.

Rotations are Euler angles in degrees about the joint's own moving axes, in the order in which the channels are
listed; an offset is the joint's place in its parent's axes. Units are the file's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from human.errors import PosesynError
from human.mocap.clip import Motion
from human.mocap.retarget import Rig, retarget

_CHANNELS = {f"{axis}{kind}" for axis in "xyz" for kind in ("position", "rotation")}


def read_bvh(path: str | Path, unit: float | None = None) -> Motion:
    """Read and retarget one file. ``unit``: metres per file unit, None to tell it from the length of the legs."""
    path = Path(path)
    rig, fps = read_bvh_rig(path)
    try:
        pose, root, place = retarget(rig, unit)
    except PosesynError as error:
        raise PosesynError(f"{path}: {error}") from error
    return Motion(pose, root, place, fps, path.stem)


def read_bvh_rig(path: str | Path) -> tuple[Rig, float]:
    """The file as it is: a rig in its own axes and units, and its frames per second."""
    path = Path(path)
    if not path.is_file():
        raise PosesynError(f"there is no file {path}")
    head, motion, tail = path.read_text(encoding="utf-8", errors="replace").partition("MOTION")
    if not motion or not head.lstrip("\ufeff \r\n\t").upper().startswith("HIERARCHY"):
        raise PosesynError(f"{path} is no BVH file: it needs a HIERARCHY and a MOTION section")
    try:
        names, parents, offsets, ends, channels = _hierarchy(head.lstrip("\ufeff").split())
        frames_NC, seconds = _motion(tail)
    except (ValueError, IndexError, StopIteration) as error:
        raise PosesynError(f"{path} is not a valid BVH file: {error or 'it ends in the middle'}") from None
    width = sum(map(len, channels))
    if frames_NC.shape[1] != width:
        raise PosesynError(f"{path}: the hierarchy has {width} channels, the frames {frames_NC.shape[1]} numbers")
    if not np.isfinite(frames_NC).all():
        raise PosesynError(f"{path}: frame {int(np.argmin(np.isfinite(frames_NC).all(1)))} is not finite")

    n, at = len(frames_NC), 0
    rotations = np.tile(np.eye(3), (n, len(names), 1, 1))
    root = np.tile(offsets[0], (n, 1))
    for j, listed in enumerate(channels):
        columns = frames_NC[:, at : at + len(listed)]
        at += len(listed)
        turns = [c for c, name in enumerate(listed) if name.endswith("rotation")]
        if turns:
            order = "".join(listed[c][0] for c in turns).upper()  # upper case: about the moving axes
            rotations[:, j] = Rotation.from_euler(order, columns[:, turns], degrees=True).as_matrix()
        if j == 0:
            for c, name in enumerate(listed):
                if name.endswith("position"):
                    root[:, "xyz".index(name[0])] = columns[:, c]
    return Rig(tuple(names), tuple(parents), offsets, ends, rotations, root), 1 / seconds


def _hierarchy(
    words: list[str],
) -> tuple[list[str], list[int], np.ndarray, np.ndarray, list[list[str]]]:
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    ends: dict[int, list[float]] = {}
    channels: list[list[str]] = []
    open_joints: list[int] = []  # -1 stands for an end site
    stream = iter(words[1:])
    for word in stream:
        key = word.upper()
        if key in ("ROOT", "JOINT"):
            if key == "ROOT" and names:
                raise ValueError("it has more than one ROOT")
            label = [next(stream)]
            while (more := next(stream)) != "{":  # names may hold blanks
                label.append(more)
            parents.append(open_joints[-1] if open_joints else -1)
            open_joints.append(len(names))
            names.append(" ".join(label))
            offsets.append([0.0, 0.0, 0.0])
            channels.append([])
        elif key == "END":
            while next(stream) != "{":
                pass
            open_joints.append(-1)
        elif key == "OFFSET":
            value = [float(next(stream)) for _ in range(3)]
            if open_joints[-1] < 0:
                ends[open_joints[-2]] = value
            else:
                offsets[open_joints[-1]] = value
        elif key == "CHANNELS":
            listed = [next(stream).lower() for _ in range(int(next(stream)))]
            if wrong := [c for c in listed if c not in _CHANNELS]:
                raise ValueError(f"unknown channel {wrong[0]!r}")
            channels[open_joints[-1]] = listed
        elif word == "}":
            open_joints.pop()
        else:
            raise ValueError(f"unexpected {word!r} in the hierarchy")
    if open_joints or not names:
        raise ValueError("the hierarchy is empty or its braces do not match")
    tips = np.array([ends.get(j, [0.0, 0.0, 0.0]) for j in range(len(names))])
    return names, parents, np.array(offsets), tips, channels


def _motion(text: str) -> tuple[np.ndarray, float]:
    head, label, rest = text.partition("Time:")
    if not label or "Frames:" not in head:
        raise ValueError("the MOTION section lacks 'Frames:' or 'Frame Time:'")
    count = int(head.split("Frames:")[1].split()[0])
    first, _, numbers = rest.lstrip().partition("\n")
    seconds = float(first)
    values = np.array(numbers.split(), dtype=np.float64)
    if count <= 0 or seconds <= 0:
        raise ValueError(f"{count} frames of {seconds} s")
    if len(values) == 0 or len(values) % count:
        raise ValueError(f"{len(values)} numbers do not make {count} frames, is the file cut off?")
    return values.reshape(count, -1), seconds
