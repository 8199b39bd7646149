"""Removing a person from a reference picture, so that its scene can serve as a background."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from human.errors import PosesynError
from human.skeleton import get_skeleton
from synth.completion import complete

# Thicknesses and radii are in torso lengths (mid-shoulder to mid-hip, about 0.5 m), with room for clothes and hair.
_SEGMENTS = {"shoulder elbow": 0.40, "elbow wrist": 0.34, "hip knee": 0.55, "knee ankle": 0.44}
_ENDS = (("elbow", "wrist", 0.35, 0.26), ("knee", "ankle", 0.12, 0.34))  # inner, end, reach beyond it, radius
_TRUNK = ("left_shoulder", "right_shoulder", "right_hip", "left_hip")
_TRUNK_MARGIN, _HEAD_RADIUS = 0.42, 0.36
_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
# How many of a segment make a torso: foreshortening only shortens, so the longest estimate is the best one.
_TORSO_PER = {"shoulder elbow": 1.7, "elbow wrist": 1.9, "hip knee": 1.2, "knee ankle": 1.2}
_TORSO_PER_SHOULDERS = 1.3


def person_mask(
    joints2d_J2: np.ndarray, conf_J: np.ndarray, size: tuple[int, int], skeleton: str = "pose32"
) -> np.ndarray:
    """Where a person roughly is: thick limbs, a filled trunk and a head, scaled by torso length.

    Args:
        joints2d_J2: pixels, x and y.
        conf_J: joints with confidence 0 are not used.
        size: (height, width) of the picture.
        skeleton: the joint order, a name in ``human.skeleton.SKELETONS``.

    Returns:
        (height, width) bool; empty when no two joined joints are labelled.
    """
    names = get_skeleton(skeleton).joints
    if joints2d_J2.shape != (len(names), 2) or conf_J.shape != (len(names),):
        raise PosesynError(
            f"skeleton {skeleton!r} has {len(names)} joints, got joints {joints2d_J2.shape}, confidences {conf_J.shape}"
        )
    at = {n: p for n, p, c in zip(names, np.asarray(joints2d_J2, dtype=np.float64), conf_J, strict=True) if c > 0}
    mask = np.zeros(size, dtype=np.uint8)
    torso = _torso_length(at)
    if torso == 0:
        return mask.astype(bool)

    def stroke(points: list[np.ndarray], width: float) -> None:
        pixels = [[int(v) for v in p.round()] for p in points]
        for a, b in pairwise(pixels):
            cv2.line(mask, a, b, 1, max(1, round(width * torso)))

    def disc(centre: np.ndarray, radius: float) -> None:
        cv2.circle(mask, [int(v) for v in centre.round()], max(1, round(radius * torso)), 1, thickness=-1)

    for side in ("left", "right"):
        for segment, width in _SEGMENTS.items():
            a, b = (f"{side}_{part}" for part in segment.split())
            if a in at and b in at:
                stroke([at[a], at[b]], width)
        for inner, end, reach, radius in _ENDS:  # hands and feet go on beyond the last joint
            tip = at.get(f"{side}_{end}")
            if tip is not None:
                disc(tip + reach * (tip - at.get(f"{side}_{inner}", tip)), radius)
    trunk = [at[n] for n in _TRUNK if n in at]
    if len(trunk) > 2:
        cv2.fillConvexPoly(mask, cv2.convexHull(np.array(trunk, dtype=np.float32)).astype(np.int32), 1)
    stroke([*trunk, *trunk[:1]], _TRUNK_MARGIN)
    neck = next((at[n] for n in ("upper_neck", "neck", "thorax") if n in at), None)
    if neck is None and "left_shoulder" in at and "right_shoulder" in at:
        neck = (at["left_shoulder"] + at["right_shoulder"]) / 2
    if "head_top" in at and neck is not None:
        disc((at["head_top"] + neck) / 2, _HEAD_RADIUS)
        stroke([at["head_top"], neck], 0.5)
    elif face := [at[n] for n in _FACE if n in at]:
        disc(np.mean(face, axis=0), _HEAD_RADIUS * 1.2)
    # What limbs enclose is too small to tell anything about the scene, and often still the person.
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(mask, outlines, -1, 1, thickness=-1).astype(bool)


def _torso_length(at: dict[str, np.ndarray]) -> float:
    """Pixels; 0 when no two joined joints are labelled."""

    def between(a: str, b: str) -> float:
        return float(np.linalg.norm(at[a] - at[b])) if a in at and b in at else 0.0

    guesses = [_TORSO_PER_SHOULDERS * between("left_shoulder", "right_shoulder")]
    for side in ("left", "right"):
        guesses.append(between(f"{side}_shoulder", f"{side}_hip"))
        guesses += [ratio * between(*(f"{side}_{part}" for part in seg.split())) for seg, ratio in _TORSO_PER.items()]
    return max(guesses)


def inpaint_person(
    image: np.ndarray, mask: np.ndarray | None = None, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Fill the place of a person with pieces of its surroundings (:mod:`synth.completion`).

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, true on the person; widened a little here.
        box: x0, y0, x1, y1 in pixels; either this or ``mask``.

    Returns:
        (H, W, 3) uint8 RGB, untouched away from the person.
    """
    height, width = image.shape[:2]
    if mask is None and box is not None:
        x0, y0, x1, y1 = np.clip(np.round(box), 0, [width, height, width, height]).astype(int)
        mask = np.zeros((height, width), dtype=bool)
        mask[y0:y1, x0:x1] = True
    elif mask is None or box is not None:
        raise PosesynError("give inpaint_person a mask or a box, one of them")
    if mask.shape != (height, width):
        raise PosesynError(f"the mask is {mask.shape} and the picture {(height, width)}: they must agree")
    if mask.all():
        raise PosesynError("the mask covers the whole picture: nothing is left to fill it from")
    if not mask.any():
        return image.copy()

    hole = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    filled = complete(image, hole > 0)
    # Feathered, so that no outline of the person stays visible; 1 everywhere on the mask itself.
    soft = np.where(mask, 1.0, cv2.GaussianBlur(hole.astype(np.float32), (3, 3), 0))[..., None]
    return np.rint(image + soft * (filled - image)).clip(0, 255).astype(np.uint8)
