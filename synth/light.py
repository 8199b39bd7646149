"""Light on a person: an environment as order-2 spherical harmonics, one sun, and darkening where limbs are close.

Only normals that face the camera are ever seen, so irradiance is tabulated once per picture over the disc of such
normals and looked up per pixel. Ramamoorthi & Hanrahan, "An Efficient Representation for Irradiance Environment Maps",
SIGGRAPH 2001, Eq. 12-13.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from synth.colours import srgb_to_linear

_TABLE = 48
#: Ratio of each band of irradiance to radiance over pi: 1, 2/3, 1/4.
_BANDS = np.array([1.0] + [2 / 3] * 3 + [1 / 4] * 5)


@dataclass(frozen=True)
class LightConfig:
    """``(low, high)`` uniform. ``sun_share`` is the sun's part of the light; ``match_background`` how far the
    environment takes its colours from the picture behind the person; ``exposure_sigma`` in stops; ``occlusion`` the
    greatest darkening by near limbs; ``gloss`` scales highlights; ``shadow`` is how dark a shadow on the ground is,
    where there is one."""

    sun_share: tuple[float, float] = (0.0, 0.7)
    match_background: tuple[float, float] = (0.2, 0.8)
    exposure_sigma: float = 0.55
    occlusion: tuple[float, float] = (0.3, 0.9)
    gloss: float = 1.0
    shadow_probability: float = 0.5
    shadow: tuple[float, float] = (0.15, 0.7)


@dataclass(frozen=True)
class Light:
    """Tables over normals: ``diffuse`` and ``shine`` (T,T,3) float32 by (row of ny, column of nx)."""

    diffuse: np.ndarray
    shine: np.ndarray
    occlusion: float

    def shade(self, albedo_N3: np.ndarray, normal_x: np.ndarray, normal_y: np.ndarray, gloss: float) -> np.ndarray:
        """(N,3) linear light leaving points of given reflectance; normals in the camera frame, towards the camera."""
        scale = 0.5 * (_TABLE - 1)
        column = np.clip((normal_x + 1) * scale + 0.5, 0, _TABLE - 1).astype(np.int32)
        row = np.clip((normal_y + 1) * scale + 0.5, 0, _TABLE - 1).astype(np.int32)
        index = row * _TABLE + column
        out = albedo_N3 * self.diffuse.reshape(-1, 3)[index]
        if gloss > 0:
            out += gloss * self.shine.reshape(-1, 3)[index]
        return out


def _disc() -> np.ndarray:
    """(T*T,3) unit normals that face a camera looking along +z; outside the disc those of its rim."""
    axis = np.linspace(-1, 1, _TABLE)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    radius = np.maximum(np.hypot(x, y), 1e-9)
    shrink = np.minimum(1, 1 / radius)
    x, y = x * shrink, y * shrink
    return np.stack([x, y, -np.sqrt(np.maximum(1 - x * x - y * y, 0))], -1).reshape(-1, 3)


def harmonics(direction_N3: np.ndarray) -> np.ndarray:
    """(N,9) real spherical harmonics up to order 2 of unit directions."""
    x, y, z = direction_N3.T
    columns = [
        np.full_like(x, 0.282095),
        0.488603 * y,
        0.488603 * z,
        0.488603 * x,
        1.092548 * x * y,
        1.092548 * y * z,
        0.315392 * (3 * z * z - 1),
        1.092548 * x * z,
        0.546274 * (x * x - y * y),
    ]
    return np.stack(columns, -1)


_NORMALS = _disc()
_IRRADIANCE = harmonics(_NORMALS) * _BANDS
_INSIDE = np.hypot(_NORMALS[:, 0], _NORMALS[:, 1]) < 0.999
# Where light comes from (camera frame, y down): above, below, left, right, behind the camera, behind the person.
_SIDES = np.array([[0, -1, 0], [0, 1, 0], [-1, 0, 0], [1, 0, 0], [0, 0, -1], [0, 0, 1]], np.float64)


def draw_light(rng: np.random.Generator, config: LightConfig, background: np.ndarray) -> Light:
    """Light that suits a background (H,W,3) uint8: its top lights from above, its sides from the sides."""
    grid = srgb_to_linear(cv2.resize(background, (3, 3), interpolation=cv2.INTER_AREA))
    seen = np.stack(
        [grid[0].mean(0), grid[2].mean(0), grid[:, 0].mean(0), grid[:, 2].mean(0)] + [grid.mean((0, 1))] * 2
    )
    scene = float(grid.mean()) + 0.02
    studio = scene * np.array([1.6, 0.5, 1.0, 1.0, 1.0, 1.0])[:, None] * (1 + 0.08 * rng.standard_normal(3))
    share = rng.uniform(*config.match_background)
    sources = (share * seen + (1 - share) * studio) * np.exp(0.5 * rng.standard_normal((6, 1)))
    sides = _SIDES + 0.35 * rng.standard_normal((6, 3))
    sides /= np.linalg.norm(sides, axis=1, keepdims=True)
    ambient = np.maximum(_IRRADIANCE @ (harmonics(sides).T @ sources), 0)

    sun = rng.standard_normal(3) * [1, 0.7, 1] + [0, -0.9, -0.2]
    sun /= np.linalg.norm(sun)
    tint = np.array([1.0, 0.95, 0.88]) ** rng.normal(0.5, 1.0)
    key = np.maximum(_NORMALS @ sun, 0)[:, None] * tint
    half = sun - _SIDES[5]
    half /= np.linalg.norm(half) + 1e-9
    shine = np.maximum(_NORMALS @ half, 0)[:, None]
    for _ in range(4):  # to the power 16: a mild highlight
        shine *= shine
    shine = shine * tint

    sun_share = rng.uniform(*config.sun_share)
    ambient /= ambient[_INSIDE].mean()
    key /= max(key[_INSIDE].mean(), 0.08)
    light = (1 - sun_share) * ambient + sun_share * key
    # A person is lit about as the scene is; cameras pull both towards middle grey, and nobody keeps a black picture.
    level = max(1.4 * scene**0.35 * 2 ** (config.exposure_sigma * rng.standard_normal()), 0.35)
    shape = (_TABLE, _TABLE, 3)
    return Light(
        diffuse=(level * light).reshape(shape).astype(np.float32),
        shine=(config.gloss * level * sun_share * shine * 4).reshape(shape).astype(np.float32),
        occlusion=rng.uniform(*config.occlusion),
    )


def occlusion_map(depth: np.ndarray, radius: int, reach: float = 0.12) -> np.ndarray:
    """(H,W) float32 in [0, 1]: how much nearer the surroundings lie than a pixel, within ``reach`` metres.

    A cheap stand-in for ambient occlusion in screen space: limbs darken what is just behind them. ``depth`` is metres,
    0 where there is nothing.
    """
    weight = (depth > 0).astype(np.float32)
    kernel = (2 * radius + 1, 2 * radius + 1)
    near = cv2.blur(depth, kernel) / np.maximum(cv2.blur(weight, kernel), 1e-6)
    return np.clip((depth - near) / reach, 0, 1) * weight


def cast_shadow(image: np.ndarray, coverage: np.ndarray, rng: np.random.Generator, config: LightConfig) -> np.ndarray:
    """Darken (H,W,3) float32, in place, where the person's shadow would fall on a floor, sometimes.

    The shadow is the person's silhouette turned over the lowest covered row and sheared: what a distant lamp throws on
    a level floor before a far camera.
    """
    chance, lean, length, dark, blur = rng.random(), *rng.uniform([-1.5, -0.35, 0, 0], [1.5, 0.35, 1, 1])
    rows = np.flatnonzero(coverage.any(1))
    if chance >= config.shadow_probability or not len(rows):
        return image
    low, high = config.shadow
    foot = float(rows[-1]) - 0.02 * len(coverage)
    # Picture (x, y) of a shadow point comes from the silhouette's (x - lean h, foot - h), h = (y - foot) / length.
    length = length if abs(length) > 0.08 else 0.08
    inverse = np.array([[1, lean / length, -lean * foot / length], [0, -1 / length, foot + foot / length]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shadow = cv2.warpAffine(coverage, inverse, coverage.shape[::-1], flags=flags)
    shadow = cv2.GaussianBlur(shadow, (0, 0), (0.005 + 0.02 * blur) * len(coverage))
    image *= (1 - (low + (high - low) * dark) * shadow)[..., None]
    return image
