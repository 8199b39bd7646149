"""Labels that are parameters of a licensed body: turned into the camera's frame, with the joints they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation

from datamodules.readers.index_store import Skipped
from datamodules.readers.indexed import Persons
from human.body import BodyModel, load_body
from human.body_folders import VARIANTS, find_body_file

Array = npt.NDArray[np.float64]
#: The number that stands for a gender in an index, by its name in body files.
GENDERS = {"neutral": 0, "male": 1, "female": 2}
_CHUNK = 4096


def body_name(kind: str, gender: str) -> str:
    """The registered body: "smpl" and "neutral" give "smpl", "smpl" and "male" give "smpl_male"."""
    return kind if gender == "neutral" else f"{kind}_{gender}"


def body_facts(kind: str) -> dict[str, Any]:
    """Size and time of the user's body files of a kind, for :meth:`IndexedReader.facts`: other files, another index."""
    facts: dict[str, Any] = {}
    for gender in GENDERS:
        path = find_body_file(VARIANTS[body_name(kind, gender)])
        facts[body_name(kind, gender)] = (path.stat().st_size, path.stat().st_mtime_ns) if path else None
    return facts


@dataclass(frozen=True)
class Placed:
    """N bodies in the camera's frame. pose (N,24,3) rotation vectors, the root first; transl (N,3) metres, both as the
    body takes them; joints (N,24,3) SMPL24, metres."""

    pose: Array
    transl: Array
    joints: Array


def place(name: str, betas: Array, pose: Array, transl: Array, world_to_camera: Array) -> Placed:
    """Bodies in the world, seen by a camera.

    A body turns about its pelvis, which is not its origin: with the pelvis at rest at J (of its betas), a camera's
    (R, t) makes of ``transl`` R (J + transl) + t - J.

    Args:
        name: of :func:`human.body.load_body`.
        betas: (N,10). pose: (N,24,3) rotation vectors. transl: (N,3) metres. world_to_camera: (N,4,4), metres.

    Raises:
        PosesynError: the user has no such body file (where to get it).
    """
    turn, shift = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3]
    seen = pose.copy()
    seen[:, 0] = turned(turn, pose[:, 0])
    joints = posed_joints(name, betas, seen, np.zeros_like(transl))
    pelvis = joints[:, 0]  # zero rotations or not: the root joint stays where it is at rest
    moved = np.einsum("nij,nj->ni", turn, pelvis + transl) + shift - pelvis
    return Placed(seen, moved, joints + moved[:, None])


def turned(turn_N33: Array, rotvec_N3: Array) -> Array:
    """(N,3) rotation vectors after a turn of the frame they are given in; NaN where either is no rotation."""
    with np.errstate(invalid="ignore"):
        usable = np.asarray(np.isfinite(turn_N33).all((1, 2)) & np.isfinite(rotvec_N3).all(1))
        usable = usable & (np.abs(np.linalg.det(np.where(usable[:, None, None], turn_N33, 0)) - 1) < 0.1)
    out = np.full(rotvec_N3.shape, np.nan)
    if usable.any():
        out[usable] = (Rotation.from_matrix(turn_N33[usable]) * Rotation.from_rotvec(rotvec_N3[usable])).as_rotvec()
    return out


def posed_joints(name: str, betas: Array, pose: Array, transl: Array) -> Array:
    """(N,24,3) SMPL24 joints, in metres and float64, of (N,10), (N,24,3), (N,3)."""
    body, out = _body(name, _file(name)), []
    with torch.no_grad():
        for start in range(0, len(pose), _CHUNK):
            rows = slice(start, start + _CHUNK)
            b, p, t = (torch.from_numpy(np.ascontiguousarray(a[rows])) for a in (betas, pose, transl))
            out.append(body.joints(b, p[:, 1:], p[:, 0], t)[:, :24].numpy())
    return np.concatenate(out) if out else np.zeros((0, 24, 3))


def project(points_NJ3: Array, intrinsics: Array) -> Array:
    """(N,J,2) px of points in the camera's frame; not finite where they lie in the camera's plane."""
    with np.errstate(divide="ignore", invalid="ignore"):
        homogeneous = points_NJ3 @ np.swapaxes(intrinsics, -1, -2)
        return np.asarray(homogeneous[..., :2] / homogeneous[..., 2:])


def boxes_or(boxes_N4: Array, points_NJ2: Array) -> Array:
    """The boxes (xyxy), and where one is empty or not finite the tight box of the points."""
    with np.errstate(invalid="ignore"):
        whole = np.asarray(np.isfinite(boxes_N4).all(1) & np.greater(boxes_N4[:, 2:], boxes_N4[:, :2]).all(1))
    return np.where(whole[:, None], boxes_N4, np.concatenate([points_NJ2.min(1), points_NJ2.max(1)], 1))


def with_bodies(persons: Persons, skipped: Skipped) -> Persons:
    """Those whose pose, betas and transl are numbers; the others are counted."""
    finite = np.ones(len(persons.ids), bool)
    for name in ("pose", "betas", "transl"):
        values = np.isfinite(persons.more[name])
        finite &= values.all(tuple(range(1, values.ndim)))
    if finite.all():
        return persons
    rows: list[int] = np.flatnonzero(finite).tolist()
    without = int(np.flatnonzero(~finite)[0])
    skipped.add("persons whose body parameters are no numbers", persons.ids[without], int((~finite).sum()))

    def kept(column: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
        return None if column is None else column[rows]

    return Persons(
        ids=[persons.ids[i] for i in rows],
        pictures=[persons.pictures[i] for i in rows],
        native2d=kept(persons.native2d),
        native3d=kept(persons.native3d),
        intrinsics=kept(persons.intrinsics),
        bbox=kept(persons.bbox),
        people=kept(persons.people),
        more={name: column[rows] for name, column in persons.more.items()},
    )


def _file(name: str) -> str:
    return str(find_body_file(VARIANTS[name]))


@lru_cache(maxsize=3)
def _body(name: str, file: str) -> BodyModel:
    """``file``: another one is loaded anew."""
    return load_body(name).double()
