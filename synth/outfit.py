"""What a person wears and how the hair is cut, as numbers: drawn by seed, read by the drape and paint kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from human.errors import PosesynError
from human.record import Record
from synth.colours import pick
from synth.surface import BodySurface

#: Garments a person can wear at once, hair included.
GARMENTS = 8
#: Kinds of garment, by the number that the kernels know (synth/drape_kernels.py).
KINDS = ("none", "top", "legs", "shoe", "sock", "hat", "skirt", "hair")
#: A garment's numbers; ``garment_depth`` and ``stand_off`` say what each means for which kind. Metres, or the units of
#: the field they are compared with.
PARAMS = ("thickness", "sleeve", "hem", "neckline", "v_neck", "leg", "cut", "flare")
#: Layers (``synth.dressed.LAYERS``) on which garments are put.
SKIN, INNER, OUTER, SKIRT, HAIR = range(5)


@dataclass(frozen=True)
class Outfit(Record):
    """What B people wear, innermost garment first, padded with kind 0.

    * ``kind`` (B,G) int32, index into :data:`KINDS`
    * ``layer`` (B,G) int32, the layer of the mesh that it is part of; 0 is painted on the skin
    * ``params`` (B,G,8) float32, see :data:`PARAMS`
    * ``phase`` (B,G) float32 radians: where its folds are
    * ``fabric`` (B,G) int32: the garment whose cloth it is made of, itself in most cases (a dress is a top and a skirt
      of one cloth; hair is all one)
    """

    kind: Tensor
    layer: Tensor
    params: Tensor
    phase: Tensor
    fabric: Tensor


@dataclass(frozen=True)
class OutfitConfig:
    """Ranges and probabilities; lengths in metres, ``(low, high)`` uniform.

    ``outfits`` are relative weights: casual (top and trousers or jeans), sport (top and shorts), tights (tight top and
    leggings), leotard, swimwear, skirt (top and skirt), dress, jacket (hoodie or jacket over a shirt, trousers),
    suit (one piece with long legs). ``looseness`` is how far cloth stands off the skin. ``hair`` are relative weights
    of bald, short, medium and long.
    """

    outfits: tuple[tuple[str, float], ...] = (
        ("casual", 0.27),
        ("sport", 0.22),
        ("tights", 0.09),
        ("leotard", 0.09),
        ("swimwear", 0.08),
        ("skirt", 0.07),
        ("dress", 0.06),
        ("jacket", 0.09),
        ("suit", 0.03),
    )
    looseness: tuple[float, float] = (0.001, 0.03)
    flare: tuple[float, float] = (0.0, 0.12)
    sleeves: tuple[tuple[str, float], ...] = (("none", 0.2), ("short", 0.5), ("long", 0.3))
    tuck_probability: float = 0.3
    v_neck_probability: float = 0.3
    barefoot_probability: float = 0.25
    sock_probability: float = 0.6
    boot_probability: float = 0.12
    hat_probability: float = 0.08
    hair: tuple[tuple[str, float], ...] = (("bald", 0.07), ("short", 0.55), ("medium", 0.18), ("long", 0.2))
    hair_volume: tuple[float, float] = (0.002, 0.03)
    fringe_probability: float = 0.4


class _Wardrobe:
    """Collects one person's garments."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, list[float], int]] = []

    def put(self, kind: str, layer: int, thickness: float, fabric: int | None = None, /, **numbers: float) -> int:
        """Worn over all before; returns its index."""
        values = {"thickness": thickness} | numbers
        at = len(self.rows)
        row = [values.get(name, 0.0) for name in PARAMS]
        self.rows.append((KINDS.index(kind), layer, row, at if fabric is None else fabric))
        return at


