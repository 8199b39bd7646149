"""3DPW: 3D Poses in the Wild (von Marcard et al., ECCV 2018), persons filmed by a moving hand-held camera.

    imageFiles/SEQUENCE/image_00000.jpg
    sequenceFiles/{train,validation,test}/SEQUENCE.pkl    written by Python 2

A label file holds, for each person, SMPL of their gender in the world, its 24 joints, the camera's pose in every frame
and what a 2D detector found. Kept: frames whose camera pose is valid (``campose_valid``), turned into the camera's
frame; the box is that of the detected joints, as in nkolot/SPIN:datasets/preprocess/pw3d.py, and where nothing was
detected that of the projected joints. ``detected`` counts the detected joints, by which protocols choose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS
from datamodules.readers.body_labels import boxes_or, project, turned, with_bodies
from datamodules.readers.files import read_pickle, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

_KEYS = ("poses", "betas", "trans", "jointPositions", "poses2d", "cam_poses", "cam_intrinsics", "campose_valid",
         "genders")  # fmt: skip
_GENDERS = {"n": 0, "m": 1, "f": 2}


@READERS.register("3dpw")
class ThreeDPWReader(IndexedReader):
    """3DPW below ``root``; "all" is the three splits together, which the 2020 challenge was evaluated on."""

    name = "3dpw"
    licence = "3DPW licence: non-commercial scientific research only, no redistribution"
    where = (
        "accept the licence at https://virtualhumans.mpi-inf.mpg.de/3DPW and unpack imageFiles.zip and "
        "sequenceFiles.zip into one folder, the root"
    )
    skeleton = "smpl24"
    body = "smpl"
    splits = ("test", "train", "validation", "all")

    def label_files(self) -> list[Path]:
        if not (self.root / "imageFiles").is_dir():
            raise PosesynError(f"no pictures of {self.name} in {self.root.absolute() / 'imageFiles'}: {self.where}")
        parts = self.splits[1:3] + self.splits[:1] if self.split == "all" else (self.split,)
        return [path for part in parts for path in sorted((self.root / "sequenceFiles" / part).glob("*.pkl"))]

    def scan(self, path: Path) -> Persons:
        # The file's name, not the "sequence" in it: the latter could name another folder.
        sequence = path.stem
        if not (self.root / "imageFiles" / sequence).is_dir():
            raise PosesynError(
                f"no pictures of {path} in {self.root / 'imageFiles' / sequence}: unpack imageFiles.zip whole"
            )
        labels = read_pickle(path, _KEYS)
        camera = shaped(labels["cam_poses"], (None, 4, 4), path, "cam_poses")
        intrinsics = shaped(labels["cam_intrinsics"], (3, 3), path, "cam_intrinsics")
        counts = {key: len(labels[key]) for key in _KEYS if isinstance(labels[key], list)}
        if len(set(counts.values())) != 1:
            raise PosesynError(f"{path} lists different numbers of persons ({counts}): get it again from 3DPW")
        tracks = [self._track(labels, person, camera, path) for person in range(len(labels["poses"]))]
        columns = {name: np.concatenate([track[name] for track in tracks]) for name in tracks[0]} if tracks else {}
        if not columns:
            return Persons([], [])
        frames, persons = columns["frame"].tolist(), columns["person"].tolist()
        number = [p.stem for p in self.label_files()].index(sequence)
        bbox, native3d = columns.pop("bbox"), columns.pop("native3d")
        persons = Persons(
            ids=[f"3dpw/{sequence}/{f:05d}/{p}" for f, p in zip(frames, persons, strict=True)],
            pictures=[f"imageFiles/{sequence}/image_{f:05d}.jpg" for f in frames],
            native3d=native3d,
            intrinsics=np.broadcast_to(intrinsics, (len(frames), 3, 3)),
            bbox=boxes_or(bbox, project(native3d[..., :3], intrinsics)),
            more={**columns, "sequence": np.full(len(frames), number)},
        )
        return with_bodies(persons, self.skipped)

    def _track(
        self, labels: dict[str, Any], person: int, camera: npt.NDArray[np.float64], path: Path
    ) -> dict[str, npt.NDArray[Any]]:
        """Columns of one person: the frames with a valid camera pose."""
        frames = len(camera)

        def of(key: str, *shape: int | None) -> npt.NDArray[np.float64]:
            return shaped(labels[key][person], shape, path, f"{key} of person {person}")

        valid = np.equal(of("campose_valid", frames), 1)
        pose = of("poses", frames, 72).reshape(frames, 24, 3)[valid]
        trans = of("trans", frames, 3)[valid]
        joints = of("jointPositions", frames, 72).reshape(frames, 24, 3)[valid]
        detected = of("poses2d", frames, 3, 18)[valid].transpose(0, 2, 1)
        betas = of("betas", None)
        gender = labels["genders"][person]
        if len(betas) < 10 or gender not in _GENDERS:
            raise PosesynError(f"{path}: person {person} has {len(betas)} betas, gender {gender!r}: get it again")
        if not valid.all():
            name = f"3dpw/{path.stem}/{int(np.flatnonzero(~valid)[0]):05d}/{person}"
            self.skipped.add("persons in frames without a valid camera pose", name, int((~valid).sum()))
        turn, shift = camera[valid, :3, :3], camera[valid, :3, 3]
        seen = joints @ turn.transpose(0, 2, 1) + shift[:, None]
        pose[:, 0] = turned(turn, pose[:, 0])
        found = np.greater(detected[..., 2:], 0)
        low = np.where(found, detected[..., :2], np.inf).min(1)
        high = np.where(found, detected[..., :2], -np.inf).max(1)
        count = len(pose)
        return {
            "native3d": np.concatenate([seen, np.isfinite(seen).all(2, keepdims=True)], 2),
            "bbox": np.concatenate([low, high], 1),
            "pose": pose,
            "betas": np.tile(betas[:10], (count, 1)),
            # SMPL turns about its pelvis, not the origin: the pelvis at rest lies at `joints - trans`.
            "transl": seen[:, 0] - (joints[:, 0] - trans),
            "gender": np.full(count, _GENDERS[gender]),
            "camera": camera[valid],
            "frame": np.flatnonzero(valid),
            "person": np.full(count, person),
            "detected": found[..., 0].sum(1),
        }
