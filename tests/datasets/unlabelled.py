"""Pictures, and beside them what another program saw there: COCO's format with confidences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.datasets.labels2d import native_pixels, views, write_picture
from tests.datasets.people import Array, People


def write(root: Path, people: People) -> Array:
    """(N,17,3): ``00/0000.jpg`` ... with one row per person, all confidences 0.9; and ``labels.json``."""
    images, annotations = [], []
    for number, camera, frame in views(people):
        name = f"{camera:02d}/{number:04d}.jpg"
        write_picture(root / name, people, camera, frame)
        images.append({"id": number, "file_name": name})
        for p in range(len(people.genders)):
            points = native_pixels(people, camera, p, "coco17")[frame]
            keypoints = np.concatenate([points, np.full((17, 1), 0.9)], 1)
            annotations.append({"image_id": number, "keypoints": keypoints.ravel().tolist(), "score": 0.8})
    (root / "labels.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return np.array([a["keypoints"] for a in annotations]).reshape(-1, 17, 3)