def empty_outfit(count: int) -> Outfit:
    """``count`` people without clothes or hair."""
    none = torch.zeros(count, GARMENTS, dtype=torch.int32)
    fabric = torch.arange(GARMENTS, dtype=torch.int32).expand(count, -1).clone()
    phase = torch.zeros(count, GARMENTS)
    return Outfit(none, none.clone(), torch.zeros(count, GARMENTS, len(PARAMS)), phase, fabric)


def draw_outfit(rng: np.random.Generator, config: OutfitConfig, surface: BodySurface) -> Outfit:
    """One person's outfit, as a record of one row.

    Raises:
        PosesynError: a name in the config's weights is unknown.
    """
    return draw_outfits([rng], config, surface)


def draw_outfits(rngs: Sequence[np.random.Generator], config: OutfitConfig, surface: BodySurface) -> Outfit:
    """The outfits of B people, of a generator each; see :func:`draw_outfit`."""
    shape = (len(rngs), GARMENTS)
    kind, layer, phase = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    params = np.zeros((*shape, len(PARAMS)), np.float32)
    fabric = np.tile(np.arange(GARMENTS, dtype=np.int32), (len(rngs), 1))
    for b, rng in enumerate(rngs):
        rows = _garments(rng, config, surface)
        if len(rows) > GARMENTS:
            raise PosesynError(f"an outfit of {len(rows)} garments was drawn; at most {GARMENTS} can be worn")
        for g, row in enumerate(rows):
            kind[b, g], layer[b, g], params[b, g], fabric[b, g] = row
        phase[b] = rng.uniform(0, 2 * np.pi, GARMENTS)
    return Outfit(*(torch.from_numpy(a) for a in (kind, layer, params, phase, fabric)))


def _garments(
    rng: np.random.Generator, config: OutfitConfig, surface: BodySurface
) -> list[tuple[int, int, list[float], int]]:
    """(kind, layer, params, fabric) of each."""
    wardrobe = _Wardrobe()
    hair = pick(rng, *zip(*config.hair, strict=True))
    hat = rng.random() < config.hat_probability
    if hair not in ("bald", "short", "medium", "long"):
        raise PosesynError(f"outfit config: no hair is called {hair!r}; known: bald, short, medium, long")
    cap = _draw_cap(wardrobe, rng, config, surface, hair, hat)
    outfit = pick(rng, *zip(*config.outfits, strict=True))
    if outfit not in _OUTFITS:
        raise PosesynError(f"outfit config: no outfit is called {outfit!r}; known: {', '.join(_OUTFITS)}")
    _Draw(wardrobe, rng, config, surface).dress(outfit)
    if hair in ("medium", "long") and not hat:
        neck = surface.joints["neck"][1]
        end = neck + (rng.uniform(-0.05, 0.06) if hair == "medium" else rng.uniform(-0.32, -0.1))
        bare_brow = float(rng.random() > config.fringe_probability)
        front = rng.uniform(0.0, 0.35) * (rng.random() < 0.6)
        ends = {"neckline": front, "v_neck": rng.uniform(0.003, 0.03)}
        wardrobe.put("hair", HAIR, rng.uniform(0.0, 0.012), cap, hem=end, cut=bare_brow, **ends)
    if hat:
        wardrobe.put("hat", SKIN, rng.uniform(0.008, 0.03), hem=rng.uniform(0.0, 0.025))
    return wardrobe.rows


def _draw_cap(
    wardrobe: _Wardrobe, rng: np.random.Generator, config: OutfitConfig, surface: BodySurface, hair: str, hat: bool
) -> int | None:
    """Hair that lies on the head, and under a hat also on the nape; the index of its garment."""
    if hair == "bald":
        return None
    volume = rng.uniform(*config.hair_volume) * (0.15 if hat else 1) * (0.4 if hair != "short" else 1)
    mane: dict[str, float] = {}
    if hat and hair != "short":
        neck = surface.joints["neck"]
        end = neck[1] + 0.06 - 0.25 * (rng.uniform(0.3, 1.0) if hair == "long" else 0.2)
        mane = {"sleeve": 0.085, "leg": end, "neckline": neck[2] - 0.005, "v_neck": neck[1] + 0.2}
    return wardrobe.put("hair", SKIN, volume, hem=rng.normal(0, 0.008), **mane)


