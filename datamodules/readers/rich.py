"""RICH: Real scenes, Interaction, Contact and Humans (Huang et al., CVPR 2022).

    images/{train,val,test}/SEQUENCE/cam_03/00017_03.{bmp,png,jpeg}
    bodies/{train,val,test}/SEQUENCE/00017/003.pkl                 SMPL-X of subject 3 in frame 17
    scan_calibration/SCENE/calibration/003.xml                     camera 3, written by OpenCV

(paulchhuang/rich_toolkit). The bodies lie in the frame that all cameras of a scene are calibrated in. Kept: every
subject in every picture of a calibrated camera (moving ones are not calibrated) whose middle is in the picture, turned
into the camera's frame. Lens distortion is not looked at, as in the toolkit's projection. The joints are those of
SMPL-X, by the user's own body files; hands and faces, which no evaluation on RICH uses, are left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from datamodules.readers.base import READERS
from datamodules.readers.body_labels import GENDERS, Placed, body_facts, body_name, place, project, with_bodies
from datamodules.readers.files import read_pickle, read_xml, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

#: Subjects by their number; the others are male (paulchhuang/rich_toolkit:resource/gender.json).
FEMALE = frozenset({9, 10, 12, 13, 16, 17, 18, 19, 21})
_PARAMETERS = {"betas": 10, "global_orient": 3, "body_pose": 63, "transl": 3}
_PICTURE = re.compile(r"(\d{5})_\d{2}\.(?:bmp|png|jpe?g)")
_CAMERA = re.compile(r"cam_(\d{2})")


@READERS.register("rich")
class RichReader(IndexedReader):
    """RICH below ``root``. ``group`` is the camera; ``sequence`` numbers the videos (sequences x cameras)."""

    name = "rich"
    licence = "RICH licence: non-commercial scientific research only, no redistribution"
    where = (
        "register at https://rich.is.tue.mpg.de and unpack images, bodies and scan_calibration into one folder, "
        "the root"
    )
    skeleton = "smpl24"
    body = "smplx"
    splits = ("test", "val", "train")

    def label_files(self) -> list[Path]:
        bodies = sorted((self.root / "bodies" / self.split).glob("*/*/*.pkl"))
        self._bodies: dict[str, list[Path]] = defaultdict(list)
        for path in bodies:
            self._bodies[path.parts[-3]].append(path)
        cameras: list[Path] = []
        for scene in sorted({_scene(sequence) for sequence in self._bodies}):
            found = sorted((self.root / "scan_calibration" / scene / "calibration").glob("[0-9]*.xml"))
            if not found:
                raise PosesynError(
                    f"no cameras of {scene} in {self.root / 'scan_calibration' / scene / 'calibration'}: unpack RICH's "
                    "scan_calibration whole"
                )
            cameras += found
        return bodies + cameras

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "bodies": body_facts("smplx")}

    def scan(self, path: Path) -> Persons | Any:
        # A file holds one person in one frame: a sequence is read whole, at its first file.
        if path.suffix == ".pkl" and self._bodies[path.parts[-3]][0] == path:
            return self._sequence(path.parts[-3])
        return Persons([], [])

    def _sequence(self, sequence: str) -> Any:
        folder = self.root / "images" / self.split / sequence
        views = sorted(p for p in folder.glob("cam_*") if _CAMERA.fullmatch(p.name))
        if not views:
            raise PosesynError(f"no pictures of {sequence} in {folder}: unpack RICH's images whole")
        number = list(self._bodies).index(sequence)
        numbers, frames, parameters = self._parameters(sequence)
        for view in views:
            camera = int(view.name[4:])
            calibration = self.root / "scan_calibration" / _scene(sequence) / "calibration" / f"{camera:03d}.xml"
            pictures = {int(m[1]): m[0] for m in map(_PICTURE.fullmatch, sorted(p.name for p in view.iterdir())) if m}
            if not calibration.is_file():
                self.skipped.add("pictures of moving cameras, which have no calibration", str(view), len(pictures))
                continue
            here = np.isin(frames, list(pictures))
            if not here.all():
                missing = f"{sequence}/{view.name}/{frames[~here][0]:05d}"
                self.skipped.add("persons in frames without a picture", missing, int((~here).sum()))
            if not here.any():
                continue
            world_to_camera, intrinsics = read_calibration(calibration)
            placed = self._placed(numbers[here], {k: v[here] for k, v in parameters.items()}, world_to_camera)
            inside = _inside(placed.joints, intrinsics, _size([view / name for name in pictures.values()]))
            rows = np.flatnonzero(here)[inside]
            ids = [f"rich/{sequence}/{view.name}/{frames[k]:05d}/{numbers[k]:03d}" for k in np.flatnonzero(here)]
            if not inside.all():
                self.skipped.add(
                    "persons outside the picture", ids[int(np.flatnonzero(~inside)[0])], int((~inside).sum())
                )
            count = len(rows)
            relative = view.relative_to(self.root).as_posix()
            persons = Persons(
                ids=[name for name, keep in zip(ids, inside, strict=True) if keep],
                pictures=[f"{relative}/{pictures[f]}" for f in frames[rows].tolist()],
                native3d=np.concatenate([placed.joints[inside], np.ones((count, 24, 1))], 2),
                intrinsics=np.broadcast_to(intrinsics, (count, 3, 3)),
                more={
                    "pose": placed.pose[inside],
                    "betas": parameters["betas"][rows],
                    "transl": placed.transl[inside],
                    "gender": np.array([GENDERS[_gender(n)] for n in numbers[rows].tolist()]),
                    "camera": np.broadcast_to(world_to_camera, (count, 4, 4)),
                    "sequence": np.full(count, 100 * number + camera),
                    "frame": frames[rows],
                    "person": numbers[rows],
                    "group": np.full(count, camera),
                    "subjects": np.full(count, len(np.unique(numbers))),
                },
            )
            yield with_bodies(persons, self.skipped)

    def _parameters(self, sequence: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any], dict[str, npt.NDArray[Any]]]:
        """(N,) subjects, (N,) frames, and SMPL-X's parameters (N, ...) of a sequence."""
        numbers, frames = [], []
        columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _PARAMETERS}
        for path in self._bodies[sequence]:
            if not (path.stem.isdigit() and path.parent.name.isdigit()):
                raise PosesynError(f"{path} is not named FRAME/SUBJECT.pkl: get it again from RICH's archive")
            numbers.append(int(path.stem))
            frames.append(int(path.parent.name))
            labels = read_pickle(path, tuple(_PARAMETERS))
            for name, width in _PARAMETERS.items():
                columns[name].append(shaped(labels[name], (1, width), path, name)[0])
        return np.array(numbers), np.array(frames), {name: np.stack(rows) for name, rows in columns.items()}

    def _placed(
        self, numbers: npt.NDArray[Any], parameters: dict[str, npt.NDArray[Any]], world_to_camera: npt.NDArray[Any]
    ) -> Placed:
        """The bodies of one camera's persons; each gender has its own body."""
        count = len(numbers)
        rotations = np.concatenate([parameters["global_orient"], parameters["body_pose"]], 1).reshape(count, 22, 3)
        pose = np.concatenate([rotations, np.zeros((count, 2, 3))], 1)  # the hands stay at rest
        out = Placed(np.zeros((count, 24, 3)), np.zeros((count, 3)), np.zeros((count, 24, 3)))
        genders = np.array([_gender(n) for n in numbers.tolist()])
        for gender in np.unique(genders):
            rows = np.flatnonzero(genders == gender)
            cameras = np.broadcast_to(world_to_camera, (len(rows), 4, 4))
            part = place(
                body_name("smplx", str(gender)),
                parameters["betas"][rows],
                pose[rows],
                parameters["transl"][rows],
                cameras,
            )
            out.pose[rows], out.transl[rows], out.joints[rows] = part.pose, part.transl, part.joints
        return out


