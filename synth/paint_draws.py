"""Drawing what people's surfaces look like: a person's numbers come from that person's generator alone, and colours are
made of them for all people at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from synth.colours import fabric_colours, fabric_numbers, hair_colours, picked, skin_colours, srgb_to_linear
from synth.paint import BODY, BODY_COLUMNS, FABRIC, FABRIC_COLUMNS, PATTERNS, TRIMS, Paint, PaintConfig

_TOP_SHARES = (0.0, 0.16, 0.05, 0.07, 0.06, 0.09, 0.05, 0.05, 0.05, 0.16, 0.05, 0.06, 0.1, 0.02, 0.08, 0.05)
_LEG_SHARES = (0.0, 0.02, 0.06, 0.0, 0.02, 0.06, 0.02, 0.08, 0.03, 0.0, 0.17, 0.0, 0.06, 0.42, 0.12, 0.03)
_SKIRT_SHARES = (0.0, 0.14, 0.06, 0.0, 0.09, 0.18, 0.12, 0.02, 0.1, 0.0, 0.0, 0.0, 0.2, 0.1, 0.05, 0.0)
_TOP, _LEGS, _SHOE, _SOCK, _HAT, _SKIRT, _HAIR = range(1, 8)
_WORN = (_TOP, _LEGS, _SKIRT)  # what has folds and can wear a texture
_IRIS_SRGB = np.array([[52, 32, 20], [84, 54, 30], [92, 98, 60], [88, 118, 140], [110, 118, 122]])
_LEATHER_SRGB = np.array([[26, 22, 20], [66, 42, 26], [112, 74, 44], [224, 220, 212], [40, 42, 46]])

_SOLE_SRGB = np.array([[235, 235, 230], [30, 28, 28], [150, 110, 70]])
_PLAIN, _STRIPES, _PLAID, _PHOTO, _DENIM, _MELANGE = (
    PATTERNS.index(name) for name in ("plain", "stripes", "plaid", "photo", "denim", "melange")
)
_BELT, _BUTTONS = TRIMS.index("belt"), TRIMS.index("buttons")  # after buttons: zip, rib
# A garment's numbers: three colours of 8, leather, 6 chances, 8 values, 6 levels, pattern, 2 pictures, sole, trim.
_LEATHER, _CHANCE, _VALUES, _LEVEL, _PATTERN, _PICTURE, _SOLE, _TRIM, _NUMBERS = 24, 25, 31, 39, 45, 46, 48, 49, 50


def draw_paint(
    rngs: Sequence[np.random.Generator],
    config: PaintConfig,
    kind_PG: np.ndarray,
    thickness_PG: np.ndarray,
    *,
    cloth_PG: np.ndarray | None = None,
    prints: int = 0,
    textures: int = 0,
) -> Paint:
    """P people's looks, of a generator each; ``atlas`` is -1.

    Every garment takes as many draws, so one's colours stay when another changes.

    Args:
        kind_PG: kinds of the garments, innermost first (``synth.outfit.KINDS``).
        thickness_PG: metres; looser cloth has higher folds.
        cloth_PG: the garment whose cloth each is made of (``Outfit.fabric``); None is its own.
        prints, textures: how many pictures the banks have.
    """
    people, garments = kind_PG.shape
    # A garment's place counts, so those before the last one worn are drawn even where there is none.
    place = np.arange(garments)
    drawn_PG = place <= np.where(kind_PG > 0, place, -1).max(1, keepdims=True)
    person, cloth = np.zeros((people, 26)), np.zeros((int(drawn_PG.sum()), _NUMBERS))
    seed = np.zeros(people, np.int32)
    row = 0
    for p, rng in enumerate(rngs):
        person[p, 0], person[p, 1:4], person[p, 4] = rng.random(), rng.standard_normal(3), rng.random()
        person[p, 5:9], person[p, 9:] = rng.standard_normal(4), rng.random(17)
        for kind in kind_PG[p, drawn_PG[p]]:
            _cloth_numbers(rng, int(kind), config.belt_probability, cloth[row])
            row += 1
        seed[p] = rng.integers(1 << 31)
    fabric = np.zeros((people, garments, FABRIC_COLUMNS), np.float32)
    photo, texture = np.full((people, garments), -1, np.int32), np.full((people, garments), -1, np.int32)
    fabric[drawn_PG], photo[drawn_PG], texture[drawn_PG] = _cloths(
        cloth, config, kind_PG[drawn_PG], thickness_PG[drawn_PG], textures, prints
    )
    # A track suit, pyjamas: the same colours, a pattern each.
    worn_PG = np.isin(kind_PG, _WORN)
    alike_PG = worn_PG & (person[:, 11] < 0.2)[:, None]
    first = fabric[np.arange(people), worn_PG.argmax(1), None, : FABRIC["pattern"]]
    fabric[..., : FABRIC["pattern"]] = np.where(alike_PG[..., None], first, fabric[..., : FABRIC["pattern"]])
    if cloth_PG is not None:
        own = [FABRIC["folds"], FABRIC["trim"]]
        kept = fabric[..., own]
        fabric = np.take_along_axis(fabric, cloth_PG[..., None], 1)
        photo, texture = np.take_along_axis(photo, cloth_PG, 1), np.take_along_axis(texture, cloth_PG, 1)
        fabric[..., own] = kept
    columns = _bodies(person, config), fabric, photo, texture, np.full(people, -1, np.int32), seed
    return Paint(*(torch.from_numpy(c) for c in columns))


def _bodies(number_PN: np.ndarray, config: PaintConfig) -> np.ndarray:
    """(P, BODY_COLUMNS) of each person's 26 numbers."""
    low, high = config.skin_tone
    skin = skin_colours(low + (high - low) * number_PN[:, 0], number_PN[:, 1:4])
    hair = hair_colours(number_PN[:, 4], number_PN[:, 5:9])
    iris = srgb_to_linear(_IRIS_SRGB)[picked(number_PN[:, 9], (0.5, 0.2, 0.12, 0.14, 0.04))]
    chance, level = number_PN[:, 10], number_PN[:, 18:].T
    body = np.zeros((len(skin), BODY_COLUMNS), np.float32)
    for name, value in (
        ("skin", skin),
        ("lips", np.clip(skin * [1.02, 0.66, 0.68] + [0.015, 0.0, 0.003], 0, 1)),
        ("brow", 0.75 * np.minimum(hair, skin) + 0.25 * skin * 0.4),
        ("iris", iris),
        ("hair", hair),
    ):
        body[:, BODY[name] : BODY[name] + 3] = value
    body[:, BODY["beard"]] = np.where(chance < config.beard_probability, 0.25 + 0.75 * level[0], 0.0)
    body[:, BODY["oil"]] = config.oil[0] + level[2] * (config.oil[1] - config.oil[0])
    body[:, BODY["flush"]] = 0.5 + level[3]
    body[:, BODY["mottle"]] = 0.03 + 0.07 * level[4]
    body[:, BODY["features"]] = 1.0
    body[:, BODY["strands"]] = 0.25 + 0.4 * level[5]
    return body


