"""BEDLAM: Bodies Exhibiting Detailed Lifelike Animated Motion (Black et al., CVPR 2023), synthetic.

    training_labels/all_npz_12_training/SCENE.npz     persons of a scene, at 6 pictures a second
    training_images/SCENE/png/seq_000042/seq_000042_0035.png

(pixelite1201/BEDLAM:data_processing/ReadMe.md, train/core/config.py.) Kept: every person, in SMPL-X's neutral body, the
hands at rest and the face still, as BEDLAM's own training has them. ``pose_cam``, and ``trans_cam`` plus the fourth
column of ``cam_ext``, are in the camera's frame. Scenes whose labels are upright while their pictures lie on their side
(the close-ups) have them turned clockwise. The box is the set's own square without its margin of 1.2, the joints are
all projected, also where they lie outside the picture. 3D joints are SMPL-X's, by the user's own body file; without one
there are 2D joints and parameters. AGORA's files in the same archive are left to its own reader.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from datamodules.readers.base import READERS
from datamodules.readers.body_labels import body_facts
from datamodules.readers.files import read_npz, safe_name, shaped
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

log = logging.getLogger(__name__)
Array = npt.NDArray[Any]
_KEYS = ("imgname", "center", "scale", "pose_cam", "shape", "trans_cam", "gtkps", "cam_int", "cam_ext", "sub")
#: In SMPL-X's order: SMPL's first 22, and the first joints of the middle fingers where SMPL has its hands.
_JOINTS = [*range(22), 28, 43]
_MARGIN = 1.2
_BETAS = 11  # scenes have 10 or 11
_SHARE = 0.8
_CHUNK = 4096
_NUMBER = re.compile(r"(\d+)\.\w+$")


@READERS.register("bedlam")
class BedlamReader(IndexedReader):
    """BEDLAM below ``root``. Splits are BEDLAM's: the first 80 % of each scene's file train, the others validate.

    ``sequence`` numbers the sequences of all scenes that are there; ``person`` the subjects of one.

    Args:
        scenes: names of label files without ``.npz``; by default all whose pictures are there.
    """

    name = "bedlam"
    licence = "BEDLAM licence: non-commercial scientific research only, no redistribution"
    where = (
        "register at https://bedlam.is.tue.mpg.de and run fetch_training_data.sh of pixelite1201/BEDLAM; root is its "
        "folder data, with training_images and training_labels"
    )
    skeleton = "smpl24"
    body = "smplx"
    splits = ("train", "validation", "all")
    scenes: Sequence[str] | None = None
    _sequences = 0  # numbered so far
    _told = False

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        cache: str | Path | None = None,
        scenes: Sequence[str] | None = None,
    ) -> None:
        self.scenes = list(scenes) if scenes is not None else None
        super().__init__(root, split, cache)

    def label_files(self) -> list[Path]:
        folder = self.root / "training_labels" / "all_npz_12_training"
        if self.scenes is not None:
            files = [folder / f"{safe_name(scene, 'the option `scenes`')}.npz" for scene in self.scenes]
            for path in files:
                if not self._pictures(path).is_dir():
                    raise PosesynError(f"no pictures of {path.stem} in {self._pictures(path)}: {self.where}")
            return files
        every = [path for path in sorted(folder.glob("*.npz")) if not path.stem.startswith("agora")]
        files = [path for path in every if self._pictures(path).is_dir()]
        if without := [path.stem for path in every if path not in files]:
            log.warning("bedlam: left out %d scenes whose pictures are not there (as %s)", len(without), without[0])
        return files

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "scenes": self.scenes, "bodies": body_facts("smplx")["smplx"]}

    def scan(self, path: Path) -> Iterator[Persons]:
        held = read_npz(path)
        if "hand_det_conf" in held:
            raise PosesynError(f"{path} is BEDLAM2's, whose keypoints are in another order: give BEDLAM's own")
        if missing := [key for key in _KEYS if key not in held]:
            raise PosesynError(f"{path} has no {missing[0]!r}: get it again from BEDLAM's archive")
        count = len(held["imgname"])
        wide = {
            "center": (2,),
            "scale": (),
            "pose_cam": (165,),
            "trans_cam": (3,),
            "cam_int": (3, 3),
            "cam_ext": (4, 4),
        }
        columns = {key: shaped(held[key], (count, *shape), path, key) for key, shape in wide.items()}
        shape = shaped(held["shape"], (count, None), path, "shape")
        if not 0 < shape.shape[1] <= _BETAS:
            raise PosesynError(f"{path}: shape has {shape.shape[1]} numbers: get it again from BEDLAM's archive")
        columns["shape"] = np.pad(shape, ((0, 0), (0, _BETAS - shape.shape[1])))
        keypoints = shaped(held["gtkps"], (count, None, None), path, "gtkps")
        if keypoints.shape[1] <= max(_JOINTS) or keypoints.shape[2] < 2:
            raise PosesynError(f"{path}: gtkps has the shape {keypoints.shape}: get it again from BEDLAM's archive")
        columns["joints"] = keypoints[:, _JOINTS, :2]
        pictures = [safe_name(str(name), path) for name in held["imgname"]]
        sequence, frame, person, names = _numbered(path, pictures, [str(sub) for sub in held["sub"]])
        columns |= {"sequence": sequence + self._sequences, "frame": frame, "person": person}
        self._sequences += int(sequence.max(initial=-1)) + 1
        edge = int(_SHARE * count)
        chosen = {"train": (0, edge), "validation": (edge, count), "all": (0, count)}[self.split]
        folder = self._pictures(path).relative_to(self.root).as_posix()
        for first in range(*chosen, _CHUNK):
            rows = slice(first, min(first + _CHUNK, chosen[1]))
            part = {key: column[rows] for key, column in columns.items()}
            yield self._persons(part, names[rows], [f"{folder}/{name}" for name in pictures[rows]])

    def _persons(self, part: dict[str, Array], names: list[str], pictures: list[str]) -> Persons:
        count = len(names)
        pose = part["pose_cam"].reshape(count, 55, 3)[:, :24].copy()
        pose[:, 22:] = 0  # jaw and an eye in SMPL-X's order
        transl = part["trans_cam"] + part["cam_ext"][:, :3, 3]
        seen = np.asarray(np.isfinite(part["joints"]).all(2))
        side = part["scale"] * 200
        half = (side / _MARGIN / 2).reshape(count, 1)
        return Persons(
            ids=names,
            pictures=pictures,
            native2d=np.concatenate([part["joints"], seen[:, :, None]], 2),
            native3d=self._solid(part["shape"], pose, transl),
            intrinsics=part["cam_int"],
            bbox=np.concatenate([part["center"] - half, part["center"] + half], 1),
            more={
                "pose": pose,
                "betas": part["shape"],
                "transl": transl,
                "gender": np.zeros(count, np.int8),  # the neutral body's, whatever the subject
                "crop": np.concatenate([part["center"], side[:, None]], 1),
                **{key: part[key] for key in ("sequence", "frame", "person")},
            },
        )

    def _solid(self, betas: Array, pose: Array, transl: Array) -> Array | None:
        """(N,24,4) metres, camera frame; None without the user's SMPL-X."""
        if self.facts()["bodies"] is None:
            if not self._told:
                log.warning("bedlam: no 3D joints, only parameters: they need SMPL-X (posesyn doctor tells how)")
                self._told = True
            return None
        from metrics.bodies import body_model, needed_betas  # and torchmetrics, which loader processes do not need

        betas = needed_betas(np.nan_to_num(betas))
        body = body_model("smplx", betas.shape[1])
        finite = np.isfinite(np.concatenate([pose.reshape(len(pose), -1), transl], 1)).all(1)
        with torch.no_grad():
            b, p, t = (torch.from_numpy(np.nan_to_num(a)) for a in (betas, pose, transl))
            joints = body.joints(b, p[:, 1:], p[:, 0], t)[:, :24].numpy()
        return np.concatenate([joints, np.repeat(finite[:, None, None], 24, 1)], 2)

    def read_image(self, i: int) -> npt.NDArray[np.uint8]:
        picture = super().read_image(i)
        camera = self.index.intrinsics[i]
        lies, upright = picture.shape[1] > picture.shape[0], camera[0, 2] < camera[1, 2]
        return np.ascontiguousarray(np.rot90(picture, -1)) if lies and upright else picture

    def _pictures(self, path: Path) -> Path:
        return self.root / "training_images" / path.stem / "png"


