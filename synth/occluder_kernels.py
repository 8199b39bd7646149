"""Warp kernel of :mod:`synth.occluders`. Importing this module starts Warp (see :mod:`human.warp_start`).

Shapes are signed distances (negative inside) in the object's own frame, pixels: exact for boxes, first-order for the
rest, which is enough for an edge a pixel or two wide.
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)

from __future__ import annotations

import warp as wp

from human.warp_start import start_warp

start_warp()
wp.set_module_options({"enable_backward": False, "optimization_level": 3})

# Kinds (``synth.occluders.KINDS``).
NONE = wp.constant(0)
BOX = wp.constant(1)
BALL = wp.constant(2)
TABLE = wp.constant(3)
RAILS = wp.constant(4)
PLANT = wp.constant(5)
LEAVES = wp.constant(14)
#: No leaf reaches farther from the foot, in the plant's longer half side.
PLANT_REACH = wp.constant(2.1447611)

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
    corner = 0.25 * wp.min(half[0], half[1]) * variant
    return box(x, y, half[0] - corner, half[1] - corner) - corner


@wp.kernel
def leaves_kernel(
    kind: wp.array2d[wp.int32],
    half: wp.array2d[wp.vec2],
    variant: wp.array2d[wp.float32],
    span: int,
    leaves: wp.array3d[wp.vec4],
):
    """Leaves of the plants, fanning out from the foot: (cosine, sine, half length, half width)."""
    b, group = wp.tid()
    for i in range(group * span, wp.min((group + 1) * span, kind.shape[1] * LEAVES)):
        k = i / LEAVES
        if kind[b, k] == PLANT:
            number = float(i % LEAVES)
            turn = 2.6 * (leaf_share(number + 7.0 * variant[b, k]) - 0.5)
            length = wp.max(half[b, k][0], half[b, k][1])
            length = length * (0.55 + 0.45 * leaf_share(2.3 * number + 3.0 * variant[b, k]))
            wide = (0.10 + 0.08 * leaf_share(5.1 * number)) * length
            leaves[b, k, i % LEAVES] = wp.vec4(wp.cos(turn), wp.sin(turn), length, wide)


@wp.func
def distance_to_plant(x: float, y: float, b: int, k: int, soft: float, leaves: wp.array3d[wp.vec4]) -> float:
    """``y`` from the foot. Anything where no leaf is near enough to show: most leaves need no square root."""
    out = float(1.0e6)  # noqa: UP018 (a Warp variable that a loop changes must be declared by a call)
    for n in range(LEAVES):
        leaf = leaves[b, k, n]
        along = x * leaf[1] - y * leaf[0] - leaf[2]
        bend = x * leaf[0] + y * leaf[1] - 0.25 * leaf[1] * along * along / leaf[2]
        # Leaves are narrow, so a distance is at least (length - 1) * half width (see ball).
        u = bend / leaf[3]
        v = along / leaf[2]
        near = 1.0 + soft / leaf[3]
        if u * u + v * v < near * near:
            out = wp.min(out, ball(bend, along, leaf[3], leaf[2]))
    return out


@wp.func
def extent(kind: int, half: wp.vec2, soft: float) -> wp.vec4:
    """A box, (left, top, right, bottom) in the object's frame, outside of which nothing of it shows."""
    edge = 0.5 * soft + 1.0
    if kind == BALL:  # its distance is at least (length - 1) * the shorter half side
        grown = 1.0 + edge / wp.min(half[0], half[1])
        return wp.vec4(-grown * half[0], -grown * half[1], grown * half[0], grown * half[1])
    if kind == TABLE:
        return wp.vec4(-half[0] - edge, -2.45 * half[1] - edge, half[0] + edge, half[1] + edge)
    if kind == PLANT:
        reach = PLANT_REACH * wp.max(half[0], half[1])
        return wp.vec4(-reach, half[1] - reach, reach, half[1] + reach)
    return wp.vec4(-half[0] - edge, -half[1] - edge, half[0] + edge, half[1] + edge)


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


