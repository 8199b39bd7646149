"""Warp kernel of :mod:`synth.occluders`. Importing this module starts Warp (see :mod:`human.raster_kernels`).

Shapes are signed distances (negative inside) in the object's own frame, pixels: exact for boxes, first-order for the
rest, which is enough for an edge a pixel or two wide.
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)

from __future__ import annotations

import warp as wp

wp.set_module_options({"enable_backward": False, "optimization_level": 3})

# Kinds (``synth.occluders.KINDS``).
NONE = wp.constant(0)
BOX = wp.constant(1)
BALL = wp.constant(2)
TABLE = wp.constant(3)
RAILS = wp.constant(4)
PLANT = wp.constant(5)
LEAVES = wp.constant(14)

vec3ub = wp.types.vector(length=3, dtype=wp.uint8)


@wp.func
def box(x: float, y: float, half_x: float, half_y: float) -> float:
    dx = wp.abs(x) - half_x
    dy = wp.abs(y) - half_y
    outside = wp.sqrt(wp.max(dx, 0.0) * wp.max(dx, 0.0) + wp.max(dy, 0.0) * wp.max(dy, 0.0))
    return outside + wp.min(wp.max(dx, dy), 0.0)


@wp.func
def ball(x: float, y: float, half_x: float, half_y: float) -> float:
    """Value over gradient."""
    u = x / half_x
    v = y / half_y
    length = wp.sqrt(u * u + v * v)
    slope = wp.sqrt(u * u / (half_x * half_x) + v * v / (half_y * half_y))
    return (length - 1.0) * length / wp.max(slope, 1.0e-6)


@wp.func
def leaf_share(word: float) -> float:
    """A fixed pseudo-random number in 0..1; coarse, so that rounding cannot change it."""
    turn = word * 0.61803399
    return turn - wp.floor(turn)


@wp.func
def distance_to(kind: int, x: float, y: float, half: wp.vec2, variant: float) -> float:
    if kind == BALL:
        return ball(x, y, half[0], half[1])
    if kind == TABLE:  # a top and two legs, a chair's back above it in some
        thick = 0.16 * half[1]
        out = box(x, y + half[1] - thick, half[0], thick)
        legs = box(wp.abs(x) - 0.84 * half[0], y, 0.07 * half[0] + 0.5, half[1])
        out = wp.min(out, legs)
        if variant > 0.5:
            out = wp.min(out, box(wp.abs(x) - 0.84 * half[0], y + 1.6 * half[1], 0.06 * half[0] + 0.5, 0.8 * half[1]))
            out = wp.min(out, box(x, y + 2.2 * half[1], 0.9 * half[0], 0.25 * half[1]))
        return out
    if kind == RAILS:  # bars side by side: fences, blinds, racks
        step = 2.0 * half[0] * (0.35 + 0.4 * variant)
        within = x - step * wp.floor(x / step + 0.5)
        bar = box(within, y, 0.06 * half[0] + 0.6, half[1])
        rail = box(x, wp.abs(y) - 0.9 * half[1], half[0], 0.05 * half[1] + 0.4)
        return wp.max(wp.min(bar, rail), wp.abs(x) - half[0])
    if kind == PLANT:  # leaves fanning out from the foot
        out = float(1.0e6)  # noqa: UP018 (a Warp variable that a loop changes must be declared by a call)
        reach = wp.max(half[0], half[1])
        if x * x + (y - half[1]) * (y - half[1]) > 4.6 * reach * reach:
            return out
        for k in range(LEAVES):
            turn = 2.6 * (leaf_share(float(k) + 7.0 * variant) - 0.5)
            length = reach * (0.55 + 0.45 * leaf_share(2.3 * float(k) + 3.0 * variant))
            c = wp.cos(turn)
            s = wp.sin(turn)
            along = -(y - half[1]) * c + x * s - length
            across = x * c + (y - half[1]) * s
            bend = across - 0.25 * s * along * along / length
            out = wp.min(out, ball(bend, along, (0.10 + 0.08 * leaf_share(5.1 * float(k))) * length, length))
        return out
    corner = 0.25 * wp.min(half[0], half[1]) * variant
    return box(x, y, half[0] - corner, half[1] - corner) - corner


@wp.func
def light_on(kind: int, x: float, y: float, half: wp.vec2, variant: float) -> float:
    """How bright a place of the object is: balls are round, the others a little lighter above."""
    if kind == BALL:
        u = x / half[0]
        v = y / half[1]
        out = wp.sqrt(wp.max(1.0 - u * u - v * v, 0.0))
        return 0.35 + 0.65 * wp.clamp(0.7 * out - 0.5 * v + 0.4 * (variant - 0.5) * u, 0.0, 1.2)
    if kind == PLANT:  # lighter towards the tips, with an uneven grain across
        grain = 0.5 + 0.5 * wp.sin(9.0 * x / half[0] + 4.0 * wp.sin(3.0 * y / half[1] + 6.0 * variant))
        return 0.55 + 0.3 * wp.clamp(0.5 - 0.5 * y / half[1], 0.0, 1.0) + 0.35 * grain
    return 1.0 - 0.18 * wp.clamp(y / half[1], -1.0, 1.0)


@wp.kernel
def occlude_kernel(
    image: wp.array2d[wp.vec3],
    kind: wp.array2d[wp.int32],
    centre: wp.array2d[wp.vec2],
    half: wp.array2d[wp.vec2],
    turn: wp.array2d[wp.vec2],
    soft: wp.array2d[wp.float32],
    variant: wp.array2d[wp.float32],
    texture: wp.array4d[vec3ub],
    width: int,
    span: int,
    out: wp.array2d[wp.vec3],
    visible: wp.array2d[wp.float32],
):
    """Lay the objects over a picture, the last one in front."""
    b, group = wp.tid()
    objects = kind.shape[1]
    last = texture.shape[2] - 1
    for i in range(group * span, wp.min((group + 1) * span, image.shape[1])):
        colour = image[b, i]
        clear = float(1.0)  # noqa: UP018
        for k in range(objects):
            if kind[b, k] != NONE:
                dx = float(i % width) - centre[b, k][0]
                dy = float(i / width) - centre[b, k][1]
                size = half[b, k]
                reach = 3.0 * (size[0] + size[1]) + soft[b, k]
                if dx * dx + dy * dy < reach * reach:
                    c = turn[b, k][0]
                    s = turn[b, k][1]
                    x = c * dx + s * dy
                    y = -s * dx + c * dy
                    alpha = 0.5 - distance_to(kind[b, k], x, y, size, variant[b, k]) / soft[b, k]
                    if alpha > 0.0:
                        alpha = wp.min(alpha, 1.0)
                        # The texture is laid on twice the object's longer side, mirrored beyond.
                        scale = float(last) / (2.0 * wp.max(size[0], size[1]))
                        u = wp.abs(x * scale + 0.5 * float(last))
                        v = wp.abs(y * scale + 0.5 * float(last))
                        u = wp.clamp(float(last) - wp.abs(float(last) - u), 0.0, float(last))
                        v = wp.clamp(float(last) - wp.abs(float(last) - v), 0.0, float(last))
                        u0 = wp.min(int(u), last - 1)
                        v0 = wp.min(int(v), last - 1)
                        fu = u - float(u0)
                        fv = v - float(v0)
                        t00 = texture[b, k, v0, u0]
                        t01 = texture[b, k, v0, u0 + 1]
                        t10 = texture[b, k, v0 + 1, u0]
                        t11 = texture[b, k, v0 + 1, u0 + 1]
                        shade = light_on(kind[b, k], x, y, size, variant[b, k])
                        w00 = (1.0 - fu) * (1.0 - fv)
                        w01 = fu * (1.0 - fv)
                        w10 = (1.0 - fu) * fv
                        w11 = fu * fv
                        cover = wp.vec3(
                            w00 * float(t00[0]) + w01 * float(t01[0]) + w10 * float(t10[0]) + w11 * float(t11[0]),
                            w00 * float(t00[1]) + w01 * float(t01[1]) + w10 * float(t10[1]) + w11 * float(t11[1]),
                            w00 * float(t00[2]) + w01 * float(t01[2]) + w10 * float(t10[2]) + w11 * float(t11[2]),
                        )
                        colour += alpha * (shade * cover - colour)
                        clear = clear * (1.0 - alpha)
        out[b, i] = colour
        visible[b, i] = clear
