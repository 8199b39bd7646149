"""Skeletons drawn on crops."""

from __future__ import annotations

import cv2
import numpy as np

from human.skeleton import POSE32

# Limbs and torso by name; the spine and hand joints of SMPL only clutter a small picture.
_BONES = [
    (f"{s}_{a}", f"{s}_{b}")
    for s in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"))
] + [("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"), ("upper_neck", "head_top")]
BONES = [(POSE32.index(a), POSE32.index(b)) for a, b in _BONES]
# Okabe-Ito: apart for colour-blind readers too. The person's left is blue, right is orange.
LEFT, RIGHT, MIDDLE, TRUTH = (0, 114, 178), (230, 159, 0), (240, 240, 240), (0, 200, 120)


def draw_skeleton(
    image_HWC: np.ndarray,
    joints_J2: np.ndarray,
    conf_J: np.ndarray,
    colour: tuple[int, int, int] | None = None,
    zoom: int = 2,
) -> np.ndarray:
    """A copy, ``zoom`` times enlarged, with bones between joints of positive confidence; left blue, right orange
    unless one colour is given.
    """
    canvas = (
        image_HWC
        if image_HWC.shape[0] % zoom or zoom == 1
        else cv2.resize(image_HWC, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    )
    canvas = canvas.copy()
    # Integer coordinates are pixel centres, before and after enlarging.
    xy = (joints_J2 + 0.5) * zoom - 0.5
    for a, b in BONES:
        if conf_J[a] > 0 and conf_J[b] > 0 and np.isfinite(xy[[a, b]]).all():
            side = POSE32.joints[b]
            shade = colour or (LEFT if side.startswith("left") else RIGHT if side.startswith("right") else MIDDLE)
            p, q = (tuple(int(v) for v in np.clip(np.round(xy[k]), -4096, 4096)) for k in (a, b))
            cv2.line(canvas, p, q, shade, 2, cv2.LINE_AA)
    return canvas


def caption(image_HWC: np.ndarray, text: str) -> np.ndarray:
    """A copy with a line of text along the bottom, on a dark ground."""
    out, font, scale = image_HWC.copy(), cv2.FONT_HERSHEY_SIMPLEX, 0.42
    (width, height), below = cv2.getTextSize(text, font, scale, 1)
    top = max(0, out.shape[0] - height - below - 6)
    out[top:, : width + 8] //= 3
    cv2.putText(out, text, (4, out.shape[0] - below - 2), font, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def frame(image_HWC: np.ndarray, colour: tuple[int, int, int], width: int = 4) -> np.ndarray:
    """A copy with a coloured border."""
    out = image_HWC.copy()
    cv2.rectangle(out, (0, 0), (out.shape[1] - 1, out.shape[0] - 1), colour, width)
    return out


def grid(images: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size in rows of ``columns``, missing ones black."""
    rows = -(-len(images) // columns)
    blank = np.zeros_like(images[0])
    images = images + [blank] * (rows * columns - len(images))
    return np.vstack([np.hstack(images[r * columns : (r + 1) * columns]) for r in range(rows)])
