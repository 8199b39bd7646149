"""Flat garments on plain backgrounds, drawn: outlines that differ from the body's, cloth with a pattern and a print."""

from __future__ import annotations

import cv2
import numpy as np

#: Right half of each outline, clockwise from the middle of the top to the middle of the bottom; unit: picture's side.
HALVES = {
    "shirt": [(0, .16), (.07, .13), (.13, .11), (.22, .15), (.40, .33), (.32, .43), (.215, .33), (.21, .6), (.225, .88),
              (0, .90)],
    "pullover": [(0, .14), (.07, .11), (.17, .13), (.25, .24), (.40, .80), (.32, .84), (.20, .42), (.20, .84),
                 (0, .86)],
    "vest": [(0, .24), (.07, .10), (.12, .10), (.14, .26), (.23, .36), (.22, .88), (0, .90)],
    "trousers": [(0, .06), (.15, .05), (.19, .30), (.20, .94), (.09, .95), (.03, .34), (0, .31)],
    "shorts": [(0, .2), (.25, .19), (.34, .74), (.08, .80), (0, .46)],
    "skirt": [(0, .15), (.15, .14), (.32, .82), (0, .86)],
    "dress": [(0, .10), (.05, .06), (.10, .05), (.20, .14), (.16, .20), (.12, .18), (.11, .38), (.26, .93), (0, .95)],
}  # fmt: skip
KIND_OF = {
    "shirt": "upper", "pullover": "upper", "vest": "upper", "trousers": "lower", "shorts": "lower", "skirt": "lower",
    "dress": "whole",
}  # fmt: skip


def outline(name: str, size: int) -> np.ndarray:
    """(N, 2) px, clockwise as displayed."""
    right = np.array(HALVES[name])
    both = np.concatenate([right, (right * [-1, 1])[::-1]])
    return (both + np.array([0.5, 0])) * size


def draw_garment(
    name: str, seed: int = 0, size: int = 256, photograph: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A picture (size, size, 3) uint8 RGB and the garment's true mask (size, size) bool.

    The background has a gradient, noise and a soft shadow; the cloth stripes or a photograph, folds, and one red disc
    on the chest or the left thigh (viewer's right).
    """
    rng = np.random.default_rng(seed)
    big = 2 * size
    mask = np.zeros((big, big), np.uint8)
    bend = rng.normal(0, 0.004 * big, (len(HALVES[name]) * 2, 2))
    cv2.fillPoly(mask, [np.round(outline(name, big) + bend).astype(np.int32)], 255)
    mask = np.where(cv2.GaussianBlur(mask, (0, 0), 0.008 * big) > 127, 255, 0).astype(np.uint8)
    y, x = np.mgrid[:big, :big] / big
    if photograph is not None:
        cloth = cv2.resize(photograph, (big, big)).astype(np.float64)
    else:
        base, stripe = rng.uniform(30, 120, 3), rng.uniform(60, 170, 3)
        cloth = np.where((np.sin(2 * np.pi * (x if seed % 2 else y) * 14) > 0.3)[..., None], stripe, base)
    folds = sum(0.06 * np.sin(rng.uniform(8, 30) * x + rng.uniform(4, 12) * y + rng.uniform(0, 6)) for _ in range(3))
    cloth = cloth * (1 + np.asarray(folds))[..., None]
    disc = (x - 0.5 - (0.12 if KIND_OF[name] == "lower" else 0)) ** 2 + (y - 0.38) ** 2 < 0.03**2
    cloth[disc] = (215, 30, 35)
    wall = (235 - 25 * y + 8 * x)[..., None] * np.array([1, 0.99, 0.96]) + rng.normal(0, 1.5, (big, big, 1))
    shadow = cv2.GaussianBlur(np.roll(mask, (8, 6), (0, 1)), (0, 0), 10) / 255.0
    picture = np.where(mask[..., None] > 0, cloth, wall * (1 - 0.06 * shadow[..., None]))
    picture = cv2.resize(picture.clip(0, 255).astype(np.uint8), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(picture), cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA) >= 128
