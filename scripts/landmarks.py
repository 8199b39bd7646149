"""Off-the-shelf 2D person landmarks with test-time augmentation, for the labelling scripts beside this file.

The detector is MediaPipe Pose (Bazarevsky et al., "BlazePose: On-device Real-time Body Pose Tracking", CV4ARVR 2020;
model ``pose_landmark_full``, Apache-2.0). It needs numpy < 2, so the labelling scripts run in an environment of their
own and the project itself never imports it:

    python -m venv labelling && labelling/bin/pip install "numpy<2" mediapipe==0.10.21 scipy rich
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

# MediaPipe's 33 landmarks -> the 17 COCO joints, in COCO order (nose, eyes, ears, shoulders, ... ankles).
COCO_FROM_MEDIAPIPE = np.array([0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])
COCO_FLIP = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])
LIMBS = [(5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16)]
COCO_BONES = [*LIMBS, (5, 6), (11, 12), (5, 11), (6, 12), (0, 1), (0, 2), (1, 3), (2, 4)]

SCALES = (1.25, 1.5, 1.8)  # side of the square crop over the long side of the person's box
MIN_CROP = 512  # px: smaller crops are enlarged, the detector stage was trained on near people


def frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the (H, W, 3) uint8 RGB frames of a video."""
    video = cv2.VideoCapture(str(path))
    while True:
        ok, bgr = video.read()
        if not ok:
            return
        yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


class LandmarkDetector:
    """One person per picture, every picture on its own (no tracking): the largest, best-scored person wins."""

    def __init__(self, min_confidence: float = 0.3) -> None:
        import mediapipe

        self._pose = mediapipe.solutions.pose.Pose(
            static_image_mode=True, model_complexity=1, min_detection_confidence=min_confidence
        )

    def __call__(self, rgb_HW3: np.ndarray) -> np.ndarray | None:
        """(17, 3) COCO joints in px (integer coordinates are pixel centres) with visibility, or None."""
        found = self._pose.process(np.ascontiguousarray(rgb_HW3)).pose_landmarks
        if found is None:
            return None
        height, width = rgb_HW3.shape[:2]
        all_33x3 = np.array([(p.x * width - 0.5, p.y * height - 0.5, p.visibility) for p in found.landmark])
        return all_33x3[COCO_FROM_MEDIAPIPE]

    def augmented(self, rgb_HW3: np.ndarray, box_xyxy: np.ndarray, scales: tuple[float, ...] = SCALES) -> np.ndarray:
        """(len(scales) * 2, 17, 3): one row per crop scale and mirroring; NaN where nobody was found."""
        centre = (box_xyxy[:2] + box_xyxy[2:]) / 2
        long_side = float(np.max(box_xyxy[2:] - box_xyxy[:2]))
        rows = []
        for scale in scales:
            side = long_side * scale
            size = round(max(side, MIN_CROP))
            zoom = size / side
            # crop px = zoom * (picture px - corner), written for pixel centres
            corner = centre - side / 2
            affine = np.array([[zoom, 0, -zoom * corner[0]], [0, zoom, -zoom * corner[1]]])
            crop = cv2.warpAffine(rgb_HW3, affine, (size, size), flags=cv2.INTER_LINEAR)
            for mirrored in (False, True):
                joints = self(crop[:, ::-1] if mirrored else crop)
                if joints is None:
                    rows.append(np.full((17, 3), np.nan))
                    continue
                if mirrored:
                    joints = joints[COCO_FLIP]
                    joints[:, 0] = size - 1 - joints[:, 0]
                joints[:, :2] = joints[:, :2] / zoom + corner
                rows.append(joints)
        return np.stack(rows)


def joints_box(joints_J3: np.ndarray) -> np.ndarray:
    """(4,) xyxy tight box of the joints that are not NaN."""
    return np.concatenate([np.nanmin(joints_J3[:, :2], axis=0), np.nanmax(joints_J3[:, :2], axis=0)])


def interpolate_boxes(boxes_T4: np.ndarray, window: int = 7) -> np.ndarray:
    """Fill missing rows (NaN) in time and take a running median, so that one bad first guess moves no crop."""
    time = np.arange(len(boxes_T4))
    good = np.isfinite(boxes_T4).all(1)
    filled = np.stack([np.interp(time, time[good], boxes_T4[good, k]) for k in range(4)], axis=1)
    half = window // 2
    padded = np.pad(filled, ((half, half), (0, 0)), mode="edge")
    return np.stack([np.median(padded[t : t + window], axis=0) for t in time])


def draw_skeleton(rgb_HW3: np.ndarray, points_J2: np.ndarray, keep_J: np.ndarray, width: int) -> None:
    """Draw in place: left orange, right blue, across green, masked grey."""
    for a, b in COCO_BONES:
        colour = (0, 220, 0)
        if not (keep_J[a] and keep_J[b]):
            colour = (128, 128, 128)
        elif a % 2 == b % 2:
            colour = (255, 140, 0) if a % 2 else (0, 120, 255)
        start, end = ((int(points_J2[j, 0]), int(points_J2[j, 1])) for j in (a, b))
        cv2.line(rgb_HW3, start, end, colour, width, cv2.LINE_AA)
