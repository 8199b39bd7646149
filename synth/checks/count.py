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
from human.skeleton import COCO17
from synth.checks.base import CHECKS, Check, Checked
from synth.checks.regions import LIMBS, UPRIGHT, Regions, limb_belief, limbs_on, probability
from synth.checks.seen import Seen, Watcher

_SWAP = list(COCO17.flip_permutation)
#: Limbs and trunk of a person's silhouette, as pairs of joints, and its half width per longer side of the box.
_BONES = [COCO17.indices(a, b) for a, b in (
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"), ("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"),
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"), ("nose", "left_ear"), ("nose", "right_ear"),
)]  # fmt: skip
_WIDTH, _HEAD = 0.085, 0.12
#: Bones, and how often they go into the longer side of the box about somebody who stands.
_SHARES = (("shoulder", "hip", 3.2), ("hip", "knee", 3.9), ("knee", "ankle", 3.9))
_LONG = [(*COCO17.indices(f"{s}_{a}", f"{s}_{b}"), share) for s in ("left", "right") for a, b, share in _SHARES]
#: Another person has this share of their joints off the silhouette, or more.
_OFF = 0.6
#: Looks at one person differ by less than this share of their extent: with the first one painted over or not, and in
#: the mirror image.
_ALIKE, _ALIKE_MIRRORED = 0.2, 0.15
#: Probability from which a region is a person.
_REGION = 0.4
#: Where to look for them: shares of the picture's width, and hips to feet per longer side of the labelled box.
_COLUMNS, _LENGTH = np.linspace(0.08, 0.92, 9), 0.65


@CHECKS.register("person_count")
class PersonCount(Check):
    """Removes pictures without the labelled person, and those that show others.

    The labelled person counts where the detector sees a body in the label's box. Then that body is painted over and the
    detector looks for others, everywhere and in a row of places to either side. Whom it finds counts if they are
    seen at the same place in the picture itself and in its mirror image: remains of the first person, and patterns that
    look like somebody, are not. Whom the detector overlooks may still be seen by a segmentation of people
    (:mod:`synth.checks.regions`), which adds one more where nobody was found.

    Args:
        expected: people in a picture; a job's other people count (``synth.jobs.Job.others``).
        score: mean confidence of the limbs' joints, in each look, from which another person counts.
        sure: confidence of a limb's joint that counts as seen; ``joints`` so many make the labelled person.
        smallest: others whose longer side is less than this share of the picture's do not count: passers-by far away.
        region: probability from which a region of the segmentation is a person; 1 does without segmentation. By
            default 0.4 with BlazePose, for which it was fitted, and 1 with other detectors.
        detector, detector_options: a keypoint detector by name.

    Figures: ``people`` counted.
    """

    name: ClassVar[str] = "person_count"

    def __init__(
        self,
        expected: int = 1,
        score: float = 0.3,
        sure: float = 0.3,
        joints: int = 5,
        smallest: float = 0.12,
        region: float | None = None,
        detector: str = "blazepose",
        detector_options: dict[str, Any] | None = None,
    ) -> None:
        if expected < 0 or joints < 1 or not (0 <= score <= 1 and 0 <= smallest <= 1 and 0 <= sure <= 1):
            raise PosesynError(
                "check person_count needs expected >= 0, joints >= 1, and score, sure and smallest from 0 to 1, got "
                f"{expected}, {joints}, {score}, {sure} and {smallest}"
            )
        if region is not None and not 0 < region <= 1:
            raise PosesynError(f"check person_count needs region above 0 and at most 1, got {region}")
        self.expected, self.score, self.sure, self.joints, self.smallest = expected, score, sure, joints, smallest
        self.region = region if region is not None else _REGION if detector == "blazepose" else 1.0
        if detector == "blazepose":  # people half hidden by another are proposed with little confidence
            detector_options = {"threshold": 0.3, **(detector_options or {})}
        self._watcher = Watcher(detector, detector_options)
        self._regions = Regions(self._watcher, smallest)

    def config(self) -> dict[str, Any]:
        mine = {k: getattr(self, k) for k in ("expected", "score", "sure", "joints", "smallest", "region")}
        return {**mine, "detector": self._watcher.config(), "version": 3}

    def __call__(self, batch: PoseBatch) -> Checked:
        seen = self._watcher.compare(batch)
        there = ((seen.found_conf >= self.sure) & LIMBS).sum(1) >= self.joints
        # Nobody where the label is: whoever else there may be, the picture is not the label's.
        rows = np.flatnonzero(there)
        count = np.zeros(len(batch))
        if len(rows):
            part = batch[torch.from_numpy(rows)]
            count[rows] = 1 + self._others(part, seen[rows])
        return Checked(batch, count == self.expected, {"people": count})

    def _others(self, batch: PoseBatch, seen: Seen) -> Array:
        """(B,) how many there are beside the labelled body."""
        masks, hidden = without_body(batch, seen)
        width = hidden.shape[2]
        painted = batch.replace(image=torch.from_numpy(hidden).permute(0, 3, 1, 2).contiguous())
        places = [beside(b, float(s), width) for b, s in zip(seen.found, seen.side, strict=True)]
        first = [
            self._possible([anywhere, near], mask)
            for anywhere, near, mask in zip(
                self._watcher.people(painted), self._watcher.at(painted, places), masks, strict=True
            )
        ]
        plain = self._watcher.at(batch, first)
        mirror = batch.replace(image=batch.image.flip(-1))
        other_way = self._watcher.at(mirror, [mirrored(p.points, width) for p in plain])
        count = np.zeros(len(batch))
        for row, (points, look, flipped) in enumerate(zip(first, plain, other_way, strict=True)):
            mask = masks[row]
            back = mirrored(flipped.points, width)
            belief = np.minimum(limb_belief(look), limb_belief(flipped))
            for one in np.argsort(-belief, kind="stable"):
                others = (points[one], look.points[one], back[one])
                extent = self.smallest * max(mask.shape)
                if belief[one] < self.score or min(_extent(p) for p in others) < extent:
                    continue
                if not (_same(others[0], others[1], _ALIKE) and _same(others[1], others[2], _ALIKE_MIRRORED)):
                    continue
                if all(_apart(p, mask) for p in others):
                    count[row] += 1
                    # Who is found twice is one person.
                    masks[row] = mask = np.maximum(mask, silhouette(mask.shape, others[1], _extent(others[1])))
        # Whoever else is found can only raise the count: not where it is too high already.
        rows = np.flatnonzero(1 + count <= self.expected).tolist() if self.region < 1 else []
        part, known = batch[torch.tensor(rows, dtype=torch.long)], [known_bodies(masks[r], seen, r) for r in rows]
        for number, regions in zip(rows, self._regions(part, hidden[rows], known, seen.box[rows]), strict=True):
            # One person may show on both sides of the first: together they are one.
            count[number] += any(probability(region) >= self.region for region in regions)
        return count

    def _possible(self, found: list[People], mask_HW: np.ndarray) -> Array:
        """(P,17,2): those who may be another person."""
        points, belief = np.concatenate([p.points for p in found]), np.concatenate([limb_belief(p) for p in found])
        good = belief >= self.score
        good &= np.array([_apart(p, mask_HW) for p in points], bool)
        return points[good]


