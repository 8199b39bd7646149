"""Backgrounds for rendered people: photographs without people, and procedural scenes that need no file at all.

A draw is a pure function of (pictures in the bank, seed, size), and cheap enough to be made per training step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache, cached_property

import cv2
import numpy as np

from human.assets import fetch
from human.errors import PosesynError
from human.registry import Registry
from human.rng import generator

_MAX_SIDE = 512  # pictures are kept no larger: a crop is rarely shown above 256 px
_MIN_SIDE = 16
_LOG_LEVELS = np.log(np.linspace(1e-12, 1, 256))


class BackgroundBank:
    """Random backgrounds: crops of ``pictures``, and procedural walls, floors, gradients, noise and clutter.

    Args:
        pictures: (H, W, 3) uint8 RGB, of any sizes; none is fine. Keep people out of them: they would be unlabelled.
        procedural: share of draws that are procedural when there are pictures.
    """

    def __init__(self, pictures: Sequence[np.ndarray] = (), procedural: float = 0.4) -> None:
        if not 0 <= procedural <= 1:
            raise PosesynError(f"procedural is a share from 0 to 1, got {procedural}")
        self.pictures = [_moderate(picture, number) for number, picture in enumerate(pictures)]
        self.procedural = procedural
        self._halved = [_halve(picture) for picture in self.pictures]

    @cached_property
    def digest(self) -> str:
        """Names the bank's contents, for provenance and configuration hashes."""
        total = hashlib.sha256(f"2 {self.procedural}".encode())
        for picture in self.pictures:
            total.update(f"{picture.shape}".encode())
            total.update(picture.tobytes())
        return total.hexdigest()[:16]

    def draw(self, seed: int, size: tuple[int, int]) -> np.ndarray:
        """The background called ``seed``.

        Args:
            seed: any integer.
            size: (height, width) in pixels, at least 2x2.

        Returns:
            (height, width, 3) uint8 RGB.
        """
        rng = generator("background", seed)
        if self.pictures and rng.random() >= self.procedural:
            image = _crop(self._halved[rng.integers(len(self.pictures))], rng, size)
        else:
            image = _SCENES[rng.integers(len(_SCENES))](rng, size)
        if rng.random() < 0.12:  # flat shapes look like nothing that is photographed: few
            _add_clutter(image, rng, int(rng.integers(1, 6)))
        if rng.random() < 0.3:  # out of focus
            sigma = float(rng.uniform(0.003, 0.015)) * max(size)
            image = out_of_focus(image, sigma)
        return _jitter_colours(image, rng)


