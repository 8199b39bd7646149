"""AGORA: Avatars in Geography Optimized for Regression Analysis (Patel et al., CVPR 2021), synthetic crowds.

    {train,validation}_SMPLX/SMPLX/{train_0..9,validation_0..9}_withjv.pkl   data frames with SMPL-X's joints
    train_0/NAME_1280x720.png, validation/NAME_1280x720.png                  (or NAME.png of 3840x2160)
    smplx_gt/trainset_.../SCAN.pkl                                           the scans' SMPL-X, if it is there
    {train,validation}_SMPL/SMPL/..._withjv.pkl, smpl_gt/...                 the same of SMPL (``body="smpl"``)

(pixelite1201/agora_evaluation:docs/gt_dataframe.md; folders of pictures as mks0601/Hand4Whole names them; a folder
``1280x720`` or ``3840x2160`` above them is found too, and ``SMPLX`` right below the root.) The frames are read without
pandas (``human.safe_frames``). Kept: SMPL-X's 55 joints, 2D and 3D in the camera's frame, the set's occlusion and
validity, and where ``smplx_gt`` is there the body's parameters turned into the camera's frame. Children, whose shape no
SMPL-X file has, have no ``betas`` but ``kid_betas``, for the children's template (``human.kid_template``). Boxes are
those of all joints and landmarks, as the set's matching takes them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from datamodules.readers.base import READERS
from datamodules.readers.body_labels import GENDERS
from datamodules.readers.files import read_pickle, safe_join, safe_name, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError
from human.safe_frames import read_frame

log = logging.getLogger(__name__)
Array = npt.NDArray[Any]
SIZES = {"1280x720": (1280, 720), "3840x2160": (3840, 2160)}
_COLUMNS = ("imgPath", "X", "Y", "Z", "Yaw", "camX", "camY", "camZ", "camYaw", "gender", "kid", "occlusion", "isValid",
            "gt_joints_2d", "gt_joints_3d")  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """What the frames of one body model hold. ``pose``: numbers of a fit's body_pose."""

    title: str
    skeleton: str
    joints: int
    pose: int

    @property
    def fits(self) -> str:
        return f"{self.title.lower()}_gt"

    @property
    def path(self) -> str:
        """The column that names a scan's fit."""
        return f"gt_path_{self.title.lower()}"


BODIES = {"smplx": Labels("SMPLX", "smplx55", 55, 63), "smpl": Labels("SMPL", "smpl24", 24, 69)}
_SENSOR = 36.0  # mm, its width; its pixels are square
#: Lens in mm, place in cm and (yaw, pitch) in degrees of the cameras that are not in the frames, by a part of the
#: picture's name (pixelite1201/agora_evaluation:agora_evaluation/projection.py).
_CAMERAS: dict[str, tuple[float, tuple[float, float, float], float, float]] = {
    "hdri": (50, (0, 0, 170), 0, 0),
    "cam00": (18, (400, -275, 265), 135, 30),
    "cam01": (18, (400, 225, 265), -135, 30),
    "cam02": (18, (-490, 170, 265), -45, 30),
    "cam03": (18, (-490, -275, 265), 45, 30),
    "ag2": (28, (0, 0, 170), 0, 15),
}
_BONES = 24  # SMPL's; the hands stay at rest