def read_calibration(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """World to camera (4,4) and intrinsics (3,3) of an XML file that OpenCV wrote."""
    root = read_xml(path)

    def numbers(name: str, rows: int, columns: int) -> npt.NDArray[np.float64]:
        found = root.find(f"./{name}/data")
        words = (found.text or "").split() if found is not None else []
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            values = np.zeros(0)
        if len(values) != rows * columns or not np.isfinite(values).all():
            raise PosesynError(f"{path}: {name} does not hold {rows} x {columns} numbers: get it again from RICH")
        return values.reshape(rows, columns)

    return np.vstack([numbers("CameraMatrix", 3, 4), [0, 0, 0, 1]]), numbers("Intrinsics", 3, 3)


def _scene(sequence: str) -> str:
    return sequence.split("_")[0]


def _gender(subject: int) -> str:
    return "female" if subject in FEMALE else "male"


def _inside(
    joints_NJ3: npt.NDArray[np.float64], intrinsics: npt.NDArray[np.float64], size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """(N,) whether a body is before the camera and the middle of its box in the picture of ``size`` (width, height)."""
    pixels = project(joints_NJ3, intrinsics)
    middle = (pixels.min(1) + pixels.max(1)) / 2
    within = np.greater_equal(middle, 0) & np.less_equal(middle, np.subtract(size, 1))
    return np.asarray(within.all(1) & np.greater(joints_NJ3[..., 2], 0).all(1))


def _size(paths: list[Path]) -> tuple[int, int]:
    """(width, height) of the first picture whose header can be read."""
    for path in paths:
        try:
            with Image.open(path) as picture:
                return picture.size
        except (OSError, ValueError):  # its crops are the business of those who read it
            continue
    raise PosesynError(f"cannot read any picture in {paths[0].parent}: restore them from RICH's archive")