def out_of_focus(image: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur, (H,W,3) uint8; a wide one is made at half the resolution, where it costs an eighth."""
    if sigma < 2 or min(image.shape[:2]) < 4:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    height, width = image.shape[:2]
    small = cv2.resize(image, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    # Halving and doubling blur too: by 1/4 and 3/4 square pixels of variance.
    small = cv2.GaussianBlur(small, (0, 0), 0.5 * (sigma * sigma - 1) ** 0.5)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


BACKGROUND_BANKS: Registry[Callable[[], BackgroundBank]] = Registry("background_bank")


@BACKGROUND_BANKS.register("procedural")
@cache
def _procedural_bank() -> BackgroundBank:
    return BackgroundBank()


@BACKGROUND_BANKS.register("free")
@cache
def _free_bank() -> BackgroundBank:
    return BackgroundBank(load_free_photographs())


def load_background_bank(name: str = "free") -> BackgroundBank:
    """The bank registered as ``name``: "procedural" needs no files, "free" fetches photographs on first use."""
    return BACKGROUND_BANKS.get(name)()


def load_free_photographs() -> list[np.ndarray]:
    """The free photographs without people that the assets name, (H, W, 3) uint8 RGB, always in the same order.

    Raises:
        PosesynError: they are not in the cache and cannot be fetched.
    """
    paths = [
        path
        for asset in ("skimage_photographs", "sklearn_photographs")
        for path in sorted(fetch(asset).iterdir())
        if path.suffix in (".png", ".jpg")
    ]
    return [np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)) for path in paths]


def _moderate(picture: np.ndarray, number: int) -> np.ndarray:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise PosesynError(
            f"background {number} must be (H, W, 3) uint8 RGB, got shape {picture.shape} of {picture.dtype}: convert it"
        )
    if min(picture.shape[:2]) < _MIN_SIDE:
        raise PosesynError(f"background {number} is {picture.shape[1]}x{picture.shape[0]} px; the least is {_MIN_SIDE}")
    height, width = picture.shape[:2]
    scale = min(1.0, _MAX_SIDE / max(height, width))
    small = (max(_MIN_SIDE, round(width * scale)), max(_MIN_SIDE, round(height * scale)))
    return np.ascontiguousarray(cv2.resize(picture, small, interpolation=cv2.INTER_AREA))


def _halve(picture: np.ndarray) -> list[np.ndarray]:
    """The picture, and half of it, and half of that, ...: shrinking by less than 2 needs no averaging."""
    levels = [picture]
    while min(levels[-1].shape[:2]) >= 2 * _MIN_SIDE:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return levels


def _crop(levels: list[np.ndarray], rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    height, width = levels[0].shape[:2]
    zoom = min(height / size[0], width / size[1]) * float(rng.uniform(0.35, 1.0))  # source pixels per drawn pixel
    level = min(max(0, int(np.log2(zoom))), len(levels) - 1)
    height, width = levels[level].shape[:2]
    crop_h, crop_w = (max(1, min(side, int(n * zoom / 2**level))) for side, n in ((height, size[0]), (width, size[1])))
    top, left = int(rng.integers(height - crop_h + 1)), int(rng.integers(width - crop_w + 1))
    crop = levels[level][top : top + crop_h, left : left + crop_w]
    image = cv2.resize(crop, size[::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.flip(image, 1) if rng.random() < 0.5 else image


def _jitter_colours(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma, exposure and white balance by table; sometimes saturation."""
    if rng.random() < 0.3:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        saturation = float(rng.uniform(0.3, 1.4))
        image = cv2.addWeighted(image, saturation, cv2.merge([grey, grey, grey]), 1 - saturation, 0)
    gain_3 = rng.uniform(0.75, 1.15) * rng.uniform(0.9, 1.1, 3)
    level = np.exp(rng.uniform(0.7, 1.5) * _LOG_LEVELS)[:, None] * (255 * gain_3) + 255 * rng.uniform(-0.06, 0.06)
    return cv2.LUT(image, np.minimum(np.maximum(level, 0), 255).astype(np.uint8)[None])


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Mostly muted, as walls and floors are: (3,) float32, 0..255."""
    grey, tint = rng.uniform(20, 235), rng.normal(0, 1, 3)
    return np.minimum(np.maximum(grey + tint * (45 if rng.random() < 0.3 else 14), 0), 255).astype(np.float32)


def _noise(rng: np.random.Generator, channels: int) -> np.ndarray:
    """Three octaves of value noise on a small grid, (n, n, channels) float32 in about -1..1; enlarge it to taste."""
    cells, roughness = int(rng.integers(2, 7)), float(rng.uniform(0.35, 0.8))
    total = np.zeros((1, 1, channels), dtype=np.float32)
    for octave in range(3):
        finer = cv2.resize(total, (cells, cells), interpolation=cv2.INTER_LINEAR).reshape(cells, cells, channels)
        total = finer + (rng.random(finer.shape, dtype=np.float32) * 2 - 1) * roughness**octave
        cells *= 3
    return total


def _enlarge(small: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Float 0..255 on a small grid -> uint8 at full size."""
    return cv2.resize(np.clip(small, 0, 255).astype(np.uint8), size[::-1], interpolation=cv2.INTER_LINEAR)


def _noise_scene(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    contrast_3 = rng.uniform(20, 80) * rng.uniform(0.6, 1.0, 3)
    return _enlarge(_colour(rng) + _noise(rng, channels=1) * contrast_3, size)


def _gradient_scene(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    corners = np.stack([_colour(rng) for _ in range(4)]).reshape(2, 2, 3)
    if rng.random() < 0.5:  # as outdoors: vertical only
        corners[:, 1] = corners[:, 0]
    noise = _noise(rng, channels=1)
    smooth = cv2.resize(corners, noise.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return _enlarge(smooth + noise * rng.uniform(2, 20), size)


def _pattern(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """0 or 1 at each point of a plane: plain, planks, tiles or bricks."""
    kind = rng.integers(4)
    if kind == 0:
        return np.zeros(np.broadcast_shapes(u.shape, v.shape), dtype=np.uint8)
    row, column = np.floor(v).astype(np.int32) & 1, np.floor(u).astype(np.int32) & 1
    if kind == 1:
        return (column ^ np.zeros_like(row)).astype(np.uint8)
    if kind == 2:
        return (column ^ row).astype(np.uint8)
    along = u + 0.5 * row
    return ((along - np.floor(along) < 0.08) | (v - np.floor(v) < 0.12)).astype(np.uint8)


def _paint(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    """Two similar random colours for a pattern's 0 and 1."""
    first = _colour(rng)
    table = np.zeros((1, 256, 3), dtype=np.uint8)
    table[0, :2] = np.clip([first, first + rng.normal(0, 30, 3)], 0, 255)
    return cv2.LUT(cv2.merge([pattern, pattern, pattern]), table)


def _room_scene(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A wall that meets a floor in perspective."""
    height, width = size
    foot = max(1, int(height * rng.uniform(0.35, 0.9)))  # the row where the wall ends
    x = (np.arange(width, dtype=np.float32) / width - rng.uniform(0.2, 0.8))[None]
    tiles = rng.uniform(3, 14)
    up = np.arange(foot, dtype=np.float32)[:, None] / width
    wall = _pattern(rng, x * tiles, up * tiles * rng.uniform(0.5, 3))
    above = height * rng.uniform(0.05, 0.5)  # the horizon lies this far above the wall's foot
    depth = height / (np.arange(height - foot, dtype=np.float32)[:, None] + above)
    tiles = rng.uniform(1, 4)
    floor = _pattern(rng, x * depth * tiles, depth * tiles)
    image = np.concatenate([_paint(rng, wall), _paint(rng, floor)])
    shade = _enlarge(128 + _noise(rng, channels=1) * rng.uniform(4, 25), size)
    return cv2.multiply(image, cv2.merge([shade, shade, shade]), scale=1 / 128)


def _clutter_scene(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    image = (_gradient_scene, _noise_scene, _room_scene)[rng.integers(3)](rng, size)
    _add_clutter(image, rng, int(rng.integers(5, 16)))
    return image


_SCENES = (_noise_scene, _gradient_scene, _room_scene, _clutter_scene)


def _add_clutter(image: np.ndarray, rng: np.random.Generator, count: int) -> None:
    """Boxes, polygons, discs and poles, drawn in place."""
    height, width = image.shape[:2]
    kinds, at = rng.integers(4, size=count), rng.random((count, 2)) * (width, height)
    extent = np.exp(rng.uniform(np.log(0.04), np.log(0.35), (count, 2))) * max(height, width)
    corners = rng.uniform(-1, 1, (count, 5, 2))
    for kind, centre, half, corner in zip(kinds, at, extent, corners, strict=True):
        colour = [float(c) for c in _colour(rng)]
        if kind == 0:
            low, high = (centre - half).astype(int), (centre + half).astype(int)
            cv2.rectangle(image, low.tolist(), high.tolist(), colour, thickness=-1)
        elif kind == 1:
            cv2.fillPoly(image, [(centre + corner * half).astype(np.int32)], colour)
        elif kind == 2:
            cv2.ellipse(image, centre.astype(int).tolist(), half.astype(int).tolist(), 0, 0, 360, colour, thickness=-1)
        else:
            end = centre + corner[0] * max(height, width)
            thickness = max(1, int(half.min() * 0.3))
            cv2.line(image, centre.astype(int).tolist(), end.astype(int).tolist(), colour, thickness)
