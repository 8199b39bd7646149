"""What a person looks like: skin, hair, face and clothes as colours on the body's surface.

Garments are inequalities between rest-pose coordinates (a sleeve ends at a share of the arm), so their borders are
clean curves at any resolution. They also swell the surface along its normals, which changes the outline and no label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synth.colours import draw_hair, draw_skin, pick
from synth.fabric import Fabric, draw_pattern
from synth.surface import BodySurface, Points

# How thickness grows inwards from a garment's border, metres.
_EDGE = 0.02


@dataclass(frozen=True)
class AppearanceConfig:
    """Ranges and probabilities of a person's looks; lengths in metres, ``(low, high)`` uniform.

    ``outfits`` are relative weights: casual (top and trousers), sport (top and shorts), tights, leotard, swimwear,
    skirt-less one-piece suit. ``looseness`` is how far cloth stands off the skin.
    """

    skin_tone: tuple[float, float] = (0.0, 1.0)
    bald_probability: float = 0.06
    hat_probability: float = 0.1
    long_hair_probability: float = 0.3
    hair_volume: tuple[float, float] = (0.002, 0.03)
    beard_probability: float = 0.15
    outfits: tuple[tuple[str, float], ...] = (
        ("casual", 0.34),
        ("sport", 0.26),
        ("tights", 0.1),
        ("leotard", 0.13),
        ("swimwear", 0.09),
        ("suit", 0.08),
    )
    everyday_colour_probability: float = 0.5
    pattern_probability: float = 0.5
    looseness: tuple[float, float] = (0.001, 0.022)
    barefoot_probability: float = 0.3
    wrinkles: tuple[float, float] = (0.05, 0.5)


@dataclass(frozen=True)
class Garment:
    """A piece of clothing: which part of the surface it covers, what of, and how thick it lies.

    ``top`` pieces hang from the neck (``sleeve`` in units of reach, ``hem`` and ``neckline`` heights in metres);
    the others cover legs down to ``leg`` (in units of -level) from ``hem`` as their waist.
    """

    kind: str
    fabric: Fabric
    thickness: float
    sleeve: float = 0.0
    hem: float = 0.0
    neckline: float = 0.0
    v_neck: float = 0.0
    leg: float = 0.0
    cut: float = 0.0

    def depth(self, p: Points) -> np.ndarray:
        """(N,) metres (nearly) from the border, positive inside."""
        if self.kind == "top":
            arms = 0.26 * (self.sleeve - p.reach)
            front = np.maximum(p.z, 0) * 8
            collar = self.neckline - p.y - self.v_neck * front * np.maximum(1 - np.abs(p.x) * 11, 0)
            return np.minimum(np.minimum(arms, p.y - self.hem), collar)
        if self.kind == "shoe":
            return self.hem - p.y
        if self.kind == "sock":
            return 0.4 * (self.leg - 2 - p.level)
        legs = 0.4 * (p.level + self.leg) - self.cut * np.abs(p.x)
        return np.minimum(self.hem - p.y, legs)


@dataclass(frozen=True)
class Appearance:
    """One person's looks, ready to be painted at any points of the surface."""

    skin: np.ndarray
    lips: np.ndarray
    hair: np.ndarray
    hair_volume: float
    hairline: float
    long_hair: float
    beard: bool
    hat: Garment | None
    garments: tuple[Garment, ...]
    wrinkles: float
    gloss: float
    noise: np.ndarray
    print_seed: int

    @property
    def has_print(self) -> bool:
        """Whether any of the clothes shows the picture that :func:`paint` is given."""
        worn = self.garments if self.hat is None else (*self.garments, self.hat)
        return any(g.fabric.pattern == "print" for g in worn)

    def folds(self, p: Points) -> tuple[np.ndarray, np.ndarray]:
        """Two (N,) waves in [-1, 1] over the surface by which cloth turns its normals: creases of 4 to 15 cm."""
        a, b, c, d = self.noise * np.array([[22.0], [30.0], [14.0], [14.0]], np.float32)
        warp = np.sin(c[0] * p.x + c[1] * p.y + c[2] * p.z)
        weft = np.sin(d[0] * p.x + d[1] * p.y + d[2] * p.z + 1)
        first = np.sin(a[0] * p.x + a[1] * p.y + a[2] * p.z + 4 * warp)
        second = np.sin(b[0] * p.x + b[1] * p.y + b[2] * p.z + 4 * weft + 2 * first)
        return first * second, second * warp


