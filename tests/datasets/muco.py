"""A tiny MuCo-3DHP as 3DMPPE packs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from human.skeleton import MUCO21
from tests.datasets.mpi_inf_3dhp import SAME
from tests.datasets.people import Array, People
from tests.datasets.regressed import as_skeleton, h36m_joints


def joints(people: People, person: int) -> Array:
    """(F,21,3) metres, camera frame."""
    return people.to_camera(0, as_skeleton(h36m_joints(people, person), MUCO21.joints, SAME))


def content(people: People) -> dict[str, list[dict[str, Any]]]:
    """A composite per frame with all the people; the last is in the augmented set."""
    images, annotations = [], []
    inner = people.intrinsics[0]
    for f in range(people.frames):
        folder = "augmented_set" if f == people.frames - 1 else "unaugmented_set"
        images.append(
            {
                "id": 100 + f, "file_name": f"{folder}/{f + 1:06d}.jpg", "width": people.size[0],
                "height": people.size[1], "f": [inner[0, 0], inner[1, 1]], "c": [inner[0, 2], inner[1, 2]],
            }
        )  # fmt: skip
        for p in range(len(people.genders)):
            solid = joints(people, p)[f]
            flat = people.project(0, solid[None])[0]
            box = [*flat.min(0), *(flat.max(0) - flat.min(0))]
            annotations.append(
                {
                    "id": len(annotations), "image_id": 100 + f, "bbox": box, "keypoints_img": flat.tolist(),
                    "keypoints_cam": (1000 * solid).tolist(), "keypoints_vis": [True] * 21,
                }
            )  # fmt: skip
    return {"images": images, "annotations": annotations}


def write(root: Path, people: People) -> None:
    root.mkdir(parents=True, exist_ok=True)
    labels = content(people)
    (root / "MuCo-3DHP.json").write_text(json.dumps(labels))
    fits = {}
    for number, annotation in enumerate(labels["annotations"]):
        f, p = divmod(number, len(people.genders))
        fits[str(annotation["id"])] = {
            "pose": np.concatenate([people.camera_orient(0, p)[f], people.body_pose[p, f].ravel()]).tolist(),
            "shape": people.betas[p].tolist(),
            "trans": people.camera_transl(0, p)[f].tolist(),
        }
    (root / "smpl_param.json").write_text(json.dumps(fits))
    for f, image in enumerate(labels["images"]):
        path = root / image["file_name"]
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), people.picture(0, f)[..., ::-1])
