"""BlazePose's two networks (Bazarevsky et al., "BlazePose: On-device Real-time Body Pose Tracking", CV4ARVR 2020).

``PersonProposals`` is a single-shot detector: for a square picture it says where hips are and how far a person reaches
from them. ``PersonLandmarks`` looks at one such circle, turned upright, and says whether there is a person, and where
33 body points are. The weights (Apache-2.0) come out of MediaPipe's wheel, asset ``mediapipe_pose``; they run on
LiteRT, the extra ``detectors``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from human.assets import fetch
from human.crop import Array, crop_affine, transform_points, warp_image
from human.errors import PosesynError

Picture = npt.NDArray[np.uint8]

PROPOSAL_SIZE, LANDMARK_SIZE = 224, 256
#: Strides of the five feature maps that are one SSD layer each; each layer has two anchors per cell.
STRIDES = (8, 16, 32, 32, 32)
#: Side of the square about a person over the radius of their circle: 25 % more than the diameter.
ROI_SCALE = 2.5
#: Points of the body; the network's 39 have six more, which only it uses.
LANDMARKS = 33
NOSE, SHOULDERS, HIPS = 0, (11, 12), (23, 24)


@dataclass(frozen=True)
class Proposals:
    """P people that may be there: ``score`` (P,) in 0..1, ``hips`` and ``reach`` (P,2) picture px: the middle of the
    hips, and a point above it (along the body) on the circle that holds the person."""

    score: npt.NDArray[np.float64]
    hips: Array
    reach: Array

    def __len__(self) -> int:
        return len(self.score)

    @property
    def boxes(self) -> Array:
        """(P,4) xyxy px: the squares about the circles."""
        radius = np.linalg.norm(self.reach - self.hips, axis=1, keepdims=True)
        return np.concatenate([self.hips - radius, self.hips + radius], 1)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> Proposals:
        return Proposals(self.score[rows], self.hips[rows], self.reach[rows])

    @classmethod
    def cat(cls, parts: list[Proposals]) -> Proposals:
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("score", "hips", "reach")))


def anchors() -> Array:
    """(2254,2) centres of the detector's anchors, of a picture of side 1; their size is not used."""
    centres = []
    for stride in STRIDES:
        side = PROPOSAL_SIZE // stride
        y, x = np.mgrid[:side, :side]
        centres.append(np.repeat((np.stack([x, y], -1).reshape(-1, 2) + 0.5) / side, 2, axis=0))
    return np.concatenate(centres)


class PersonProposals:
    """The detector stage.

    Args:
        threshold: people below this score are not proposed.
        threads: CPU threads of the network.
    """

    def __init__(self, threshold: float = 0.5, threads: int = 1) -> None:
        self.threshold = threshold
        self._network = Network(weights() / "pose_detection" / "pose_detection.tflite", threads)
        self._anchors = anchors()

    def __call__(self, image_HWC: Picture, centre: tuple[float, float], side: float) -> Proposals:
        """People in the square of ``side`` px about ``centre``; many per person: suppress the lesser ones."""
        affine = crop_affine(centre, side, PROPOSAL_SIZE)
        pixels = warp_image(image_HWC, affine, PROPOSAL_SIZE).astype(np.float32) / np.float32(127.5) - 1
        boxes_A12, logit_A = (np.squeeze(o, 0) for o in self._network(pixels[None], (12, 1)))
        score = 1 / (1 + np.exp(-np.clip(logit_A[:, 0].astype(np.float64), -100, 100)))
        keep = np.flatnonzero(score >= self.threshold)
        # Numbers 4 and 5 are the middle of the hips, 6 and 7 the point on the circle: px from the anchor.
        points = boxes_A12[keep, 4:8].reshape(-1, 2, 2) / PROPOSAL_SIZE + self._anchors[keep, None]
        crop_to_picture = invert_affine(affine)
        placed = transform_points(crop_to_picture, points * PROPOSAL_SIZE - 0.5)
        return Proposals(score[keep], placed[:, 0], placed[:, 1])