def draw_appearance(rng: np.random.Generator, config: AppearanceConfig, surface: BodySurface) -> Appearance:
    """Draw one person's looks."""
    skin, hair = draw_skin(rng, config.skin_tone), draw_hair(rng)
    look = rng.random()
    bald = look < config.bald_probability
    hat = None
    if config.bald_probability < look < config.bald_probability + config.hat_probability:
        hat = Garment("hat", draw_pattern(rng, config.everyday_colour_probability, 0.2), rng.uniform(0.005, 0.03))
    volume = rng.uniform(*config.hair_volume) * (0.15 if hat or bald else 1)
    long_hair = 0.0 if bald or rng.random() > config.long_hair_probability else rng.uniform(0.3, 1.0)
    names, weights = zip(*config.outfits, strict=True)
    outfit = pick(rng, names, weights)
    return Appearance(
        skin=skin,
        lips=np.clip(skin * [1.0, 0.62, 0.62] + [0.02, 0, 0], 0, 1),
        hair=skin if bald else hair,
        hair_volume=volume,
        hairline=rng.normal(0, 0.008),
        long_hair=long_hair,
        beard=bool(rng.random() < config.beard_probability and not long_hair),
        hat=hat,
        garments=_draw_outfit(outfit, rng, config, surface),
        wrinkles=rng.uniform(*config.wrinkles),
        gloss=rng.gamma(1.5, 0.02),
        noise=rng.standard_normal((4, 3)).astype(np.float32),
        print_seed=int(rng.integers(1 << 62)),
    )


def _draw_outfit(
    outfit: str, rng: np.random.Generator, config: AppearanceConfig, surface: BodySurface
) -> tuple[Garment, ...]:
    """Garments from the innermost to the outermost."""
    joints = surface.joints
    hip, neck, ankle = joints["left_hip"][1], joints["neck"][1], joints["left_ankle"][1]
    pelvis = joints["pelvis"][1]

    def fabric(pattern: float = config.pattern_probability) -> Fabric:
        return draw_pattern(rng, config.everyday_colour_probability, pattern)

    def top(sleeve: float, hem: float, cloth: Fabric, loose: float) -> Garment:
        open_neck = rng.uniform(0.0, 0.05) if sleeve > -0.1 else rng.uniform(0.04, 0.1)
        return Garment(
            "top", cloth, loose, sleeve, hem, neck + 0.04 - open_neck, rng.uniform(0, 0.12) * (rng.random() < 0.4)
        )

    def legs(length: float, waist: float, cloth: Fabric, loose: float, cut: float = 0.0) -> Garment:
        return Garment("legs", cloth, loose, leg=length, hem=waist, cut=cut)

    low, high = config.looseness
    loose, tight = rng.uniform(0.3, 1) * (high - low) + low, low + 0.15 * (high - low)
    lengths = (rng.uniform(-0.35, -0.2), rng.uniform(0.35, 0.9), rng.uniform(1.6, 2.05))
    sleeve = pick(rng, lengths, (0.2, 0.5, 0.3))
    waist, hem = pelvis + rng.uniform(0.0, 0.08), pelvis - rng.uniform(-0.06, 0.12)
    pieces: list[Garment] = []
    if outfit in ("casual", "sport"):
        short = rng.uniform(0.3, 1.0)
        length = rng.uniform(1.75, 2.2) if outfit == "casual" and rng.random() < 0.75 else short
        pieces.append(legs(length, waist, fabric(0.5 * config.pattern_probability), loose * rng.uniform(0.5, 1.2)))
        pieces.append(top(sleeve, hem, fabric(), loose))
        if rng.random() < 0.25:  # tucked in
            pieces.reverse()
    elif outfit == "tights":
        pieces.append(legs(rng.uniform(1.3, 2.1), waist, fabric(0.3 * config.pattern_probability), tight))
        pieces.append(top(sleeve, pelvis + rng.uniform(-0.05, 0.25), fabric(), tight))
    elif outfit in ("leotard", "suit"):
        cloth = fabric()
        long_legs = outfit == "suit" or rng.random() < 0.2
        length, cut = (rng.uniform(1.5, 2.1), 0.0) if long_legs else (rng.uniform(0.25, 0.4), rng.uniform(0.3, 0.9))
        loose = tight if outfit == "leotard" else loose
        pieces.append(legs(length, pelvis + 0.03, cloth, loose, cut))
        pieces.append(top(sleeve, pelvis - 0.02, cloth, loose))
    else:
        cloth = fabric()
        trunks = rng.random() < 0.5
        pieces.append(
            legs(
                rng.uniform(0.4, 0.9) if trunks else 0.3,
                hip + rng.uniform(0.02, 0.1),
                cloth,
                loose if trunks else tight,
            )
        )
        if not trunks and rng.random() < 0.7:  # bikini top
            chest = joints["spine3"][1]
            pieces.append(
                Garment("top", cloth, tight, -0.3, chest + rng.uniform(-0.06, 0.0), chest + rng.uniform(0.08, 0.12))
            )
    if rng.random() > config.barefoot_probability and outfit not in ("swimwear",):
        if rng.random() < 0.6:
            pieces.insert(0, Garment("sock", fabric(0.1), 0.002, leg=rng.uniform(0.05, 0.6)))
        pieces.append(Garment("shoe", fabric(0.2), rng.uniform(0.004, 0.014), hem=ankle + rng.uniform(-0.02, 0.05)))
    return tuple(pieces)


