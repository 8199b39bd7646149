"""Cloth: plain colours and procedural patterns over rest-pose coordinates, and prints taken from photographs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synth.colours import draw_fabric, pick
from synth.surface import Points

PATTERNS = ("stripes", "bands", "checks", "blotches", "gradient", "logo", "side", "halves", "print")
_SHARES = (0.14, 0.1, 0.1, 0.12, 0.08, 0.14, 0.08, 0.06, 0.18)


@dataclass(frozen=True)
class Fabric:
    """``pattern`` is "plain" or one of :data:`PATTERNS`; ``values`` are eight numbers in [0, 1) that shape it."""

    base: np.ndarray
    second: np.ndarray
    pattern: str
    values: tuple[float, ...]

    def colour(self, p: Points, texture: np.ndarray) -> np.ndarray:
        """(N,3) float32 linear-light reflectance; ``texture`` (T,T,3) serves the pattern "print"."""
        out = np.empty((len(p), 3), np.float32)
        if self.pattern == "plain" or len(p) == 0:  # nothing of the garment is in the picture
            out[:] = self.base
            return out
        # Around and along the limb or trunk: sleeves lie along x in the rest pose, all else along y.
        arm = p.reach > 0
        along, across = np.where(arm, np.abs(p.x), p.y), np.where(arm, p.z, p.x)
        v = self.values
        if self.pattern == "print":
            return _print(texture, across, along, v) * (0.5 + 0.5 * self.base.astype(np.float32))
        if self.pattern == "gradient":
            share = np.clip(0.5 + (along - 1.0 * v[0]) / (0.2 + v[1]), 0, 1).astype(np.float32)[:, None]
            return (share * self.base + (1 - share) * self.second).astype(np.float32)
        out[:] = self.base
        out[self._second(p, along, across, arm)] = self.second
        return out

    def _second(self, p: Points, along: np.ndarray, across: np.ndarray, arm: np.ndarray) -> np.ndarray:
        """(N,) bool, where the second colour shows."""
        v = self.values
        period = 0.03 + 0.14 * v[0] ** 2
        if self.pattern == "stripes":
            coordinate = along if v[2] < 0.7 else across
            return (coordinate / period + v[1]) % 1 < 0.15 + 0.5 * v[3]
        if self.pattern == "bands":
            return np.abs(along - (v[1] * 1.4 - 0.7 if v[2] < 0.5 else p.y.mean())) < 0.02 + 0.07 * v[3]
        if self.pattern == "checks":
            return ((along / period + v[1]) % 1 < 0.5) ^ ((across / period + v[2]) % 1 < 0.5)
        if self.pattern == "blotches":
            k = 2 * np.pi / (0.06 + 0.2 * v[0])
            wave = np.sin(k * p.x + 6 * v[1] + 2 * np.sin(0.6 * k * p.z + 6 * v[4]))
            wave += np.sin(k * p.y * 1.1 + 6 * v[2] + 2 * np.sin(0.7 * k * p.x + 6 * v[5])) + np.sin(
                0.8 * k * p.z + 6 * v[3]
            )
            return wave > 0.3
        if self.pattern == "logo":
            side = np.where(v[4] < 0.75, p.z > 0, p.z < 0)
            width, height = 0.03 + 0.09 * v[0], 0.02 + 0.09 * v[1]
            dx, dy = (p.x - 0.06 * (v[2] - 0.5)) / width, (p.y - p.y.max() + 0.16 + 0.1 * v[3]) / height
            inside = np.maximum(np.abs(dx), np.abs(dy)) < 1 if v[5] < 0.6 else dx * dx + dy * dy < 1
            return side & inside & ~arm
        if self.pattern == "side":
            return np.where(arm, np.abs(p.z + 0.02) < 0.02, np.abs(p.z + 0.01) < 0.02 + 0.03 * v[0])
        return arm if v[0] < 0.6 else (p.x > 0)


def draw_pattern(rng: np.random.Generator, everyday: float, patterned: float) -> Fabric:
    """A fabric that has a pattern with probability ``patterned``."""
    base, second = draw_fabric(rng, everyday), draw_fabric(rng, everyday)
    name, plain = pick(rng, PATTERNS, _SHARES), rng.random() >= patterned
    return Fabric(base, second, "plain" if plain else name, tuple(rng.random(8).tolist()))


def _print(texture: np.ndarray, across: np.ndarray, along: np.ndarray, values: tuple[float, ...]) -> np.ndarray:
    size = len(texture)
    scale = size / (0.25 + 0.6 * values[0])  # metres that one repeat covers

    def fold(coordinate: np.ndarray) -> np.ndarray:
        """Mirror at the borders, so that a repeat shows no seam."""
        t = (coordinate * scale).astype(np.int32) % (2 * size)
        return np.where(t < size, t, 2 * size - 1 - t)

    return texture[fold(along + 2 + values[1]), fold(across + 2 + values[2])]
