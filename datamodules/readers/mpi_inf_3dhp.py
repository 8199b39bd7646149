"""MPI-INF-3DHP (Mehta et al., "Monocular 3D Human Pose Estimation In The Wild", 3DV 2017): markerless motion capture.

Training: ``S1`` ... ``S8/Seq1, Seq2/annot.mat`` (by camera: annot2 (F, 56) px, annot3 (F, 84) mm in its frame),
``camera.calibration`` and ``imageSequence/video_0.avi`` ... ``video_13.avi``, 2048 x 2048; 28 joints. Frames that SPIN,
mmhuman3d or PosePile cut from the videos are taken where they are.

Test: ``mpi_inf_3dhp_test_set/TS1`` ... ``TS6/annot_data.mat`` (HDF5) and ``imageSequence/img_000001.jpg`` ...; 17
joints in another order; only frames with ``valid_frame`` are kept. TS1 to TS4 are 2048 x 2048, TS5 and TS6 1920 x 1080
with a bent lens; TS1, TS2 are before a green screen, TS3, TS4 in a studio without, TS5, TS6 outdoors.

``native3d`` is the person as large as life (annot3), ``universal3d`` (test only) the same scaled to one height for all
(univ_annot3), which the published figures are of. Pixels are taken as written: they meet the projections of the joints
to 0.01 px, but for hips and spine, which lie up to 2 px beside them. Joints outside of the picture have confidence 0 in
2D. ``sequence``: training 1000 subject + 100 sequence + camera, test the number of TS. ``frame`` counts from 0 (test
pictures are numbered from 1). ``group``: training the camera, test the activity, 1 to 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS
from datamodules.readers.files import names_in, read_h5, read_mat, read_text, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

#: The eight cameras at chest height that training uses (nkolot/SPIN:datasets/preprocess/mpi_inf_3dhp.py).
CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
ACTIVITIES = ("Stand/Walk", "Exercise", "Sit on Chair", "Reach/Crouch", "On Floor", "Sports", "Misc.")
SCENES = ("green-screen", "no-green-screen", "outdoor")  # (TS - 1) // 2
#: Videos that end before their labels do (isarandi/posepile:src/posepile/ds/tdhp/main.py).
_SHORT = {(6, 2, 2): 3911}


SIZE, OUTDOOR_SIZE = (2048, 2048), (1920, 1080)


def _test_camera(
    size: Sequence[int], sensor: Sequence[float], focal: float, aspect: float, shift: Sequence[float]
) -> Any:
    """(3,3) px from the test set's calibration: mm on the sensor, pixel aspect, offset of the principal point."""
    fx = focal * size[0] / sensor[0]
    cx, cy = ((s / 2 + d) * n / s for s, d, n in zip(sensor, shift, size, strict=True))
    return np.array([[fx, 0, cx], [0, fx * aspect, cy], [0, 0, 1]])


# test_util/camera_calibration/ts1-4cameras.calib and ts5-6cameras.calib of the test set.
_STUDIO = _test_camera(SIZE, (10, 10), 7.32506, 1.00044, (-0.0322884, 0.0929296))
_OUTDOOR = _test_camera(OUTDOOR_SIZE, (10, 5.625), 8.770747185, 0.993236423, (-0.104908645, 0.104899704))
_OUTDOOR_LENS = (-0.276859611, 0.131125256, -0.000360494, -0.001149441, -0.049318332)


