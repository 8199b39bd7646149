"""Light for a rendered person: an environment as order-2 spherical harmonics, one key light, and the ground's shadow.

The environments are 18 measured ones (``human/data/free_lighting.npz``, CC0), turned about the vertical at random and
mixed with the colours of the picture behind the person, so that person and place seem lit by the same lamps.
Everything is decided here, per seed, as numbers; :mod:`synth.shading` draws. Frame: OpenCV camera (x right, y down,
z forward). Harmonics are those of :mod:`human.shading`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from human.record import Record
from human.shading import SH_COSINE, SH_FACTORS
from synth.colours import srgb_to_linear

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
_Y, _COSINE = np.array(SH_FACTORS), np.array(SH_COSINE)
# Where a picture's colours come from (camera frame): above, below, left, right, behind the camera, behind the person.
_SIDES = np.array([[0, -1, 0], [0, 1, 0], [-1, 0, 0], [1, 0, 0], [0, 0, -1], [0, 0, 1]], np.float64)
# Which of a 3x3 grid's cells light each of those sides.
_CELLS = np.eye(9).reshape(3, 3, 9)
_SEEN = np.stack(
    [_CELLS[0].mean(0), _CELLS[2].mean(0), _CELLS[:, 0].mean(0), _CELLS[:, 2].mean(0)] + [np.full(9, 1 / 9)] * 2
)
_LEAST_HEIGHT = 0.17  # of the sun: ten degrees above the ground, lest a shadow reach the horizon


@dataclass(frozen=True)
class LightingConfig:
    """``(low, high)`` uniform unless said otherwise.

    ``measured_probability``: light from a measured environment, else from the picture behind the person alone.
    ``match_background``: how much of the environment's colour is the picture's. ``white_balance``: how much of the
    light's mean colour the camera takes away. ``sun_share``: the key light's part of the light on what the camera sees;
    ``measured_sun_probability``: its direction and colour are those of the measured environment, where that has a sun.
    ``exposure_sigma`` in stops. ``occlusion``: greatest darkening by near limbs. ``gloss`` scales highlights.
    ``shadow``: how dark a shadow on the ground is, where there is one (``shadow_probability``); ``softness``: the key
    light's radius, radians, log-uniform.
    """

    measured_probability: float = 0.7
    match_background: tuple[float, float] = (0.2, 0.8)
    white_balance: tuple[float, float] = (0.4, 1.0)
    sun_share: tuple[float, float] = (0.0, 0.7)
    measured_sun_probability: float = 0.5
    exposure_sigma: float = 0.55
    occlusion: tuple[float, float] = (0.3, 0.9)
    gloss: float = 1.0
    shadow_probability: float = 0.5
    shadow: tuple[float, float] = (0.15, 0.7)
    softness: tuple[float, float] = (0.02, 0.3)


@dataclass(frozen=True)
class Lighting(Record):
    """How B scenes are lit; directions are unit vectors in the camera frame.

    * ``sh`` (B,9,3) radiance of the environment as harmonics, exposure included: a white surface of normal n shows
      sum_k cosine_k Y_k(n) sh_k in linear display light, where 1 is white
    * ``sun`` (B,2,3): direction towards the key light, and its radiance r: a white surface shows r max(n.d, 0)
    * ``up`` (B,3) away from the ground
    * ``occlusion``, ``gloss``, ``shadow`` (B,): shares, see :class:`LightingConfig`; shadow 0 is no shadow
    * ``softness`` (B,) radius of the key light, radians
    """

    sh: Tensor
    sun: Tensor
    up: Tensor
    occlusion: Tensor
    gloss: Tensor
    shadow: Tensor
    softness: Tensor


@dataclass(frozen=True)
class Environments:
    """N measured places, y up, scaled so that the mean luminance over all directions is 1.

    ``sh`` (N,9,3) without the sun; ``towards`` (N,3) the sun, which adds ``sun`` (N,3) to a white wall facing it.
    """

    sh: np.ndarray
    towards: np.ndarray
    sun: np.ndarray

    def __len__(self) -> int:
        return len(self.sh)


@cache
def free_environments() -> Environments:
    """The places that ship with posesyn, baked by ``scripts/bake_lighting.py``."""
    with as_file(files("human") / "data" / "free_lighting.npz") as path, np.load(path) as data:
        return Environments(*(data[k].astype(np.float64) for k in ("sh", "towards", "sun")))


def harmonics(direction_N3: np.ndarray) -> np.ndarray:
    """(N,9) real spherical harmonics up to order 2 of unit directions."""
    x, y, z = direction_N3.T
    return np.array([np.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]).T * _Y


def rotate_harmonics(sh_9C: np.ndarray, rotation_33: np.ndarray) -> np.ndarray:
    """The harmonics (...,9,C) of the function that ``rotation`` (...,3,3) turns: g(R d) = f(d), exactly.

    Band 1 is a vector. Band 2 is a symmetric matrix M without trace, f(d) = d' M d, which turns into R M R'.
    """
    out = np.array(sh_9C, np.float64)
    out[..., [3, 1, 2], :] = rotation_33 @ out[..., [3, 1, 2], :]
    xy, yz, zz, xz, xx = (out[..., 4 + i, :] * _Y[4 + i] for i in range(5))
    rows = [[xx - zz, xy / 2, xz / 2], [xy / 2, -xx - zz, yz / 2], [xz / 2, yz / 2, 2 * zz]]
    matrix = np.moveaxis(np.array(rows), (0, 1), (-2, -1))  # (...,C,3,3)
    turn = rotation_33[..., None, :, :]
    turned = np.moveaxis(turn @ matrix @ np.swapaxes(turn, -1, -2), (-2, -1), (0, 1))
    out[..., 4, :], out[..., 5, :] = 2 * turned[0, 1] / _Y[4], 2 * turned[1, 2] / _Y[5]
    out[..., 6, :], out[..., 7, :] = turned[2, 2] / (2 * _Y[6]), 2 * turned[0, 2] / _Y[7]
    out[..., 8, :] = (turned[0, 0] - turned[1, 1]) / (2 * _Y[8])
    return out


def world_to_camera(up_3: np.ndarray, azimuth: np.ndarray | float) -> np.ndarray:
    """(...,3,3) rotation from a world with y up, turned about y by ``azimuth`` (...) radians, to the camera that sees
    ``up`` (...,3).
    """
    x, y, z = np.moveaxis(up_3, -1, 0)
    length = np.hypot(x, y)
    level = length > 1e-6  # else the camera looks straight up or down
    safe = np.where(level, length, 1.0)
    ax, ay = np.where(level, y / safe, 1.0), np.where(level, -x / safe, 0.0)
    c, s = np.cos(azimuth), np.sin(azimuth)
    none, one = np.zeros_like(c), np.ones_like(c)
    upright = np.array([[ax, x, ay * z], [ay, y, -ax * z], [np.zeros_like(x), z, ax * y - ay * x]])
    turn = np.array([[c, none, s], [none, one, none], [-s, none, c]])
    return np.moveaxis(upright, (0, 1), (-2, -1)) @ np.moveaxis(turn, (0, 1), (-2, -1))


def draw_lighting(
    rngs: Sequence[np.random.Generator],
    config: LightingConfig,
    backgrounds_HW3: Sequence[np.ndarray],
    up_B3: np.ndarray | None = None,
    environments: Environments | None = None,
) -> Lighting:
    """The light of B scenes, of a generator each.

    The number of draws is fixed, so a probability changes only its effect.

    Args:
        backgrounds_HW3: uint8 sRGB, the pictures behind the persons.
        up_B3: away from the ground, camera frame, any length; None, and rows that are zero or not finite, are a level
            camera's (0, -1, 0).
        environments: by default those that ship with posesyn.
    """
    places = free_environments() if environments is None else environments
    drawn = [_numbers(rng, max(len(places), 1)) for rng in rngs]
    column = {k: np.stack([row[k] for row in drawn]) for k in drawn[0]}
    azimuth, measured, match, balance = column["place"].T
    match = _between(config.match_background, match)[:, None, None]
    given_sun, share, exposure, occlusion, dark, chance, softness = column["camera"].T
    level_up = np.tile(np.array([0.0, -1.0, 0.0]), (len(drawn), 1))
    up = level_up if up_B3 is None else _unit_or(np.asarray(up_B3, np.float64), level_up)
    grid = srgb_to_linear(np.stack([_thirds(b) for b in backgrounds_HW3])).reshape(-1, 9, 3)
    scene = grid.mean((1, 2)) + 0.02
    picture = _picture_light(column["plain"], column["share"], column["sources"], grid, scene)
    tint = np.array([1.0, 0.95, 0.88]) ** (0.5 + column["tint"])[:, None]
    sun = _unit_or(column["sun"] * [1.0, 0.7, 1.0] + 0.9 * up - [0.0, 0.0, 0.2], up)

    ambient = picture
    if len(places):
        which, known = column["which"], measured < config.measured_probability
        turn = world_to_camera(up, _between((-np.pi, np.pi), azimuth))
        ambient = np.where(known[:, None, None], rotate_harmonics(places.sh[which], turn), picture)
        its = known & (given_sun < config.measured_sun_probability) & (places.sun[which] @ _LUMINANCE > 0.05)
        towards = (turn @ places.towards[which][..., None])[..., 0]
        bright = np.maximum(places.sun[which].max(-1, keepdims=True), 1e-6)
        sun = np.where(its[:, None], towards, sun)
        tint = np.where(its[:, None], places.sun[which] / bright, tint)
    # The camera's white balance goes by all the light there is, and removes only a part of its colour.
    mean = np.maximum(ambient[:, 0], 0) + 1e-6
    cast = (mean / _luminance(mean)[:, None]) ** -_between(config.white_balance, balance)[:, None]
    ambient, tint = _normalised(ambient * cast[:, None]), tint * cast
    ambient = (1 - match) * ambient + match * _normalised(picture)
    height = (sun * up).sum(-1, keepdims=True)
    sun = np.where(height < _LEAST_HEIGHT, _unit_or(sun + (_LEAST_HEIGHT - height) * up, up), sun)

    share = _between(config.sun_share, share)
    key = np.maximum((_NORMALS[:, None] * sun).sum(-1), 0).mean(0) * _luminance(tint)
    # A sun behind the person lights little of what is seen: do not burn out that rim to make up for the rest.
    radiance = tint * (share / np.maximum(key, 0.08))[:, None]
    # A person is lit about as the scene is; cameras pull both towards middle grey, and nobody keeps a black picture.
    level = np.maximum(1.4 * scene**0.35 * 2 ** (config.exposure_sigma * exposure), 0.35)
    columns = (
        (level * (1 - share))[:, None, None] * ambient,
        np.stack([sun, level[:, None] * radiance], 1),
        up,
        _between(config.occlusion, occlusion),
        np.full(len(drawn), config.gloss),
        np.where(chance < config.shadow_probability, _between(config.shadow, dark), 0.0),
        np.exp(_between(np.log(config.softness), softness)),
    )
    return Lighting(*(torch.from_numpy(np.asarray(c, np.float32)) for c in columns))


def _thirds(picture_HW3: np.ndarray) -> np.ndarray:
    """(3,3,3) uint8 means over a grid; halved first, because thirds of all the pixels take four times as long."""
    small = np.ascontiguousarray(picture_HW3)
    while min(small.shape[:2]) > 32:
        small = cv2.resize(small, (small.shape[1] // 2, small.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (3, 3), interpolation=cv2.INTER_AREA)


def _numbers(rng: np.random.Generator, places: int) -> dict[str, Any]:
    """One scene's random numbers."""
    return {
        "which": rng.integers(places),
        "place": rng.random(4),
        "plain": rng.standard_normal(3),
        "share": rng.random(),
        "sources": rng.standard_normal(24),
        "tint": rng.standard_normal(),
        "sun": rng.standard_normal(3),
        "camera": [*rng.random(2), rng.standard_normal(), *rng.random(4)],
    }


