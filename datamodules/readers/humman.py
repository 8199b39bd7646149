"""HuMMan v1.0 (Cai et al., ECCV 2022): one person before ten Kinects, with SMPL (neutral) in the world's frame.

Two subsets are read, told apart by what a sequence holds: "Recon" has ``p000455_a000986/cameras.json``,
``smpl_params/000000.npz`` (every 6th frame: betas 10, body_pose 69, global_orient 3, transl 3) and
``kinect_color/kinect_000/000000.png``; "Point" has ``smpl_params.npz`` with a row per frame and
``kinect_color/kinect_000.mp4``. ``cameras.json``: K, R, T (metres, world to camera, OpenCV) of ``kinect_color_000`` ...
[caizhongang/humman_toolbox:humman_recon/README.md, humman_point/tools/visualizer_rgbd.py]

The set has no joints of its own: they are the body model's, so the user's SMPL file is needed. ``sequence`` numbers the
sequences by name, ``group`` is the camera.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.readers.base import READERS
from datamodules.readers.body_labels import body_facts, place
from datamodules.readers.files import read_json, read_npz, read_text, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

Array = npt.NDArray[np.float64]
_KEYS = {"global_orient": 3, "body_pose": 69, "betas": 10, "transl": 3}
_SEQUENCE = re.compile(r"p\d{6}_a\d{6}")


@READERS.register("humman")
class HummanReader(IndexedReader):
    """See the module.

    Args:
        root: folder with ``p000455_a000986`` ..., and ``train.txt``, ``test.txt`` of the project page.
        split: "train", "test" (the lists of sequences) or "all" that are there.
        cameras: numbers of Kinects, 0 to 9.
        every: frames of the Point subset whose number divides by it; the Recon subset is 6 apart as it is.
    """

    name = "humman"
    licence = "S-Lab licence 1.0, non-commercial research"
    where = (
        "from huggingface.co/datasets/caizhongang/HuMMan: recon_kinect_color_part_*.zip, recon_smpl_params.zip, "
        "recon_cameras.zip unpacked into one folder, the root, with train.txt and test.txt of "
        "https://caizhongang.github.io/projects/HuMMan/splits in it"
    )
    skeleton = "smpl24"
    body = "smpl"
    splits = ("train", "test", "all")
    folders = ("humman_release_v1.0_recon", "humman_release_v1.0_point")
    cameras: Sequence[int] = range(10)
    every: int = 6

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        cameras: list[int] | None = None,
        every: int = 6,
        cache: str | Path | None = None,
    ) -> None:
        if unknown := sorted(set(cameras or ()) - set(range(10))):
            raise PosesynError(f"humman has no camera {unknown[0]}; it has 0 to 9.")
        if every < 1:
            raise PosesynError(f"humman: every={every} keeps no frame; pass 1 or more.")
        self.cameras = sorted(cameras or range(10))
        self.every = every
        super().__init__(root, split, cache)

    def label_files(self) -> list[Path]:
        if self.split == "all":
            names = sorted(p.parent.name for p in self.root.glob("p*_a*/cameras.json"))
        else:
            path = self.root / f"{self.split}.txt"
            names = sorted(set(read_text(path).split()))
            if wrong := [name for name in names if not _SEQUENCE.fullmatch(name)]:
                raise PosesynError(f"{path} names the sequence {wrong[0]!r}: get it again from the project page")
        return [self.root / name / "cameras.json" for name in names]

    def facts(self) -> dict[str, Any]:
        stamps = []
        for path in self.label_files():
            single, folder = path.with_name("smpl_params.npz"), path.with_name("smpl_params")
            files = [single] if single.is_file() else sorted(folder.glob("*.npz"))
            stats = [file.stat() for file in files]
            newest = max((s.st_mtime_ns for s in stats), default=0)
            stamps.append((path.parent.name, len(stats), sum(s.st_size for s in stats), newest))
        made_from = {"smpl": body_facts(self.body)["smpl"], "params": stamps}
        return {**super().facts(), "cameras": self.cameras, "every": self.every, **made_from}

    def scan(self, path: Path) -> Iterator[Persons]:
        folder, sequence = path.parent, path.parent.name
        views, number = read_json(path), [p.parent.name for p in self.label_files()].index(sequence)
        frames, bodies = self._bodies(folder)
        if not len(frames):
            raise PosesynError(f"no bodies in {folder / 'smpl_params'}: {self.where}")
        pose = np.concatenate([bodies["global_orient"], bodies["body_pose"]], 1).reshape(-1, 24, 3)
        for camera in self.cameras:
            name = f"kinect_color_{camera:03d}"
            try:
                matrix = np.eye(4)
                matrix[:3, :3] = shaped(views[name]["R"], (3, 3), path, "R")
                matrix[:3, 3] = shaped(np.ravel(views[name]["T"]), (3,), path, "T")
                intrinsics = shaped(views[name]["K"], (3, 3), path, "K")
            except (KeyError, TypeError) as error:
                raise PosesynError(f"{path} has no camera {name} ({error}): get recon_cameras.zip again") from None
            n = len(frames)
            seen = place(self.body, bodies["betas"], pose, bodies["transl"], np.tile(matrix, (n, 1, 1)))
            yield Persons(
                ids=[f"humman/{sequence}/kinect_{camera:03d}/{f:06d}" for f in frames],
                pictures=self._pictures(folder, camera, frames),
                native3d=np.concatenate([seen.joints, np.ones((n, 24, 1))], -1),
                intrinsics=intrinsics,
                more={
                    "pose": seen.pose,
                    "betas": bodies["betas"],
                    "transl": seen.transl,
                    "gender": np.zeros(n),
                    "sequence": np.full(n, number),
                    "frame": frames,
                    "person": np.zeros(n),
                    "group": np.full(n, camera),
                    "camera": np.tile(matrix, (n, 1, 1)),
                },
            )

    def _bodies(self, folder: Path) -> tuple[npt.NDArray[np.int64], dict[str, Array]]:
        """Numbers of the frames, and the parameters with a row each."""
        single = folder / "smpl_params.npz"
        if single.is_file():
            content = read_npz(single, tuple(_KEYS))
            count = len(np.atleast_2d(content["transl"]))
            bodies = {k: shaped(content[k], (count, width), single, k) for k, width in _KEYS.items()}
            frames = np.arange(0, count, self.every)
            return frames, {k: values[frames] for k, values in bodies.items()}
        files = sorted(p for p in (folder / "smpl_params").glob("*.npz") if p.stem.isdigit())
        rows = [{k: shaped(v, (_KEYS[k],), p, k) for k, v in read_npz(p, tuple(_KEYS)).items()} for p in files]
        frames = np.array([int(p.stem) for p in files], np.int64)
        return frames, {k: np.array([row[k] for row in rows], np.float64) for k in _KEYS}

    def _pictures(self, folder: Path, camera: int, frames: npt.NDArray[np.int64]) -> list[str]:
        base = f"{folder.name}/kinect_color/kinect_{camera:03d}"
        if (self.root / base).is_dir():
            first = self.root / base / f"{frames[0]:06d}"
            extension = "png" if first.with_suffix(".png").is_file() else "jpg"  # some mirrors re-packed them
            return [f"{base}/{f:06d}.{extension}" for f in frames]
        if (self.root / f"{base}.mp4").is_file():
            return [f"{base}.mp4#{f}" for f in frames]
        raise PosesynError(f"neither pictures in {self.root / base} nor {self.root / base}.mp4: {self.where}")
