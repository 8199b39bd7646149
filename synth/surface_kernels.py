"""Warp functions that all surface colour is made of: places on the body, integer noise, soft edges, picture look-ups.

Everything is a function of integers and of rest-pose coordinates, and changes smoothly over about one pixel
(``footprint``, metres), so that borders are anti-aliased and do not depend on the last bit of a device's arithmetic.
Importing this module starts Warp (see :mod:`human.warp_start`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)
# ruff: noqa: UP018, RUF046
# (A Warp variable that a branch or loop changes must be declared by a call; Warp knows no `in`.)

from __future__ import annotations

import warp as wp

from human.warp_start import start_warp

start_warp()
wp.set_module_options({"enable_backward": False, "optimization_level": 3})

vec4ub = wp.types.vector(length=4, dtype=wp.uint8)
#: Where the body has what, from :func:`synth.paint.anatomy`.
vec16 = wp.types.vector(length=16, dtype=wp.float32)

A_EYE_X = wp.constant(0)
A_EYE_Y = wp.constant(1)
A_NOSE_Y = wp.constant(2)
A_EAR_Z = wp.constant(3)
A_UNIT = wp.constant(4)  # between the eyes
A_SHOULDER_Y = wp.constant(5)
A_SHOULDER_Z = wp.constant(6)
A_HIP_X = wp.constant(7)
A_HIP_Y = wp.constant(8)
A_CHEST_Y = wp.constant(9)
A_SOLE_Y = wp.constant(10)
A_NECK_Y = wp.constant(11)
A_HEAD_Z = wp.constant(12)
A_ANKLE_Z = wp.constant(13)
A_FACE_Z = wp.constant(14)

# Columns of ``Paint.body`` and ``Paint.fabric`` (synth.paint.BODY, FABRIC); colours take three.
SKIN = wp.constant(0)
LIPS = wp.constant(3)
BROW = wp.constant(6)
IRIS = wp.constant(9)
HAIRS = wp.constant(12)
BEARD = wp.constant(15)
OIL = wp.constant(16)
FLUSH = wp.constant(17)
MOTTLE = wp.constant(18)
FEATURES = wp.constant(19)
STRANDS = wp.constant(20)

# Beyond the greatest int32: as literals within a kernel they would pass through one, of which the compiler warns.
MIX = wp.constant(wp.uint32(0x846CA68B))
HASH_X = wp.constant(wp.uint32(0x9E3779B1))
HASH_Y = wp.constant(wp.uint32(0x85EBCA77))
HASH_Z = wp.constant(wp.uint32(0xC2B2AE3D))


@wp.func
def scramble(h: wp.uint32) -> wp.uint32:
    """Integer hash ("lowbias32", C. Wellons)."""
    h = h ^ (h >> wp.uint32(16))
    h = h * wp.uint32(0x7FEB352D)
    h = h ^ (h >> wp.uint32(15))
    h = h * MIX
    return h ^ (h >> wp.uint32(16))


@wp.func
def lattice(h: wp.uint32) -> float:
    """[-1, 1)"""
    return float(int(scramble(h) >> wp.uint32(8))) * wp.static(2.0**-23) - 1.0


@wp.func
def floor(x: float) -> float:
    """Largest whole number not above x (|x| < 2^31); the C library's is slow on the CPU."""
    whole = float(int(x))
    return wp.where(whole > x, whole - 1.0, whole)


@wp.func
def noise(p: wp.vec3, seed: wp.uint32) -> wp.vec4:
    """Value noise in [-1, 1] on the unit lattice and its gradient: (value, d/dx, d/dy, d/dz); continuous."""
    fx = floor(p[0])
    fy = floor(p[1])
    fz = floor(p[2])
    x = p[0] - fx
    y = p[1] - fy
    z = p[2] - fz
    hx = wp.uint32(int(fx)) * HASH_X
    hy = wp.uint32(int(fy)) * HASH_Y
    hz = wp.uint32(int(fz)) * HASH_Z + seed
    ux = hx + HASH_X
    uy = hy + HASH_Y
    uz = hz + HASH_Z
    a = lattice(hx ^ hy ^ hz)
    b = lattice(ux ^ hy ^ hz)
    c = lattice(hx ^ uy ^ hz)
    d = lattice(ux ^ uy ^ hz)
    e = lattice(hx ^ hy ^ uz)
    f = lattice(ux ^ hy ^ uz)
    g = lattice(hx ^ uy ^ uz)
    h = lattice(ux ^ uy ^ uz)
    sx = x * x * (3.0 - 2.0 * x)
    sy = y * y * (3.0 - 2.0 * y)
    sz = z * z * (3.0 - 2.0 * z)
    dx = 6.0 * x * (1.0 - x)
    dy = 6.0 * y * (1.0 - y)
    dz = 6.0 * z * (1.0 - z)
    ab = a + sx * (b - a)
    cd = c + sx * (d - c)
    ef = e + sx * (f - e)
    gh = g + sx * (h - g)
    near = ab + sy * (cd - ab)
    far = ef + sy * (gh - ef)
    slope_near = (b - a) + sy * ((d - c) - (b - a))
    slope_far = (f - e) + sy * ((h - g) - (f - e))
    rise = (cd - ab) + sz * ((gh - ef) - (cd - ab))
    return wp.vec4(
        near + sz * (far - near), dx * (slope_near + sz * (slope_far - slope_near)), dy * rise, dz * (far - near)
    )


