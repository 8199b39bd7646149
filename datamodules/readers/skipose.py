"""Ski-Pose PTZ (Rhodin et al., CVPR 2018; Fasel et al., 2016): alpine skiers before six turning and zooming cameras.

``train`` and ``test`` hold ``labels.h5`` and crops of 256 x 256, ``seq_000/cam_00/image_000000.png`` ...; keys ``seq``,
``cam``, ``frame``, ``subj``, ``3D`` (N, 51) metres in the camera's frame from the hip, ``2D`` (N, 34) in 0 .. 1 of the
crop, and ``cam_intrinsic`` (N, 9) likewise, ``cam_position`` (N, 3), ``R_cam_2_world`` (N, 9). Human3.6M's joint order.

The set does not say where the skier is: the place that brings the 3D joints onto the 2D joints of the same row is
solved for (least squares). Where that misses by more than 8 px the camera is left unknown and ``native3d`` stays
relative. ``sequence`` is 100 seq + cam, ``person`` the subject, ``group`` the camera, ``activity`` "skiing".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS, coded
from datamodules.readers.files import read_h5, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

Array = npt.NDArray[np.float64]
SIDE = 256
_FARTHEST_PX = 8.0


@READERS.register("skipose")
class SkiPoseReader(IndexedReader):
    """See the module.

    Args:
        root: folder with ``train`` and ``test``.
        split: "train" (8,481 persons in the release) or "test" (1,716).
        first: only so many rows, as few-shot experiments use (200 or 500 of the training set).
    """

    name = "skipose"
    licence = "non-commercial research; ask EPFL CVLAB for access"
    where = (
        "Ski-PosePTZ-CameraDataset-png.zip from https://www.epfl.ch/labs/cvlab/data/ski-poseptz-dataset (by request); "
        "root is the folder that holds train/ and test/"
    )
    skeleton = "ski17"
    splits = ("train", "test")
    folders = ("Ski-PosePTZ-CameraDataset-png", "ski_3d")
    first: int | None = None

    def __init__(
        self, root: str | Path, split: str | None = None, first: int | None = None, cache: str | Path | None = None
    ) -> None:
        if first is not None and first < 1:
            raise PosesynError(f"skipose: first={first} keeps nobody; pass 1 or more.")
        self.first = first
        super().__init__(root, split, cache)

    def label_files(self) -> list[Path]:
        return [self.root / self.split / "labels.h5"]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "first": self.first, "activity": 1}

    def scan(self, path: Path) -> Persons:
        labels = read_h5(path)
        if missing := [key for key in ("seq", "cam", "frame", "subj", "2D", "3D") if key not in labels]:
            raise PosesynError(f"{path} has no {missing[0]!r}: get it again from the data set's archive")
        numbers = np.stack([shaped(np.ravel(labels[k]), (None,), path, k) for k in ("seq", "cam", "frame", "subj")], 1)
        numbers = numbers[: self.first].astype(np.int64)
        n = len(numbers)
        solid = shaped(labels["3D"], (None, 51), path, "3D")[:n].reshape(-1, 17, 3)
        flat = SIDE * shaped(labels["2D"], (None, 34), path, "2D")[:n].reshape(-1, 17, 2)
        if not len(solid) == len(flat) == n:
            raise PosesynError(f"{path}: 3D has {len(solid)} rows, 2D {len(flat)}, the others {n}: get it again")
        folders = [f"{self.split}/seq_{s:03d}/cam_{c:02d}" for s, c, _, _ in numbers]
        for folder in sorted(set(folders)):
            if not (self.root / folder).is_dir():
                raise PosesynError(f"no pictures at {self.root / folder}: {self.where}")
        more: dict[str, Any] = {
            "sequence": 100 * numbers[:, 0] + numbers[:, 1],
            "frame": numbers[:, 2],
            "person": numbers[:, 3],
            "group": numbers[:, 1],
            "activity": coded(["skiing"] * n),
        }
        intrinsics = None
        if "cam_intrinsic" in labels:
            scale = np.diag([SIDE, SIDE, 1.0])
            intrinsics = scale @ shaped(labels["cam_intrinsic"], (None, 9), path, "cam_intrinsic")[:n].reshape(-1, 3, 3)
            place, error = placed(solid, flat, intrinsics)
            good = (error < _FARTHEST_PX) & ((solid + place[:, None])[..., 2] > 0).all(1)
            solid = np.where(good[:, None, None], solid + place[:, None], solid)
            intrinsics = np.where(good[:, None, None], intrinsics, np.nan)
        if "R_cam_2_world" in labels and "cam_position" in labels:
            turn = shaped(labels["R_cam_2_world"], (None, 9), path, "R_cam_2_world")[:n].reshape(-1, 3, 3)
            matrix = np.tile(np.eye(4), (n, 1, 1))
            matrix[:, :3, :3] = turn.transpose(0, 2, 1)
            centre = shaped(labels["cam_position"], (None, 3), path, "cam_position")[:n]
            matrix[:, :3, 3] = -np.einsum("nji,nj->ni", turn, centre)
            more["camera"] = matrix
        ones = np.ones((n, 17, 1))
        return Persons(
            ids=[f"skipose/{folder}/{f:06d}" for folder, f in zip(folders, numbers[:, 2], strict=True)],
            pictures=[f"{folder}/image_{f:06d}.png" for folder, f in zip(folders, numbers[:, 2], strict=True)],
            native2d=np.concatenate([flat, ones], -1),
            native3d=np.concatenate([solid, ones], -1),
            intrinsics=intrinsics,
            more=more,
        )


def placed(points: Array, pixels: Array, intrinsics: Array) -> tuple[Array, Array]:
    """(N,3) translation that brings (N,J,3) points onto (N,J,2) pixels, and (N,) the mean distance left, px.

    x (Z + tz) = X + tx and the same for y, with x, y on the plane z = 1, are linear in t.
    """
    usable = np.isfinite(points).all((1, 2)) & np.isfinite(pixels).all((1, 2)) & (np.linalg.det(intrinsics) != 0)
    whole = usable[:, None, None]
    points, pixels = np.where(whole, points, 0.0), np.where(whole, pixels, 0.0)
    intrinsics = np.where(whole, intrinsics, np.eye(3))
    rays = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1) @ np.linalg.inv(intrinsics).transpose(0, 2, 1)
    rays = rays[..., :2] / rays[..., 2:]
    n, j = rays.shape[:2]
    matrix = np.zeros((n, j, 2, 3))
    matrix[:, :, 0, 0] = matrix[:, :, 1, 1] = 1
    matrix[..., 2] = -rays
    right = rays * points[..., 2:] - points[..., :2]
    matrix, right = matrix.reshape(n, 2 * j, 3), right.reshape(n, 2 * j, 1)
    place = (np.linalg.pinv(matrix) @ right)[..., 0]
    moved = (points + place[:, None]) @ intrinsics.transpose(0, 2, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.linalg.norm(moved[..., :2] / moved[..., 2:] - pixels, axis=-1).mean(1)
    return place, np.where(usable & np.isfinite(error), error, np.inf)
