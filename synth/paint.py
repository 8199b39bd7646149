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
from synth.colours import draw_fabric, draw_hair, draw_skin, pick, srgb_to_linear
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
_TOP_SHARES = (0.0, 0.16, 0.05, 0.07, 0.06, 0.09, 0.05, 0.05, 0.05, 0.16, 0.05, 0.06, 0.1, 0.02, 0.08, 0.05)
_LEG_SHARES = (0.0, 0.02, 0.06, 0.0, 0.02, 0.06, 0.02, 0.08, 0.03, 0.0, 0.17, 0.0, 0.06, 0.42, 0.12, 0.03)
_SKIRT_SHARES = (0.0, 0.14, 0.06, 0.0, 0.09, 0.18, 0.12, 0.02, 0.1, 0.0, 0.0, 0.0, 0.2, 0.1, 0.05, 0.0)
_WORN = (1, 2, 6)  # top, legs, skirt: what has folds and can wear a texture
_IRIS_SRGB = np.array([[52, 32, 20], [84, 54, 30], [92, 98, 60], [88, 118, 140], [110, 118, 122]])
_LEATHER_SRGB = np.array([[26, 22, 20], [66, 42, 26], [112, 74, 44], [224, 220, 212], [40, 42, 46]])


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


def draw_paint(
    rng: np.random.Generator,
    config: PaintConfig,
    kind_G: np.ndarray,
    thickness_G: np.ndarray,
    *,
    cloth_G: np.ndarray | None = None,
    prints: int = 0,
    textures: int = 0,
) -> dict[str, np.ndarray]:
    """One person's row of :class:`Paint`, as arrays by field name (see :func:`stack`); ``atlas`` is -1.

    Every garment takes as many draws, so one's colours stay when another changes.

    Args:
        kind_G: kinds of the garments, innermost first (``synth.outfit.KINDS``).
        thickness_G: metres; looser cloth has higher folds.
        cloth_G: the garment whose cloth each is made of (``Outfit.fabric``); None is its own.
        prints, textures: how many pictures the banks have.
    """
    skin, hair = draw_skin(rng, config.skin_tone), draw_hair(rng)
    iris = srgb_to_linear(pick(rng, list(_IRIS_SRGB), (0.5, 0.2, 0.12, 0.14, 0.04)))
    chance, level = rng.random(8), rng.random(8)
    beard = (0.25 + 0.75 * level[0]) if chance[0] < config.beard_probability else 0.0
    body = np.zeros(BODY_COLUMNS, np.float32)
    for name, value in (
        ("skin", skin),
        ("lips", np.clip(skin * [1.02, 0.66, 0.68] + [0.015, 0.0, 0.003], 0, 1)),
        ("brow", 0.75 * np.minimum(hair, skin) + 0.25 * skin * 0.4),
        ("iris", iris),
        ("hair", hair),
    ):
        body[BODY[name] : BODY[name] + 3] = value
    body[BODY["beard"]] = beard
    body[BODY["oil"]] = config.oil[0] + level[2] * (config.oil[1] - config.oil[0])
    body[BODY["flush"]] = 0.5 + level[3]
    body[BODY["mottle"]] = 0.03 + 0.07 * level[4]
    body[BODY["features"]] = 1.0
    body[BODY["strands"]] = 0.25 + 0.4 * level[5]

    garments = len(kind_G)
    fabric = np.zeros((garments, FABRIC_COLUMNS), np.float32)
    photo, texture = np.full(garments, -1, np.int32), np.full(garments, -1, np.int32)
    for g in range(int(np.flatnonzero(kind_G).max(initial=-1)) + 1):
        fabric[g], photo[g], texture[g] = _draw_cloth(
            rng, config, int(kind_G[g]), float(thickness_G[g]), textures, prints
        )
    worn = np.flatnonzero(np.isin(kind_G, _WORN))
    if len(worn) and chance[1] < 0.2:  # a track suit, pyjamas: the same colours, a pattern each
        fabric[worn, : FABRIC["pattern"]] = fabric[worn[0], : FABRIC["pattern"]]
    if cloth_G is not None:
        own = np.array([FABRIC["folds"], FABRIC["trim"]])
        kept = fabric[:, own]
        fabric, photo, texture = fabric[cloth_G], photo[cloth_G], texture[cloth_G]
        fabric[:, own] = kept
    seed = np.array(rng.integers(1 << 31), np.int32)
    return {
        "body": body,
        "fabric": fabric,
        "photo": photo,
        "texture": texture,
        "atlas": np.array(-1, np.int32),
        "seed": seed,
    }


