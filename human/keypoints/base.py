"""The contract of a 2D keypoint detector: pictures, and perhaps boxes, to people with COCO's 17 points.

What a network calls its points is converted by name; a point that it does not know has score 0, never a guess.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from human.blazepose import Picture
from human.crop import Array
from human.detectors import make_detector
from human.errors import PosesynError
from human.registry import Registry, make
from human.skeleton import COCO17

COUNT = len(COCO17)


@dataclass(frozen=True)
class People:
    """P people in one picture.

    Attributes:
        points: (P,17,2) pixels, COCO's order, integer coordinates at pixel centres; finite.
        conf: (P,17) in 0..1: how sure the network is of each point; 0: it has none.
        score: (P,) in 0..1: how sure it is that there is a person.
    """

    points: Array
    conf: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> People:
        return People(self.points[rows], self.conf[rows], self.score[rows])

    @classmethod
    def none(cls) -> People:
        return cls(np.zeros((0, COUNT, 2)), np.zeros((0, COUNT)), np.zeros(0))

    @classmethod
    def named(cls, points: npt.ArrayLike, conf: npt.ArrayLike, score: npt.ArrayLike, names: Sequence[str]) -> People:
        """From (P,J,2) points, (P,J) confidences and (P,) scores in any order, by the joints' names. Points that are
        not finite get score 0.
        """
        place = np.asarray(points, np.float64).reshape(-1, len(names), 2)
        sure = np.asarray(conf, np.float64).reshape(-1, len(names))
        out, out_conf = np.zeros((len(place), COUNT, 2)), np.zeros((len(place), COUNT))
        for target, joint in enumerate(COCO17.joints):
            if joint in names:
                source = list(names).index(joint)
                out[:, target], out_conf[:, target] = place[:, source], sure[:, source]
        bad = ~(np.isfinite(out).all(-1) & np.isfinite(out_conf))
        out[bad], out_conf[bad] = 0, 0
        return cls(out, out_conf.clip(0, 1), np.nan_to_num(np.asarray(score, np.float64).reshape(-1)).clip(0, 1))


class KeypointDetector(ABC):
    """A pure function of the pictures, the boxes and :meth:`config`; loaded at the first picture."""

    name: ClassVar[str]

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything that decides what is found, as JSON-ready values."""

    def detect(
        self,
        images: Tensor,
        boxes: Sequence[npt.ArrayLike] | None = None,
        hints: Sequence[npt.ArrayLike] | None = None,
    ) -> list[People]:
        """The people in each picture.

        Args:
            images: (B,3,H,W) uint8 RGB, on any device.
            boxes: for each picture (P,4) xyxy px, tight about the people who are asked for: the answer has a row for
                each of them. None: the detector looks for people itself.
            hints: for each picture (P,17,2) px, where the points of those people are thought to be. A network that
                wants people upright turns the picture by them; others do without. NaN: no idea.

        Raises:
            PosesynError: shapes do not fit, or the detector cannot be loaded (what to install or download).
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
            raise PosesynError(
                f"a keypoint detector reads (B,3,H,W) uint8 pictures, got {tuple(images.shape)} {images.dtype}"
            )
        if boxes is not None and len(boxes) != len(images):
            raise PosesynError(f"{len(images)} pictures need as many lists of boxes, got {len(boxes)}")
        pictures = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        if boxes is None:
            return self._find(list(pictures))
        tables = [_clean_boxes(rows) for rows in boxes]
        if hints is None:
            guesses = [np.full((len(t), COUNT, 2), np.nan) for t in tables]
        else:
            guesses = [np.asarray(h, np.float64).reshape(-1, COUNT, 2) for h in hints]
        if [len(g) for g in guesses] != [len(t) for t in tables]:
            raise PosesynError(
                f"hints need a row for each box: {[len(t) for t in tables]}, {[len(g) for g in guesses]}"
            )
        rows = [row for row, table in enumerate(tables) if len(table)]
        found = self._look([pictures[r] for r in rows], [tables[r] for r in rows], [guesses[r] for r in rows])
        answers = dict(zip(rows, found, strict=True))
        return [answers.get(row, People.none()) for row in range(len(tables))]

    @abstractmethod
    def _look(self, pictures: list[Picture], boxes: list[Array], hints: list[Array]) -> list[People]:
        """One row for each box; every list of boxes has one or more, and as many hints."""

    def _find(self, pictures: list[Picture]) -> list[People]:
        """People anywhere: boxes of a person detector, then :meth:`_look`."""
        finder = self._finder()
        boxes = [finder(picture, "").boxes for picture in pictures]
        tensors = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) if pictures else torch.zeros(0, 3, 1, 1)
        return self.detect(tensors.to(torch.uint8), boxes)

    def _finder(self) -> Callable[..., Any]:
        """Who finds the people for detectors that only look at boxes."""
        return make_detector("blazepose")


def _clean_boxes(rows: npt.ArrayLike) -> Array:
    """(P,4); a box that is none becomes a pixel, so that its person gets no sure points and the rows stay."""
    table = np.asarray(rows, np.float64).reshape(-1, 4)
    good = np.asarray(np.isfinite(table).all(1) & (table[:, 2:] > table[:, :2]).all(1))
    return np.where(good[:, None], table, [[0.0, 0.0, 1.0, 1.0]])


KEYPOINT_DETECTORS: Registry[Callable[..., KeypointDetector]] = Registry("keypoint detector")


def make_keypoint_detector(name: str, options: dict[str, Any] | None = None) -> KeypointDetector:
    """The detector ``name`` with arguments from a config; :class:`PosesynError` names what is wrong."""
    return make(KEYPOINT_DETECTORS, name, options)
