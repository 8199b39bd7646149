"""Human3.6M as 3DMPPE (Moon et al., ICCV 2019) re-packed it; used by HybrIK, Pose2Mesh, 3DCrowdNet and others.

``annotations/Human36M_subject9_data.json``: COCO's "images" (file_name, width, height, subject, action_idx,
subaction_idx, cam_idx 1 to 4, frame_idx from 0) and "annotations" (image_id, bbox xywh);
``..._camera.json``: R, t (mm), f, c by camera; ``..._joint_3d.json``: 17 joints in mm in the world's frame by action,
part and frame; optional ``..._smpl_param.json`` likewise: pose (72), shape (10), trans (m) of neutral SMPL in the
world's frame, fitted by SMPLify-X. Pictures lie in ``images/``.
[mks0601/3DMPPE_POSENET_RELEASE, hongsukchoi/3DCrowdNet_RELEASE:data/Human36M/Human36M.py]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.readers.body_labels import place
from datamodules.readers.files import read_json, safe_name, shaped
from datamodules.readers.h36m_cameras import from_3dmppe
from datamodules.readers.indexed import Persons
from human.errors import PosesynError

_CHUNK = 20_000
Keep = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]


def files(root: Path, subject: int) -> tuple[Path, Path, Path, Path]:
    data, camera, joints, fits = (
        root / "annotations" / f"Human36M_subject{subject}_{what}.json"
        for what in ("data", "camera", "joint_3d", "smpl_param")
    )
    return data, camera, joints, fits


def scan(root: Path, path: Path, keep: Keep, fitted: bool = False) -> Iterator[Persons]:
    """The persons of ``..._data.json`` in frames that ``keep`` chooses, a chunk at a time.

    fitted: only those with a fit of SMPL, with its parameters.
    """
    subject = int(path.name.removeprefix("Human36M_subject").split("_")[0])
    _, camera_file, joint_file, fit_file = files(root, subject)
    try:
        content = read_json(path)
        images = {image["id"]: image for image in content["images"]}
        people = [(images[person["image_id"]], person["bbox"]) for person in content["annotations"]]
        frames = np.array([image["frame_idx"] for image, _ in people], np.int64)
        cameras = {int(name): from_3dmppe(view, camera_file) for name, view in read_json(camera_file).items()}
        joints = read_json(joint_file)
        fits = read_json(fit_file) if fitted else None
        rows = np.flatnonzero(keep(frames))
        for start in range(0, len(rows), _CHUNK):
            yield _persons(subject, [people[i] for i in rows[start : start + _CHUNK]], cameras, joints, fits, path)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise PosesynError(
            f"{path} (or {camera_file.name}, {joint_file.name} beside it) is not as 3DMPPE writes it "
            f"({type(error).__name__}: {error}): get the three again"
        ) from error


def _persons(
    subject: int, people: list[tuple[dict[str, Any], Any]], cameras: dict[int, Any], joints: Any, fits: Any, path: Path
) -> Persons:
    fields = ("action_idx", "subaction_idx", "cam_idx", "frame_idx")
    numbers = np.array([[image[name] for name in fields] for image, _ in people], np.int64).reshape(-1, 4)
    if fits is not None:
        found = [fits.get(str(a), {}).get(str(s), {}).get(str(f)) for a, s, _, f in numbers]
        people = [person for person, fit in zip(people, found, strict=True) if fit]
        numbers, found = numbers[[bool(fit) for fit in found]], [fit for fit in found if fit]
        if not people:
            return Persons([], [])
    views = [cameras[c] for c in numbers[:, 2]]
    world = np.array([joints[str(a)][str(s)][str(f)] for a, s, _, f in numbers], np.float64) / 1000
    if world.shape[1:] != (17, 3):
        raise ValueError(f"joints of shape {world.shape[1:]}")
    matrix = np.stack([view.matrix for view in views])
    metres = np.einsum("nij,nkj->nki", matrix[:, :3, :3], world) + matrix[:, None, :3, 3]
    box = np.array([bbox for _, bbox in people], np.float64).reshape(-1, 4)
    action, part, camera, frame = numbers.T
    more: dict[str, Any] = {} if fits is None else fit_columns(found, matrix, path)
    return Persons(
        ids=[f"h36m/S{subject}/act_{a:02d}_subact_{s:02d}/ca_{c:02d}/{f:06d}" for a, s, c, f in numbers],
        pictures=[f"images/{safe_name(image['file_name'], path)}" for image, _ in people],
        native3d=np.concatenate([metres, np.ones_like(metres[..., :1])], -1),
        intrinsics=np.stack([view.intrinsics for view in views]),
        bbox=np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], 1),
        more={
            "sequence": 10000 * subject + 100 * action + 10 * part + camera,
            "frame": frame,
            "group": action,
            "camera": matrix,
            **more,
        },
    )


def fit_columns(
    fits: Sequence[Mapping[str, Any]], world_to_camera: npt.NDArray[np.float64], path: Path
) -> dict[str, npt.NDArray[Any]]:
    """Neutral SMPL in the camera's frame from N of 3DMPPE's fits."""
    pose = shaped([np.ravel(fit["pose"]) for fit in fits], (None, 72), path, "pose").reshape(-1, 24, 3)
    betas = shaped([np.ravel(fit["shape"]) for fit in fits], (None, 10), path, "shape")
    trans = shaped([np.ravel(fit["trans"]) for fit in fits], (None, 3), path, "trans")
    seen = place("smpl", betas, pose, trans, world_to_camera)
    return {"pose": seen.pose, "betas": betas, "transl": seen.transl, "gender": np.zeros(len(pose))}
