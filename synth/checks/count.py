"""How many people a picture shows."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
import torch

from human.batch import PoseBatch
from human.crop import Array
from human.errors import PosesynError
from human.keypoints import People
from human.skeleton import COCO17, LIMB_JOINTS
from synth.checks.base import CHECKS, Check, Checked
from synth.checks.seen import Watcher

_LIMBS = np.isin(COCO17.joints, LIMB_JOINTS)
#: Limbs and trunk of a person's silhouette, as pairs of joints, and its half width per longer side of the box.
_BONES = [COCO17.indices(a, b) for a, b in (
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"), ("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"),
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"), ("nose", "left_ear"), ("nose", "right_ear"),
)]  # fmt: skip
_WIDTH, _HEAD = 0.085, 0.12
#: A find with this share of its joints on the silhouette is the same person.
_ON = 0.5
#: Two looks at one person differ by less than this share of their extent.
_ALIKE = 0.15


@CHECKS.register("person_count")
class PersonCount(Check):
    """Removes pictures without the labelled person, and those that show others.

    The labelled person counts where the detector sees a body in the label's box. Then that body is painted over, and
    whoever the detector finds elsewhere counts too.

    Args:
        expected: people in a picture; a job's other people count (``synth.jobs.Job.others``).
        score: how sure the detector must be of another person.
        sure: confidence of a limb's joint that counts as seen; ``joints`` so many make the labelled person.
        smallest: others whose longer side is less than this share of the picture's do not count: passers-by far away.
        detector, detector_options: a keypoint detector by name.

    Figures: ``people`` counted.
    """

    name: ClassVar[str] = "person_count"

    def __init__(
        self,
        expected: int = 1,
        score: float = 0.8,
        sure: float = 0.3,
        joints: int = 5,
        smallest: float = 0.15,
        detector: str = "blazepose",
        detector_options: dict[str, Any] | None = None,
    ) -> None:
        if expected < 0 or joints < 1 or not (0 <= score <= 1 and 0 <= smallest <= 1 and 0 <= sure <= 1):
            raise PosesynError(
                "check person_count needs expected >= 0, joints >= 1, and score, sure and smallest from 0 to 1, got "
                f"{expected}, {joints}, {score}, {sure} and {smallest}"
            )
        self.expected, self.score, self.sure, self.joints, self.smallest = expected, score, sure, joints, smallest
        self._watcher = Watcher(detector, detector_options)

    def config(self) -> dict[str, Any]:
        mine = {k: getattr(self, k) for k in ("expected", "score", "sure", "joints", "smallest")}
        return {**mine, "detector": self._watcher.config(), "version": 1}

    def __call__(self, batch: PoseBatch) -> Checked:
        seen = self._watcher.compare(batch)
        there = ((seen.found_conf >= self.sure) & _LIMBS).sum(1) >= self.joints
        # Nobody where the label is: whoever else there may be, the picture is not the label's.
        rows = np.flatnonzero(there)
        count = np.zeros(len(batch))
        if len(rows):
            part = batch[torch.from_numpy(rows)]
            pictures = part.image.permute(0, 2, 3, 1).contiguous().cpu().numpy()
            masks = [
                silhouette(p.shape, seen.found[r], float(seen.side[r])) for p, r in zip(pictures, rows, strict=True)
            ]
            hidden = [paint_over(p, mask) for p, mask in zip(pictures, masks, strict=True)]
            image = torch.from_numpy(np.stack(hidden)).permute(0, 3, 1, 2).contiguous()
            others = self._watcher.people(part.replace(image=image))
            apart = [self._others(p, mask) for p, mask in zip(others, masks, strict=True)]
            again = self._watcher.at(part, apart)
            for row, found, look, mask in zip(rows, apart, again, masks, strict=True):
                count[row] = 1 + sum(_same(a, b) and _apart(b, mask) for a, b in zip(found, look.points, strict=True))
        return Checked(batch, count == self.expected, {"people": count})

    def _others(self, people: People, mask_HW: np.ndarray) -> Array:
        """(P,17,2): those who may be another person."""
        extent = (people.points.max(1) - people.points.min(1)).max(1)
        good = (people.score >= self.score) & (extent >= self.smallest * max(mask_HW.shape))
        good &= np.array([_apart(points, mask_HW) for points in people.points], bool)
        return people.points[good]


def _same(one_J2: Array, other_J2: Array) -> bool:
    """Whether the limbs lie alike. Remains of a body that was painted over are seen as that body in the picture itself;
    a person beside is seen again."""
    extent = float((one_J2.max(0) - one_J2.min(0)).max())
    return bool(np.linalg.norm((one_J2 - other_J2)[_LIMBS], axis=-1).mean() <= _ALIKE * extent)


def _apart(points_J2: Array, mask_HW: np.ndarray) -> bool:
    """Whether most of the limbs' joints lie off the silhouette of another body, or out of the picture."""
    height, width = mask_HW.shape
    at = points_J2[_LIMBS].round().clip(-1, 1e5).astype(int)
    inside = (at >= 0).all(1) & (at[:, 0] < width) & (at[:, 1] < height)
    on = mask_HW[at[inside, 1], at[inside, 0]] > 0
    return bool(inside.any() and on.sum() < _ON * inside.sum())


def silhouette(shape: tuple[int, ...], points_J2: Array, side: float) -> np.ndarray:
    """(H,W) uint8, 255 where a body with these COCO-17 points, ``side`` px large, may be."""
    mask = np.zeros(shape[:2], np.uint8)
    at = np.clip(points_J2, -1e4, 1e4).round().astype(int)
    width = max(1, round(2 * _WIDTH * side))
    for a, b in _BONES:
        cv2.line(mask, tuple(int(v) for v in at[a]), tuple(int(v) for v in at[b]), 255, width)
    face = at[[i for i, joint in enumerate(COCO17.joints) if not _LIMBS[i]]].mean(0).astype(int)
    cv2.circle(mask, (int(face[0]), int(face[1])), max(1, round(_HEAD * side)), 255, -1)
    return mask


def paint_over(picture_HWC: np.ndarray, mask_HW: np.ndarray) -> np.ndarray:
    """The picture with what is around the mask, smoothed, in its place."""
    small = (64, 64)
    coarse = cv2.resize(mask_HW, small, interpolation=cv2.INTER_AREA) > 0
    filled = cv2.inpaint(cv2.resize(picture_HWC, small, interpolation=cv2.INTER_AREA), coarse.astype(np.uint8), 3, 1)
    smooth = cv2.resize(filled, picture_HWC.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.where(mask_HW[..., None] > 0, smooth, picture_HWC)