def swell(surface: BodySurface, looks: Appearance) -> np.ndarray:
    """(V,) metres by which clothes and hair stand off the skin at each vertex."""
    p = surface.vertices
    out = np.zeros(len(p), np.float32)
    for garment in looks.garments:
        out = np.maximum(out, garment.thickness * _ramp(garment.depth(p) / _EDGE))
    thickness = looks.hat.thickness if looks.hat else looks.hair_volume
    out += thickness * _ramp((p.hair - looks.hairline) / 0.03)
    if looks.long_hair:
        out += 0.035 * looks.long_hair * _ramp(_mane(p, looks, surface) / 0.02)
    return out


def paint(surface: BodySurface, looks: Appearance, p: Points, texture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours at points of the surface.

    Args:
        texture: (T,T,3) float32 linear-light picture used by fabrics printed with a photograph.

    Returns:
        albedo (N,3) float32 linear light, and roughness of the cloth (N,): 0 skin, up to ``wrinkles`` on cloth.
    """
    albedo = np.empty((len(p), 3), np.float32)
    albedo[:] = looks.skin
    cloth = np.zeros(len(p), np.float32)
    head = np.flatnonzero(p.level > 0.85)
    albedo[head] = _paint_head(surface, looks, p[head], texture)
    for garment in looks.garments:
        inside = np.flatnonzero(garment.depth(p) > 0)
        albedo[inside] = garment.fabric.colour(p[inside], texture)
        cloth[inside] = looks.wrinkles * min(1.0, 0.3 + garment.thickness / 0.012)
    if looks.long_hair:
        albedo[_mane(p, looks, surface) > 0] = looks.hair
    return albedo, cloth


def _paint_head(surface: BodySurface, looks: Appearance, p: Points, texture: np.ndarray) -> np.ndarray:
    albedo = np.empty((len(p), 3), np.float32)
    albedo[:] = looks.skin
    unit, eye, nose = surface.eye_distance, surface.joints["left_eye"], surface.joints["nose"]
    front = p.z > surface.joints["left_ear"][2] + 0.5 * unit
    across = np.abs(p.x)

    def ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
        return front & (((across - x) / (width * unit)) ** 2 + ((p.y - y) / (height * unit)) ** 2 < 1)

    albedo[ellipse(0.0, nose[1] - 0.62 * unit, 0.42, 0.14)] = looks.lips
    if looks.beard:
        jaw = (p.y < nose[1] - 0.35 * unit) & (p.y > nose[1] - 1.6 * unit) & (p.z > surface.joints["left_ear"][2])
        albedo[jaw & ~ellipse(0.0, nose[1] - 0.62 * unit, 0.36, 0.1)] = 0.6 * looks.hair + 0.4 * looks.skin
    dark = np.minimum(looks.skin, looks.hair)
    albedo[ellipse(eye[0], eye[1] + 0.33 * unit, 0.4, 0.09)] = 0.6 * dark + 0.4 * looks.skin
    albedo[ellipse(eye[0], eye[1], 0.27, 0.15)] = 0.35 * looks.skin
    hair = p.hair > looks.hairline
    albedo[hair] = looks.hair
    if looks.hat:
        worn = p.hair > looks.hairline + 0.01
        albedo[worn] = looks.hat.fabric.colour(p[worn], texture)
    return albedo


def _mane(p: Points, looks: Appearance, surface: BodySurface) -> np.ndarray:
    """(N,) metres inside long hair: the back of the neck and what lies below it."""
    neck = surface.joints["neck"]
    end = neck[1] + 0.06 - 0.25 * looks.long_hair
    return np.minimum(
        np.minimum(0.085 - np.abs(p.x), neck[2] - 0.005 - p.z), np.minimum(p.y - end, neck[1] + 0.2 - p.y)
    )


def _ramp(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)
