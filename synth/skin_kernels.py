"""Warp functions of skin, face and hair at a rest-pose point.

Importing this module starts Warp (see :mod:`human.warp_start`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)
# (A Warp variable that a branch or loop changes must be declared by a call; Warp knows no `in`.)

from __future__ import annotations

import warp as wp

from synth.drape_kernels import vec6
from synth.surface_kernels import (
    A_EAR_Z,
    A_EYE_X,
    A_EYE_Y,
    A_NOSE_Y,
    A_UNIT,
    BEARD,
    BROW,
    FEATURES,
    FLUSH,
    HAIRS,
    IRIS,
    LIPS,
    MOTTLE,
    SKIN,
    bump,
    colour,
    noise,
    step,
    vec16,
)

wp.set_module_options({"enable_backward": False, "optimization_level": 3})

DARK = wp.constant(wp.vec3(0.012, 0.011, 0.011))


@wp.func
def strand_gradient(field: vec6, seed: wp.uint32) -> wp.vec4:
    """Hair: (light and dark of locks in [-1, 1], slope of their height over the rest position)."""
    p = wp.vec3(field[0], field[1], field[2])
    lock = noise(wp.cw_mul(wp.vec3(60.0, 9.0, 60.0), p), seed)
    k = wp.vec3(210.0, 16.0, 210.0)
    thread = noise(wp.cw_mul(k, p) + wp.vec3(2.0 * lock[0], 0.0, 2.0 * lock[0]), seed + wp.uint32(77))
    slope = wp.cw_mul(wp.vec3(60.0, 9.0, 60.0), wp.vec3(lock[1], lock[2], lock[3])) * 0.004
    slope += wp.cw_mul(k, wp.vec3(thread[1], thread[2], thread[3])) * 0.0012
    return wp.vec4(0.6 * lock[0] + 0.4 * thread[0], slope[0], slope[1], slope[2])


@wp.func
def ellipse(x: float, y: float, width: float, height: float, footprint: float) -> float:
    dx = x / width
    dy = y / height
    return step((1.0 - wp.sqrt(dx * dx + dy * dy)) * wp.min(width, height), footprint)


@wp.func
def skin_colour(
    body: wp.array2d[wp.float32], b: int, field: vec6, anatomy: vec16, footprint: float, seed: wp.uint32
) -> wp.vec3:
    """Linear reflectance of skin and face."""
    x = wp.abs(field[0])
    y = field[1]
    z = field[2]
    reach = field[3]
    level = field[4]
    skin = colour(body, b, SKIN)
    out = skin
    flush = body[b, FLUSH]
    mottle = body[b, MOTTLE]
    red = 0.7 * bump((reach - 2.75) / 0.3) + 0.35 * bump((reach - 1.0) / 0.12) * step(-z - 0.02, 0.03)
    red = wp.max(red, 0.5 * bump((level + 1.0) / 0.12) * step(z, 0.05))
    red = wp.max(red, 0.5 * wp.clamp((-2.2 - level) * 2.0, 0.0, 1.0))
    if mottle > 0.0:
        large = noise(wp.vec3(field[0] * 11.0, y * 11.0, z * 11.0), seed + wp.uint32(21))
        small = noise(wp.vec3(field[0] * 55.0, y * 55.0, z * 55.0), seed + wp.uint32(22))
        out = out * (1.0 + mottle * (0.6 * large[0] + 0.4 * small[0]))
        red += 0.35 * large[0]
    if level > 1.0:
        unit = anatomy[A_UNIT]
        features = body[b, FEATURES]
        nose_y = anatomy[A_NOSE_Y]
        eye_y = anatomy[A_EYE_Y]
        face = step(z - anatomy[A_EAR_Z] - 0.5 * unit, 0.2 * unit) * features
        red += (
            0.8
            * features
            * bump(wp.sqrt((x - 0.62 * unit) * (x - 0.62 * unit) + (y - nose_y) * (y - nose_y)) / (0.55 * unit))
        )
        red += 0.5 * features * bump(x / (0.3 * unit)) * bump((y - nose_y) / (0.35 * unit)) * face
        red += 0.8 * features * bump((z - anatomy[A_EAR_Z]) / (0.5 * unit)) * step(x - 1.1 * unit, 0.2 * unit)
        out = wp.cw_mul(out, wp.vec3(1.0 + 0.05 * flush * red, 1.0 - 0.16 * flush * red, 1.0 - 0.13 * flush * red))
        mouth_y = nose_y - 0.62 * unit
        beard = body[b, BEARD]
        if beard > 0.0:
            # Fades in from the cheeks and out at the throat.
            jaw = wp.clamp((nose_y - 0.25 * unit - y) / (0.35 * unit) + 0.6 * x / unit - 0.4, 0.0, 1.0)
            jaw *= wp.clamp((y - nose_y + 1.85 * unit) / (0.4 * unit), 0.0, 1.0)
            jaw *= step(z - anatomy[A_EAR_Z] + 0.15 * unit, 0.3 * unit)
            lip = step(0.12 * unit - wp.abs(y - nose_y + 0.38 * unit), 0.1 * unit) * step(0.5 * unit - x, 0.15 * unit)
            jaw = wp.max(jaw, lip * face)
            grain = noise(wp.vec3(field[0] * 420.0, y * 160.0, z * 420.0), seed + wp.uint32(23))
            out += (
                wp.clamp(beard * jaw * (0.85 + 0.15 * grain[0]), 0.0, 1.0) * features * (colour(body, b, HAIRS) - out)
            )
        if face > 0.0:
            shape = 0.44 - 0.12 * wp.abs(y - mouth_y) / (0.15 * unit)
            lips = ellipse(x, y - mouth_y, shape * unit, 0.15 * unit, footprint) * face
            out += 0.85 * lips * (colour(body, b, LIPS) - out)
            split = bump((y - mouth_y) / wp.max(0.03 * unit, 0.6 * footprint)) * step(0.4 * unit - x, footprint)
            out = out * (1.0 - 0.45 * split * face * wp.min(0.03 * unit / footprint + 0.3, 1.0))
            nostril = ellipse(x - 0.16 * unit, y - nose_y + 0.2 * unit, 0.07 * unit, 0.05 * unit, footprint)
            out = out * (1.0 - 0.6 * nostril * face)
            brow_y = eye_y + (0.36 - 0.12 * wp.abs(x - anatomy[A_EYE_X]) / (0.4 * unit)) * unit
            brow = ellipse(x - anatomy[A_EYE_X], y - brow_y, 0.38 * unit, 0.075 * unit, footprint) * face
            out += 0.75 * brow * (colour(body, b, BROW) - out)
            socket = bump((x - anatomy[A_EYE_X]) / (0.5 * unit)) * bump((y - eye_y - 0.05 * unit) / (0.3 * unit)) * face
            out = wp.cw_mul(out, wp.vec3(1.0, 1.0, 1.0) - 0.22 * socket * wp.vec3(0.8, 1.0, 1.0))
            ex = x - anatomy[A_EYE_X]
            ey = y - eye_y
            opening = ellipse(ex, ey, 0.245 * unit, 0.1 * unit, footprint) * face
            lid = ellipse(ex, ey - 0.035 * unit, 0.29 * unit, 0.13 * unit, footprint) * face
            out += lid * (0.25 * skin - out) * (1.0 - opening)
            white = wp.vec3(0.55, 0.5, 0.47)
            iris = ellipse(ex, ey, 0.105 * unit, 0.105 * unit, footprint)
            pupil = ellipse(ex, ey, 0.045 * unit, 0.045 * unit, footprint)
            eye = white + iris * (colour(body, b, IRIS) - white)
            eye += pupil * (DARK - eye)
            eye = eye * (1.0 - 0.5 * step(ey - 0.03 * unit, 0.06 * unit))
            out += opening * (eye - out)
    else:
        out = wp.cw_mul(out, wp.vec3(1.0 + 0.05 * flush * red, 1.0 - 0.16 * flush * red, 1.0 - 0.13 * flush * red))
    return out