@READERS.register("mpi_inf_3dhp")
class MpiInf3dhpReader(IndexedReader):
    """See the module.

    Args:
        root: folder with ``S1`` ... or ``mpi_inf_3dhp_test_set``.
        split: "train" or "test".
        subjects: only these of S1 to S8 (train) or TS1 to TS6 (test); all must be there.
        cameras: of the training set, 0 to 13.
        every: of the training set's frames; the test set's are all kept.
    """

    name = "mpi_inf_3dhp"
    licence = "non-commercial research; accept the licence on the project page"
    where = (
        "from https://vcai.mpi-inf.mpg.de/3dhp-dataset: mpi_inf_3dhp.zip holds get_dataset.sh and get_testset.sh; "
        "set the subjects and ready_to_download in conf.ig, then run them in the root"
    )
    skeleton = "mpi_inf_3dhp28"  # of the training set
    splits = ("train", "test")
    folders = ("3dhp",)
    subjects: Sequence[int] = ()  # () for all of the split
    cameras: Sequence[int] = CAMERAS
    every: int = 5

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        subjects: list[int] | None = None,
        cameras: list[int] | None = None,
        every: int = 5,
        cache: str | Path | None = None,
    ) -> None:
        testing = split == "test"
        known = range(1, 7) if testing else range(1, 9)
        if unknown := sorted(set(subjects or ()) - set(known)):
            raise PosesynError(
                f"mpi_inf_3dhp ({split or 'train'}) has no subject {unknown[0]}; it has 1 to {known[-1]}."
            )
        if unknown := sorted(set(cameras or ()) - set(range(14))):
            raise PosesynError(f"mpi_inf_3dhp has no camera {unknown[0]}; it has 0 to 13.")
        if every < 1:
            raise PosesynError(f"mpi_inf_3dhp: every={every} keeps no frame; pass 1 or more.")
        self.skeleton = "mpi_inf_3dhp17" if testing else "mpi_inf_3dhp28"
        self.subjects = sorted(subjects or ())
        self.cameras = sorted(cameras or CAMERAS)
        self.every = every
        super().__init__(root, split, cache)

    @property
    def _subjects(self) -> Sequence[int]:
        return self.subjects or range(1, 7 if self.split == "test" else 9)

    def label_files(self) -> list[Path]:
        if self.split == "train":
            return [self.root / f"S{s}" / f"Seq{q}" / "annot.mat" for s in self._subjects for q in (1, 2)]
        base = self.root / "mpi_inf_3dhp_test_set"
        for folder in (base, base / "mpi_inf_3dhp_test_set", self.root):
            if any((folder / f"TS{s}").is_dir() for s in self._subjects):
                base = folder
                break
        return [base / f"TS{s}" / "annot_data.mat" for s in self._subjects]

    def facts(self) -> dict[str, Any]:
        chosen = {"subjects": list(self._subjects)}
        if self.split == "test":
            return {**super().facts(), **chosen}
        beside = [path.with_name(name) for path in self.label_files() for name in ("camera.calibration", "imageFrames")]
        times = [(str(path), path.stat().st_mtime_ns) for path in beside if path.exists()]
        return {**super().facts(), **chosen, "cameras": self.cameras, "every": self.every, "beside": times}

    def scan(self, path: Path) -> Persons | Iterator[Persons]:
        return self._scan_test(path) if self.split == "test" else self._scan_train(path)

    # -- training ------------------------------------------------------------------------------------------------------
    def _scan_train(self, path: Path) -> Iterator[Persons]:
        subject, sequence = path.parents[1].name, path.parent.name
        s, q = int(subject[1:]), int(sequence[3:])
        views = read_calibration(path.with_name("camera.calibration"))
        labels = read_mat(path, ("annot2", "annot3"), simplify=False)
        for c in self.cameras:
            flat = _cell(labels["annot2"], c, 56, path, "annot2").reshape(-1, 28, 2)
            solid = _cell(labels["annot3"], c, 84, path, "annot3").reshape(-1, 28, 3) / 1000
            if len(flat) != len(solid):
                raise PosesynError(
                    f"{path}: camera {c} has {len(flat)} frames in annot2, {len(solid)} in annot3: get it again"
                )
            if c not in views:
                raise PosesynError(f"{path.with_name('camera.calibration')} has no camera {c}: get it again")
            frames = np.arange(0, min(len(flat), _SHORT.get((s, q, c), len(flat))), self.every)
            frames, pictures = _pictures(self.root, f"{subject}/{sequence}", c, frames, self.where)
            intrinsics, matrix = views[c]
            n = len(frames)
            yield Persons(
                ids=[f"mpi_inf_3dhp/{subject}/{sequence}/video_{c}/{f:06d}" for f in frames],
                pictures=pictures,
                native2d=_inside(flat[frames], SIZE),
                native3d=_with_ones(solid[frames]),
                intrinsics=intrinsics,
                more={
                    "sequence": np.full(n, 1000 * s + 100 * q + c),
                    "frame": frames,
                    "group": np.full(n, c),
                    "camera": np.tile(matrix, (n, 1, 1)),
                },
            )

    # -- test ----------------------------------------------------------------------------------------------------------
    def _scan_test(self, path: Path) -> Persons:
        keys = ("annot2", "annot3", "univ_annot3", "valid_frame", "activity_annotation")
        labels = read_h5(path, keys)
        count = len(np.ravel(labels["valid_frame"]))
        valid = np.flatnonzero(shaped(np.ravel(labels["valid_frame"]), (count,), path, "valid_frame") > 0)
        activity = shaped(np.ravel(labels["activity_annotation"]), (count,), path, "activity_annotation")
        flat = shaped(labels["annot2"], (count, 1, 17, 2), path, "annot2")[valid, 0]
        solid = shaped(labels["annot3"], (count, 1, 17, 3), path, "annot3")[valid, 0] / 1000
        universal = shaped(labels["univ_annot3"], (count, 1, 17, 3), path, "univ_annot3")[valid, 0] / 1000
        name, number = path.parent.name, int(path.parent.name[2:])
        folder = (path.parent / "imageSequence").relative_to(self.root).as_posix()
        if not (self.root / folder).is_dir():
            raise PosesynError(f"no pictures at {self.root / folder}: {self.where}")
        n, outdoor = len(valid), number > 4
        return Persons(
            ids=[f"mpi_inf_3dhp/{name}/{f + 1:06d}" for f in valid],
            pictures=[f"{folder}/img_{f + 1:06d}.jpg" for f in valid],
            native2d=_inside(flat, OUTDOOR_SIZE if outdoor else SIZE),
            native3d=_with_ones(solid),
            intrinsics=_OUTDOOR if outdoor else _STUDIO,
            more={
                "universal3d": _with_ones(universal),
                "sequence": np.full(n, number),
                "frame": valid,
                "group": activity[valid],
                "distortion": np.tile(_OUTDOOR_LENS if outdoor else np.zeros(5), (n, 1)),
            },
        )