@wp.func
def cover_at(x: float, y: float, half: wp.vec2, b: int, k: int, texture: wp.array4d[vec3ub]) -> wp.vec3:
    """The texture is laid on twice the object's longer side, mirrored beyond."""
    last = texture.shape[2] - 1
    scale = float(last) / (2.0 * wp.max(half[0], half[1]))
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
    w00 = (1.0 - fu) * (1.0 - fv)
    w01 = fu * (1.0 - fv)
    w10 = (1.0 - fu) * fv
    w11 = fu * fv
    return wp.vec3(
        w00 * float(t00[0]) + w01 * float(t01[0]) + w10 * float(t10[0]) + w11 * float(t11[0]),
        w00 * float(t00[1]) + w01 * float(t01[1]) + w10 * float(t10[1]) + w11 * float(t11[1]),
        w00 * float(t00[2]) + w01 * float(t01[2]) + w10 * float(t10[2]) + w11 * float(t11[2]),
    )


@wp.kernel
def occlude_kernel(
    rows: wp.array[wp.int64],
    kind: wp.array2d[wp.int32],
    centre: wp.array2d[wp.vec2],
    half: wp.array2d[wp.vec2],
    turn: wp.array2d[wp.vec2],
    soft: wp.array2d[wp.float32],
    variant: wp.array2d[wp.float32],
    leaves: wp.array3d[wp.vec4],
    texture: wp.array4d[vec3ub],
    width: int,
    span: int,
    image: wp.array2d[wp.vec3],
    visible: wp.array2d[wp.float32],
):
    """Lay the objects over the pictures ``rows``, in place, the last one in front; only where they may show."""
    b, group = wp.tid()
    to = int(rows[b])
    start = group * span
    stop = wp.min(start + span, image.shape[1]) - 1
    for k in range(kind.shape[1]):
        what = kind[b, k]
        if what != NONE:
            size = half[b, k]
            edge = soft[b, k]
            mood = variant[b, k]
            at = centre[b, k]
            c = turn[b, k][0]
            s = turn[b, k][1]
            reach = 3.0 * (size[0] + size[1]) + edge
            bound = extent(what, size, edge)
            middle_x = 0.5 * (bound[0] + bound[2])
            middle_y = 0.5 * (bound[1] + bound[3])
            wide = middle_x - bound[0]
            tall = middle_y - bound[1]
            out_x = at[0] + c * middle_x - s * middle_y
            out_y = at[1] + s * middle_x + c * middle_y
            half_x = wp.abs(c) * wide + wp.abs(s) * tall + 1.0
            half_y = wp.abs(s) * wide + wp.abs(c) * tall + 1.0
            left = int(wp.clamp(out_x - half_x, 0.0, float(width)))
            right = int(wp.clamp(out_x + half_x, -1.0, float(width - 1)))
            top = int(wp.clamp(out_y - half_y, 0.0, 1.0e6))
            bottom = int(wp.clamp(out_y + half_y, -1.0, 1.0e6))
            for row in range(wp.max(top, start / width), wp.min(bottom, stop / width) + 1):
                base = row * width
                for column in range(wp.max(left, start - base), wp.min(right, stop - base) + 1):
                    dx = float(column) - at[0]
                    dy = float(row) - at[1]
                    if dx * dx + dy * dy < reach * reach:
                        x = c * dx + s * dy
                        y = -s * dx + c * dy
                        distance = float(1.0e6)  # noqa: UP018
                        if what == PLANT:
                            distance = distance_to_plant(x, y - size[1], b, k, edge, leaves)
                        else:
                            distance = distance_to(what, x, y, size, mood)
                        alpha = 0.5 - distance / edge
                        if alpha > 0.0:
                            alpha = wp.min(alpha, 1.0)
                            colour = image[to, base + column]
                            cover = light_on(what, x, y, size, mood) * cover_at(x, y, size, b, k, texture)
                            image[to, base + column] = colour + alpha * (cover - colour)
                            visible[to, base + column] = visible[to, base + column] * (1.0 - alpha)
