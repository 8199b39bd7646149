"""A tiny JHMDB: three clips of two actions with joints, masks and lists, and mmpose's sub-JHMDB of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import savemat

from human.skeleton import JHMDB15
from tests.datasets.labels2d import native_pixels, views, write_picture
from tests.datasets.people import Array, People

#: One clip for each camera; the last is the other action. The name of one has signs that paths must stand.
CLIPS = (
    "catch/Goalkeeper_Training_Day_@_7_catch_f_cm_np1_ri_med_0",
    "catch/Ball(1)!_catch_u_nm_np1_fr_med_1",
    "walk/W_0",
)


@dataclass(frozen=True)
class Written:
    """Clips to (F,15,2) px and (F,4) px xyxy of the masks, counted from 0."""

    joints: dict[str, Array]
    boxes: dict[str, Array]


def write(root: Path, people: People, masks: bool = True) -> Written:
    """Clip i trains in split i + 1 and tests in the other two; sub-JHMDB is all of it. Needs three cameras."""
    joints, boxes = {}, {}
    width, height = people.size
    for number, clip in enumerate(CLIPS):
        joints[clip] = native_pixels(people, number, 0, "jhmdb15")
        _clip(root, people, number, clip, joints[clip])
        low, high = joints[clip].min(1), joints[clip].max(1)
        boxes[clip] = np.concatenate([np.floor(low) - 2, np.ceil(high) + 3], 1).clip(0, [width, height] * 2)
        if masks:
            _mask(root, people, clip, boxes[clip])
    (root / "splits").mkdir()
    for action in dict.fromkeys(clip.split("/")[0] for clip in CLIPS):
        for split in (1, 2, 3):
            lines = [
                f"{clip.split('/')[1]}.avi {1 if number + 1 == split else 2}\n"
                for number, clip in enumerate(CLIPS)
                if clip.startswith(f"{action}/")
            ]
            (root / "splits" / f"{action}_test_split{split}.txt").write_text("".join(lines))
    (root / "annotations").mkdir()
    for split in (1, 2, 3):
        for part in ("train", "test"):
            clips = [c for number, c in enumerate(CLIPS) if (number + 1 == split) == (part == "train")]
            content = _sub(people, clips, joints, boxes)
            (root / "annotations" / f"Sub{split}_{part}.json").write_text(json.dumps(content))
    return Written(joints, boxes)


def _clip(root: Path, people: People, camera: int, clip: str, joints_FJ2: Array) -> None:
    for _, own, frame in views(people):
        if own == camera:
            write_picture(root / "Rename_Images" / clip / f"{frame + 1:05d}.png", people, camera, frame)
    folder = root / "joint_positions" / clip
    folder.mkdir(parents=True)
    width, height = people.size
    scale = 0.45
    written = joints_FJ2 + 1
    world = np.stack(
        [(written[..., 0] / width - 0.5) * width / height / scale, (written[..., 1] / height - 0.5) / scale]
    )
    content = {"pos_img": written.transpose(2, 1, 0), "pos_world": world.transpose(0, 2, 1)}
    savemat(folder / "joint_positions.mat", {**content, "scale": np.full((1, len(joints_FJ2)), scale)})


def _mask(root: Path, people: People, clip: str, boxes_F4: Array) -> None:
    width, height = people.size
    mask = np.zeros((height, width, len(boxes_F4)), np.uint8)
    for frame, (x1, y1, x2, y2) in enumerate(boxes_F4.astype(int)):
        mask[y1 : y2 + 1, x1 : x2 + 1, frame] = 3
    folder = root / "puppet_mask" / clip
    folder.mkdir(parents=True)
    savemat(folder / "puppet_mask.mat", {"part_mask": mask}, do_compression=True)


def _sub(people: People, clips: list[str], joints: dict[str, Array], boxes: dict[str, Array]) -> dict[str, object]:
    images, annotations = [], []
    for clip in clips:
        video = CLIPS.index(clip) + 228
        for frame, (points, (x1, y1, x2, y2)) in enumerate(zip(joints[clip], boxes[clip], strict=True)):
            image = {
                "is_labeled": True,
                "file_name": f"Rename_Images/{clip}/{frame + 1:05d}.png",
                "nframes": len(joints[clip]),
                "frame_id": video * 10000 + frame + 1,
                "vid_id": f"{video:05d}",
                "id": video * 10000 + frame + 1,
                "width": people.size[0],
                "height": people.size[1],
            }
            images.append(image)
            annotations.append(
                {
                    "keypoints": np.concatenate([points + 1, np.full((15, 1), 2.0)], 1).ravel().tolist(),
                    "track_id": 0,
                    "image_id": image["id"],
                    "bbox": [x1 + 1, y1 + 1, x2 - x1, y2 - y1],
                    "scores": [],
                    "category_id": 1,
                    "id": 1000000000000 + image["id"],
                }
            )
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(JHMDB15.joints), "skeleton": []}
    return {"categories": [{**category, "keypoints": ["neck", "belly", "head", *category["keypoints"][3:]]}],
            "images": images, "annotations": annotations}  # fmt: skip
