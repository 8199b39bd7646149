"""EMDB: Electromagnetic Database of Global 3D Human Pose and Shape in the Wild (Kaufmann et al., ICCV 2023).

    P0 .. P9/SEQUENCE/images/00000.jpg
    P0 .. P9/SEQUENCE/P0_SEQUENCE_data.pkl    (eth-ait/emdb:dataset.md)

A label file holds SMPL of the person's gender in the world, the moving camera's pose in every frame, SMPL's joints in
the picture and a box. Kept: the frames of ``good_frames_mask`` (the others show too little of the person), turned into
the camera's frame. The file has no 3D joints: they are SMPL's, by the user's own body files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.readers.base import READERS
from datamodules.readers.body_labels import GENDERS, body_facts, body_name, boxes_or, place, with_bodies
from datamodules.readers.files import read_pickle, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

_KEYS = ("gender", "emdb1", "emdb2", "good_frames_mask", "camera", "smpl", "kp2d", "bboxes")


@READERS.register("emdb")
class EmdbReader(IndexedReader):
    """EMDB below ``root``: "emdb1" (poses before the camera), "emdb2" (trajectories in the world), or all sequences."""

    name = "emdb"
    licence = "EMDB licence: non-commercial scientific research only, no redistribution"
    where = (
        "accept the licence at https://eth-ait.github.io/emdb, and unpack the archives of all participants into one "
        "folder, the root, so that it holds P0 to P9"
    )
    skeleton = "smpl24"
    body = "smpl"
    splits = ("emdb1", "emdb2", "all")

    def label_files(self) -> list[Path]:
        return sorted(self.root.glob("P[0-9]*/*/*_data.pkl"))

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "bodies": body_facts("smpl")}

    def scan(self, path: Path) -> Persons:
        labels = read_pickle(path, _KEYS)
        part = {"emdb1": bool(labels["emdb1"]), "emdb2": bool(labels["emdb2"])}
        if not part.get(self.split, True):
            return Persons([], [])
        folder = path.parent.relative_to(self.root).as_posix()
        if not (path.parent / "images").is_dir():
            raise PosesynError(f"no pictures of {path} in {path.parent / 'images'}: unpack EMDB's archive whole")
        gender = labels["gender"]
        if gender not in GENDERS:
            raise PosesynError(f"{path} has the gender {gender!r}: get it again from EMDB")

        good = np.asarray(shaped(labels["good_frames_mask"], (None,), path, "good_frames_mask") != 0)
        frames = len(good)

        def of(key: str, *shape: int | None) -> np.ndarray[Any, np.dtype[np.float64]]:
            group, _, name = key.partition(".")
            content = labels[group]
            if name and not (isinstance(content, dict) and name in content):
                raise PosesynError(f"{path} has no {key!r}: get it again from EMDB")
            return shaped(content[name] if name else content, shape, path, key)

        camera = of("camera.extrinsics", frames, 4, 4)[good]
        pose = np.concatenate([of("smpl.poses_root", frames, 3), of("smpl.poses_body", frames, 69)], 1)
        betas = np.tile(of("smpl.betas", 10), (int(good.sum()), 1))
        trans = of("smpl.trans", frames, 3)[good]
        pixels = of("kp2d", frames, 24, 2)[good]
        boxes = of("bboxes.bboxes", frames, 4).copy()
        invalid = of("bboxes.invalid_idxs", None).astype(int)
        boxes[invalid[(invalid >= 0) & (invalid < frames)]] = np.nan
        if not good.all():
            first = int(np.flatnonzero(~good)[0])
            self.skipped.add("frames that EMDB calls bad", f"emdb/{folder}/{first:05d}", int((~good).sum()))
        placed = place(body_name("smpl", gender), betas, pose.reshape(frames, 24, 3)[good], trans, camera)
        kept = np.flatnonzero(good)
        labelled = np.ones((len(kept), 24, 1))
        persons = Persons(
            ids=[f"emdb/{folder}/{f:05d}" for f in kept.tolist()],
            pictures=[f"{folder}/images/{f:05d}.jpg" for f in kept.tolist()],
            native2d=np.concatenate([pixels, labelled], 2),
            native3d=np.concatenate([placed.joints, labelled], 2),
            intrinsics=np.broadcast_to(of("camera.intrinsics", 3, 3), (len(kept), 3, 3)),
            bbox=boxes_or(boxes[good], pixels),
            more={
                "pose": placed.pose,
                "betas": betas,
                "transl": placed.transl,
                "gender": np.full(len(kept), GENDERS[gender]),
                "camera": camera,
                "sequence": np.full(len(kept), self._number(path)),
                "frame": kept,
                "person": np.zeros(len(kept)),
                "group": np.full(len(kept), part["emdb1"] + 2 * part["emdb2"]),
            },
        )
        return with_bodies(persons, self.skipped)

    def _number(self, path: Path) -> int:
        """Of the sequence: its place among all of EMDB's here."""
        return self.label_files().index(path)
