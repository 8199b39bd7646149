"""What lies between a rendered scene and a photograph: blur, shake, lost resolution, tone, noise, compression.

Decisions are drawn per seed (:func:`draw_sensor`); :func:`apply_sensor` carries them out on whatever device the
pictures lie. A row's bytes depend on that row alone. Kernels: :mod:`synth.sensor_kernels`, and on CUDA
:mod:`synth.jpeg_kernels`, which do what libjpeg does on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from human.errors import PosesynError
from human.record import Record
from synth.backgrounds import out_of_focus

_PIXELS_AT_ONCE = 1 << 19  # on the CPU: larger buffers would leave the processor's caches
# ISO/IEC 10918-1 (JPEG), annex K, tables K.1 and K.2.
_LUMA = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
_CHROMA = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""


@dataclass(frozen=True)
class SensorConfig:
    """Probabilities, and ``(low, high)`` uniform ranges; lengths are shares of the picture's side.

    ``background_blur`` and ``blur`` are a Gaussian's sigma in pixels of a 128 px picture, ``motion`` the length of a
    camera shake, ``downscale`` the resolution lost, ``noise`` a standard deviation of 8-bit values at middle grey, of
    whose variance ``shot_noise`` grows with the light, ``jpeg`` a quality, ``chroma`` the share of JPEGs with halved
    colour resolution (4:2:0).
    """

    background_blur_probability: float = 0.15
    background_blur: tuple[float, float] = (0.5, 3.0)
    blur_probability: float = 0.3
    blur: tuple[float, float] = (0.3, 1.0)
    motion_probability: float = 0.12
    motion: tuple[float, float] = (0.015, 0.05)
    downscale_probability: float = 0.25
    downscale: tuple[float, float] = (1.2, 2.5)
    noise: tuple[float, float] = (0.5, 5.0)
    shot_noise: tuple[float, float] = (0.0, 0.8)
    jpeg_probability: float = 0.6
    jpeg: tuple[float, float] = (40.0, 95.0)
    chroma_probability: float = 0.8
    gamma_sigma: float = 0.18
    contrast_sigma: float = 0.12
    tint_sigma: float = 0.05
    grey_probability: float = 0.04


@dataclass(frozen=True)
class Sensor(Record):
    """How B pictures are spoilt; lengths in pixels. Steps are taken in this order.

    * ``blur`` (B,) Gaussian sigma, 0 none; ``motion`` (B,2) stroke of the shake (x, y), 0 none
    * ``factor`` (B,) resolution lost, 1 none
    * ``grey`` (B,) colour lost, 0..1; ``gamma``, ``contrast`` (B,); ``tint`` (B,3) factors
    * ``noise`` (B,) standard deviation in 8-bit values, ``shot`` (B,) the share of its variance that grows with light
    * ``quality`` (B,) int32 of the JPEG, 0 none; ``subsampled`` (B,) int32, 1 is 4:2:0
    * ``seed`` (B,) int64 of the noise
    """

    blur: Tensor
    motion: Tensor
    factor: Tensor
    grey: Tensor
    gamma: Tensor
    contrast: Tensor
    tint: Tensor
    noise: Tensor
    shot: Tensor
    quality: Tensor
    subsampled: Tensor
    seed: Tensor

    @classmethod
    def stack(cls, rows: Sequence[dict[str, np.ndarray]]) -> Sensor:
        """What :func:`draw_sensor` returned for B pictures, as one record."""
        return cls(**{key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]})


def draw_sensor(rng: np.random.Generator, config: SensorConfig, size: int) -> dict[str, np.ndarray]:
    """One picture's degradation: the fields of :class:`Sensor` without the batch dimension.

    The number of draws is fixed, so a probability changes only its effect. ``size`` is the picture's side in pixels.
    """
    chance = rng.random(6)
    sigma, length, angle = rng.uniform(*config.blur), rng.uniform(*config.motion), rng.uniform(0, np.pi)
    factor, noise, shot = rng.uniform(*config.downscale), rng.uniform(*config.noise), rng.uniform(*config.shot_noise)
    quality, normal = rng.uniform(*config.jpeg), rng.standard_normal(5)
    grey = chance[3] < config.grey_probability
    shaken = size * length * (chance[1] < config.motion_probability)
    row = {
        "blur": sigma * size / 128 * (chance[0] < config.blur_probability),
        "motion": [shaken * np.cos(angle), shaken * np.sin(angle)],
        "factor": factor if chance[2] < config.downscale_probability else 1.0,
        "grey": float(grey),
        "gamma": np.exp(config.gamma_sigma * normal[0]),
        "contrast": np.exp(config.contrast_sigma * normal[1]),
        "tint": np.ones(3) if grey else np.exp(config.tint_sigma * normal[2:]),
        "noise": noise,
        "shot": shot,
    }
    out: dict[str, np.ndarray] = {key: np.asarray(value, np.float32) for key, value in row.items()}
    out["quality"] = np.asarray(int(np.clip(quality, 1, 100)) * (chance[4] < config.jpeg_probability), np.int32)
    out["subsampled"] = np.asarray(chance[5] < config.chroma_probability, np.int32)
    out["seed"] = np.asarray(rng.integers(0, 1 << 63), np.int64)
    return out


def soften_background(image: np.ndarray, rng: np.random.Generator, config: SensorConfig) -> np.ndarray:
    """A background (H,W,3) uint8 out of focus, sometimes."""
    chance, sigma = rng.random(), rng.uniform(*config.background_blur) * len(image) / 128
    return out_of_focus(image, sigma) if chance < config.background_blur_probability else image


def apply_sensor(image_BHW3: Tensor, sensor: Sensor) -> Tensor:
    """Spoil pictures and round them to 8 bits.

    Args:
        image_BHW3: float display values, 0..255 (values outside are clipped); not changed.
        sensor: one row per picture, on the same device.

    Returns:
        (B,3,H,W) uint8. The same bytes for any batch composition; on CUDA within rounding of the CPU's before JPEG,
        whose arithmetic is integer and the same everywhere.

    Raises:
        PosesynError: shapes or devices that do not fit.
    """
    if image_BHW3.ndim != 4 or image_BHW3.shape[3] != 3 or 0 in image_BHW3.shape[1:]:
        raise PosesynError(f"apply_sensor: the pictures are {tuple(image_BHW3.shape)}; give (B, H, W, 3), not empty")
    if len(sensor) != len(image_BHW3) or sensor.blur.device != image_BHW3.device:
        raise PosesynError(
            f"apply_sensor: {len(image_BHW3)} pictures on {image_BHW3.device} and {len(sensor)} sensor rows on "
            f"{sensor.blur.device}; give one row per picture on the same device"
        )
    image = image_BHW3.detach().float().contiguous()
    count, height, width = image.shape[:3]
    out = torch.empty((count, 3, height, width), dtype=torch.uint8, device=image.device)
    step = count if image.device.type == "cuda" else max(1, _PIXELS_AT_ONCE // (height * width))
    for i in range(0, count, step):
        rows = slice(i, i + step)
        _expose(image[rows], sensor[rows], out[rows])
        compress = through_jpeg if image.device.type == "cuda" else through_libjpeg
        compress(out[rows], sensor.quality[rows], sensor.subsampled[rows])
    return out


def _used(flag_B: Tensor) -> bool:
    """Whether to launch a step at all. Asking a GPU would make it wait; its kernels skip unused rows by themselves."""
    return flag_B.device.type == "cuda" or bool(flag_B.any())


def _expose(image: Tensor, sensor: Sensor, out: Tensor) -> None:
    """Everything but JPEG, into ``out`` (B,3,H,W) uint8."""
    from human.raster_warp import launch
    from synth import sensor_kernels as kernels

    device = image.device
    count, height, width = image.shape[:3]
    pixels = height * width

    def floats(*shape: int) -> Tensor:
        return torch.empty((count, *shape), device=device)

    blur, factor, motion = sensor.blur, sensor.factor, sensor.motion.contiguous()
    taps, tone = floats(64), floats(257, 3)
    columns = [sensor.gamma, sensor.contrast, sensor.noise, sensor.shot]
    launch(kernels.prepare_kernel, count, 257, [blur, *columns], [taps, tone], device)

    source = image.view(count, pixels, 3)
    blurred = moved = resized = source  # whichever stays unused is never read
    if _used(blur):
        across, blurred = floats(pixels, 3), floats(pixels, 3)
        launch(kernels.blur_across_kernel, count, pixels, [source, blur, taps, width], [across], device)
        launch(kernels.blur_down_kernel, count, pixels, [across, blur, taps, width], [blurred], device)
    if _used(motion):
        moved = floats(pixels, 3)
        launch(kernels.motion_kernel, count, pixels, [source, blurred, blur, motion, width], [moved], device)
    if _used(factor > 1):
        small, resized = floats(pixels, 3), floats(pixels, 3)
        inputs = [source, blurred, moved, blur, motion, factor, width]
        launch(kernels.shrink_kernel, count, pixels, inputs, [small], device)
        launch(kernels.enlarge_kernel, count, pixels, [small, factor, width], [resized], device)
    inputs = [source, blurred, moved, resized, blur, motion, factor, sensor.grey, sensor.tint.contiguous(), sensor.seed]
    inputs += [tone, _normal_table(device)]
    launch(kernels.develop_kernel, count, pixels, inputs, [out.view(count, 3, pixels)], device)


def through_jpeg(image_B3HW: Tensor, quality_B: Tensor, subsampled_B: Tensor) -> None:
    """Put pictures through JPEG in place: the bytes that libjpeg would give after coding and decoding.

    Args:
        image_B3HW: uint8 RGB, contiguous.
        quality_B: int32, 1..100; 0 leaves the picture as it is.
        subsampled_B: int32; 1 halves the resolution of colour both ways (4:2:0), 0 keeps it (4:4:4).
    """
    from human.raster_warp import launch
    from synth import jpeg_kernels as kernels

    if not _used(quality_B):
        return
    device = image_B3HW.device
    count, _, height, width = image_B3HW.shape
    tall, wide = -(-height // 16) * 16, -(-width // 16) * 16
    planes = torch.empty((count, 3, tall, wide), dtype=torch.uint8, device=device)
    steps = torch.empty((count, 4, 8, 8), dtype=torch.int32, device=device)
    rows = [quality_B, subsampled_B]
    launch(kernels.steps_kernel, count, 16, [_base_tables(device), quality_B], [steps], device)
    launch(kernels.split_kernel, count, tall * wide // 4, [image_B3HW, *rows], [planes], device)
    by_eight = planes.view(count, 3, tall, wide // 8, 8)
    launch(kernels.blocks_kernel, count, 3 * tall * wide // 64, [*rows, steps], [by_eight], device)
    items = ((height + 1) // 2) * ((width + 1) // 2)
    launch(kernels.join_kernel, count, items, [planes, *rows], [image_B3HW], device)


def through_libjpeg(image_B3HW: Tensor, quality_B: Tensor, subsampled_B: Tensor) -> None:
    """What :func:`through_jpeg` does, to the byte, by OpenCV's libjpeg: for pictures on the CPU, where it takes a
    quarter of the kernels' time.
    """
    pictures = image_B3HW.numpy()
    for i, (quality, halved) in enumerate(zip(quality_B.tolist(), subsampled_B.tolist(), strict=True)):
        if quality:
            colour = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if halved else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
            settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, colour]
            _, code = cv2.imencode(".jpg", cv2.merge(list(pictures[i, ::-1])), settings)
            pictures[i, ::-1] = cv2.split(np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR)))


@cache
def _normal_table(device: torch.device) -> Tensor:
    """Quantiles of the normal distribution, scaled to variance 1 exactly."""
    table = ndtri((np.arange(4096) + 0.5) / 4096)
    return torch.from_numpy((table / table.std()).astype(np.float32)).to(device)


@cache
def _base_tables(device: torch.device) -> Tensor:
    tables = np.array([_LUMA.split(), _CHROMA.split()]).astype(np.int32).reshape(2, 8, 8)
    return torch.from_numpy(tables).to(device)
