"""Which pixels of a picture are the person that a body was fitted to: graph cuts seeded by the projected body."""

from __future__ import annotations

import cv2
import numpy as np

from human.errors import PosesynError

_SIDE = 160  # px: cutting costs time, and the body's outline is known to a few pixels only
_CORE, _REACH = 0.042, 0.16  # metres: surely the person that deep inside the body, surely not that far outside it
_ITERATIONS = 3
_MIN_OVERLAP = 0.55  # intersection over union of the cut-out and the body
_MIN_PIXELS = 150  # of the body
_MAX_LIKENESS = 0.86  # Bhattacharyya coefficient of the colours inside and around


def cut_out_person(image: np.ndarray, body_HW: np.ndarray, px_per_metre: float) -> tuple[np.ndarray, dict[str, float]]:
    """The person's pixels: Rother et al., "GrabCut", SIGGRAPH 2004, as OpenCV implements it.

    Args:
        image: (H, W, 3) uint8 RGB.
        body_HW: (H, W) bool, the projected body.
        px_per_metre: at the body's depth.

    Returns:
        (H, W) bool, and figures of quality: ``overlap`` with the body, ``likeness`` of the colours inside and around.

    Raises:
        PosesynError: the body is too small or out of the picture, or nothing stands out where it is.
    """
    height, width = body_HW.shape
    if image.shape != (height, width, 3) or image.dtype != np.uint8:
        raise PosesynError(f"the picture is {image.shape} {image.dtype}, the body's mask {body_HW.shape}: must agree")
    if body_HW.sum() < _MIN_PIXELS:
        raise PosesynError(
            f"no person found: the fitted body covers {int(body_HW.sum())} pixels of the picture ({_MIN_PIXELS} needed)"
        )
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    body = (cv2.resize(body_HW.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5).astype(np.uint8)
    if not body.any() or body.all():
        raise PosesynError("no person found: the fitted body covers nothing or everything of the picture")
    metre = px_per_metre * scale
    inside, outside = (cv2.distanceTransform(m, cv2.DIST_L2, 5) for m in (body, 1 - body))
    near, far = max(1.5, _CORE * metre), max(4.0, _REACH * metre)
    label = np.full(body.shape, cv2.GC_PR_BGD, np.uint8)
    label[outside > far] = cv2.GC_BGD
    label[body > 0] = cv2.GC_PR_FGD
    label[inside > near] = cv2.GC_FGD
    if not (label == cv2.GC_FGD).any():
        label[inside >= inside.max()] = cv2.GC_FGD
    core = label == cv2.GC_FGD
    cv2.setRNGSeed(0)  # its mixtures start from k-means
    cv2.grabCut(small, label, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), _ITERATIONS, cv2.GC_INIT_WITH_MASK)
    person = ((label == cv2.GC_FGD) | (label == cv2.GC_PR_FGD)).astype(np.uint8)
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) | core.astype(np.uint8)
    person = _attached(person, core)
    overlap = float((person & body).sum() / max(1, (person | body).sum()))
    likeness = _likeness(small, person, far)
    if overlap < _MIN_OVERLAP:
        raise PosesynError(f"no person stands out where the body was fitted (overlap {overlap:.2f}): fit it better")
    if likeness > _MAX_LIKENESS:
        raise PosesynError(f"no person stands out from the surroundings (likeness of colours {likeness:.2f})")
    full = cv2.resize(person.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    return full, {"overlap": overlap, "likeness": likeness}


def _attached(person: np.ndarray, core: np.ndarray) -> np.ndarray:
    """The pieces that hold some of the core, small holes filled."""
    _, label = cv2.connectedComponents(person, connectivity=4)
    kept = np.isin(label, np.setdiff1d(np.unique(label[core]), [0])).astype(np.uint8)
    _, holes, stats, _ = cv2.connectedComponentsWithStats(1 - kept, connectivity=4)
    small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < 0.004 * kept.size)
    return kept | np.isin(holes, small).astype(np.uint8)


def _likeness(image: np.ndarray, person: np.ndarray, reach: float) -> float:
    """Bhattacharyya coefficient of Lab histograms of the person and of a ring around it: 1 for the same colours."""
    outside = cv2.distanceTransform(1 - person, cv2.DIST_L2, 5)
    ring = (outside > 2) & (outside <= reach + 2)
    if not ring.any() or not person.any():
        return 1.0
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    parts = []
    for mask in (person > 0, ring):
        histogram = cv2.calcHist([lab], [0, 1, 2], mask.astype(np.uint8), [10, 16, 16], [0, 256] * 3)
        parts.append(histogram / max(1.0, float(histogram.sum())))
    return float(np.sqrt(parts[0] * parts[1]).sum())