def beside(body_172: Array, side: float, width: int) -> Array:
    """(P,17,2): people who may stand beside a body with these points."""
    hips = body_172[list(COCO17.indices("left_hip", "right_hip"))].mean(0)
    columns = _COLUMNS * width
    columns = columns[np.abs(columns - hips[0]) >= 0.1 * side]
    return np.stack([columns, np.full(len(columns), hips[1])], 1)[:, None] + _LENGTH * side * UPRIGHT


def mirrored(points_PJ2: Array, width: int) -> Array:
    """Where the same joints are in the picture's mirror image."""
    out = points_PJ2[:, _SWAP].copy()
    out[..., 0] = width - 1 - out[..., 0]
    return out


def _extent(points_J2: Array) -> float:
    return float((points_J2.max(0) - points_J2.min(0)).max())


def _same(one_J2: Array, other_J2: Array, share: float) -> bool:
    """Whether the limbs lie alike, whichever the left ones are."""
    away = [np.linalg.norm((one_J2 - other)[LIMBS], axis=-1).mean() for other in (other_J2, other_J2[_SWAP])]
    return bool(min(away) <= share * _extent(one_J2))


def _apart(points_J2: Array, mask_HW: np.ndarray) -> bool:
    """Whether most of the limbs' joints lie off the silhouette of another body; half of them must be in the picture."""
    inside, on = limbs_on(points_J2, mask_HW)
    return bool(inside >= LIMBS.sum() / 2 and on <= (1 - _OFF) * inside)


def silhouette(shape: tuple[int, ...], points_J2: Array, side: float, known_J: np.ndarray | None = None) -> np.ndarray:
    """(H,W) uint8, 255 where a body with these COCO-17 points, ``side`` px large, may be; of the ``known_J`` points."""
    mask = np.zeros(shape[:2], np.uint8)
    at = np.clip(points_J2, -1e4, 1e4).round().astype(int)
    known = np.ones(len(at), bool) if known_J is None else known_J
    width = max(1, round(2 * _WIDTH * side))
    for a, b in _BONES:
        if known[a] and known[b]:
            cv2.line(mask, tuple(int(v) for v in at[a]), tuple(int(v) for v in at[b]), 255, width)
    if (known & ~LIMBS).any():
        face = at[known & ~LIMBS].mean(0).astype(int)
        cv2.circle(mask, (int(face[0]), int(face[1])), max(1, round(_HEAD * side)), 255, -1)
    return mask


def without_body(batch: PoseBatch, seen: Seen) -> tuple[list[np.ndarray], np.ndarray]:
    """Of each picture (H,W) where the body that was found may be, and (B,H,W,3) the pictures with it painted over."""
    pictures = batch.image.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    masks = [silhouette(p.shape, b, float(s)) for p, b, s in zip(pictures, seen.found, seen.side, strict=True)]
    return masks, np.stack([paint_over(p, mask) for p, mask in zip(pictures, masks, strict=True)])


def known_bodies(mask_HW: np.ndarray, seen: Seen, row: int) -> np.ndarray:
    """(H,W) bool: where the bodies of the mask are, and the labelled one."""
    points, known = seen.label[row], seen.label_conf[row] > 0
    # A box about somebody who crouches is small, their limbs are as thick as ever.
    side = float(seen.side[row])
    for a, b, share in _LONG:
        if known[a] and known[b]:
            side = max(side, float(share) * float(np.linalg.norm(points[a] - points[b])))
    label = silhouette(mask_HW.shape, points, side, known)
    return np.maximum(mask_HW, label) > 0


def paint_over(picture_HWC: np.ndarray, mask_HW: np.ndarray) -> np.ndarray:
    """The picture with what is around the mask, smoothed, in its place."""
    small = (64, 64)
    coarse = cv2.resize(mask_HW, small, interpolation=cv2.INTER_AREA) > 0
    filled = cv2.inpaint(cv2.resize(picture_HWC, small, interpolation=cv2.INTER_AREA), coarse.astype(np.uint8), 3, 1)
    smooth = cv2.resize(filled, picture_HWC.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.where(mask_HW[..., None] > 0, smooth, picture_HWC)
