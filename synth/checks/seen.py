"""What a keypoint detector sees in a picture, beside what the label says: shared by the checks that compare the two."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from human.batch import PoseBatch
from human.crop import Array
from human.keypoints import KeypointDetector, People, make_keypoint_detector
from human.skeleton import convert

#: The label's box covers no area, or joints of which fewer than this are in the picture: nobody to compare with.
_FEWEST = 3
_KEPT = 4096


@dataclass(frozen=True)
class Seen:
    """B pictures: COCO-17 of label and detector.

    Attributes:
        label: (B,17,2) px, finite; ``label_conf`` (B,17), 0 where there is no label.
        found: (B,17,2) px, finite; ``found_conf`` (B,17), 0 where the detector found nothing.
        box: (B,4) xyxy px about the labelled joints; ``side`` (B,) its longer side, NaN where there is no label.
    """

    label: Array
    label_conf: Array
    found: Array
    found_conf: Array
    box: Array
    side: Array

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> Seen:
        return Seen(*(getattr(self, field.name)[rows] for field in fields(self)))

    def common(self, sure: float) -> npt.NDArray[np.bool_]:
        """(B,17): points that are labelled and that the detector is at least so sure of."""
        return (self.label_conf > 0) & (self.found_conf >= sure) & np.isfinite(self.side)[:, None]


class Watcher:
    """A detector that remembers the last pictures: several checks ask about the same ones.

    Args:
        detector: registered name of a keypoint detector; ``options`` of it.
    """

    def __init__(self, detector: str = "blazepose", options: dict[str, Any] | None = None) -> None:
        self.detector: KeypointDetector = make_keypoint_detector(detector, options)
        self._memory = _memory(json.dumps(self.detector.config(), sort_keys=True))

    def config(self) -> dict[str, Any]:
        return self.detector.config()

    def people(self, batch: PoseBatch) -> list[People]:
        """Everybody in each picture."""
        return self._ask(batch)

    def at(self, batch: PoseBatch, points: list[Array]) -> list[People]:
        """What is seen in each picture where (P,17,2) points are thought to be."""
        boxes = [np.concatenate([p.min(1), p.max(1)], 1) if len(p) else np.zeros((0, 4)) for p in points]
        return self._ask(batch, boxes, points)

    def compare(self, batch: PoseBatch) -> Seen:
        """The person at the label's box in each picture."""
        label, conf = label_points(batch)
        box, side = label_boxes(batch)
        boxes = [b[None] if np.isfinite(s) else np.zeros((0, 4)) for b, s in zip(box, side, strict=True)]
        hints = [h[None] if len(b) else np.zeros((0, 17, 2)) for h, b in zip(_thought(batch), boxes, strict=True)]
        rows = self._ask(batch, boxes, hints)
        found, found_conf = np.zeros_like(label), np.zeros_like(conf)
        for row, people in enumerate(rows):
            if len(people):
                found[row], found_conf[row] = people.points[0], people.conf[0]
        return Seen(label, conf, found, found_conf, box, side)

    def _ask(
        self, batch: PoseBatch, boxes: list[Array] | None = None, hints: list[Array] | None = None
    ) -> list[People]:
        keys = []
        for row in range(len(batch)):
            digest = hashlib.blake2b(batch.image[row].contiguous().cpu().numpy().tobytes(), digest_size=16)
            digest.update(repr(tuple(batch.image.shape[1:])).encode())
            digest.update(b"all" if boxes is None or hints is None else boxes[row].tobytes() + hints[row].tobytes())
            keys.append(digest.digest())
        new = [row for row, key in enumerate(keys) if key not in self._memory]
        answers: dict[bytes, People] = {}
        if new:
            images = batch.image[torch.tensor(new)].to(torch.uint8)
            if boxes is None or hints is None:
                found = self.detector.detect(images)
            else:
                found = self.detector.detect(images, [boxes[r] for r in new], [hints[r] for r in new])
            answers = dict(zip((keys[r] for r in new), found, strict=True))
        for key in keys:
            answers.setdefault(key, self._memory.get(key, People.none()))
            self._memory[key] = answers[key]
            self._memory.move_to_end(key)
        while len(self._memory) > _KEPT:
            self._memory.popitem(last=False)
        return [answers[key] for key in keys]

    def __getstate__(self) -> dict[str, Any]:
        return {"detector": self.detector}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.detector = state["detector"]
        self._memory = _memory(json.dumps(self.detector.config(), sort_keys=True))


@cache
def _memory(detector: str) -> OrderedDict[bytes, People]:
    """One for each configuration of a detector in this process."""
    return OrderedDict()


def _thought(batch: PoseBatch) -> Array:
    """(B,17,2) px: where the label has the points, of a known body those outside of the picture too; else NaN."""
    known = (batch.joints2d_conf > 0) | batch.has_pose[:, None]
    points, conf = convert(batch.joints2d, known.float(), "pose32", "coco17")
    return torch.where(conf[..., None] > 0, points, torch.nan).double().cpu().numpy()


def label_points(batch: PoseBatch) -> tuple[Array, Array]:
    """The label's (B,17,2) COCO points and (B,17) confidences, by name; what is not finite counts as not labelled."""
    points, conf = convert(batch.joints2d, batch.joints2d_conf, "pose32", "coco17")
    place, sure = points.double().cpu().numpy(), conf.double().cpu().numpy()
    sure = np.where(np.isfinite(place).all(-1) & np.isfinite(sure), sure, 0)
    return np.where(sure[..., None] > 0, place, 0), sure


def label_boxes(batch: PoseBatch) -> tuple[Array, Array]:
    """(B,4) about all labelled joints, and the longer side (B,), NaN where too few are labelled."""
    place, sure = batch.joints2d.double().cpu().numpy(), batch.joints2d_conf.double().cpu().numpy()
    there = (sure > 0) & np.isfinite(place).all(-1)
    low = np.where(there[..., None], place, np.inf).min(1)
    high = np.where(there[..., None], place, -np.inf).max(1)
    good = (there.sum(1) >= _FEWEST) & ((high - low).max(1, initial=-np.inf) >= 1)
    box = np.where(good[:, None], np.concatenate([low, high], 1), 0)
    # A person seen from the side, or a row of joints: a box has some width.
    thin = 0.1 * (box[:, 2:] - box[:, :2]).max(1, keepdims=True)
    grow = np.maximum(thin - (box[:, 2:] - box[:, :2]), 0) / 2
    box = np.concatenate([box[:, :2] - grow, box[:, 2:] + grow], 1)
    return box, np.where(good, (box[:, 2:] - box[:, :2]).max(1), np.nan)
