"""MuCo-3DHP (Mehta et al., "Single-Shot Multi-Person 3D Pose Estimation From Monocular RGB", 3DV 2018).

Composites of one to four persons of MPI-INF-3DHP, as 3DMPPE packed them: ``MuCo-3DHP.json`` beside ``unaugmented_set``
and ``augmented_set``. COCO's "images" (id, file_name, width, height, f, c) and "annotations" (image_id, bbox xywh,
``keypoints_img`` (21, 2) px, ``keypoints_cam`` (21, 3) mm in the camera's frame). Training only: it is evaluated on
MuPoTS-3D. [mks0601/3DMPPE_POSENET_RELEASE:data/MuCo/MuCo.py] Joints outside of the picture have confidence 0 in 2D.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.readers.base import READERS
from datamodules.readers.files import read_json, safe_name, shaped
from datamodules.readers.h36m_json import fit_columns
from datamodules.readers.indexed import IndexedReader, Persons
from human.errors import PosesynError

_CHUNK = 20_000


@READERS.register("muco")
class MucoReader(IndexedReader):
    """See the module.

    Args:
        root: folder with ``MuCo-3DHP.json``.
        split: "train" (both sets), "unaugmented" or "augmented" (backgrounds exchanged).
        fits: also neutral SMPL in the camera's frame, as ``smpl_param.json`` (pose, shape, trans by annotation)
            beside the labels has it, of persons who have it.
    """

    name = "muco"
    licence = "non-commercial research, as MPI-INF-3DHP"
    where = (
        "images and MuCo-3DHP.json of 3DMPPE (github.com/mks0601/3DMPPE_POSENET_RELEASE) into one folder, the root; "
        "the data's own page is https://vcai.mpi-inf.mpg.de/projects/SingleShotMultiPerson"
    )
    skeleton = "muco21"
    splits = ("train", "unaugmented", "augmented")
    folders = ("muco-3dhp",)
    fits: bool = False

    def __init__(
        self, root: str | Path, split: str | None = None, fits: bool = False, cache: str | Path | None = None
    ) -> None:
        self.fits = fits
        if fits:
            self.body = "smpl"
        super().__init__(root, split, cache)

    def label_files(self) -> list[Path]:
        return [self.root / "MuCo-3DHP.json"]

    def facts(self) -> dict[str, Any]:
        path = self.root / "smpl_param.json"
        stamp = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() and self.fits else None
        return {**super().facts(), "fits": self.fits, "stamp": stamp}

    def scan(self, path: Path) -> Iterator[Persons]:
        content = read_json(path)
        fits = read_json(path.with_name("smpl_param.json")) if self.fits else None
        try:
            images = {image["id"]: image for image in content["images"]}
            people: dict[Any, list[dict[str, Any]]] = {}
            for person in content["annotations"]:
                people.setdefault(person["image_id"], []).append(person)
            pairs = [
                (images[key], k, person, len(group))
                for key, group in people.items()
                if self.split == "train" or str(images[key]["file_name"]).startswith(f"{self.split}_set")
                for k, person in enumerate(group)
                if fits is None or str(person["id"]) in fits
            ]
            folders = sorted({safe_name(image["file_name"], path).split("/")[0] for image, *_ in pairs})
        except (KeyError, TypeError, AttributeError) as error:
            raise PosesynError(f"{path} is no MuCo-3DHP.json ({type(error).__name__}: {error}): {self.where}") from None
        for folder in folders:
            if not (self.root / folder).exists():
                raise PosesynError(f"no pictures at {self.root / folder}: {self.where}")
        for start in range(0, len(pairs), _CHUNK):
            yield self._persons(pairs[start : start + _CHUNK], fits, path)

    def _persons(self, pairs: list[tuple[dict[str, Any], int, dict[str, Any], int]], fits: Any, path: Path) -> Persons:
        try:
            flat = shaped([p["keypoints_img"] for _, _, p, _ in pairs], (None, 21, 2), path, "keypoints_img")
            solid = shaped([p["keypoints_cam"] for _, _, p, _ in pairs], (None, 21, 3), path, "keypoints_cam") / 1000
            boxes = shaped([p["bbox"] for _, _, p, _ in pairs], (None, 4), path, "bbox")
            sizes = shaped([[i["width"], i["height"]] for i, *_ in pairs], (None, 2), path, "width, height")
            lens = shaped([[*i["f"], *i["c"]] for i, *_ in pairs], (None, 4), path, "f, c")
            names = [safe_name(image["file_name"], path) for image, *_ in pairs]
            more: dict[str, Any] = {}
            if fits is not None:
                chosen = [fits[str(p["id"])] for _, _, p, _ in pairs]
                more = fit_columns(chosen, np.tile(np.eye(4), (len(chosen), 1, 1)), path.with_name("smpl_param.json"))
        except (KeyError, TypeError) as error:
            raise PosesynError(f"{path} is no MuCo-3DHP.json ({type(error).__name__}: {error}): {self.where}") from None
        intrinsics = np.zeros((len(pairs), 3, 3))
        intrinsics[:, 0, 0], intrinsics[:, 1, 1] = lens[:, 0], lens[:, 1]
        intrinsics[:, :2, 2], intrinsics[:, 2, 2] = lens[:, 2:], 1
        inside = ((flat >= 0) & (flat < sizes[:, None])).all(-1, keepdims=True)
        stems = [name.rsplit(".", 1)[0] for name in names]
        return Persons(
            ids=[f"muco/{stem}/{k}" for stem, (_, k, _, _) in zip(stems, pairs, strict=True)],
            pictures=names,
            native2d=np.concatenate([flat, inside], -1),
            native3d=np.concatenate([solid, np.ones_like(solid[..., :1])], -1),
            intrinsics=intrinsics,
            bbox=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
            people=np.array([count for *_, count in pairs]),
            more={"person": np.array([k for _, k, _, _ in pairs]), **more},
        )
