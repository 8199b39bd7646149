"""Light for a rendered person: an environment as order-2 spherical harmonics, one key light, and the ground's shadow.

The environments are 18 measured ones (``human/data/free_lighting.npz``, CC0), turned about the vertical at random and
mixed with the colours of the picture behind the person, so that person and place seem lit by the same lamps.
Everything is decided here, per seed, as numbers; :mod:`synth.shading` draws. Frame: OpenCV camera (x right, y down,
z forward). Harmonics are those of :mod:`human.shading`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

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

    @classmethod
    def stack(cls, rows: Sequence[dict[str, np.ndarray]]) -> Lighting:
        """What :func:`draw_lighting` returned for B scenes, as one record."""
        return cls(**{key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]})


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
    """The harmonics of the function that ``rotation`` turns: g(R d) = f(d), exactly.

    Band 1 is a vector. Band 2 is a symmetric matrix M without trace, f(d) = d' M d, which turns into R M R'.
    """
    out = np.array(sh_9C, np.float64)
    out[[3, 1, 2]] = rotation_33 @ sh_9C[[3, 1, 2]]
    xy, yz, zz, xz, xx = (sh_9C[4 + i] * _Y[4 + i] for i in range(5))
    rows = [[xx - zz, xy / 2, xz / 2], [xy / 2, -xx - zz, yz / 2], [xz / 2, yz / 2, 2 * zz]]
    turned = (rotation_33 @ np.array(rows).transpose(2, 0, 1) @ rotation_33.T).transpose(1, 2, 0)
    out[4], out[5], out[7] = 2 * turned[0, 1] / _Y[4], 2 * turned[1, 2] / _Y[5], 2 * turned[0, 2] / _Y[7]
    out[6], out[8] = turned[2, 2] / (2 * _Y[6]), (turned[0, 0] - turned[1, 1]) / (2 * _Y[8])
    return out


def world_to_camera(up_3: np.ndarray, azimuth: float) -> np.ndarray:
    """(3,3) rotation from a world with y up, turned about y by ``azimuth`` radians, to the camera that sees ``up``."""
    x, y, z = (float(v) for v in up_3)
    length = math.hypot(x, y)
    ax, ay = (y / length, -x / length) if length > 1e-6 else (1.0, 0.0)  # looking straight up or down
    upright = np.array([[ax, x, ay * z], [ay, y, -ax * z], [0.0, z, ax * y - ay * x]])
    c, s = np.cos(azimuth), np.sin(azimuth)
    return upright @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def draw_lighting(
    rng: np.random.Generator,
    config: LightingConfig,
    background_HW3: np.ndarray,
    up_3: np.ndarray | None = None,
    environments: Environments | None = None,
) -> dict[str, np.ndarray]:
    """One scene's light: the fields of :class:`Lighting` without the batch dimension, float32.

    The number of draws is fixed, so a probability changes only its effect.

    Args:
        background_HW3: uint8 sRGB, the picture behind the person.
        up_3: away from the ground, camera frame, any length; None, zero or not finite is a level camera's (0, -1, 0).
        environments: by default those that ship with posesyn.
    """
    places = free_environments() if environments is None else environments
    up = _unit_or(up_3, np.array([0.0, -1.0, 0.0]))
    which, azimuth, measured = rng.integers(max(len(places), 1)), rng.uniform(-np.pi, np.pi), rng.random()
    match, balance = rng.uniform(*config.match_background), rng.uniform(*config.white_balance)
    grid = srgb_to_linear(cv2.resize(np.ascontiguousarray(background_HW3), (3, 3), interpolation=cv2.INTER_AREA))
    scene = float(grid.mean()) + 0.02
    picture = _picture_light(rng, grid, scene)
    tint = np.array([1.0, 0.95, 0.88]) ** rng.normal(0.5, 1.0)
    free_sun = rng.standard_normal(3) * [1.0, 0.7, 1.0] + 0.9 * up - [0.0, 0.0, 0.2]

    ambient, sun = picture, _unit_or(free_sun, up)
    given_sun = rng.random() < config.measured_sun_probability
    if len(places) and measured < config.measured_probability:
        turn = world_to_camera(up, azimuth)
        ambient = rotate_harmonics(places.sh[which], turn)
        if given_sun and (places.sun[which] @ _LUMINANCE) > 0.05:
            sun = turn @ places.towards[which]
            tint = places.sun[which] / max(float(places.sun[which].max()), 1e-6)
    # The camera's white balance goes by all the light there is, and removes only a part of its colour.
    mean = np.maximum(ambient[0], 0) + 1e-6
    cast = (mean / (mean @ _LUMINANCE)) ** -balance
    ambient, tint = _normalised(ambient * cast), tint * cast
    ambient = (1 - match) * ambient + match * _normalised(picture)
    height = float(sun @ up)
    if height < _LEAST_HEIGHT:
        sun = _unit_or(sun + (_LEAST_HEIGHT - height) * up, up)

    share = rng.uniform(*config.sun_share)
    key = np.maximum(_NORMALS @ sun, 0).mean() * (tint @ _LUMINANCE)
    # A sun behind the person lights little of what is seen: do not burn out that rim to make up for the rest.
    radiance = tint * share / max(key, 0.08)
    stops = config.exposure_sigma * rng.standard_normal()
    # A person is lit about as the scene is; cameras pull both towards middle grey, and nobody keeps a black picture.
    level = max(1.4 * scene**0.35 * 2**stops, 0.35)
    occlusion, dark, chance = rng.uniform(*config.occlusion), rng.uniform(*config.shadow), rng.random()
    low, high = np.log(config.softness)
    row = {
        "sh": level * (1 - share) * ambient,
        "sun": np.stack([sun, level * radiance]),
        "up": up,
        "occlusion": occlusion,
        "gloss": config.gloss,
        "shadow": dark if chance < config.shadow_probability else 0.0,
        "softness": np.exp(rng.uniform(low, high)),
    }
    return {key: np.asarray(value, np.float32) for key, value in row.items()}


def _picture_light(rng: np.random.Generator, grid_333: np.ndarray, scene: float) -> np.ndarray:
    """(9,3): the picture's top lights from above, its sides from the sides; half of it as a plain room would."""
    seen = _SEEN @ grid_333.reshape(9, 3)
    plain = scene * np.array([1.6, 0.5, 1.0, 1.0, 1.0, 1.0])[:, None] * (1 + 0.08 * rng.standard_normal(3))
    share = rng.uniform(0.3, 1.0)
    sources = (share * seen + (1 - share) * plain + 1e-3) * np.exp(0.5 * rng.standard_normal((6, 1)))
    sides = _SIDES + 0.35 * rng.standard_normal((6, 3))
    sides /= np.sqrt((sides * sides).sum(1, keepdims=True))
    return harmonics(sides).T @ sources


def _disc(side: int = 12) -> np.ndarray:
    """(N,3) unit normals towards a camera, evenly over the picture of a ball."""
    axis = (np.arange(side) + 0.5) * 2 / side - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0))
    return np.stack([x, y, -z], -1)[x * x + y * y < 0.998]


_NORMALS = _disc()
_IRRADIANCE = harmonics(_NORMALS) * _COSINE


def _normalised(sh_93: np.ndarray) -> np.ndarray:
    """Scaled so that a white ball before the camera shows a mean luminance of 1."""
    shown = np.maximum(_IRRADIANCE @ sh_93, 0).mean(0) @ _LUMINANCE
    return sh_93 / max(float(shown), 1e-6)


def _unit_or(vector_3: np.ndarray | None, otherwise: np.ndarray) -> np.ndarray:
    if vector_3 is None:
        return otherwise
    length = math.hypot(*vector_3)
    return np.asarray(vector_3, np.float64) / length if math.isfinite(length) and length > 1e-6 else otherwise