def _numbered(path: Path, pictures: list[str], subjects: list[str]) -> tuple[Array, Array, Array, list[str]]:
    """Numbers of each person's sequence, frame and subject, and names. The same subject twice in a picture is two."""
    sequences: dict[str, int] = {}
    people: dict[tuple[str, str, int], int] = {}
    known: dict[str, int] = {}
    times: dict[tuple[str, str], int] = {}
    numbers, names = np.zeros((3, len(pictures)), np.int32), []
    for row, (picture, subject) in enumerate(zip(pictures, subjects, strict=True)):
        found = _NUMBER.search(picture)
        if found is None or "/" not in picture:
            raise PosesynError(f"{path} names the picture {picture!r}, not SEQUENCE/..._NUMBER.png: get it again")
        sequence = picture.rpartition("/")[0]
        again = times[picture, subject] = times.get((picture, subject), -1) + 1
        if (sequence, subject, again) not in people:
            people[sequence, subject, again] = known[sequence] = known.get(sequence, -1) + 1
        person = people[sequence, subject, again]
        numbers[:, row] = sequences.setdefault(sequence, len(sequences)), int(found[1]), person
        names.append(f"bedlam/{path.stem}/{sequence}/{int(found[1]):04d}/{person}")
    return numbers[0], numbers[1], numbers[2], names