def stack(rows: list[dict[str, np.ndarray]]) -> Paint:
    """Rows of :func:`draw_paint` as one record."""
    return Paint(**{name: torch.from_numpy(np.stack([r[name] for r in rows])) for name in rows[0]})


def _draw_cloth(
    rng: np.random.Generator, config: PaintConfig, kind: int, thickness: float, textures: int, prints: int
) -> tuple[np.ndarray, int, int]:
    """(row of ``fabric``, print, texture) of one garment."""
    colours = [draw_fabric(rng, config.everyday_colour_probability) for _ in range(3)]
    leather = srgb_to_linear(pick(rng, list(_LEATHER_SRGB), (0.35, 0.25, 0.15, 0.15, 0.1)))
    chance, values, level = rng.random(6), rng.random(8), rng.random(6)
    shares = {2: _LEG_SHARES, 6: _SKIRT_SHARES}.get(kind, _TOP_SHARES)
    pattern = pick(rng, PATTERNS, shares)
    picture = rng.random(2)
    if chance[0] >= config.pattern_probability or kind in (3, 7):
        pattern = "plain"
    if kind in (4, 5) and pattern not in ("stripes", "plain", "melange"):
        pattern = "plain"
    if pattern == "photo" and not prints:
        pattern = "plaid"
    if pattern == "denim":
        indigo = srgb_to_linear(np.array([38, 52, 84]) * (0.5 + 0.9 * level[0]))
        colours[0], colours[1] = indigo, np.clip(0.35 * indigo + srgb_to_linear(np.array([150, 168, 190])) * 0.6, 0, 1)
    elif pattern == "melange":
        colours[1] = 0.35 * colours[0] + 0.25
    if kind == 3:
        colours[0] = leather if chance[1] < 0.5 else colours[0]
        colours[2] = srgb_to_linear(
            pick(rng, [np.array([235, 235, 230]), np.array([30, 28, 28]), np.array([150, 110, 70])], (0.5, 0.4, 0.1))
        )
    trim = "none"
    if kind == 2 and chance[2] < config.belt_probability:
        trim, colours[2] = "belt", leather
    elif kind == 1 and chance[2] < 0.4:
        trim = pick(rng, ("buttons", "zip", "rib"), (0.35, 0.2, 0.45))
    else:
        rng.random()
    low, high = config.folds
    row = np.zeros(FABRIC_COLUMNS, np.float32)
    for i, name in enumerate(("base", "second", "third")):
        row[FABRIC[name] : FABRIC[name] + 3] = colours[i]
    row[FABRIC["pattern"]] = PATTERNS.index(pattern)
    row[FABRIC["values"] : FABRIC["values"] + 8] = values
    loose = min(1.0, 0.15 + thickness / 0.012)
    row[FABRIC["folds"]] = (low + (high - low) * level[1]) * loose if kind in _WORN else 0.1
    row[FABRIC["grain"]] = 0.25 * level[2] ** 2
    shiny = chance[3] < 0.15 or (kind == 3 and chance[3] < 0.5)
    row[FABRIC["shine"]] = 0.15 + 0.3 * level[3] if shiny else 0.02 * level[3]
    row[FABRIC["seam"]] = 0.25 + 0.5 * level[4]
    row[FABRIC["trim"]] = TRIMS.index(trim)
    row[FABRIC["sheen"]] = 0.0 if shiny else 0.15 * level[5]
    photo = int(picture[0] * prints) if prints else -1
    textured = textures > 0 and kind in _WORN and chance[4] < config.texture_probability
    return row, photo, int(picture[1] * textures) if textured else -1
