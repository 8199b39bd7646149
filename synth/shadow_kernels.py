"""Warp kernels of shadows: the view from the sun, looking up into it, near surfaces, and the ground.

Importing this module starts Warp (see :mod:`human.warp_start`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)
# ruff: noqa: UP018
# (A Warp variable that a branch or loop changes must be declared by a call.)

from __future__ import annotations

import math

import warp as wp

from human.raster_kernels import INVERSE_BITS, SUBPIXEL
from synth.surface_kernels import HASH_X, HASH_Y, scramble

wp.set_module_options({"enable_backward": False, "optimization_level": 3})

#: The sun's camera stands this many radii of the person away: nearly parallel rays.
SUN_DISTANCE = wp.constant(12.0)
#: The cut of a layer that is not worn (synth.drape_kernels).
NOT_WORN = wp.constant(-1.0)
#: Bounds are taken over some of the vertices, and widened by as much as that may miss (metres).
BOUND_MARGIN = wp.constant(0.04)
#: A surface is in shadow from BIAS behind what the sun sees, fully from BIAS + SOFT on; it is looked up OFFSET outside
#: itself, along its normal (metres).
BIAS = wp.constant(0.008)
SOFT = wp.constant(0.02)
OFFSET = wp.constant(0.012)

vec8 = wp.types.vector(length=8, dtype=wp.float32)
mat44 = wp.types.matrix(shape=(4, 4), dtype=wp.float32)
mat62 = wp.types.matrix(shape=(6, 2), dtype=wp.float32)

_TURN = math.pi * (3 - math.sqrt(5))
#: Eight points spread evenly over the unit disc (Vogel's spiral).
DISC = wp.constant(mat62([f(i * _TURN) * math.sqrt((i + 0.5) / 6) for i in range(6) for f in (math.cos, math.sin)]))


@wp.func
def sun_axes(sun: wp.vec3) -> wp.mat33:
    """Rows x, y, z of the frame of a camera that looks down from the sun; z points away from it."""
    forward = -sun
    helper = wp.where(wp.abs(forward[1]) < 0.9, wp.vec3(0.0, 1.0, 0.0), wp.vec3(1.0, 0.0, 0.0))
    x = wp.normalize(wp.cross(helper, forward))
    y = wp.cross(forward, x)
    return wp.mat33(x[0], x[1], x[2], y[0], y[1], y[2], forward[0], forward[1], forward[2])


@wp.kernel
def frame_kernel(
    bounds: wp.array2d[wp.float32],
    sun: wp.array2d[wp.vec3],
    side: int,
    first: int,
    span: int,
    out: wp.array2d[mat44],
):
    """The sun's camera: rows 0-2 turn a point into its frame; row 3 is (focal px, distance, radius, ground height)."""
    b, _group = wp.tid()
    axes = sun_axes(sun[first + b, 0])
    x = 0.5 * (bounds[b, 0] - bounds[b, 1])
    y = 0.5 * (bounds[b, 2] - bounds[b, 3])
    z = 0.5 * (bounds[b, 4] - bounds[b, 5])
    wide = 0.5 * wp.max(-bounds[b, 0] - bounds[b, 1], -bounds[b, 2] - bounds[b, 3]) + BOUND_MARGIN
    deep = 0.5 * (-bounds[b, 4] - bounds[b, 5])
    distance = SUN_DISTANCE * wp.max(wide, deep)
    focal = 0.5 * float(side - 1) * (distance - deep) / wide
    out[b, 0] = mat44(
        axes[0, 0], axes[0, 1], axes[0, 2], -x,
        axes[1, 0], axes[1, 1], axes[1, 2], -y,
        axes[2, 0], axes[2, 1], axes[2, 2], distance - z,
        focal, distance, wide, bounds[b, 6] - 0.005,
    )  # fmt: skip


@wp.func
def sun_view(frame: mat44, p: wp.vec3) -> wp.vec3:
    """A point in the sun's camera frame."""
    return wp.vec3(
        frame[0, 0] * p[0] + frame[0, 1] * p[1] + frame[0, 2] * p[2] + frame[0, 3],
        frame[1, 0] * p[0] + frame[1, 1] * p[1] + frame[1, 2] * p[2] + frame[1, 3],
        frame[2, 0] * p[0] + frame[2, 1] * p[1] + frame[2, 2] * p[2] + frame[2, 3],
    )


