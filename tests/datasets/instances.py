"""An instance of every registered reader's data set, in its official layout, as large as one asks for.

The tests that hold for all readers and ``benchmarks.dataset_rates`` go by this table. A reader that is registered must
be in it (``tests/datamodules/test_instances.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datamodules.readers import pose2sim, sports2d
from tests.datasets import (
    agora,
    bedlam,
    coco,
    emdb,
    h36m,
    humman,
    jhmdb,
    lsp,
    mpi_inf_3dhp,
    mpii,
    muco,
    ochuman,
    panoptic,
    rich,
    skipose,
    smart,
    ssp3d,
    threedpw,
    unlabelled,
)
from tests.datasets.people import People

#: Makes people: ``make_people`` or something with its arguments.
Make = Callable[..., People]
Options = dict[str, Any]


@dataclass(frozen=True)
class Instance:
    """How a tiny data set is written.

    writer: (root, makes people, frames) -> the reader's arguments without ``cache``. It writes some persons for each
    frame. size: of the official pictures, width and height (px); people are asked for without a size except where the
    layout has only one. labels: globs below the root for the label files that the reader parses, by kind.
    """

    writer: Callable[[Path, Make, int], Options]
    size: tuple[int, int]
    labels: tuple[str, ...]
    cached: bool = True

    def write(self, root: Path, make: Make, frames: int, cache: Path) -> Options:
        """The reader's arguments."""
        options = self.writer(root, make, frames)
        return {**options, "cache": cache} if self.cached else options

    def label_files(self, root: Path) -> list[Path]:
        return sorted({path for pattern in self.labels for path in root.glob(pattern)})


_TWO = ("neutral", "neutral")
_PAIR = ("male", "female")


def _agora(root: Path, make: Make, frames: int) -> Options:
    """Three pictures whatever the frames are, with so many persons in each."""
    genders = tuple(agora.GENDERS[k % 2] for k in range(max(3, frames)))
    agora.write(root, make(genders, 3, kind="smplx", seed=4))
    return {"root": root, "split": "validation"}


def _bedlam(root: Path, make: Make, frames: int) -> Options:
    bedlam.write(root, make(_TWO, frames, kind="smplx", seed=1))
    return {"root": root, "split": "all"}


def _coco(root: Path, make: Make, frames: int) -> Options:
    coco.write(root, make(_TWO, max(3, frames), kind="free"))
    return {"root": root, "split": "val"}


def _emdb(root: Path, make: Make, frames: int) -> Options:
    emdb.write(root, make(("male",), frames, moving_camera=True))
    return {"root": root, "split": "emdb1"}


def _h36m(root: Path, make: Make, frames: int) -> Options:
    h36m.write(root, make(_TWO, frames, cameras=2))
    return {"root": root, "split": "test"}


def _hr_lspet(root: Path, make: Make, frames: int) -> Options:
    lsp.write_lspet(root, make(("neutral",), max(3, frames), kind="free"))
    return {"root": root, "split": "all"}


def _humman(root: Path, make: Make, frames: int) -> Options:
    humman.write(root, make(_TWO, frames, cameras=2))
    return {"root": root, "split": "all", "cameras": [0, 1]}


def _jhmdb(root: Path, make: Make, frames: int) -> Options:
    jhmdb.write(root, make(("neutral",), frames, cameras=3, kind="free"))
    return {"root": root, "split": "split1_test"}


def _lsp(root: Path, make: Make, frames: int) -> Options:
    lsp.write_lsp(root, make(("neutral",), max(3, frames), kind="free"))
    return {"root": root, "split": "train"}


def _lspet(root: Path, make: Make, frames: int) -> Options:
    lsp.write_lspet(root, make(("neutral",), max(3, frames), kind="free"), high_resolution=False)
    return {"root": root, "split": "train"}


def _mpi_inf_3dhp(root: Path, make: Make, frames: int) -> Options:
    mpi_inf_3dhp.write_test(root, make(_TWO, frames))
    return {"root": root, "split": "test"}


def _mpii(root: Path, make: Make, frames: int) -> Options:
    mpii.write(root, make(_TWO, max(3, frames), kind="free"))
    return {"root": root, "split": "trainval"}


def _muco(root: Path, make: Make, frames: int) -> Options:
    muco.write(root, make(_TWO, max(2, frames)))
    return {"root": root, "split": "train", "fits": True}


def _ochuman(root: Path, make: Make, frames: int) -> Options:
    ochuman.write(root, make(_TWO, max(3, frames), kind="free"))
    return {"root": root, "split": "val"}


def _panoptic(root: Path, make: Make, frames: int) -> Options:
    panoptic.write(root, make(_TWO, frames, cameras=2), ("171204_pose1",))
    return {"root": root, "split": "all"}


def _rich(root: Path, make: Make, frames: int) -> Options:
    rich.write(root, make(_PAIR, frames, cameras=2, kind="smplx", seed=3), extension="jpeg")
    return {"root": root, "split": "test"}


