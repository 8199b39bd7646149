"""Human3.6M (Ionescu, Papava, Olaru, Sminchisescu, TPAMI 2014): one person, four cameras, motion capture at 50 Hz.

Two layouts are read, told apart by what lies below the root:

* the release: ``S9/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf`` (F, 96): 32 joints in mm in that
  camera's frame; ``D2_Positions`` (px) beside it or else a calibration (``h36m_cameras``); pictures in
  ``S9/Videos/*.mp4``, or files that SPIN, mmhuman3d or PosePile cut from them;
* 3DMPPE's (Moon et al., ICCV 2019) ``annotations/Human36M_subject9_{data,camera,joint_3d}.json`` and ``images``.

Joints 0, 1, 2, 3, 6, 7, 8, 12 to 15, 17, 18, 19, 25, 26, 27 of the 32 are kept (the others are copies of them or toes);
11 and 0, and 13, 16 and 24, which some code bases use instead, are the same points.

``sequence`` is 10000 subject + 100 action + 10 part + camera. The action is 2 to 16 as in the release's metadata, the
camera 1 to 4 in the order of ``h36m_cameras.CAMERAS``. The part is the number in 3DMPPE's names (1, 2), and 5 + the
number in the release's ("Directions" 5, "Directions 1" 6), since metadata.xml pairs the two anew for each subject.
``frame`` counts from 0, ``group`` is the action.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.readers import h36m_json
from datamodules.readers.base import READERS
from datamodules.readers.body_labels import body_facts
from datamodules.readers.cdf import read_cdf
from datamodules.readers.files import names_in
from datamodules.readers.h36m_cameras import CAMERAS, FILES, Camera, calibration_file, read_cameras
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

#: The action's number by its name; subject 1's names differ.
ACTIONS = {
    "Directions": 2, "Discussion": 3, "Eating": 4, "Greeting": 5, "Phoning": 6, "Posing": 7, "Purchases": 8,
    "Sitting": 9, "SittingDown": 10, "Smoking": 11, "Photo": 12, "TakingPhoto": 12, "Waiting": 13, "Walking": 14,
    "WalkDog": 15, "WalkingDog": 15, "WalkTogether": 16,
}  # fmt: skip
#: The 17 of 32 joints in the order of ``human.skeleton.H36M17``.
KEPT = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
#: Frames that the published protocols use (SPIN every 5th, 3DMPPE every 64th).
STRIDES = (5, 64)
SUBJECTS = {"train": (1, 5, 6, 7, 8), "test": (9, 11)}


@READERS.register("h36m")
class H36mReader(IndexedReader):
    """See the module.

    Args:
        root: folder with ``S1`` ... ``S11``, or with ``annotations`` and ``images``.
        split: "train" (S1, 5, 6, 7, 8) or "test" (S9, S11).
        subjects: only these of the split.
        every: keep each frame whose number divides by it; by default by 5 or by 64 (those that are there).
        fits: also SMPL as 3DMPPE's ``smpl_param.json`` has it, of persons who have it.

    Raises:
        PosesynError: also where a sequence has labels but neither video nor pictures.
    """

    name = "h36m"
    licence = "academic use only; register at vision.imar.ro/human3.6m"
    where = (
        "from http://vision.imar.ro/human3.6m (registration): Videos and Poses/D3_Positions_mono of each subject, and "
        "metadata.xml of code-v1.2.zip; or 3DMPPE's images.zip and annotations.zip "
        "(github.com/mks0601/3DMPPE_POSENET_RELEASE)"
    )
    skeleton = "h36m17"
    splits = ("train", "test")
    folders = ("human3.6m", "human36m")
    subjects: Sequence[int] = ()  # () for all of the split
    every: int | None = None
    fits: bool = False

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        subjects: list[int] | None = None,
        every: int | None = None,
        fits: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        wanted = SUBJECTS.get(split or self.splits[0], ())
        if unknown := sorted(set(subjects or ()) - set(wanted)):
            raise PosesynError(f"h36m ({split or 'train'}) has no subject {unknown[0]}; it has {wanted}.")
        if every is not None and every < 1:
            raise PosesynError(f"h36m: every={every} keeps no frame; pass 1 or more.")
        self.subjects = sorted(subjects or ())
        self.every, self.fits = every, fits
        if fits:
            self.body = "smpl"
            if not (Path(root) / "annotations").is_dir():
                raise PosesynError(f"h36m: fits are 3DMPPE's, and {root} has no folder annotations: {self.where}")
        super().__init__(root, split, cache)

    @property
    def _subjects(self) -> Sequence[int]:
        return self.subjects or SUBJECTS[self.split]

    def label_files(self) -> list[Path]:
        if (self.root / "annotations").is_dir():
            return [h36m_json.files(self.root, s)[0] for s in self._subjects]
        found: list[Path] = []
        for subject in self._subjects:
            folder = self.root / f"S{subject}" / "MyPoseFeatures" / "D3_Positions_mono"
            files = sorted(p for p in folder.glob("*.cdf") if not p.name.startswith("_ALL"))
            if not files:
                raise PosesynError(f"no *.cdf in {folder.absolute()} (subject {subject} of {self.split}): {self.where}")
            found += files
        return found

    def facts(self) -> dict[str, Any]:
        beside: list[Path] = []  # what else the index is made from
        if (self.root / "annotations").is_dir():
            beside = [path for s in self._subjects for path in h36m_json.files(self.root, s)[1:]]
        else:
            beside = [self.root / name for name in (*FILES, "images")]
            for s in self._subjects:
                folders = ("MyPoseFeatures/D2_Positions", "Videos", "images", "Images")
                beside += [self.root / f"S{s}" / name for name in folders]
        fits = body_facts("smpl") if self.fits else None
        times = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in beside if path.exists()]
        return {**super().facts(), "subjects": self._subjects, "every": self.every, "beside": times, "fits": fits}

    def scan(self, path: Path) -> Persons | Iterator[Persons]:
        if path.suffix == ".json":
            return h36m_json.scan(self.root, path, self.keeps, self.fits)
        return self._scan_cdf(path)

    def keeps(self, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        strides = STRIDES if self.every is None else (self.every,)
        return np.any([frames % stride == 0 for stride in strides], axis=0)

    # -- the release ---------------------------------------------------------------------------------------------------
    def _scan_cdf(self, path: Path) -> Persons:
        subject, (title, camera) = path.parents[2].name, _parse(path)
        words = title.split(" ")
        action, part = ACTIONS.get(words[0]), words[1] if len(words) > 1 else "0"
        if action is None or camera not in CAMERAS or not part.isdigit() or len(part) > 1:
            raise PosesynError(f"{path} is no file of Human3.6M (ACTION NUMBER.CAMERA.cdf): take it away from there")
        points = _joints(path, 3)
        frames = np.flatnonzero(self.keeps(np.arange(len(points))))
        frames, pictures = _pictures(self.root, subject, title, camera, frames, self.where)
        metres = points[frames][:, KEPT] / 1000
        view = self._camera(int(subject[1:]), camera)
        pixels = self._pixels(path, frames, metres, view, len(points))
        n, ones = len(frames), np.ones((len(frames), len(KEPT), 1))
        sequence = 10000 * int(subject[1:]) + 100 * action + 10 * (5 + int(part)) + CAMERAS.index(camera) + 1
        more: dict[str, Any] = {"sequence": np.full(n, sequence), "frame": frames, "group": np.full(n, action)}
        if view is not None:
            more |= {"camera": np.tile(view.matrix, (n, 1, 1)), "distortion": np.tile(view.lens, (n, 1))}
        prefix = f"h36m/{subject}/{title.replace(' ', '_')}/{camera}"
        return Persons(
            ids=[f"{prefix}/{frame:06d}" for frame in frames],
            pictures=pictures,
            native2d=np.concatenate([pixels, ones], -1),
            native3d=np.concatenate([metres, ones], -1),
            intrinsics=None if view is None else view.intrinsics,
            more=more,
        )

    def _camera(self, subject: int, name: str) -> Camera | None:
        path = calibration_file(self.root)
        if path is None:
            return None
        cameras = _cameras(path, path.stat().st_mtime_ns)
        if (subject, name) not in cameras:
            raise PosesynError(f"{path} has no camera {name} of subject {subject}: get it again")
        return cameras[subject, name]

    def _pixels(
        self, path: Path, frames: npt.NDArray[np.int64], metres: npt.NDArray[Any], view: Camera | None, count: int
    ) -> npt.NDArray[Any]:
        flat = path.parents[1] / "D2_Positions" / path.name
        if flat.is_file():
            points = _joints(flat, 2)
            if len(points) != count:
                raise PosesynError(f"{flat} has {len(points)} frames, {path} has {count}: get both again")
            return points[frames][:, KEPT]
        if view is None:
            raise PosesynError(
                f"{path} has no 2D joints ({flat} is missing) and there is no calibration below {self.root.absolute()} "
                f"({' or '.join(FILES)}): {self.where}"
            )
        return view.project(metres)


def _parse(path: Path) -> tuple[str, str]:
    """("Directions 1", "54138969") of "Directions 1.54138969.cdf"; spaces or underscores."""
    title, _, camera = path.stem.replace("_", " ").partition(".")
    return title, camera


@lru_cache(maxsize=2)
def _cameras(path: Path, changed: int) -> dict[tuple[int, str], Camera]:
    return read_cameras(path)


def _joints(path: Path, width: int) -> npt.NDArray[np.float64]:
    """(F, 32, width) as written."""
    values = read_cdf(path, "Pose")
    if values.size == 0 or values.size % (32 * width) or values.shape[-1] != 32 * width:
        raise PosesynError(f"{path}: Pose has the shape {values.shape}, not (1, F, {32 * width}): get it again")
    return values.reshape(-1, 32, width).astype(np.float64)


def _pictures(
    root: Path, subject: str, title: str, camera: str, frames: npt.NDArray[np.int64], where: str
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The frames of ``frames`` that have a picture, and its name; cut files before the video, which decodes slower."""
    spaced, joined = f"{title}.{camera}", f"{subject}_{title.replace(' ', '_')}.{camera}"
    layouts = (
        (f"{subject}/images/{joined}", f"{joined}_{{:06d}}.jpg", 1),  # mmhuman3d
        (f"{subject}/images/{joined}", f"{joined}_{{:05d}}.jpg", 1),
        (f"{subject}/Images/{spaced}", "frame_{:06d}.jpg", 0),  # PosePile
        ("images", f"{joined}_{{:06d}}.jpg", 1),  # SPIN
    )
    for folder, pattern, first in layouts:
        there = names_in(root / folder)
        names = [pattern.format(frame + first) for frame in frames]
        kept = np.array([name in there for name in names], bool)
        if kept.any():
            return frames[kept], [f"{folder}/{name}" for name, keep in zip(names, kept, strict=True) if keep]
    for video in (f"{subject}/Videos/{spaced}.mp4", f"{subject}/Videos/{spaced.replace(' ', '_')}.mp4"):
        if (root / video).is_file():
            return frames, [f"{video}#{frame}" for frame in frames]
    raise PosesynError(f"{root / subject / 'Videos' / spaced}.mp4 is missing, and so are pictures cut from it: {where}")
