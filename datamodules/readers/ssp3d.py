"""SSP-3D: Sports Shape and Pose 3D (Sengupta et al., BMVC 2020), 311 pictures of athletes in tight clothes.

    images/NAME.png   silhouettes/NAME.png   labels.npz     (akashsengupta1997/SSP-3D:data/ssp3d_dataset.py)

It measures body shape: every person has SMPL of their gender (pseudo truth, fitted over the frames of a video), the
camera's translation for a focal length of 5000 px in 512 x 512 px, COCO's 17 joints from a detector and a silhouette.
All of it is kept; there are no 3D joints besides SMPL's own.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS
from datamodules.readers.body_labels import with_bodies
from datamodules.readers.files import read_npz, safe_name, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

#: akashsengupta1997/SSP-3D:config.py, visualisation.py
FOCAL, SIDE = 5000.0, 512
_GENDERS = {"m": 1, "f": 2}
_KEYS = ("fnames", "shapes", "poses", "genders", "joints2D", "cam_trans", "bbox_centres", "bbox_whs")


@READERS.register("ssp3d")
class Ssp3dReader(IndexedReader):
    """SSP-3D; ``root`` is the folder ``ssp_3d`` of its archive."""

    name = "ssp3d"
    licence = "MIT (the authors' repository); the pictures are frames of other people's videos"
    where = "unpack ssp_3d.zip of https://github.com/akashsengupta1997/SSP-3D; the root is its folder ssp_3d"
    skeleton = "coco17"
    body = "smpl"
    splits = ("test",)

    def label_files(self) -> list[Path]:
        for folder in ("images", "silhouettes"):
            if not (self.root / folder).is_dir():
                raise PosesynError(f"no folder {self.root.absolute() / folder} of {self.name}: {self.where}")
        return [self.root / "labels.npz", *sorted((self.root / "silhouettes").glob("*.png"))]

    def scan(self, path: Path) -> Persons:
        if path.suffix == ".png":  # read with the labels
            return Persons([], [])
        labels = read_npz(path, _KEYS)
        if not len(labels["fnames"]):
            return Persons([], [])
        names = [safe_name(name, path) for name in labels["fnames"].tolist()]
        genders, n = labels["genders"].tolist(), len(names)
        if len(genders) != n or not set(genders) <= set(_GENDERS):
            raise PosesynError(f"{path}: genders {sorted(set(genders))} of {n} persons: get it again from SSP-3D")
        joints = shaped(labels["joints2D"], (n, 17, 3), path, "joints2D").copy()
        joints[..., 2] = np.clip(joints[..., 2], 0, 1)
        # Rows before columns, like the toolkit's crops.
        centre = shaped(labels["bbox_centres"], (n, 2), path, "bbox_centres")[:, ::-1]
        side = shaped(labels["bbox_whs"], (n,), path, "bbox_whs")[:, None]
        persons = Persons(
            ids=[f"ssp3d/{Path(name).stem}" for name in names],
            pictures=[f"images/{name}" for name in names],
            native2d=joints,
            intrinsics=np.broadcast_to([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]], (n, 3, 3)),
            bbox=np.concatenate([centre - side / 2, centre + side / 2], 1),
            more={
                "pose": shaped(labels["poses"], (n, 72), path, "poses").reshape(n, 24, 3),
                "betas": shaped(labels["shapes"], (n, 10), path, "shapes"),
                "transl": shaped(labels["cam_trans"], (n, 3), path, "cam_trans"),
                "gender": np.array([_GENDERS[g] for g in genders]),
                "crop": np.concatenate([centre, side], 1),
                "silhouette": np.stack([_silhouette(self.root / "silhouettes" / name) for name in names]),
            },
        )
        return with_bodies(persons, self.skipped)

    def read_silhouette(self, i: int) -> npt.NDArray[np.bool_]:
        """(512,512) where person ``i`` is."""
        return np.unpackbits(np.asarray(self.index.extras["silhouette"][i]), axis=1).astype(bool)


def _silhouette(path: Path) -> npt.NDArray[np.uint8]:
    """(512,64) packed bits of a mask, which is not 0 where the person is."""
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        there = "it is damaged or cut short" if path.is_file() else "there is no such file"
        raise PosesynError(f"cannot read the silhouette {path}: {there}; restore it from SSP-3D's archive")
    if mask.shape != (SIDE, SIDE):
        raise PosesynError(f"the silhouette {path} has {mask.shape[1]} x {mask.shape[0]} px, not {SIDE} x {SIDE}")
    return np.packbits(np.greater(mask, 0), axis=1)
