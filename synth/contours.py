"""Closed contours, what describes a point on them, and their alignment by dynamic time warping."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from human.errors import PosesynError

_TANGENT = 0.35  # weight of direction beside position (the contour's box is 2x2)
_STALL = 0.02  # cost of a step that stands still on one of the contours


def contour_of(mask: np.ndarray, count: int) -> np.ndarray:
    """The outer contour of the largest piece, ``count`` points evenly along it: (count, 2) px, x and y; clockwise as
    displayed, from the topmost point nearest the middle."""
    pieces, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not pieces:
        raise PosesynError("the mask is empty: it has no contour")
    points = max(pieces, key=cv2.contourArea)[:, 0].astype(np.float64)
    if len(points) < 8:
        raise PosesynError("the garment is too small to have a contour")
    if cv2.contourArea(points.astype(np.float32), oriented=True) < 0:
        points = points[::-1]
    low, high = points.min(0), points.max(0)
    middle = (low + high) / 2
    height, width = high[1] - low[1] + 1, high[0] - low[0] + 1
    start = np.argmin((points[:, 1] - low[1]) / height + 2 * np.abs(points[:, 0] - middle[0]) / width)
    return resample(np.roll(points, -int(start), axis=0), count)


def resample(points_MC: np.ndarray, count: int, lengths: np.ndarray | None = None) -> np.ndarray:
    """``count`` points evenly along a closed line, by the length of its first two columns."""
    closed = np.concatenate([points_MC, points_MC[:1]])
    step = np.linalg.norm(np.diff(closed[:, :2], axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(step)])
    at = np.arange(count) * along[-1] / count
    return np.stack([np.interp(at, along, column) for column in closed.T], 1)


def contour_features(points_N2: np.ndarray) -> np.ndarray:
    """(N, 4): position in the contour's box (-1..1 each way) and weighted direction of travel."""
    low, high = points_N2.min(0), points_N2.max(0)
    position = 2 * (points_N2 - low) / np.maximum(high - low, 1e-9) - 1
    smooth = gaussian_filter1d(points_N2, 1.5, axis=0, mode="wrap")
    direction = np.roll(smooth, -1, axis=0) - np.roll(smooth, 1, axis=0)
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    return np.concatenate([position, _TANGENT * direction], 1)


def warp_time(cost_KNM: np.ndarray, stall: float = _STALL) -> tuple[np.ndarray, np.ndarray]:
    """Dynamic time warping of K problems at once (Sakoe and Chiba, 1978): total costs (K,) and the step tables
    (K, N, M) int8 for :func:`warping_path`; ``stall`` is added to steps that advance one sequence only.
    """
    count, n, m = cost_KNM.shape
    total = np.full((count, n + 1, m + 1), np.inf)
    total[:, 0, 0] = 0
    steps = np.zeros((count, n, m), dtype=np.int8)
    for diagonal in range(n + m - 1):  # all cells of an anti-diagonal depend only on the two before it
        i = np.arange(max(0, diagonal - m + 1), min(n, diagonal + 1))
        j = diagonal - i
        options = np.stack([total[:, i, j], total[:, i, j + 1] + stall, total[:, i + 1, j] + stall])
        choice = options.argmin(0)
        steps[:, i, j] = choice
        total[:, i + 1, j + 1] = cost_KNM[:, i, j] + np.take_along_axis(options, choice[None], 0)[0]
    return total[:, n, m], steps


def warping_path(steps_NM: np.ndarray) -> np.ndarray:
    """(L, 2) pairs of indices from the first to the last, out of one step table of :func:`warp_time`."""
    i, j = steps_NM.shape[0] - 1, steps_NM.shape[1] - 1
    path = [(i, j)]
    while i > 0 or j > 0:
        step = steps_NM[i, j]
        i, j = (i - (step != 2), j - (step != 1)) if i and j else (i - (i > 0), j - (j > 0))
        path.append((i, j))
    return np.array(path[::-1])