@wp.kernel
def sun_project_kernel(
    verts: wp.array2d[wp.vec3],
    cut: wp.array2d[wp.float32],
    sun: wp.array2d[wp.vec3],
    frames: wp.array2d[mat44],
    skin: int,
    side: int,
    first: int,
    span: int,
    screen: wp.array2d[wp.vec3i],
):
    """As human.raster_kernels.project_kernel, for the sun's camera; nothing where there is no sun.

    Beyond the first ``skin`` vertices, layers that nobody wears are passed over.
    """
    local, group = wp.tid()
    b = first + local
    frame = frames[local, 0]
    centre = 0.5 * float(side - 1)
    shines = wp.length_sq(sun[b, 1]) > 0.0 and frame[3, 2] < 1.0e6
    for v in range(group * span, wp.min((group + 1) * span, verts.shape[1])):
        out = wp.vec3i(0, 0, 0)
        inside = cut[b, v]
        if shines and (v < skin or inside != NOT_WORN):
            q = sun_view(frame, verts[b, v])
            inverse = 1.0 / q[2]
            u = frame[3, 0] * q[0] * inverse + centre
            w = frame[3, 0] * q[1] * inverse + centre
            if inverse > 0.0 and wp.abs(u) < 16000.0 and wp.abs(w) < 16000.0:
                scale = float(SUBPIXEL)
                bits = wp.cast(inverse, wp.int32)
                bits = wp.where(inside >= 0.0, bits, bits | ~INVERSE_BITS)
                out = wp.vec3i(int(wp.rint(u * scale)), int(wp.rint(w * scale)), bits)
        screen[local, v] = out


@wp.func
def inverse_depth(keys: wp.array2d[wp.int64], b: int, i: int) -> float:
    """1/z of a z-buffer's pixel, 0 where it is empty."""
    return wp.cast(int(keys[b, i] >> wp.int64(32)), wp.float32)


@wp.func
def turn_at(x: int, y: int) -> wp.vec2:
    """Cosine and sine of an angle that changes from pixel to pixel, so that few taps leave grain, not bands."""
    # A point of the circle by the tangent of half its angle: sines cost more than the taps themselves.
    h = scramble(wp.uint32(x) * HASH_X ^ wp.uint32(y) * HASH_Y)
    t = float(int(h >> wp.uint32(8))) * wp.static(2.0**-23) - 1.0
    scale = 1.0 / (1.0 + t * t)
    side = float(int(h & wp.uint32(1))) * 2.0 - 1.0
    return wp.vec2(side * (1.0 - t * t) * scale, 2.0 * t * scale)


@wp.func
def nearest(x: float) -> int:
    """Nearest integer of a number above -4096 (rint is a call into the C library on the CPU)."""
    return int(x + 4096.5) - 4096


@wp.func
def lit(
    sun_keys: wp.array2d[wp.int64], local: int, frame: mat44, side: int, p: wp.vec3, radius: float, turn: wp.vec2
) -> float:
    """Share of the sun that reaches a point (camera frame): 1 lit, 0 in shadow.

    Percentage-closer filtering over a disc of ``radius`` texels (Reeves et al., SIGGRAPH 1987) with a soft comparison.
    """
    q = sun_view(frame, p)
    scale = frame[3, 0] / q[2]
    centre = 0.5 * float(side - 1)
    u = q[0] * scale + centre
    v = q[1] * scale + centre
    out = float(0.0)
    for k in range(6):
        dx = DISC[k, 0]
        dy = DISC[k, 1]
        x = nearest(u + radius * (turn[0] * dx - turn[1] * dy))
        y = nearest(v + radius * (turn[1] * dx + turn[0] * dy))
        inside = x >= 0 and y >= 0 and x < side and y < side
        inverse = inverse_depth(sun_keys, local, wp.clamp(y, 0, side - 1) * side + wp.clamp(x, 0, side - 1))
        behind = wp.where(inside, (q[2] * inverse - 1.0) * q[2], -1.0)
        out += wp.clamp(1.0 - (behind - BIAS) * (1.0 / SOFT), 0.0, 1.0)
    return out * wp.static(1.0 / 6.0)


@wp.func
def nearness(
    distances: wp.array2d[wp.float32],
    local: int,
    height: int,
    width: int,
    camera: wp.vec4,
    p: wp.vec3,
    normal: wp.vec3,
    reach: float,
    turn: wp.vec2,
) -> float:
    """How much of the sky over a point is taken by surfaces seen within ``reach`` metres: 0 none, 1 all.

    Screen-space obscurance after McGuire et al., "The Alchemy Screen-Space Ambient Obscurance Algorithm", HPG 2011,
    eq. 10, six taps, with the fall-off (1 - d^2/r^2) of their "Scalable Ambient Obscurance" (HPG 2012).
    ``distances`` are depths (metres), far where there is nothing; ``camera`` is that of their pixels.
    """
    inverse = 1.0 / p[2]
    u = camera[0] * p[0] * inverse + camera[2]
    v = camera[1] * p[1] * inverse + camera[3]
    across = 1.0 / camera[0]
    down = 1.0 / camera[1]
    fall = 1.0 / (reach * reach)
    radius = wp.min(camera[0] * reach * inverse, 0.25 * float(width))
    total = float(0.0)
    for k in range(6):
        dx = DISC[k, 0]
        dy = DISC[k, 1]
        x = nearest(u + radius * (turn[0] * dx - turn[1] * dy))
        y = nearest(v + radius * (turn[1] * dx + turn[0] * dy))
        # Without branches: they would be mispredicted half of the time. Beyond the picture its border goes on.
        z = distances[local, wp.clamp(y, 0, height - 1) * width + wp.clamp(x, 0, width - 1)]
        d = wp.vec3((float(x) - camera[2]) * z * across - p[0], (float(y) - camera[3]) * z * down - p[1], z - p[2])
        square = wp.dot(d, d)
        over = wp.dot(d, normal) / wp.sqrt(square + 1.0e-6) - 0.12
        total += wp.max(over, 0.0) * wp.max(1.0 - square * fall, 0.0)
    return wp.min(total * 0.44, 1.0)


