"""A tiny MPI-INF-3DHP in the official layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
from scipy.io import savemat

from human.skeleton import DHP17, DHP28
from tests.datasets.people import Array, People
from tests.datasets.regressed import as_skeleton, h36m_joints

#: What stands for the set's own joints here.
SAME = {"spine_3dhp": "spine_h36m", "head_3dhp": "nose"}
#: Labels of the universal skeleton are this much larger in the fixture.
UNIVERSAL = 1.1


def joints28(people: People, camera: int, person: int) -> Array:
    """(F,28,3) metres, camera frame."""
    return people.to_camera(camera, as_skeleton(h36m_joints(people, person), DHP28.joints, SAME))


def joints17(people: People, camera: int, person: int) -> Array:
    return people.to_camera(camera, as_skeleton(h36m_joints(people, person), DHP17.joints, SAME))


def calibration(people: People) -> str:
    """All 14 cameras; those that the people have not repeat the last."""
    lines = ["Skeletool Camera Calibration File V1.0"]
    for c in range(14):
        k = min(c, len(people.intrinsics) - 1)
        inner, outer = np.eye(4), people.world_to_camera[k, 0].copy()
        inner[:3, :3] = people.intrinsics[k]
        outer[:3, 3] *= 1000
        lines += [
            f"name          {c}", "  sensor      10 10", f"  size        {people.size[0]} {people.size[1]}",
            "  animated    0", "  intrinsic   " + " ".join(repr(float(v)) for v in inner.ravel()) + " ",
            "  extrinsic   " + " ".join(repr(float(v)) for v in outer.ravel()) + " ", "  radial      0",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def write_train(root: Path, people: People, hold: int = 5) -> None:
    """S1/Seq1, S1/Seq2: the people one by one; each of their frames lasts ``hold``. Videos of the cameras there are."""
    drawn = [[people.picture(c, f) for f in range(people.frames)] for c in range(len(people.intrinsics))]
    for person in range(len(people.genders)):
        folder = root / "S1" / f"Seq{person + 1}"
        (folder / "imageSequence").mkdir(parents=True)
        (folder / "camera.calibration").write_text(calibration(people))
        cells = {key: np.empty((14, 1), object) for key in ("annot2", "annot3", "univ_annot3")}
        for c in range(14):
            k = min(c, len(people.intrinsics) - 1)
            solid = np.repeat(joints28(people, k, person), hold, 0)
            cells["annot2"][c, 0] = people.project(k, solid).reshape(len(solid), -1)
            cells["annot3"][c, 0] = (1000 * solid).reshape(len(solid), -1)
            cells["univ_annot3"][c, 0] = (1000 * UNIVERSAL * solid).reshape(len(solid), -1)
        cameras, frames = np.arange(14, dtype=np.uint8)[:, None], np.arange(people.frames * hold)[:, None]
        savemat(folder / "annot.mat", {**cells, "cameras": cameras, "frames": frames}, do_compression=True)
        for c in range(len(people.intrinsics)):
            path = str(folder / "imageSequence" / f"video_{c}.avi")
            video = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 25, people.size)
            for f in range(people.frames):
                for _ in range(hold):
                    video.write(np.ascontiguousarray(drawn[c][f][..., ::-1]))
            video.release()


def write_test(
    root: Path, people: People, sets: tuple[int, ...] = (1, 2, 3, 4, 5, 6), valid: Array | None = None
) -> None:
    """TS1 ...: the people take turns; before camera 0. ``valid`` (F,): frames that count."""
    drawn = [people.picture(0, f) for f in range(people.frames)]
    for number in sets:
        person = (number - 1) % len(people.genders)
        folder = root / "mpi_inf_3dhp_test_set" / f"TS{number}"
        (folder / "imageSequence").mkdir(parents=True)
        solid = joints17(people, 0, person)[:, None]
        count = len(solid)
        with h5py.File(folder / "annot_data.mat", "w") as file:
            file["annot2"] = people.project(0, solid)
            file["annot3"] = 1000 * solid
            file["univ_annot3"] = 1000 * UNIVERSAL * solid
            file["valid_frame"] = np.ones((count, 1)) if valid is None else np.asarray(valid, np.float64)[:, None]
            file["activity_annotation"] = np.full((count, 1), float(number))
        for f in range(count):
            cv2.imwrite(str(folder / "imageSequence" / f"img_{f + 1:06d}.jpg"), drawn[f][..., ::-1])