@READERS.register("agora")
class AgoraReader(IndexedReader):
    """AGORA below ``root``. ``group`` is 1 in pictures of scans with fitted hands and faces ("bfh"), else 0.

    Args:
        size: of the pictures, "1280x720" or "3840x2160".
        everyone: also persons whom the set calls not valid (hidden by more than 90 %, or outside the picture).
        body: "smplx", or "smpl" for train_SMPL, validation_SMPL and smpl_gt, whose bodies are all neutral.
    """

    name = "agora"
    licence = "AGORA licence: non-commercial scientific research only, no redistribution"
    where = (
        "register at https://agora.is.tue.mpg.de and unpack train_SMPLX, validation_SMPLX, smplx_gt and the pictures "
        "(train_images_1280x720_0 into train_0, ..., validation_images_1280x720 into validation) into one folder"
    )
    skeleton = "smplx55"
    body = "smplx"
    splits = ("validation", "train")
    may_lack = ("pose", "betas", "transl")
    version = 2
    size: str = "1280x720"
    everyone: bool = False
    _told = False

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        size: str = "1280x720",
        everyone: bool = False,
        cache: str | Path | None = None,
        body: str = "smplx",
    ) -> None:
        if body not in BODIES:
            raise PosesynError(f"agora has no labels of {body!r}; known: {', '.join(BODIES)}")
        self.body, self.skeleton = body, BODIES[body].skeleton
        if size not in SIZES:
            raise PosesynError(f"agora has no pictures of {size!r}; known: {', '.join(SIZES)}")
        self.size, self.everyone = size, everyone
        super().__init__(root, split, cache)

    def label_files(self) -> list[Path]:
        title = self._labels.title
        places = (f"{self.split}_{title}/{title}", title)
        found = (sorted((self.root / place).glob(f"{self.split}_*_withjv.pkl")) for place in places)
        files = next((files for files in found if files), [])
        for path in files:
            self._pictures(path)
        return files

    def facts(self) -> dict[str, Any]:
        kept = {"size": self.size, "everyone": self.everyone, "fits": self._fitted, "body": self.body}
        return {**super().facts(), **kept}

    @property
    def _labels(self) -> Labels:
        return BODIES[self.body]

    @property
    def _fitted(self) -> bool:
        return (self.root / self._labels.fits).is_dir()

    def _pictures(self, path: Path) -> str:
        """Folder of the pictures of a frame, below the root."""
        own = "validation" if self.split == "validation" else path.name.removesuffix("_withjv.pkl")
        for folder in (f"{self.size}/{own}", own):
            if (self.root / folder).is_dir():
                return folder
        raise PosesynError(f"no pictures of {path.name} in {(self.root / own).absolute()}: {self.where}")

    def scan(self, path: Path) -> Iterator[Persons]:
        frame = read_frame(path)
        title, columns_ = self._labels.title, (*_COLUMNS, self._labels.path)
        if missing := [name for name in columns_ if name not in frame]:
            raise PosesynError(f"{path} has no {missing[0]!r}: get train_{title} or validation_{title}, with joints")
        if not self._fitted and not self._told:
            log.warning("agora: no parameters of bodies, only joints: %s is not there", self.root / self._labels.fits)
            self._told = True
        folder, rows = self._pictures(path), len(frame["imgPath"])
        for first in range(0, rows, 256):
            pictures = [
                self._picture(path, folder, {name: frame[name][row] for name in columns_})
                for row in range(first, min(first + 256, rows))
                if len(frame["isValid"][row])
            ]
            if not pictures:
                continue
            columns = {name: np.concatenate([p[name] for p in pictures]) for name in pictures[0]}
            more = {k: v for k, v in columns.items() if k not in ("ids", "pictures", "d2", "d3", "box", "k", "people")}
            yield Persons(
                ids=columns["ids"].tolist(),
                pictures=columns["pictures"].tolist(),
                native2d=columns["d2"],
                native3d=columns["d3"],
                intrinsics=columns["k"],
                bbox=columns["box"],
                people=columns["people"],
                more=more,
            )

    def _picture(self, path: Path, folder: str, row: dict[str, Any]) -> dict[str, Array]:
        """Columns of the persons of one picture."""
        name = safe_name(row["imgPath"], path)
        stem = name.removesuffix(".png").removesuffix("_1280x720")
        where = f"{path}, {name}"
        count = len(row["isValid"])
        for key in row:
            if isinstance(row[key], (list, np.ndarray)) and len(row[key]) != count:
                raise PosesynError(f"{where}: {key} has {len(row[key])} persons, isValid {count}: get it again")
        width, height = SIZES[self.size]
        # As the frames are published their pixels are those of the large pictures.
        scale = 1.0 if "_1280x720" in name else width / 3840
        points = shaped(np.array([np.asarray(j) for j in row["gt_joints_2d"]]).reshape(count, -1, 2), (count, None, 2),
                        where, "gt_joints_2d") * scale  # fmt: skip
        solid = shaped(np.array([np.asarray(j) for j in row["gt_joints_3d"]]).reshape(count, -1, 3), (count, None, 3),
                       where, "gt_joints_3d")  # fmt: skip
        title, joints = self._labels.title.replace("LX", "L-X"), self._labels.joints
        if min(points.shape[1], solid.shape[1]) < joints:
            raise PosesynError(f"{where}: {points.shape[1]} joints, {title} has {joints}: get the frames of {title}")
        intrinsics, turn, shift = camera_of(name, row, (width, height))
        known = np.ones((count, joints, 1))
        occlusion = np.asarray(row["occlusion"], np.float64).reshape(count)
        # pixelite1201/agora_evaluation:agora_evaluation/matching.py
        valid = np.asarray(row["isValid"], bool).reshape(count) & (occlusion >= 0) & (occlusion <= 90)
        chosen = np.ones(count, bool) if self.everyone else valid
        if not chosen.all():
            left = np.flatnonzero(~chosen)
            self.skipped.add("persons who are not valid", f"agora/{stem}/{left[0]}", len(left))
        file = f"{folder}/{stem}" + ("_1280x720.png" if self.size == "1280x720" else ".png")
        columns: dict[str, Array] = {
            "ids": np.array([f"agora/{stem}/{p}" for p in range(count)], object),
            "pictures": np.array([file] * count, object),
            "d2": np.concatenate([points[:, :joints], known], 2),
            "d3": np.concatenate([solid[:, :joints], known], 2),
            "box": np.concatenate([points.min(1), points.max(1)], 1),
            "k": np.tile(intrinsics, (count, 1, 1)),
            "people": np.full(count, count),
            "occlusion": occlusion,
            "valid": valid,
            "kid": np.asarray(row["kid"], bool).reshape(count),
            "gender": np.array([GENDERS.get(str(g), 0) if self.body == "smplx" else 0 for g in row["gender"]], np.int8),
            "group": np.full(count, int("bfh" in name or "smplx" in name)),
            "person": np.arange(count),
        }
        if self._fitted:
            fits = [self._fit(path, scan) for scan in row[self._labels.path]]
            yaw = np.asarray(row["Yaw"], np.float64).reshape(count)
            place = np.stack([np.asarray(row[axis], np.float64).reshape(count) for axis in "XYZ"], 1)
            placed = [
                in_camera(fit, y, p, turn, shift, pelvis)
                for fit, y, p, pelvis in zip(fits, yaw, place, solid[:, 0], strict=True)
            ]
            columns["pose"] = np.array([pose for pose, _ in placed]).reshape(count, _BONES, 3)
            columns["betas"] = np.array([fit["betas"] for fit in fits]).reshape(count, 10)
            columns["transl"] = np.array([transl for _, transl in placed]).reshape(count, 3)
            columns["kid_betas"] = np.array([fit["kid_betas"] for fit in fits]).reshape(count, 11)
            columns["kid_betas"][~columns["kid"]] = np.nan
            lost = columns["kid"] | ~np.isfinite(columns["pose"]).all((1, 2))
            for key in ("betas", "transl"):
                columns[key][lost] = np.nan
        return {key: column[chosen] for key, column in columns.items()}

    @cached_property
    def _fits(self) -> dict[str, dict[str, Array]]:
        return {}

    def _fit(self, path: Path, scan: Any) -> dict[str, Array]:
        """A scan's parameters, read once; all NaN where its file is not there."""
        file = safe_join(self.root, scan, path).with_suffix(".pkl")
        if (key := str(file)) not in self._fits:
            if not file.is_file():
                self.skipped.add("scans without a fit", str(scan))
                shapes = {"rotations": (_BONES, 3), "betas": (10,), "kid_betas": (11,), "transl": (3,)}
                return self._fits.setdefault(key, {name: np.full(shape, np.nan) for name, shape in shapes.items()})
            held = read_pickle(file)
            if not isinstance(held, dict):
                raise PosesynError(f"{file} holds no dictionary: get {self._labels.fits} again")
            # SMPL's fits, which smplx's transfer tool made, have names of their own.
            held = {{"root_pose": "global_orient", "translation": "transl"}.get(k, k): v for k, v in held.items()}
            widths = {"global_orient": 3, "body_pose": self._labels.pose, "transl": 3}
            if missing := [name for name in (*widths, "betas") if held.get(name) is None]:
                raise PosesynError(f"{file} has no {missing[0]!r}: get {self._labels.fits} again")
            given = {name: np.asarray(held[name]).reshape(1, -1) for name in (*widths, "betas")}
            fit = {name: shaped(given[name], (1, width), file, name)[0] for name, width in widths.items()}
            shape = shaped(given["betas"], (1, None), file, "betas")[0]
            if len(shape) < 10:
                raise PosesynError(f"{file}: betas has {len(shape)} numbers, not 10: get {self._labels.fits} again")
            kid = shape[:11] if len(shape) > 10 else np.full(11, np.nan)  # children have one more
            rotations = np.zeros(3 * _BONES)
            body = np.concatenate([fit["global_orient"], fit["body_pose"]])
            rotations[: len(body)] = body
            self._fits[key] = {
                "rotations": rotations.reshape(_BONES, 3), "betas": shape[:10], "kid_betas": kid,
                "transl": fit["transl"],
            }  # fmt: skip
        return self._fits[key]