@wp.func
def speck(x: float, y: float, z: float, seed: wp.uint32) -> float:
    """Grain of 3 mm, about [-0.6, 0.6]: finer than pixels mostly are, hence not smoothed."""
    hx = wp.uint32(int(floor(x * 330.0))) * HASH_X
    hy = wp.uint32(int(floor(y * 330.0))) * HASH_Y
    hz = wp.uint32(int(floor(z * 330.0))) * HASH_Z + seed
    return 0.6 * lattice(hx ^ hy ^ hz)


@wp.func
def step(distance: float, footprint: float) -> float:
    """0 outside, 1 inside, linear over one footprint."""
    return wp.clamp(0.5 + distance / footprint, 0.0, 1.0)


@wp.func
def bump(t: float) -> float:
    """1 at 0, smoothly 0 from +-1."""
    s = wp.max(1.0 - t * t, 0.0)
    return s * s


@wp.func
def stripe(c: float, period: float, phase: float, share: float, footprint: float) -> float:
    """Share of a periodic stripe in a footprint around ``c``; its mean where the footprint is wider than the period."""
    t = c / period + phase
    t = t - floor(t)
    sharp = step((0.5 * share - wp.abs(t - 0.5)) * period, footprint)
    return sharp + wp.clamp(2.0 * footprint / period - 1.0, 0.0, 1.0) * (share - sharp)


@wp.func
def colour(table: wp.array2d[wp.float32], b: int, column: int) -> wp.vec3:
    return wp.vec3(table[b, column], table[b, column + 1], table[b, column + 2])


@wp.func
def shade_of(table: wp.array3d[wp.float32], b: int, g: int, column: int) -> wp.vec3:
    return wp.vec3(table[b, g, column], table[b, g, column + 1], table[b, g, column + 2])


@wp.func
def fetch(bank: wp.array3d[vec4ub], linear: wp.array[wp.float32], n: int, level: int, u: float, v: float) -> wp.vec4:
    """Bilinear linear-light RGBA of one level of a pyramid (see synth.paint.pyramid); u, v clamp to 0..1."""
    side = bank.shape[2] >> level
    top = 2 * bank.shape[2] - 2 * side
    x = wp.clamp(u * float(side) - 0.5, 0.0, float(side - 1))
    y = wp.clamp(v * float(side) - 0.5, 0.0, float(side - 1))
    x0 = int(x)
    y0 = int(y)
    x1 = wp.min(x0 + 1, side - 1)
    y1 = wp.min(y0 + 1, side - 1)
    fx = x - float(x0)
    fy = y - float(y0)
    out = wp.vec4(0.0, 0.0, 0.0, 0.0)
    for corner in range(4):
        column = wp.where((corner & 1) == 1, x1, x0)
        row = wp.where((corner & 2) == 2, y1, y0)
        weight = wp.where((corner & 1) == 1, fx, 1.0 - fx) * wp.where((corner & 2) == 2, fy, 1.0 - fy)
        t = bank[n, top + row, column]
        rgba = wp.vec4(
            linear[int(t[0])], linear[int(t[1])], linear[int(t[2])], float(int(t[3])) * wp.static(1.0 / 255.0)
        )
        out += weight * rgba
    return out


@wp.func
def sample(
    bank: wp.array3d[vec4ub], linear: wp.array[wp.float32], n: int, u: float, v: float, footprint: float
) -> wp.vec4:
    """Trilinear look-up; ``footprint`` in units of u."""
    level = wp.max(wp.log2(wp.max(footprint * float(bank.shape[2]), 1.0)), 0.0)
    deepest = int(0)
    while (bank.shape[2] >> (deepest + 1)) >= 4:
        deepest += 1
    level = wp.min(level, float(deepest))
    low = wp.min(int(level), wp.max(deepest - 1, 0))
    share = wp.min(level - float(low), 1.0)
    out = fetch(bank, linear, n, low, u, v)
    if share > 0.0:
        out += share * (fetch(bank, linear, n, low + 1, u, v) - out)
    return out