@dataclass(frozen=True)
class Landmarks:
    """``points`` (33,2) picture px, ``visible`` (33,) and ``present`` in 0..1: how sure the network is of a person."""

    points: Array
    visible: npt.NDArray[np.float64]
    present: float

    def box(self, visible: float = 0.5) -> Array:
        """(4,) xyxy px, tight about the visible points and the crown; about all points where hardly any is visible."""
        seen = self.visible >= visible
        if seen.sum() < 4:
            seen = np.ones(LANDMARKS, bool)
        points = self.points[seen]
        if seen[[NOSE, *SHOULDERS]].any():
            # The topmost points are the eyes: the crown is about as far above the nose as the nose above the neck, or,
            # where the face cannot be seen, half a trunk above the neck.
            neck, hips = self.points[list(SHOULDERS)].mean(0), self.points[list(HIPS)].mean(0)
            nose = self.points[NOSE]
            crown = nose + 0.7 * (nose - neck) if seen[NOSE] else neck + 0.55 * (neck - hips)
            points = np.concatenate([points, crown[None]])
        return np.concatenate([points.min(0), points.max(0)])


class PersonLandmarks:
    """The landmark stage; ``threads`` as above."""

    def __init__(self, threads: int = 1) -> None:
        self._network = Network(weights() / "pose_landmark" / "pose_landmark_full.tflite", threads)

    def __call__(self, image_HWC: Picture, hips: Array, reach: Array) -> Landmarks:
        """The person of one proposal."""
        along = reach - hips
        # The point on the circle goes to the top of the crop: screen angle -90 degrees.
        turn = -90 - float(np.rad2deg(np.arctan2(along[1], along[0])))
        side = ROI_SCALE * float(np.linalg.norm(along))
        affine = crop_affine((float(hips[0]), float(hips[1])), side, LANDMARK_SIZE, turn)
        pixels = warp_image(image_HWC, affine, LANDMARK_SIZE).astype(np.float32) / np.float32(255)
        points, present = self._network(pixels[None], (195, 1))
        points_L5 = points.reshape(-1, 5)[:LANDMARKS].astype(np.float64)
        placed = transform_points(invert_affine(affine), points_L5[:, :2] - 0.5)
        return Landmarks(placed, 1 / (1 + np.exp(-points_L5[:, 3])), float(present.reshape(())))


def invert_affine(affine_23: Array) -> Array:
    """(2,3) crop px to picture px."""
    inverse = np.linalg.inv(affine_23[:, :2])
    return np.concatenate([inverse, -(inverse @ affine_23[:, 2])[:, None]], 1)


class Network:
    """A TFLite network with one input; made on first use, because an interpreter cannot be pickled."""

    def __init__(self, path: Path, threads: int) -> None:
        self.path, self.threads = path, threads
        self._interpreter: Any = None
        if not _runtime():
            raise PosesynError(
                "the BlazePose detector needs LiteRT: run `pip install 'posesyn[detectors]'`, "
                "or bring boxes or crops (data.detector: boxes, data.crops: true)"
            )

    def __call__(self, image_1HWC: npt.NDArray[np.float32], widths: tuple[int, ...]) -> list[np.ndarray]:
        """The outputs whose last dimension is each of ``widths``."""
        if self._interpreter is None:
            self._interpreter = _runtime()(model_path=str(self.path), num_threads=self.threads)
            self._interpreter.allocate_tensors()
            shapes = {o["index"]: tuple(o["shape"]) for o in self._interpreter.get_output_details()}
            self._outputs = [next(i for i, shape in shapes.items() if shape[-1] == w) for w in widths]
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], image_1HWC)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(i) for i in self._outputs]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_interpreter": None}


def _runtime() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    return Interpreter


def weights() -> Path:
    return fetch("mediapipe_pose")