def _between(bounds: Any, share: np.ndarray) -> np.ndarray:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _luminance(colour_N3: np.ndarray) -> np.ndarray:
    return (colour_N3 * _LUMINANCE).sum(-1)


def _picture_light(
    plain_B3: np.ndarray, share_B: np.ndarray, normal_BN: np.ndarray, grid_B93: np.ndarray, scene_B: np.ndarray
) -> np.ndarray:
    """(B,9,3): the picture's top lights from above, its sides from the sides; half of it as a plain room would."""
    seen = _SEEN @ grid_B93
    tinted = scene_B[:, None] * (1 + 0.08 * plain_B3)
    plain = np.array([1.6, 0.5, 1.0, 1.0, 1.0, 1.0])[:, None] * tinted[:, None]
    share = (0.3 + 0.7 * share_B)[:, None, None]
    sources = (share * seen + (1 - share) * plain + 1e-3) * np.exp(0.5 * normal_BN[:, :6, None])
    sides = _SIDES + 0.35 * normal_BN[:, 6:].reshape(-1, 6, 3)
    sides /= np.sqrt((sides * sides).sum(-1, keepdims=True))
    basis = harmonics(sides.reshape(-1, 3)).reshape(-1, 6, 9)
    return np.swapaxes(basis, 1, 2) @ sources


def _disc(side: int = 12) -> np.ndarray:
    """(N,3) unit normals towards a camera, evenly over the picture of a ball."""
    axis = (np.arange(side) + 0.5) * 2 / side - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0))
    return np.stack([x, y, -z], -1)[x * x + y * y < 0.998]


_NORMALS = _disc()
_IRRADIANCE = harmonics(_NORMALS) * _COSINE


def _normalised(sh_B93: np.ndarray) -> np.ndarray:
    """Scaled so that a white ball before the camera shows a mean luminance of 1."""
    shown = _luminance(np.maximum(_IRRADIANCE @ sh_B93, 0).mean(1))
    return sh_B93 / np.maximum(shown, 1e-6)[:, None, None]


def _unit_or(vector_B3: np.ndarray, otherwise_B3: np.ndarray) -> np.ndarray:
    length = np.hypot(np.hypot(vector_B3[:, :1], vector_B3[:, 1:2]), vector_B3[:, 2:])
    usable = np.isfinite(length) & (length > 1e-6)
    return np.where(usable, vector_B3, otherwise_B3) / np.where(usable, length, 1.0)
