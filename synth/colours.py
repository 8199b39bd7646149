"""Colours of people and clothes, as linear-light RGB reflectances."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

# Human skin in CIELAB (D65) from very light to dark. L*, a*, b* go through the group means published by Xiao et al.,
# "Characterising the variations in ethnic skin colours", Skin Research and Technology 23 (2017), and the ITA classes of
# Del Bino & Bernerd, British Journal of Dermatology 169 (2013); rounded, and extended a little at both ends.
_SKIN_LAB = np.array(
    [
        [70, 9.5, 14.5],
        [64, 11.5, 17],
        [59, 11.5, 18.5],
        [53, 12.5, 20],
        [45, 12.5, 18.5],
        [37, 11, 14.5],
        [29, 8.5, 9.5],
    ]
)
# Dominant human hair colours, sRGB: black, dark brown, brown, light brown, blond, red, grey.
_HAIR_SRGB = np.array(
    [[14, 12, 12], [42, 28, 20], [74, 48, 32], [110, 78, 50], [186, 150, 98], [120, 52, 26], [150, 148, 146]]
)
_HAIR_SHARE = (0.34, 0.24, 0.15, 0.09, 0.09, 0.03, 0.06)
# Everyday fabric: black, white, greys, navy, denim, khaki, red.
_FABRIC_SRGB = np.array(
    [
        [18, 18, 20],
        [238, 238, 236],
        [120, 122, 125],
        [62, 64, 68],
        [24, 30, 58],
        [58, 82, 118],
        [158, 140, 108],
        [168, 24, 32],
    ]
)
_FABRIC_SHARE = (0.22, 0.2, 0.1, 0.08, 0.12, 0.12, 0.07, 0.09)
_TO_XYZ_WHITE = np.array([0.95047, 1.0, 1.08883])
_XYZ_TO_RGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])


def srgb_to_linear(srgb: np.ndarray) -> np.ndarray:
    """8-bit sRGB values -> linear light in [0, 1] (IEC 61966-2-1)."""
    s = np.asarray(srgb, np.float64) / 255
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light -> sRGB in [0, 255], clipped."""
    c = np.clip(linear, 0, 1)
    return 255 * np.where(c <= 0.0031308, c * 12.92, 1.055 * c ** (1 / 2.4) - 0.055)


def lab_to_linear(lab: np.ndarray) -> np.ndarray:
    """CIELAB (D65) -> linear sRGB."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _TO_XYZ_WHITE
    # Not a matrix product: its rounding may depend on how many colours there are.
    return np.clip((xyz[..., None, :] * _XYZ_TO_RGB).sum(-1), 0, 1)


T = TypeVar("T")


def pick(rng: np.random.Generator, items: Sequence[T], shares: Sequence[float]) -> T:
    """One of the items, by relative shares (numpy's ``choice`` costs ten times as much)."""
    total = list(accumulate(shares))
    return items[min(bisect_right(total, rng.random() * total[-1]), len(items) - 1)]


def picked(chance_N: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """(N,) indices by relative shares, of numbers in [0, 1): what :func:`pick` does with each."""
    total = np.array(list(accumulate(shares)))
    return np.searchsorted(total, chance_N * total[-1], side="right").clip(max=len(total) - 1)


def skin_colours(tone_N: np.ndarray, normal_N3: np.ndarray) -> np.ndarray:
    """(N,3) reflectances of skin; ``tone`` runs from very light 0 to dark 1."""
    steps = np.arange(len(_SKIN_LAB))
    lab = np.stack([np.interp(tone_N * steps[-1], steps, channel) for channel in _SKIN_LAB.T], -1)
    return lab_to_linear(lab + normal_N3 * [1.5, 1.2, 1.5])


def hair_colours(chance_N: np.ndarray, normal_N4: np.ndarray) -> np.ndarray:
    """(N,3) reflectances of hair."""
    base = _HAIR_SRGB[picked(chance_N, _HAIR_SHARE)]
    return srgb_to_linear(np.clip(base * np.exp(0.15 * normal_N4[:, :1]) + 3 * normal_N4[:, 1:], 4, 250))


def fabric_numbers(rng: np.random.Generator) -> tuple[float, ...]:
    """What :func:`fabric_colours` needs for one cloth."""
    return (rng.random(), *rng.standard_normal(3), rng.random(), rng.beta(2.5, 1.5), *rng.random(2))


def fabric_colours(numbers_N8: np.ndarray, everyday: float) -> np.ndarray:
    """(N,3) reflectances of cloth: an everyday colour with probability ``everyday``, else any hue."""
    chance, _, _, _, hue, saturation, value, common = numbers_N8.T
    base = _FABRIC_SRGB[picked(chance, _FABRIC_SHARE)] + 8 * numbers_N8[:, 1:4]
    turn = np.clip(np.abs((hue[:, None] * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    strong = saturation[:, None]
    vivid = 255 * (0.15 + 0.8 * value[:, None]) * (1 - strong + strong * turn)
    return srgb_to_linear(np.clip(np.where((common < everyday)[:, None], base, vivid), 4, 248))