def _cloth_numbers(rng: np.random.Generator, kind: int, belt_probability: float, out: np.ndarray) -> None:
    """One garment's numbers."""
    out[:8], out[8:16], out[16:24] = fabric_numbers(rng), fabric_numbers(rng), fabric_numbers(rng)
    rng.random(out=out[_LEATHER:_SOLE])
    if kind == _SHOE:
        out[_SOLE] = rng.random()
    if kind != _LEGS or out[_CHANCE + 2] >= belt_probability:
        out[_TRIM] = rng.random()


def _cloths(
    number_NK: np.ndarray, config: PaintConfig, kind_N: np.ndarray, thickness_N: np.ndarray, textures: int, prints: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows of ``fabric``, prints, textures) of N garments."""
    chance, level = number_NK[:, _CHANCE:_VALUES].T, number_NK[:, _LEVEL:_PATTERN].T
    colours = fabric_colours(number_NK[:, :24].reshape(-1, 8), config.everyday_colour_probability).reshape(-1, 3, 3)
    leather = srgb_to_linear(_LEATHER_SRGB)[picked(number_NK[:, _LEATHER], (0.35, 0.25, 0.15, 0.15, 0.1))]
    shoe, legs, worn = kind_N == _SHOE, kind_N == _LEGS, np.isin(kind_N, _WORN)

    shares = (_TOP_SHARES, _LEG_SHARES, _SKIRT_SHARES)
    pattern = np.choose(legs + 2 * (kind_N == _SKIRT), [picked(number_NK[:, _PATTERN], s) for s in shares])
    plain = (chance[0] >= config.pattern_probability) | shoe | (kind_N == _HAIR)
    small = np.isin(kind_N, (_SOCK, _HAT)) & ~np.isin(pattern, (_STRIPES, _PLAIN, _MELANGE))
    pattern[plain | small] = _PLAIN
    if not prints:
        pattern[pattern == _PHOTO] = _PLAID
    denim, melange = pattern == _DENIM, pattern == _MELANGE
    indigo = srgb_to_linear(np.array([38, 52, 84]) * (0.5 + 0.9 * level[0][denim, None]))
    colours[denim, 0] = indigo
    colours[denim, 1] = np.clip(0.35 * indigo + srgb_to_linear(np.array([150, 168, 190])) * 0.6, 0, 1)
    colours[melange, 1] = 0.35 * colours[melange, 0] + 0.25
    hide = shoe & (chance[1] < 0.5)
    colours[hide, 0] = leather[hide]
    colours[shoe, 2] = srgb_to_linear(_SOLE_SRGB)[picked(number_NK[shoe, _SOLE], (0.5, 0.4, 0.1))]

    trim = np.zeros(len(kind_N), np.int64)
    belt, closed = legs & (chance[2] < config.belt_probability), (kind_N == _TOP) & (chance[2] < 0.4)
    trim[belt], colours[belt, 2] = _BELT, leather[belt]
    trim[closed] = _BUTTONS + picked(number_NK[closed, _TRIM], (0.35, 0.2, 0.45))

    low, high = config.folds
    loose = np.minimum(1.0, 0.15 + thickness_N / 0.012)
    shiny = (chance[3] < 0.15) | (shoe & (chance[3] < 0.5))
    row = np.zeros((len(kind_N), FABRIC_COLUMNS), np.float32)
    row[:, : FABRIC["pattern"]] = colours.reshape(-1, 9)
    row[:, FABRIC["pattern"]] = pattern
    row[:, FABRIC["values"] : FABRIC["values"] + 8] = number_NK[:, _VALUES:_LEVEL]
    row[:, FABRIC["folds"]] = np.where(worn, (low + (high - low) * level[1]) * loose, 0.1)
    row[:, FABRIC["grain"]] = 0.25 * level[2] ** 2
    row[:, FABRIC["shine"]] = np.where(shiny, 0.15 + 0.3 * level[3], 0.02 * level[3])
    row[:, FABRIC["seam"]] = 0.25 + 0.5 * level[4]
    row[:, FABRIC["trim"]] = trim
    row[:, FABRIC["sheen"]] = np.where(shiny, 0.0, 0.15 * level[5])
    picture = number_NK[:, _PICTURE:_SOLE].T
    textured = worn & (chance[4] < config.texture_probability) & (textures > 0)
    photo = (picture[0] * prints).astype(np.int32) if prints else np.full(len(kind_N), -1, np.int32)
    return row, photo, np.where(textured, (picture[1] * textures).astype(np.int32), -1)