class _Draw:
    """Draws the clothes of one kind of outfit."""

    def __init__(
        self, wardrobe: _Wardrobe, rng: np.random.Generator, config: OutfitConfig, surface: BodySurface
    ) -> None:
        self.put, self.rng, self.config = wardrobe.put, rng, config
        joints = surface.joints
        self.hip, self.neck, self.ankle = joints["left_hip"][1], joints["neck"][1], joints["left_ankle"][1]
        self.pelvis, self.chest = joints["pelvis"][1], joints["spine3"][1]
        low, high = config.looseness
        self.tight = low + rng.uniform(0, 0.08) * (high - low)
        self.loose = low + rng.uniform(0.12, 1.0) ** 1.5 * (high - low)

    def dress(self, outfit: str) -> None:
        self.feet(outfit)
        getattr(self, f"_{outfit}")()

    def feet(self, outfit: str) -> None:
        rng, config = self.rng, self.config
        barefoot, socks, boots = rng.random(3) < (
            config.barefoot_probability if outfit != "leotard" else 0.7,
            config.sock_probability,
            config.boot_probability,
        )
        sock, shaft = rng.uniform(0.05, 0.6), rng.uniform(0.1, 0.5)
        thickness, hem = rng.uniform(0.004, 0.012), self.ankle + rng.uniform(-0.03, 0.03)
        if outfit == "swimwear" or barefoot:
            return
        if socks and not boots:
            self.put("sock", OUTER, 0.001, leg=sock)
        if boots:
            hem = self.ankle + shaft * 0.6
        self.put("shoe", OUTER, thickness, hem=hem)

    def sleeve(self) -> float:
        length = pick(self.rng, *zip(*self.config.sleeves, strict=True))
        ranges = {"none": (-0.35, -0.2), "short": (0.35, 0.9), "long": (1.6, 2.0)}
        return self.rng.uniform(*ranges[length])

    def top(
        self,
        sleeve: float,
        hem: float,
        loose: float,
        layer: int = OUTER,
        fabric: int | None = None,
        flare: float | None = None,
    ) -> int:
        rng = self.rng
        open_neck = rng.uniform(0.0, 0.05) if sleeve > -0.1 else rng.uniform(0.03, 0.08)
        v_neck = rng.uniform(0, 0.12) * (rng.random() < self.config.v_neck_probability)
        width = rng.uniform(*self.config.flare) * min(1.0, loose / 0.01)
        numbers = {
            "neckline": self.neck + 0.04 - open_neck,
            "v_neck": v_neck,
            "flare": width if flare is None else flare,
        }
        return self.put("top", layer, loose, fabric, sleeve=sleeve, hem=hem, **numbers)

    def legs(self, length: float, waist: float, loose: float, flare: float = 0.0, **numbers: float) -> int:
        return self.put("legs", INNER, loose, None, leg=length, hem=waist, flare=flare, **numbers)

    def waist(self) -> float:
        return self.pelvis + self.rng.uniform(0.02, 0.09)

    def hem(self) -> float:
        return self.pelvis + self.rng.uniform(-0.07, 0.06)

    def _over(self, waist: float, lower: str, length: float, loose: float, flare: float) -> None:
        """A top and something below it, tucked in or hanging over."""
        rng = self.rng
        tuck, sleeve, hem = rng.random() < self.config.tuck_probability, self.sleeve(), self.hem()

        def put_lower() -> None:
            if lower == "skirt":
                self.put("skirt", SKIRT, loose, leg=length, hem=waist, flare=flare)
            else:
                self.legs(length, waist, loose, flare)

        if tuck:
            self.top(sleeve, min(hem, waist - 0.08), min(self.loose, 0.012), flare=0.0)
            put_lower()
        else:
            put_lower()
            self.top(sleeve, min(hem, waist - 0.04), self.loose)

    def _casual(self) -> None:
        flare = self.rng.choice([0.0, 0.02, 0.06]) * self.rng.uniform(0.5, 1)
        self._over(self.waist(), "legs", self.rng.uniform(1.75, 2.15), self.loose * self.rng.uniform(0.3, 0.9), flare)

    def _sport(self) -> None:
        self._over(self.waist(), "legs", self.rng.uniform(0.3, 1.0), self.loose * self.rng.uniform(0.6, 1.2), 0.03)

    def _skirt(self) -> None:
        flare = self.rng.uniform(0.0, 0.35)
        self._over(self.pelvis + self.rng.uniform(0.02, 0.08), "skirt", self.rng.uniform(0.55, 1.7), self.tight, flare)

    def _tights(self) -> None:
        self.legs(self.rng.uniform(1.3, 2.1), self.waist(), self.tight)
        self.top(self.sleeve(), self.pelvis + self.rng.uniform(-0.05, 0.25), self.tight)

    def _leotard(self) -> None:
        rng = self.rng
        long_legs = rng.random() < 0.2
        length, cut = (rng.uniform(1.5, 2.1), 0.0) if long_legs else (rng.uniform(0.25, 0.4), rng.uniform(0.3, 0.9))
        below = self.put("legs", SKIN, 0.002, leg=length, hem=self.pelvis + 0.05, cut=cut)
        self.top(self.sleeve(), self.pelvis, 0.002, SKIN, below)

    def _swimwear(self) -> None:
        rng = self.rng
        waist = self.hip + rng.uniform(0.04, 0.11)
        if rng.random() < 0.5:
            self.legs(rng.uniform(0.4, 0.9), waist, self.loose, 0.03)
            return
        below = self.put("legs", SKIN, 0.002, leg=0.3, hem=waist, cut=rng.uniform(0.2, 0.8))
        if rng.random() < 0.7:
            numbers = {"hem": self.chest + rng.uniform(-0.06, 0.0), "neckline": self.chest + rng.uniform(0.08, 0.12)}
            self.put("top", SKIN, 0.002, below, sleeve=-0.3, **numbers)

    def _dress(self) -> None:
        waist = self.pelvis + self.rng.uniform(0.04, 0.08)
        cloth = self.top(self.sleeve(), waist - 0.1, min(self.loose, 0.01), flare=0.0)
        length, flare = self.rng.uniform(0.55, 1.8), self.rng.uniform(0, 0.4)
        self.put("skirt", SKIRT, self.tight, cloth, leg=length, hem=waist, flare=flare)

    def _jacket(self) -> None:
        rng = self.rng
        self.legs(rng.uniform(1.8, 2.15), self.waist(), self.loose * rng.uniform(0.3, 0.8), rng.uniform(0, 0.03))
        self.put(
            "top", INNER, self.tight, sleeve=1.2, hem=self.pelvis - 0.06, neckline=self.neck + rng.uniform(0.0, 0.05)
        )
        thick = rng.uniform(0.012, 0.03)
        numbers = {
            "neckline": self.neck + rng.uniform(0.0, 0.03),
            "v_neck": rng.uniform(0, 0.25) * (rng.random() < 0.6),
        }
        self.put("top", OUTER, thick, sleeve=rng.uniform(1.85, 2.05), hem=self.hem(), flare=0.04, **numbers)

    def _suit(self) -> None:
        below = self.legs(self.rng.uniform(1.7, 2.1), self.pelvis + 0.06, self.loose)
        self.top(self.sleeve(), self.pelvis + 0.02, self.loose, fabric=below, flare=0.0)


_OUTFITS: Sequence[str] = ("casual", "sport", "tights", "leotard", "swimwear", "skirt", "dress", "jacket", "suit")