def read_calibration(path: Path) -> dict[int, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """(3,3) px and (4,4) world to camera in metres, by camera, of a "Skeletool Camera Calibration File V1.0"."""
    found: dict[int, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
    for block in re.split(r"^\s*name\b", read_text(path), flags=re.MULTILINE)[1:]:
        lines = {words[0]: words[1:] for line in block.splitlines()[1:] if (words := line.split())}
        try:
            name = int(block.split(maxsplit=1)[0])
            inner = np.array(lines["intrinsic"], np.float64).reshape(4, 4)[:3, :3]
            outer = np.array(lines["extrinsic"], np.float64).reshape(4, 4)
        except (KeyError, ValueError, IndexError) as error:
            raise PosesynError(f"{path} is damaged ({error}): get it again from the data set's archive") from None
        outer[:3, 3] /= 1000
        found[name] = inner, outer
    return found


def _with_ones(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([points, np.ones_like(points[..., :1])], -1)


def _inside(pixels: npt.NDArray[np.float64], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """With confidence 1 in the picture, 0 outside."""
    inside = ((pixels >= 0) & (pixels < size)).all(-1, keepdims=True)
    return np.concatenate([pixels, inside], -1)


def _cell(cells: Any, camera: int, width: int, path: Path, key: str) -> npt.NDArray[np.float64]:
    """(F, width) of one camera of a cell array (14, 1)."""
    if not isinstance(cells, np.ndarray) or cells.dtype != object or camera >= cells.size:
        raise PosesynError(f"{path}: {key} is no list of 14 cameras: get it again from the data set's archive")
    return shaped(cells.ravel()[camera], (None, width), path, f"{key} of camera {camera}")


def _pictures(
    root: Path, sequence: str, camera: int, frames: npt.NDArray[np.int64], where: str
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The frames that have a picture, and its name; cut files before the video."""
    layouts = (
        (f"{sequence}/imageFrames/video_{camera}", "frame_{:06d}.jpg", 1),  # SPIN
        (f"{sequence}/video_{camera}", "{:06d}.jpg", 1),  # mmhuman3d
        (f"{sequence}/imageSequence", f"img_{camera}_{{:06d}}.jpg", 0),  # PosePile
    )
    for folder, pattern, first in layouts:
        there = names_in(root / folder)
        names = [pattern.format(frame + first) for frame in frames]
        kept = np.array([name in there for name in names], bool)
        if kept.any():
            return frames[kept], [f"{folder}/{name}" for name, keep in zip(names, kept, strict=True) if keep]
    video = f"{sequence}/imageSequence/video_{camera}.avi"
    if not (root / video).is_file():
        raise PosesynError(f"{root / video} is missing, and so are pictures cut from it: {where}")
    return frames, [f"{video}#{frame}" for frame in frames]