def _skipose(root: Path, make: Make, frames: int) -> Options:
    people = make(_TWO, frames, cameras=2, size=(skipose.SIDE, skipose.SIDE), moving_camera=True)
    skipose.write(root, people)
    return {"root": root, "split": "test"}


def _smart(root: Path, make: Make, frames: int) -> Options:
    smart.write(root, make(("neutral",), max(3, frames), kind="free"))
    return {"root": root, "split": "gym"}


def _ssp3d(root: Path, make: Make, frames: int) -> Options:
    people = make(tuple(_PAIR[k % 2] for k in range(max(2, frames))), 1, seed=4)
    ssp3d.write(root, ssp3d.before_the_camera(people))
    return {"root": root}


def _threedpw(root: Path, make: Make, frames: int) -> Options:
    threedpw.write(root, make(_PAIR, frames, moving_camera=True))
    return {"root": root, "split": "test"}


def _pose2sim(root: Path, make: Make, frames: int) -> Options:
    """Grey frames: the labels come with the package, and are of all frames whatever is asked for."""
    cameras, (_, end) = pose2sim.SPLITS["train"]
    (root / "videos").mkdir(parents=True)
    for camera in cameras:
        _video(root / "videos" / f"cam{camera:02d}.mp4", make, end)
    return {"root": root, "split": "train", "stride": max(1, 55 // frames)}


def _sports2d(root: Path, make: Make, frames: int) -> Options:
    root.mkdir(parents=True, exist_ok=True)
    stride = max(1, 115 // frames)
    index, _ = sports2d.labelled_crops(stride)
    _video(root / "demo.mp4", make, 1 + max(int(name.split("/")[1].split("_")[0]) for name in index.ids))
    return {"root": root, "stride": stride}


def _unlabelled(root: Path, make: Make, frames: int) -> Options:
    unlabelled.write(root, make(("neutral",), frames, kind="free"))
    return {"root": root, "labeller": "coco", "labeller_options": {"path": str(root / "labels.json")}}


def _video(path: Path, make: Make, frames: int) -> None:
    people = make(("neutral",), 1, kind="free")
    picture = np.ascontiguousarray(people.picture(0, 0)[..., ::-1])
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 60, people.size)
    for _ in range(frames):
        video.write(picture)
    video.release()


INSTANCES: dict[str, Instance] = {
    "3dpw": Instance(_threedpw, (1080, 1920), ("sequenceFiles/*/*.pkl",)),
    "agora": Instance(_agora, (1280, 720), ("validation_SMPLX/SMPLX/*.pkl", "smplx_gt/**/*.pkl")),
    "bedlam": Instance(_bedlam, (1280, 720), ("training_labels/**/*.npz",)),
    "coco": Instance(_coco, (640, 480), ("annotations/*.json",)),
    "emdb": Instance(_emdb, (1440, 1920), ("*/*/*_data.pkl",)),
    "h36m": Instance(_h36m, (1000, 1002), ("S9/MyPoseFeatures/*/*.cdf", "S11/MyPoseFeatures/*/*.cdf", "metadata.xml")),
    "hr_lspet": Instance(_hr_lspet, (600, 400), ("joints.mat",)),
    "humman": Instance(_humman, (1920, 1080), ("*/smpl_params/*.npz", "*/cameras.json")),
    "jhmdb": Instance(_jhmdb, (320, 240), ("joint_positions/**/*.mat", "puppet_mask/**/*.mat", "splits/*split1.txt")),
    "lsp": Instance(_lsp, (180, 150), ("joints.mat",)),
    "lspet": Instance(_lspet, (180, 150), ("joints.mat",), cached=False),
    "mpi_inf_3dhp": Instance(_mpi_inf_3dhp, (2048, 2048), ("mpi_inf_3dhp_test_set/TS*/annot_data.mat",)),
    "mpii": Instance(_mpii, (1280, 720), ("*.mat",)),
    "muco": Instance(_muco, (2048, 2048), ("MuCo-3DHP.json", "smpl_param.json")),
    "ochuman": Instance(_ochuman, (1024, 683), ("*.json",)),
    "panoptic": Instance(_panoptic, (1920, 1080), ("*/calibration_*.json", "*/hdPose3d_stage1_coco19/*.json")),
    "pose2sim": Instance(_pose2sim, (1080, 1920), ()),
    "rich": Instance(_rich, (4112, 3008), ("bodies/**/*.pkl", "scan_calibration/**/*.xml")),
    "skipose": Instance(_skipose, (skipose.SIDE, skipose.SIDE), ("test/labels.h5",)),
    "smart": Instance(_smart, (1280, 720), ("annotations/*gym.json",)),
    "sports2d": Instance(_sports2d, (1768, 994), ()),
    "ssp3d": Instance(_ssp3d, (ssp3d.SIDE, ssp3d.SIDE), ("labels.npz",)),
    "unlabelled": Instance(_unlabelled, (640, 480), ("labels.json",)),
}
