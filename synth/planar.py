"""The planar frame of garment textures: the resting body seen from the front and from the back.

A garment texture has no mesh coordinates. It is two square pictures, (2, T, T, 3): [0] what a camera in front of the
T-posed mean body sees, [1] what one behind it sees, both orthographic, of x in [-0.95, 0.95] m and y from 0.75 m (top)
down to -1.15 m (pelvis at the origin, y up, person facing +z). So one texture serves body, shells and skirts alike.

Texel (row i, column j) covers u in [j/T, (j+1)/T] and v in [i/T, (i+1)/T], u right, v down: its centre is at
((j + 0.5)/T, (i + 0.5)/T), and bilinear sampling reads column u*T - 0.5.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

#: Metres. The square's left edge in the front view is the person's right.
LEFT, RIGHT, TOP, BOTTOM = -0.95, 0.95, 0.75, -1.15
SIDE = RIGHT - LEFT
#: Front and back blend where the rest normal's z is within +-BLEND.
BLEND = 0.15

Array = TypeVar("Array", Tensor, np.ndarray)


def planar_uv(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Where the texture shows a rest-pose point: (u in the front view, u in the back view, v), all in 0..1 if inside.

    The back view is seen from behind, so its u runs the other way. Works on numpy and torch, any shape.
    """
    front = (x - LEFT) / SIDE
    return front, 1 - front, (TOP - y) / SIDE


def front_weight(normal_z: Array) -> Array:
    """Share of the front view at a point whose rest normal has this z: 0 behind, 1 in front, smooth between."""
    t = ((normal_z + BLEND) / (2 * BLEND)).clip(0, 1)
    return t * t * (3 - 2 * t)


def planar_position(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rest position of the texel centres of the front view: x of each column and y of each row, (size,) metres."""
    centre = (np.arange(size) + 0.5) / size
    return LEFT + SIDE * centre, TOP - SIDE * centre