@wp.kernel
def ground_kernel(
    verts: wp.array2d[wp.vec3],
    balls: wp.array2d[wp.int32],
    radii: wp.array[wp.float32],
    cameras: wp.array[wp.vec4],
    terms: wp.array2d[wp.vec3],
    sun: wp.array2d[wp.vec3],
    up: wp.array[wp.vec3],
    shadow: wp.array[wp.float32],
    softness: wp.array[wp.float32],
    frames: wp.array2d[mat44],
    sun_keys: wp.array2d[wp.int64],
    side: int,
    width: int,
    factor: int,
    first: int,
    span: int,
    out: wp.array2d[wp.float32],
):
    """Light that is left on the ground, at every second pixel each way: 1 is all.

    The ground is a plane through the person's lowest point. The sun's shadow is softer the farther off what casts it
    (Fernando, "Percentage-Closer Soft Shadows", SIGGRAPH 2005 sketches); the sky is taken by balls in the limbs:
    a ball of radius r at distance d hides cos * r^2 / d^2 of it.
    """
    local, group = wp.tid()
    b = first + local
    frame = frames[local, 0]
    strength = shadow[b]
    height = frame[3, 3]
    n = up[b]
    camera = cameras[b]
    direct = wp.max(wp.dot(sun[b, 0], n), 0.0) * (sun[b, 1][0] + sun[b, 1][1] + sun[b, 1][2])
    sky = terms[b, 0] + n[1] * terms[b, 1] + n[2] * terms[b, 2] + n[0] * terms[b, 3]
    ambient = wp.max(sky[0] + sky[1] + sky[2], 1.0e-3)
    share = direct / (direct + ambient)
    centre = 0.5 * float(side - 1)
    radius = frame[3, 2]
    for i in range(group * span, wp.min((group + 1) * span, out.shape[1])):
        left = float(1.0)
        row = i / width
        column = i % width
        px = (2.0 * float(column) + 1.0) * float(factor) - 0.5
        py = (2.0 * float(row) + 1.0) * float(factor) - 0.5
        ray = wp.vec3((px - camera[2]) / camera[0], (py - camera[3]) / camera[1], 1.0)
        down = wp.dot(n, ray)
        if strength > 0.0 and height < -0.1 and down < -0.001:
            x = ray * (height / down)
            q = sun_view(frame, x)
            off = wp.vec3(q[0], q[1], q[2] - frame[3, 1])
            # Nothing beyond reaches far.
            if share > 0.01 and q[2] > 0.0 and wp.max(wp.abs(q[0]), wp.abs(q[1])) < 1.2 * radius:
                turn = turn_at(column, row)
                scale = frame[3, 0] / q[2]
                u = q[0] * scale + centre
                v = q[1] * scale + centre
                gap = float(0.0)
                found = float(0.0)
                for k in range(6):
                    dx = DISC[k, 0]
                    dy = DISC[k, 1]
                    tx = nearest(u + 5.0 * (turn[0] * dx - turn[1] * dy))
                    ty = nearest(v + 5.0 * (turn[1] * dx + turn[0] * dy))
                    if tx >= 0 and ty >= 0 and tx < side and ty < side:
                        inverse = inverse_depth(sun_keys, local, ty * side + tx)
                        behind = (q[2] * inverse - 1.0) * q[2]
                        if inverse > 0.0 and behind > 0.0:
                            gap += behind
                            found += 1.0
                if found > 0.0:
                    soft = wp.clamp(softness[b] * gap / found * scale, 0.8, 6.0)
                    left -= share * (1.0 - lit(sun_keys, local, frame, side, x, soft, turn))
            if wp.length(off) < 1.3 * radius + 0.5:
                open = float(1.0)
                for k in range(balls.shape[0]):
                    d = 0.5 * (verts[b, balls[k, 0]] + verts[b, balls[k, 1]]) - x
                    square = wp.dot(d, d)
                    distance = wp.sqrt(square)
                    over = wp.max(wp.dot(d, n), 0.0) / (distance + 1.0e-6)
                    open *= 1.0 - wp.min(over * radii[k] * radii[k] / (square + 1.0e-6), 0.9)
                left -= (1.0 - share) * (1.0 - open)
        out[local, i] = 1.0 - strength * (1.0 - left)
