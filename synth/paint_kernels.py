"""Warp functions of cloth at a rest-pose point: fabric, seams and trimmings, folds, garment textures.

Importing this module starts Warp (see :mod:`human.warp_start`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)
# ruff: noqa: UP018, SIM109
# (A Warp variable that a branch or loop changes must be declared by a call; Warp knows no `in`.)

from __future__ import annotations

import warp as wp

from synth.drape_kernels import HAT, LEGS, SHOE, SKIRT, SOCK, TOP, vec6
from synth.planar import BLEND, LEFT, SIDE
from synth.planar import TOP as PLANAR_TOP
from synth.surface_kernels import (
    A_ANKLE_Z,
    A_CHEST_Y,
    A_HIP_X,
    A_HIP_Y,
    A_SHOULDER_Y,
    A_SHOULDER_Z,
    A_SOLE_Y,
    bump,
    floor,
    noise,
    sample,
    shade_of,
    step,
    stripe,
    vec4ub,
    vec16,
)

wp.set_module_options({"enable_backward": False, "optimization_level": 3})

# Columns of ``Paint.fabric`` (synth.paint.FABRIC), patterns and trimmings (PATTERNS, TRIMS); colours take three.
BASE = wp.constant(0)
SECOND = wp.constant(3)
THIRD = wp.constant(6)
PATTERN = wp.constant(9)
VALUES = wp.constant(10)
FOLDS = wp.constant(18)
GRAIN = wp.constant(19)
SHINE = wp.constant(20)
SEAM = wp.constant(21)
TRIM = wp.constant(22)
SHEEN = wp.constant(23)

PLAIN = wp.constant(0)
STRIPES = wp.constant(1)
PINSTRIPES = wp.constant(2)
BAND = wp.constant(3)
GINGHAM = wp.constant(4)
PLAID = wp.constant(5)
DOTS = wp.constant(6)
CAMOUFLAGE = wp.constant(7)
GRADIENT = wp.constant(8)
LOGO = wp.constant(9)
SIDES = wp.constant(10)
RAGLAN = wp.constant(11)
PHOTO = wp.constant(12)
DENIM = wp.constant(13)
MELANGE = wp.constant(14)
BLOCK = wp.constant(15)

BELT = wp.constant(1)
BUTTONS = wp.constant(2)
ZIP = wp.constant(3)
RIB = wp.constant(4)


@wp.func
def around(a: float, b: float) -> float:
    """Angle of (a, b) in quarter turns without trigonometry, -1..3: 0 in front (+b), 1 at +a; the seam lies at -a."""
    t = a / (wp.abs(a) + wp.abs(b) + 1.0e-6)
    return wp.where(b >= 0.0, t, 2.0 - t)


@wp.func
def cloth_at(kind: int, field: vec6, anatomy: vec16) -> wp.vec2:
    """(along, across) of cloth, metres: down the trunk, leg or arm, and around it."""
    x = field[0]
    y = field[1]
    z = field[2]
    if field[3] > 0.0 and kind == TOP:
        side = wp.where(x > 0.0, 1.0, -1.0)
        turn = around(-(y - anatomy[A_SHOULDER_Y]), z - anatomy[A_SHOULDER_Z])
        return wp.vec2(wp.abs(x), 0.075 * turn + 3.0 * side)
    if y < anatomy[A_HIP_Y] - 0.08 and kind != SKIRT:
        side = wp.where(x > 0.0, 1.0, -1.0)
        turn = around(side * x - anatomy[A_HIP_X], z)
        return wp.vec2(y, side * 0.13 * turn)
    return wp.vec2(y, 0.24 * around(x, z + 0.02))


@wp.func
def fold_gradient(kind: int, field: vec6, waist: float, amount: float, seed: wp.uint32) -> wp.vec3:
    """Slope of the cloth's height over the rest position: creases that gather at elbows, knees, waist and armpits.

    ``amount`` scales the height, 1 for loose cloth.
    """
    x = field[0]
    y = field[1]
    z = field[2]
    reach = field[3]
    level = field[4]
    p = wp.vec3(x, y, z)
    calm = wp.vec3(9.0, 9.0, 9.0)
    tight = wp.vec3(13.0, 30.0, 13.0)
    bend = bump(1.2 * (y - waist) / 0.16)
    if kind == SKIRT:
        calm = wp.vec3(20.0, 2.5, 20.0)
        tight = wp.vec3(34.0, 4.0, 34.0)
        bend = 0.6
    elif reach > 0.0:
        calm = wp.vec3(16.0, 11.0, 11.0)
        tight = wp.vec3(36.0, 14.0, 14.0)
        bend = wp.max(bump((reach - 1.0) / 0.5), bump((reach - 0.05) / 0.3))
    else:
        bend = wp.max(bend, wp.max(bump((level + 1.0) / 0.35), bump((level + 0.08) / 0.3)))
        bend = wp.max(bend, 0.8 * bump((level + 1.95) / 0.25))
        bend = wp.max(bend, 0.7 * bump((reach + 0.1) / 0.35))
    drape = noise(wp.cw_mul(calm, p), seed)
    # The large folds bend the small ones out of line.
    q = wp.cw_mul(tight, p) + wp.vec3(1.1 * drape[0], 1.7 * drape[0], 0.9 * drape[0])
    crease = noise(q, seed + wp.uint32(0x51ED27))
    # A ridge, sharp on top: cloth bends little except where it folds.
    ridge = -crease[0] / wp.sqrt(crease[0] * crease[0] + 0.02)
    slope = wp.cw_mul(calm, wp.vec3(drape[1], drape[2], drape[3])) * (0.011 + 0.008 * bend)
    slope += wp.cw_mul(tight, wp.vec3(crease[1], crease[2], crease[3])) * (ridge * (0.0018 + 0.0062 * bend))
    return amount * slope


@wp.func
def fabric_colour(
    fabric: wp.array3d[wp.float32],
    prints: wp.array3d[vec4ub],
    linear: wp.array[wp.float32],
    b: int,
    g: int,
    kind: int,
    photo: int,
    field: vec6,
    anatomy: vec16,
    footprint: float,
    seed: wp.uint32,
) -> wp.vec3:
    """Linear reflectance of garment ``g`` of person ``b``."""
    base = shade_of(fabric, b, g, BASE)
    second = shade_of(fabric, b, g, SECOND)
    third = shade_of(fabric, b, g, THIRD)
    pattern = int(fabric[b, g, PATTERN])
    v0 = fabric[b, g, VALUES]
    v1 = fabric[b, g, VALUES + 1]
    v2 = fabric[b, g, VALUES + 2]
    v3 = fabric[b, g, VALUES + 3]
    v4 = fabric[b, g, VALUES + 4]
    v5 = fabric[b, g, VALUES + 5]
    at = cloth_at(kind, field, anatomy)
    along = at[0]
    across = at[1]
    p = wp.vec3(field[0], field[1], field[2])
    arm = field[3] > 0.0 and kind == TOP
    front = step(field[2] - 0.02, footprint)
    period = 0.018 + 0.11 * v0 * v0
    share = float(0.0)
    out = base
    if pattern == STRIPES:
        share = stripe(along, period, v1, 0.2 + 0.5 * v3, footprint)
        out = base + share * (second - base)
    elif pattern == PINSTRIPES:
        share = stripe(across, 0.5 * period + 0.008, v1, 0.08 + 0.45 * v3, footprint)
        out = base + share * (second - base)
    elif pattern == BAND:
        middle = wp.where(arm, 0.3 + 0.2 * v1, anatomy[A_CHEST_Y] - 0.25 * v1)
        share = step(0.02 + 0.07 * v3 - wp.abs(along - middle), footprint)
        out = base + share * (second - base)
        share = step(0.008 - wp.abs(wp.abs(along - middle) - 0.04 - 0.07 * v3), footprint)
        out += share * (third - out)
    elif pattern == GINGHAM:
        size = 0.01 + 0.05 * v0 * v0
        share = 0.5 * (stripe(along, size, v1, 0.5, footprint) + stripe(across, size, v2, 0.5, footprint))
        out = base + share * (second - base)
    elif pattern == PLAID:
        size = 0.05 + 0.1 * v0
        share = 0.5 * (stripe(along, size, v1, 0.45, footprint) + stripe(across, size, v2, 0.45, footprint))
        out = base + share * (second - base)
        share = wp.max(
            stripe(along, size, v1 + 0.5, 0.05 + 0.05 * v3, footprint),
            stripe(across, size, v2 + 0.5, 0.05 + 0.05 * v3, footprint),
        )
        out += 0.7 * share * (third - out)
    elif pattern == DOTS:
        size = 0.02 + 0.06 * v0
        row = along / size + v1
        odd = float(int(floor(row)) & 1)
        column = across / size + v2 + 0.5 * odd
        du = row - floor(row) - 0.5
        dv = column - floor(column) - 0.5
        radius = 0.15 + 0.2 * v3
        share = step((radius - wp.sqrt(du * du + dv * dv)) * size, footprint)
        share += wp.clamp(2.0 * footprint / size - 1.0, 0.0, 1.0) * (3.1416 * radius * radius - share)
        out = base + share * (second - base)
    elif pattern == CAMOUFLAGE:
        k = 1.0 / (0.03 + 0.09 * v0)
        blotch = noise(k * p, seed + wp.uint32(11))
        detail = noise(2.3 * k * p, seed + wp.uint32(12))
        one = blotch[0] + 0.4 * detail[0]
        out = base + step((one - 0.1) / (1.5 * k), footprint) * (second - base)
        two = detail[0] - 0.5 * blotch[0]
        out += step((two - 0.35) / (2.5 * k), footprint) * (third - out)
    elif pattern == GRADIENT:
        start = wp.where(kind == TOP, anatomy[A_CHEST_Y], anatomy[A_HIP_Y])
        share = wp.clamp(0.5 + (along - start + 0.5 * v0) / (0.15 + 0.6 * v1), 0.0, 1.0)
        out = base + share * (second - base)
    elif pattern == LOGO:
        width = 0.04 + 0.09 * v0
        height = 0.03 + 0.08 * v1
        dx = (field[0] - 0.08 * (v2 - 0.5)) / width
        dy = (field[1] - anatomy[A_CHEST_Y] - 0.04 + 0.12 * v3) / height
        size = wp.min(width, height)
        edge = wp.where(v5 < 0.5, 1.0 - wp.max(wp.abs(dx), wp.abs(dy)), 1.0 - wp.sqrt(dx * dx + dy * dy))
        shown = step(edge * size, footprint) * wp.where(v4 < 0.8, front, 1.0 - front)
        if arm:
            shown = 0.0
        if shown > 0.0:
            ink = noise(wp.vec3(dx * (1.5 + 3.0 * v3), dy * (1.5 + 4.0 * v4), 0.5), seed + wp.uint32(13))
            mark = second + step((ink[0] + 0.1) * size, footprint) * (wp.where(v2 < 0.5, base, third) - second)
            out = base + shown * (mark - base)
    elif pattern == SIDES:
        reach = wp.where(arm, wp.abs(field[2] - anatomy[A_SHOULDER_Z]), wp.abs(field[2] + 0.015))
        if kind == TOP and not arm:
            reach = wp.where(wp.abs(field[0]) > 0.1, wp.abs(field[2] + 0.01), 1.0)
        share = step(0.012 + 0.025 * v0 - reach, footprint)
        if v1 < 0.4:
            share *= 1.0 - step(0.004 + 0.006 * v0 - reach, footprint)
        out = base + share * (second - base)
    elif pattern == RAGLAN:
        share = step(wp.where(v0 < 0.7, 0.26 * (field[3] + 0.35 * v1), field[0]), footprint)
        out = base + share * (second - base)
    elif pattern == BLOCK:
        edge = wp.where(kind == TOP, anatomy[A_CHEST_Y] - 0.02 - 0.22 * v0, anatomy[A_HIP_Y] - 0.1 - 0.5 * v0)
        share = step(field[1] - edge, footprint)
        if arm:
            share = 1.0
        out = base + share * (second - base)
    elif pattern == PHOTO and photo >= 0:
        scale = 1.0 / (0.25 + 0.6 * v0)
        u = 0.5 * (across * scale + v1)
        v = 0.5 * (-along * scale + v2)
        u = 1.0 - wp.abs(2.0 * (u - floor(u)) - 1.0)
        v = 1.0 - wp.abs(2.0 * (v - floor(v)) - 1.0)
        texel = sample(prints, linear, photo, u, v, footprint * scale)
        out = wp.cw_mul(wp.vec3(texel[0], texel[1], texel[2]), 0.5 * base + wp.vec3(0.5, 0.5, 0.5))
    elif pattern == DENIM:
        # Worn pale on thighs, knees and seat, dark at the seams; slubs run along the cloth.
        wear = bump((field[4] + 0.45) / 0.45) * wp.max(wp.abs(field[2]) * 9.0, 0.2)
        slub = noise(wp.vec3(across * 160.0, along * 14.0, 1.0), seed + wp.uint32(14))
        patch = noise(wp.vec3(across * 22.0, along * 9.0, 7.0), seed + wp.uint32(15))
        share = wp.clamp(0.55 * v0 * wear + 0.12 * slub[0] + 0.16 * patch[0] + 0.12, 0.0, 1.0)
        out = base + share * (second - base)
    elif pattern == MELANGE:
        grain = noise(wp.vec3(across * 240.0, along * 90.0, 3.0), seed + wp.uint32(16))
        out = base + (0.25 + 0.25 * v0 * grain[0]) * (second - base)
    return out


@wp.func
def trimmings(
    fabric: wp.array3d[wp.float32],
    b: int,
    g: int,
    kind: int,
    cloth: wp.vec3,
    depth: float,
    waist: float,
    field: vec6,
    anatomy: vec16,
    footprint: float,
) -> wp.vec3:
    """Hems, seams, belts, buttons, soles: lines and bands that real garments have."""
    x = field[0]
    y = field[1]
    z = field[2]
    out = cloth
    seam = fabric[b, g, SEAM]
    trim = int(fabric[b, g, TRIM])
    front = step(z - 0.02, footprint)
    second = shade_of(fabric, b, g, SECOND)
    dark = float(0.0)
    if kind == SHOE:
        sole = step(anatomy[A_SOLE_Y] + 0.018 + 0.012 * fabric[b, g, VALUES] - y, footprint)
        third = shade_of(fabric, b, g, THIRD)
        toe = step(z - anatomy[A_ANKLE_Z] - 0.15, footprint) * fabric[b, g, VALUES + 1]
        out += 0.6 * toe * (second - out)
        laces = step(0.022 - wp.abs(wp.abs(x) - anatomy[A_HIP_X] - 0.005), footprint)
        laces *= step(z - anatomy[A_ANKLE_Z] - 0.035, footprint) * step(anatomy[A_ANKLE_Z] + 0.12 - z, footprint)
        out += 0.7 * laces * stripe(z, 0.02, 0.0, 0.5, footprint) * (second - out)
        return out + sole * (third - out)
    if kind == SOCK or kind == HAT:
        dark = 0.5 * seam * bump((depth - 0.01) / wp.max(0.006, footprint))
        return out * (1.0 - dark)
    if trim == RIB:
        out += step(0.016 - depth, footprint) * (second - out)
    # A stitched hem: a line 18 mm in, and the edge itself.
    line = wp.max(0.0025, 0.6 * footprint)
    dark = 0.6 * bump((depth - 0.018) / line) * wp.min(0.0025 / line + 0.25, 1.0)
    dark = wp.max(dark, 0.5 * bump(depth / wp.max(0.006, footprint)))
    if kind == TOP:
        dark = wp.max(dark, 0.6 * bump(0.26 * (field[3] + 0.05) / line) * wp.min(0.0025 / line + 0.25, 1.0))
    elif kind == LEGS:
        side = wp.where(wp.abs(x) > anatomy[A_HIP_X], wp.abs(z + 0.01), 1.0)
        fly = wp.where(y > anatomy[A_HIP_Y] - 0.06, wp.abs(x), 1.0)
        dark = wp.max(dark, 0.6 * bump(wp.min(side, fly) / line) * wp.min(0.0025 / line + 0.25, 1.0))
        if trim == BELT:
            down = waist - y
            on = step(0.036 - down, footprint)
            buckle = step(0.022 - wp.abs(x), footprint) * front * step(0.028 - wp.abs(down - 0.02), footprint)
            leather = shade_of(fabric, b, g, THIRD)
            out += on * (leather - out)
            out += on * buckle * (wp.vec3(0.42, 0.39, 0.33) - out)
            dark *= 1.0 - on
    if trim == BUTTONS and field[3] < 0.0:
        placket = bump((x - 0.014) / line) * front * wp.min(0.0025 / line + 0.2, 1.0)
        dark = wp.max(dark, 0.5 * placket)
        row = y / 0.085
        dy = (row - floor(row) - 0.5) * 0.085
        button = step(0.006 - wp.sqrt(x * x + dy * dy), footprint) * front
        out += 0.8 * button * (shade_of(fabric, b, g, THIRD) - out)
    elif trim == ZIP and field[3] < 0.0:
        dark = wp.max(dark, 0.8 * bump(x / wp.max(0.004, footprint)) * front)
    return out * (1.0 - seam * dark)


@wp.func
def planar_colour(
    textures: wp.array3d[vec4ub],
    linear: wp.array[wp.float32],
    n: int,
    x: float,
    y: float,
    normal_z: float,
    footprint: float,
) -> wp.vec3:
    """A garment texture at a rest-pose point (synth.planar): front and back views, blended where the surface turns."""
    u = (x - wp.static(LEFT)) / wp.static(SIDE)
    v = (wp.static(PLANAR_TOP) - y) / wp.static(SIDE)
    size = footprint / wp.static(SIDE)
    t = wp.clamp((normal_z + wp.static(BLEND)) / wp.static(2.0 * BLEND), 0.0, 1.0)
    t = t * t * (3.0 - 2.0 * t)
    out = wp.vec4(0.0, 0.0, 0.0, 0.0)
    if t > 0.0:
        out += t * sample(textures, linear, 2 * n, u, v, size)
    if t < 1.0:
        out += (1.0 - t) * sample(textures, linear, 2 * n + 1, 1.0 - u, v, size)
    return wp.vec3(out[0], out[1], out[2])
