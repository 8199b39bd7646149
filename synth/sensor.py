"""What lies between a rendered person and a photograph: occluders, blur, tone, noise, compression."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

_NOISE_SIDE = 256
# One field of unit noise for all pictures, read at a random place: drawing fresh noise would cost more than rendering.
_NOISE = np.random.Generator(np.random.Philox(key=7)).standard_normal((_NOISE_SIDE, _NOISE_SIDE, 3)).astype(np.float32)


@dataclass(frozen=True)
class SensorConfig:
    """Probabilities, and ``(low, high)`` uniform ranges; lengths are shares of the picture's side.

    ``blur`` is a Gaussian's sigma in pixels of a 128 px picture, ``motion`` the length of a camera shake,
    ``downscale`` the resolution lost, ``noise`` a standard deviation of 8-bit values, ``jpeg`` a quality.
    """

    occluder_probability: float = 0.25
    occluder_side: tuple[float, float] = (0.06, 0.35)
    background_blur_probability: float = 0.15
    background_blur: tuple[float, float] = (0.5, 3.0)
    blur_probability: float = 0.3
    blur: tuple[float, float] = (0.3, 1.0)
    motion_probability: float = 0.12
    motion: tuple[float, float] = (0.015, 0.05)
    downscale_probability: float = 0.25
    downscale: tuple[float, float] = (1.2, 2.5)
    noise: tuple[float, float] = (0.5, 7.0)
    jpeg_probability: float = 0.6
    jpeg: tuple[float, float] = (40.0, 95.0)
    gamma_sigma: float = 0.18
    contrast_sigma: float = 0.12
    tint_sigma: float = 0.05
    grey_probability: float = 0.04


def soften_background(image: np.ndarray, rng: np.random.Generator, config: SensorConfig) -> np.ndarray:
    """A background (H,W,3) uint8 out of focus, sometimes."""
    chance, sigma = rng.random(), rng.uniform(*config.background_blur) * len(image) / 128
    return cv2.GaussianBlur(image, (0, 0), sigma) if chance < config.background_blur_probability else image


def occlude(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, config: SensorConfig) -> np.ndarray:
    """Put a shape in front of the person (H,W,3 float32, in place), sometimes.

    Args:
        mask: (H,W) person coverage; the shape is centred on one of its pixels.
    """
    draws, colour = rng.random(8), rng.uniform(15, 240) + 25 * rng.standard_normal(3)
    covered = np.flatnonzero(mask > 0.5)
    if draws[0] >= config.occluder_probability or not len(covered):
        return image
    size = len(image)
    y, x = divmod(int(covered[int(draws[1] * len(covered))]), mask.shape[1])
    low, high = config.occluder_side
    width, height = (size * (low + (high - low) * draws[i] ** 2) for i in (2, 3))
    if draws[4] < 0.3:  # a bar: rails, poles, the edge of a table
        width, height = (
            (2.0 * size, 0.02 * size + 0.15 * height) if draws[5] < 0.5 else (0.02 * size + 0.15 * width, 2.0 * size)
        )
    stencil = np.zeros(mask.shape, np.uint8)
    box = (
        (float(x), float(y)),
        (float(width), float(height)),
        float(180 * draws[6] if draws[4] > 0.3 else 20 * draws[6] - 10),
    )
    if draws[4] < 0.7:
        cv2.fillConvexPoly(stencil, np.round(cv2.boxPoints(box)).astype(np.int32), 255, cv2.LINE_AA)
    else:
        cv2.ellipse(stencil, box, 255, -1, cv2.LINE_AA)
    alpha = stencil[..., None].astype(np.float32) / 255
    if draws[7] < 0.5:  # something of the same place: the picture itself, moved
        cover = np.roll(image, (int(size * (0.2 + 0.6 * draws[1])), int(size * (0.2 + 0.6 * draws[5]))), (0, 1))
    else:
        cover = np.empty_like(image)
        cover[:] = colour
        cover += np.linspace(-30, 30, size, dtype=np.float32)[:, None, None]
        np.clip(cover, 0, 255, out=cover)
    image += alpha * (cover - image)
    return image


def degrade(image: np.ndarray, rng: np.random.Generator, config: SensorConfig) -> np.ndarray:
    """(H,W,3) float32 in [0, 255] -> uint8 as a camera and a web site would leave it. Geometry is kept."""
    size = image.shape[0]
    chance = rng.random(5)
    sigma, length, angle = (
        rng.uniform(*config.blur) * size / 128,
        rng.uniform(*config.motion) * size,
        rng.uniform(0, np.pi),
    )
    factor, noise, quality = rng.uniform(*config.downscale), rng.uniform(*config.noise), rng.uniform(*config.jpeg)
    gamma = np.exp(config.gamma_sigma * rng.standard_normal())
    contrast = np.exp(config.contrast_sigma * rng.standard_normal())
    tint = np.exp(config.tint_sigma * rng.standard_normal(3))
    place = rng.integers(0, _NOISE_SIDE, 2)
    if chance[0] < config.blur_probability:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    if chance[1] < config.motion_probability:
        image = cv2.filter2D(image, -1, _motion_kernel(length, angle), borderType=cv2.BORDER_REFLECT)
    if chance[2] < config.downscale_probability:
        small = cv2.resize(image, (max(8, round(size / factor)),) * 2, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    if chance[3] < config.grey_probability:
        image = np.repeat((image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, 2)
        tint = np.ones(3)
    levels = np.arange(256, dtype=np.float64)[:, None]
    curve = (255 * (levels / 255) ** gamma - 128) * contrast + 128
    table = np.clip(curve * tint, 0, 255)[None].astype(np.float32)
    image = cv2.LUT(np.clip(image + 0.5, 0, 255).astype(np.uint8), table)
    image = image + noise * _noise_field(size)[place[0] : place[0] + size, place[1] : place[1] + size]
    out = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    return _through_jpeg(out, int(quality)) if chance[4] < config.jpeg_probability else out


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    _, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(code, cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]


@cache
def _noise_field(size: int) -> np.ndarray:
    """The noise repeated so far that a picture fits at any place."""
    repeats = 1 + -(-size // _NOISE_SIDE)
    return np.tile(_NOISE, (repeats, repeats, 1))


def _motion_kernel(length: float, angle: float) -> np.ndarray:
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    centre, reach = side // 2, length / 2
    dx, dy = reach * np.cos(angle), reach * np.sin(angle)
    (x0, y0), (x1, y1) = ((round(16 * (centre + s * dx)), round(16 * (centre + s * dy))) for s in (-1, 1))
    cv2.line(kernel, (x0, y0), (x1, y1), 1.0, 1, cv2.LINE_AA, 4)
    return kernel / kernel.sum()
