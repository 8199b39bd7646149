"""What a person's surface looks like: colours of skin, face and hair, and of every garment's cloth.

Numbers only; :mod:`synth.paint_kernels` turns them into colour at any surface point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from human.errors import PosesynError
from human.record import Record
from synth.surface import BodySurface

#: Columns of ``Paint.body``; the kernels know them by position (synth.surface_kernels). Colours are linear RGB.
BODY = {
    "skin": 0,
    "lips": 3,
    "brow": 6,
    "iris": 9,
    "hair": 12,
    "beard": 15,  # share, 0 shaven
    "oil": 16,  # strength of highlights on skin
    "flush": 17,  # redder cheeks, knuckles, elbows, knees, soles
    "mottle": 18,  # uneven skin
    "features": 19,  # 1; 0 leaves bare skin without a face
    "strands": 20,  # contrast of hair
}
BODY_COLUMNS = 21
#: Columns of ``Paint.fabric``.
FABRIC = {
    "base": 0,
    "second": 3,
    "third": 6,
    "pattern": 9,  # index into PATTERNS
    "values": 10,  # eight numbers in [0, 1) that shape the pattern
    "folds": 18,  # height of creases, 1 is loose cloth
    "grain": 19,  # contrast of the weave
    "shine": 20,  # strength of highlights
    "seam": 21,  # darkness of seams and hems
    "trim": 22,  # index into TRIMS
    "sheen": 23,  # fuzz: lighter at grazing angles
}
FABRIC_COLUMNS = 24
PATTERNS = (
    "plain", "stripes", "pinstripes", "band", "gingham", "plaid", "dots", "camouflage",
    "gradient", "logo", "sides", "raglan", "photo", "denim", "melange", "block",
)  # fmt: skip
TRIMS = ("none", "belt", "buttons", "zip", "rib")


@dataclass(frozen=True)
class PaintConfig:
    """Ranges and probabilities; ``(low, high)`` uniform. ``skin_tone`` runs from very light 0 to dark 1.

    ``texture_probability`` is how often a top, trousers or a skirt wears a picture of clothing where a bank has any.
    """

    skin_tone: tuple[float, float] = (0.0, 1.0)
    beard_probability: float = 0.2
    everyday_colour_probability: float = 0.55
    pattern_probability: float = 0.55
    texture_probability: float = 0.5
    folds: tuple[float, float] = (0.35, 1.25)
    oil: tuple[float, float] = (0.02, 0.12)
    belt_probability: float = 0.3


@dataclass(frozen=True)
class Paint(Record):
    """B persons' looks.

    * ``body`` (B, :data:`BODY_COLUMNS`) float32 and ``fabric`` (B,G, :data:`FABRIC_COLUMNS`) float32
    * ``photo`` (B,G) int32: picture that the pattern "photo" prints, an index into ``Banks.prints``; -1 none
    * ``texture`` (B,G) int32: clothing picture that replaces colour and pattern (``Banks.textures``); -1 none
    * ``atlas`` (B,) int32: appearance of a real person for the whole body (``Banks.atlases``); -1 none
    * ``seed`` (B,) int32: of procedural noise
    """

    body: Tensor
    fabric: Tensor
    photo: Tensor
    texture: Tensor
    atlas: Tensor
    seed: Tensor


@dataclass(frozen=True)
class Banks:
    """Pictures that surfaces are painted with, as pyramids (N, 2T, T, 4) uint8 sRGB + alpha on one device.

    Attributes:
        prints: photographs printed on cloth.
        textures: garment textures (:mod:`synth.planar`): pyramid 2n shows texture n from the front, 2n+1 from behind.
        atlases: appearances in the body's texture coordinates.
    """

    prints: Tensor
    textures: Tensor
    atlases: Tensor

    @staticmethod
    def build(
        prints_NTT3: Tensor | None = None, textures_N2TT3: Tensor | None = None, atlases_NTT4: Tensor | None = None
    ) -> Banks:
        """From uint8 sRGB pictures, square, T a power of two; None is an empty bank."""
        none = torch.zeros(0, 8, 8, 4, dtype=torch.uint8)
        pairs = None if textures_N2TT3 is None else textures_N2TT3.flatten(0, 1)
        return Banks(*(pyramid(none if x is None else x) for x in (prints_NTT3, pairs, atlases_NTT4)))

    def to(self, device: torch.device | str) -> Banks:
        return Banks(self.prints.to(device), self.textures.to(device), self.atlases.to(device))


def pyramid(pictures_NTTC: Tensor) -> Tensor:
    """(N,T,T,3 or 4) uint8 -> (N,2T,T,4) uint8: level l, of side T >> l, starts at row 2T - 2(T >> l)."""
    count, side = pictures_NTTC.shape[0], pictures_NTTC.shape[2]
    if pictures_NTTC.shape[1:] not in ((side, side, 3), (side, side, 4)) or side < 4 or side & (side - 1):
        raise PosesynError(
            f"a bank's pictures are {tuple(pictures_NTTC.shape)}; give (N, T, T, 3 or 4), T a power of two from 4 on"
        )
    if pictures_NTTC.dtype != torch.uint8:
        raise PosesynError(f"a bank's pictures are {pictures_NTTC.dtype}; give uint8 sRGB")
    out = torch.zeros(count, 2 * side, side, 4, dtype=torch.uint8, device=pictures_NTTC.device)
    level = pictures_NTTC.float()
    if level.shape[-1] == 3:
        level = torch.cat([level, level.new_full((*level.shape[:3], 1), 255.0)], -1)
    row = 0
    while level.shape[1] >= 1 and count:
        size = level.shape[1]
        out[:, row : row + size, :size] = (level + 0.5).to(torch.uint8)
        row += size
        if size == 1:
            break
        # Colours count by their opacity, so that what is transparent does not bleed in.
        weight = level[..., 3:].clamp_min(1e-3)
        mean = torch.cat([level[..., :3] * weight, weight, level[..., 3:]], -1)
        mean = mean.view(count, size // 2, 2, size // 2, 2, 5).mean((2, 4))
        level = torch.cat([mean[..., :3] / mean[..., 3:4], mean[..., 4:]], -1)
    return out


def anatomy(surface: BodySurface) -> np.ndarray:
    """(16,) float32 places of features on the resting body, in the order of ``surface_kernels.A_*``."""
    j = surface.joints
    values = [
        j["left_eye"][0], j["left_eye"][1], j["nose"][1], j["left_ear"][2], surface.eye_distance,
        j["left_shoulder"][1], j["left_shoulder"][2], j["left_hip"][0], j["left_hip"][1], j["spine3"][1],
        float(surface.vertices.y.min()), j["neck"][1], j["head"][2], j["left_ankle"][2], j["left_eye"][2],
    ]  # fmt: skip
    return np.array([*values, 0.0], np.float32)
