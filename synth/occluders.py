"""Objects in front of the person: boxes, poles, balls, tables and chairs, rails, plants, with the place's own textures.

An object is placed over a joint, wherever that joint turns out to lie, so hands and feet are hidden as often as the
trunk. Decisions are drawn per seed (:func:`draw_occluders`); :func:`apply_occluders` draws and says what stays visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from human.errors import PosesynError
from human.record import Record
from human.skeleton import POSE32

KINDS = ("none", "box", "ball", "table", "rails", "plant")
_OBJECTS = 2  # at most, per picture
_TEXTURE = 40


@dataclass(frozen=True)
class OccluderConfig:
    """``probability`` of an object, and of a second one given the first; ``side`` an object's half side as a share of
    the picture's (low, high; small ones more often); ``spread`` how far off the joint its middle may lie, in half
    sides; ``pole_probability`` of a box so long that it crosses the picture; ``place_probability`` of a texture cut out
    of the background, else one plain colour; ``kinds`` relative shares of box, ball, table, rails, plant."""

    probability: float = 0.25
    second_probability: float = 0.25
    side: tuple[float, float] = (0.04, 0.2)
    spread: float = 0.8
    pole_probability: float = 0.25
    place_probability: float = 0.6
    kinds: tuple[float, float, float, float, float] = (0.4, 0.15, 0.15, 0.1, 0.2)


@dataclass(frozen=True)
class Occluder(Record):
    """Objects before B pictures, K each, the last in front; lengths in pixels.

    * ``kind`` (B,K) int32, index into :data:`KINDS`
    * ``joint`` (B,K) int64, POSE32 joint over which the object stands; ``offset`` (B,K,2) its middle from there
    * ``half`` (B,K,2) half extents, ``turn`` (B,K,2) cosine and sine of its angle, ``soft`` (B,K) width of its edge
    * ``variant`` (B,K) 0..1, a shape's own choice; ``texture`` (B,K,T,T,3) uint8 sRGB
    """

    kind: Tensor
    joint: Tensor
    offset: Tensor
    half: Tensor
    turn: Tensor
    soft: Tensor
    variant: Tensor
    texture: Tensor

    @classmethod
    def stack(cls, rows: Sequence[dict[str, np.ndarray]]) -> Occluder:
        """What :func:`draw_occluders` returned for B pictures, as one record."""
        return cls(**{key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]})


_NOTHING: dict[str, np.ndarray] = {
    "kind": np.zeros(_OBJECTS, np.int32),
    "joint": np.zeros(_OBJECTS, np.int64),
    "offset": np.zeros((_OBJECTS, 2), np.float32),
    "half": np.ones((_OBJECTS, 2), np.float32),
    "turn": np.tile(np.array([1, 0], np.float32), (_OBJECTS, 1)),
    "soft": np.ones(_OBJECTS, np.float32),
    "variant": np.zeros(_OBJECTS, np.float32),
    "texture": np.zeros((_OBJECTS, _TEXTURE, _TEXTURE, 3), np.uint8),
}


def draw_occluders(
    rng: np.random.Generator, config: OccluderConfig, size: int, background_HW3: np.ndarray
) -> dict[str, np.ndarray]:
    """One picture's objects: the fields of :class:`Occluder` without the batch dimension.

    The number of draws is fixed, so a probability changes only its effect.

    Args:
        size: side of the picture, pixels.
        background_HW3: uint8 sRGB; textures and colours come from it.
    """
    draws = rng.random((_OBJECTS, 16))
    if draws[0, 1] >= config.probability:
        return _NOTHING
    normal = rng.standard_normal((_OBJECTS, 3))
    share = np.cumsum(config.kinds) / np.sum(config.kinds)
    row = {name: value.copy() for name, value in _NOTHING.items()}
    row["variant"] = draws[:, 0].astype(np.float32)
    for k, d in enumerate(draws):
        if k > 0 and d[1] >= config.second_probability:
            break
        kind = 1 + int(min(np.searchsorted(share, d[2]), len(share) - 1))
        low, high = config.side
        half = size * (low + (high - low) * d[3:5] ** 2)
        angle = (d[5] - 0.5) * 0.5
        if KINDS[kind] == "box" and d[6] < config.pole_probability:  # a rail, a pole, the edge of a table
            half = np.where(np.array([d[7] < 0.5, d[7] >= 0.5]), 1.5 * size, 0.01 * size + 0.25 * half)
        elif KINDS[kind] in ("box", "rails"):
            angle = (d[5] - 0.5) * np.pi
        elif KINDS[kind] in ("table", "plant"):
            half, angle = np.maximum(half, 0.5 * half.max()) * 1.4, 0.3 * angle
        row["kind"][k], row["joint"][k] = kind, int(d[8] * len(POSE32))
        row["offset"][k] = config.spread * (2 * d[9:11] - 1) * np.minimum(half, high * size)
        row["half"][k], row["turn"][k] = np.maximum(half, 1.0), (np.cos(angle), np.sin(angle))
        row["soft"][k] = size / 128 * (0.8 + 2.5 * d[11] ** 3)
        row["texture"][k] = _texture(background_HW3, d[12:], normal[k], config, KINDS[kind])
    return row


def _texture(
    background: np.ndarray, draws_4: np.ndarray, normal_3: np.ndarray, config: OccluderConfig, kind: str
) -> np.ndarray:
    """(T,T,3) uint8: a piece of the place in another light, or one colour; plants are mostly green."""
    height, width = background.shape[:2]
    side = max(2, int(min(height, width) * (0.15 + 0.35 * draws_4[1])))
    top, left = int(draws_4[2] * (height - side)), int(draws_4[3] * (width - side))
    piece = background[top : top + side, left : left + side]
    if kind == "plant":
        level = 0.25 * piece.mean() + 15 + 60 * draws_4[1]
        out = level * np.array([0.75, 1.1, 0.5]) * np.exp(0.2 * normal_3) + 0.25 * (
            cv2.resize(np.ascontiguousarray(piece), (_TEXTURE, _TEXTURE)).astype(np.float32) - piece.mean()
        )
        return np.clip(out, 0, 255).astype(np.uint8)
    if draws_4[0] < config.place_probability:
        out = cv2.resize(np.ascontiguousarray(piece), (_TEXTURE, _TEXTURE)).astype(np.float32)
        return np.clip(out * np.exp(0.35 * normal_3[0]) + 4 * normal_3, 0, 255).astype(np.uint8)
    bright = 20 + 200 * draws_4[1] * draws_4[2]
    out = np.full((_TEXTURE, _TEXTURE, 3), bright) + 18 * normal_3 + 0.3 * (piece.mean((0, 1)) - bright)
    return np.clip(out, 0, 255).astype(np.uint8)


def apply_occluders(
    image_BHW3: Tensor, occluder: Occluder, joints2d_BJ2: Tensor, *, in_place: bool = False
) -> tuple[Tensor, Tensor]:
    """Draw the objects over pictures.

    Args:
        image_BHW3: float display values, 0..255; not changed, unless ``in_place``.
        occluder: one row per picture, on the same device.
        joints2d_BJ2: POSE32 joints in pixels; where one is not finite the object stands in the picture's corner.

    Returns:
        The pictures, and what stays visible (B,H,W) float32 in [0, 1]: 0 is wholly hidden.
    """
    from human.raster_warp import launch
    from synth import occluder_kernels as kernels

    if image_BHW3.ndim != 4 or len(occluder) != len(image_BHW3) or len(joints2d_BJ2) != len(image_BHW3):
        raise PosesynError(
            f"apply_occluders: {tuple(image_BHW3.shape)} pictures, {len(occluder)} rows of objects and "
            f"{len(joints2d_BJ2)} of joints; give (B, H, W, 3) and one row of each per picture"
        )
    device = image_BHW3.device
    image = image_BHW3.detach().float().contiguous()
    count, height, width = image.shape[:3]
    visible = torch.ones((count, height, width), device=device)
    rows = torch.arange(count, device=device)
    if device.type == "cpu":  # nothing to do for most pictures; a GPU is not asked, because that would make it wait
        rows = rows[(occluder.kind > 0).any(1)]
        if not len(rows):
            return image, visible
    if not in_place and image.data_ptr() == image_BHW3.data_ptr():
        image = image.clone()
    some = occluder[rows]
    joint = joints2d_BJ2.to(device).float()[rows[:, None], some.joint].nan_to_num(0.0, 0.0, 0.0).clamp(-1e5, 1e5)
    centre = (joint + some.offset).contiguous()
    kind, half, variant = (x.contiguous() for x in (some.kind, some.half, some.variant))
    number = int(kernels.LEAVES)
    leaves = torch.empty((*kind.shape, number, 4), device=device)
    launch(kernels.leaves_kernel, len(rows), kind.shape[1] * number, [kind, half, variant], [leaves], device)
    inputs: list[Tensor | int] = [
        rows,
        kind,
        centre,
        half,
        some.turn.contiguous(),
        some.soft.contiguous(),
        variant,
        leaves,
    ]
    inputs += [some.texture.contiguous(), width]
    outputs = [image.view(count, -1, 3), visible.view(count, -1)]
    launch(kernels.occlude_kernel, len(rows), height * width, inputs, outputs, device)
    return image, visible