def camera_of(name: str, row: dict[str, Any], size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """(3,3) intrinsics of a picture; (3,3) rotation and (3,) translation in metres, from AGORA's world with OpenCV's
    axes to the camera's frame.
    """
    width, height = size
    part = next((part for part in _CAMERAS if part in name), None)
    ground = np.zeros(3)
    if part is None:
        lens, place, yaw, pitch = 28.0, (row["camX"], row["camY"], row["camZ"]), float(row["camYaw"]), 0.0
        ground[1] = -1.7
    else:
        lens, place, yaw, pitch = _CAMERAS[part]
    focal = lens / _SENSOR * width
    turn = Rotation.from_euler("yx", [-yaw, pitch], degrees=True).as_matrix()  # about fixed axes, yaw first
    shift = -turn @ (opencv_axes(np.asarray(place, np.float64) / 100) + ground)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), turn, shift


def opencv_axes(point_3: Array) -> Array:
    """Unreal's x forward, y right, z up to OpenCV's x right, y down, z forward."""
    return np.array([point_3[1], -point_3[2], point_3[0]])


def in_camera(
    fit: dict[str, Array], yaw: float, place_cm: Array, turn: Array, shift: Array, pelvis: Array
) -> tuple[Array, Array]:
    """(24,3) rotation vectors and (3,) ``transl`` of a scan's body in the camera's frame.

    The pelvis at rest follows from where the labels have it: no body file is needed to turn the body about it.
    """
    whole = turn @ Rotation.from_euler("y", yaw - 90, degrees=True).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    moved = turn @ opencv_axes(place_cm / 100) + shift
    pose = fit["rotations"].copy()
    if np.isfinite(pose).all():
        pose[0] = Rotation.from_matrix(whole @ Rotation.from_rotvec(pose[0]).as_matrix()).as_rotvec()
    rest = whole.T @ (pelvis - moved) - fit["transl"]
    return pose, pelvis - rest
