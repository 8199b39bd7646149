"""A tiny HuMMan v1.0: its subsets Recon and Point."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from tests.datasets.h36m import write_video
from tests.datasets.people import People


def sequence(person: int) -> str:
    return f"p{455 + person:06d}_a{986 + person:06d}"


def write(root: Path, people: People, subset: str = "recon", lists: bool = True) -> None:
    """A sequence for each person; frames 0, 6, 12 ... (recon), or videos of frames held 6 times (point)."""
    drawn = [[people.picture(c, f) for f in range(people.frames)] for c in range(len(people.intrinsics))]
    for p in range(len(people.genders)):
        folder = root / sequence(p)
        (folder / "smpl_params").mkdir(parents=True)
        views = {}
        for c in range(len(people.intrinsics)):
            for kind in ("color", "depth"):
                matrix = people.world_to_camera[c, 0]
                views[f"kinect_{kind}_{c:03d}"] = {
                    "K": people.intrinsics[c].tolist(), "R": matrix[:3, :3].tolist(), "T": matrix[:3, 3].tolist(),
                }  # fmt: skip
        (folder / "cameras.json").write_text(json.dumps(views))
        rows = {
            "global_orient": people.global_orient[p],
            "body_pose": people.body_pose[p].reshape(people.frames, 69),
            "betas": np.tile(people.betas[p], (people.frames, 1)),
            "transl": people.transl[p],
        }
        if subset == "point":
            (folder / "smpl_params").rmdir()
            np.savez(folder / "smpl_params.npz", **{k: np.repeat(v, 6, 0) for k, v in rows.items()})
        for f in range(people.frames if subset == "recon" else 0):
            row = {k: v[f].astype(np.float32) for k, v in rows.items()}
            np.savez(folder / "smpl_params" / f"{6 * f:06d}.npz", **row)
        for c in range(len(people.intrinsics)):
            base = folder / "kinect_color" / f"kinect_{c:03d}"
            if subset == "point":
                write_video(base.with_suffix(".mp4"), drawn[c], 6)
                continue
            base.mkdir(parents=True)
            for f, picture in enumerate(drawn[c]):
                cv2.imwrite(str(base / f"{6 * f:06d}.png"), picture[..., ::-1])
    if lists:
        (root / "train.txt").write_text(f"{sequence(0)}\n")
        (root / "test.txt").write_text("".join(f"{sequence(p)}\n" for p in range(len(people.genders))))
