"""A tiny SMART: clips of every sport, frame by frame, in the three tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.datasets.labels2d import native_pixels, views, write_picture
from tests.datasets.people import Array, People

#: Clips in the file's order: (name, action_labels).
CLIPS: dict[str, list[tuple[str, str]]] = {
    "gym": [
        *((f"beam{i}", "184" if i % 2 else "204") for i in range(6)),
        *((f"vault{i}", "vt") for i in range(5)),
        *((f"bars{i}", "271") for i in range(4)),
    ],
    "polevalut_highjump_badminton": [
        *((f"cgt{i:02d}", f"cgt{i:02d}") for i in range(3)),
        *((f"tg{i:02d}", f"tg{i:02d}") for i in range(3)),
        ("ymq01", "ymq01"),
    ],
    "diving": [(f"dive{i:02d}", f"107B{i}") for i in range(16)],
}


@dataclass(frozen=True)
class Written:
    """What the frames of one table say, in order: ``clips`` and ``names`` of pictures, (N,25,2) px, (N,25) state."""

    clips: list[str]
    names: list[str]
    joints: Array
    state: Array


def write(root: Path, people: People) -> dict[str, Written]:
    """Each clip is a view's frames (whole px) again; the first person is the athlete.

    In every clip the second frame has occluded joints; in diving the third one's feet cannot be inferred, and a
    frame without joints follows the last.
    """
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    drawn = {}
    for number, camera, frame in views(people):
        write_picture(root / f"{number}.jpg", people, camera, frame)
        drawn[number] = (root / f"{number}.jpg").read_bytes()
        (root / f"{number}.jpg").unlink()
    (root / "images").mkdir(exist_ok=True)
    every = np.stack([np.round(native_pixels(people, c, 0, "body25")[f]) for _, c, f in views(people)])
    out = {}
    for table, clips in CLIPS.items():
        entries, rows = [], []
        for clip, label in clips:
            frames = []
            for number in drawn:
                name = f"{clip}-{number + 1:02d}.jpg"
                (root / "images" / name).write_bytes(drawn[number])
                state = np.zeros(25, int)
                state[[0, 4, 16]] = number == 1
                if table == "diving" and number == 2:
                    state[[11, 14, 19, 20, 21, 22, 23, 24]] = 2
                joints = np.where(state[:, None] == 2, -1, every[number]).astype(int)
                rows.append((clip, name, joints, state))
                frames.append(_frame(name, label, number + 1, np.concatenate([joints, state[:, None]], 1), people.size))
            if table == "diving":
                empty = {**frames[-1], "img_name": f"{clip}-99.jpg", "frame_id": 99, "joints": []}
                frames.append(empty)
            if table == "gym":
                frames = [{**f, "pose_coeff": [0.5] * 25} for f in frames]
            entries.append({"VideoId": -1, "VideoName": clip, "action_labels": label, "frames": frames})
        (root / "annotations" / f"Table_VideoInfo_{table}.json").write_text(json.dumps(entries))
        out[table] = Written(
            [r[0] for r in rows], [r[1] for r in rows], np.stack([r[2] for r in rows]), np.stack([r[3] for r in rows])
        )
    return out


def _frame(name: str, label: str, number: int, joints: Array, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "img_name": name,
        "motion_label": label,
        "joints": joints.tolist(),
        "bbox": [3.5, 4.5, 50.0, 60.0],  # not around the person, as in gym
        "frame_id": number,
        "img_hw": [size[1], size[0]],
    }
