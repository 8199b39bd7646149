"""Warp kernels that put a picture through JPEG: what an encoder and a decoder leave of it, without the file.

Integers throughout and the arithmetic of libjpeg's slow-but-accurate transforms (Loeffler, Ligtenberg & Moschytz,
ICASSP 1989), so the result is libjpeg's, byte for byte, on every device. Entropy coding is lossless and left out.
Importing this module starts Warp (see :mod:`human.warp_start`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)

from __future__ import annotations

import warp as wp

from human.warp_start import start_warp

start_warp()
wp.set_module_options({"enable_backward": False, "optimization_level": 3})

vec8 = wp.types.vector(length=8, dtype=wp.int32)
#: Eight pixels side by side.
vec8ub = wp.types.vector(length=8, dtype=wp.uint8)


@wp.struct
class Block:
    """Eight rows (or columns) of eight coefficients."""

    a: vec8
    b: vec8
    c: vec8
    d: vec8
    e: vec8
    f: vec8
    g: vec8
    h: vec8


@wp.func
def scaled_down(value: vec8, bits: int) -> vec8:
    """Rounded division by 2^bits (an arithmetic shift)."""
    half = 1 << (bits - 1)
    return vec8(
        (value[0] + half) >> bits,
        (value[1] + half) >> bits,
        (value[2] + half) >> bits,
        (value[3] + half) >> bits,
        (value[4] + half) >> bits,
        (value[5] + half) >> bits,
        (value[6] + half) >> bits,
        (value[7] + half) >> bits,
    )


@wp.func
def line(i: int, m: Block) -> vec8:
    return vec8(m.a[i], m.b[i], m.c[i], m.d[i], m.e[i], m.f[i], m.g[i], m.h[i])


@wp.func
def transposed(m: Block) -> Block:
    out = Block()
    out.a = line(0, m)
    out.b = line(1, m)
    out.c = line(2, m)
    out.d = line(3, m)
    out.e = line(4, m)
    out.f = line(5, m)
    out.g = line(6, m)
    out.h = line(7, m)
    return out


@wp.func
def forward(m: Block, even_up: int, even_down: int, bits: int) -> Block:
    """One pass of libjpeg's jfdctint: transforms a..h of every lane."""
    t0 = m.a + m.h
    t7 = m.a - m.h
    t1 = m.b + m.g
    t6 = m.b - m.g
    t2 = m.c + m.f
    t5 = m.c - m.f
    t3 = m.d + m.e
    t4 = m.d - m.e
    t10 = t0 + t3
    t13 = t0 - t3
    t11 = t1 + t2
    t12 = t1 - t2
    out = Block()
    if even_down > 0:
        out.a = scaled_down(t10 + t11, even_down)
        out.e = scaled_down(t10 - t11, even_down)
    else:
        out.a = (t10 + t11) * even_up
        out.e = (t10 - t11) * even_up
    z1 = (t12 + t13) * 4433
    out.c = scaled_down(z1 + t13 * 6270, bits)
    out.g = scaled_down(z1 - t12 * 15137, bits)
    z3 = t4 + t6
    z4 = t5 + t7
    z5 = (z3 + z4) * 9633
    z1 = (t4 + t7) * (-7373)
    z2 = (t5 + t6) * (-20995)
    z3 = z3 * (-16069) + z5
    z4 = z4 * (-3196) + z5
    out.h = scaled_down(t4 * 2446 + z1 + z3, bits)
    out.f = scaled_down(t5 * 16819 + z2 + z4, bits)
    out.d = scaled_down(t6 * 25172 + z2 + z3, bits)
    out.b = scaled_down(t7 * 12299 + z1 + z4, bits)
    return out


@wp.func
def inverse(m: Block, bits: int) -> Block:
    """One pass of libjpeg's jidctint."""
    z1 = (m.c + m.g) * 4433
    t2 = z1 - m.g * 15137
    t3 = z1 + m.c * 6270
    t0 = (m.a + m.e) * 8192
    t1 = (m.a - m.e) * 8192
    t10 = t0 + t3
    t13 = t0 - t3
    t11 = t1 + t2
    t12 = t1 - t2
    z3 = m.h + m.d
    z4 = m.f + m.b
    z5 = (z3 + z4) * 9633
    z1 = (m.h + m.b) * (-7373)
    z2 = (m.f + m.d) * (-20995)
    z3 = z3 * (-16069) + z5
    z4 = z4 * (-3196) + z5
    t0 = m.h * 2446 + z1 + z3
    t1 = m.f * 16819 + z2 + z4
    t2 = m.d * 25172 + z2 + z3
    t3 = m.b * 12299 + z1 + z4
    out = Block()
    out.a = scaled_down(t10 + t3, bits)
    out.h = scaled_down(t10 - t3, bits)
    out.b = scaled_down(t11 + t2, bits)
    out.g = scaled_down(t11 - t2, bits)
    out.c = scaled_down(t12 + t1, bits)
    out.f = scaled_down(t12 - t1, bits)
    out.d = scaled_down(t13 + t0, bits)
    out.e = scaled_down(t13 - t0, bits)
    return out


@wp.func
def step_of(base: int, quality: int) -> int:
    """A quantiser's step at a quality, as libjpeg's jpeg_quality_scaling has it."""
    percent = 200 - 2 * quality
    if quality < 50:
        percent = 5000 / quality
    return wp.clamp((base * percent + 50) / 100, 1, 255)


@wp.func
def coarse(value: int, step: int, inverse_step: int) -> int:
    """Quantised (the transform is 8 times too large) and restored.

    An 8-bit block's coefficients stay below 2^13, so the dividend is below 2^11: multiplying with the reciprocal in 19
    bits, rounded up, is the exact quotient for every step up to 255.
    """
    size = ((((wp.abs(value) + step * 4) >> 3) * inverse_step) >> 19) * step
    return wp.where(value < 0, -size, size)


@wp.func
def coarse_row(value: vec8, step: vec8, inverse_step: vec8) -> vec8:
    return vec8(
        coarse(value[0], step[0], inverse_step[0]),
        coarse(value[1], step[1], inverse_step[1]),
        coarse(value[2], step[2], inverse_step[2]),
        coarse(value[3], step[3], inverse_step[3]),
        coarse(value[4], step[4], inverse_step[4]),
        coarse(value[5], step[5], inverse_step[5]),
        coarse(value[6], step[6], inverse_step[6]),
        coarse(value[7], step[7], inverse_step[7]),
    )


@wp.kernel
def steps_kernel(base: wp.array3d[wp.int32], quality: wp.array[wp.int32], span: int, steps: wp.array3d[vec8]):
    """Quantisation tables (luma, chroma), and the reciprocals of both, of each row of the batch, by rows."""
    b, group = wp.tid()
    if quality[b] <= 0:
        return
    for i in range(group * span, wp.min((group + 1) * span, 16)):
        row = vec8()
        inverse_row = vec8()
        for x in range(8):
            step = step_of(base[i / 8, i % 8, x], quality[b])
            row[x] = step
            inverse_row[x] = (524288 + step - 1) / step
        steps[b, i / 8, i % 8] = row
        steps[b, 2 + i / 8, i % 8] = inverse_row


@wp.func
def luma(red: int, green: int, blue: int) -> int:
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


@wp.func
def chroma_blue(red: int, green: int, blue: int) -> int:
    return (-11059 * red - 21709 * green + 32768 * blue + 8421375) >> 16


@wp.func
def chroma_red(red: int, green: int, blue: int) -> int:
    return (32768 * red - 27439 * green - 5329 * blue + 8421375) >> 16


@wp.kernel
def split_kernel(
    image: wp.array4d[wp.uint8],
    quality: wp.array[wp.int32],
    subsampled: wp.array[wp.int32],
    span: int,
    planes: wp.array4d[wp.uint8],
):
    """RGB to luma and chroma; chroma averaged over 2x2 where asked for. Items are 2x2 pixels; borders are repeated."""
    b, group = wp.tid()
    if quality[b] <= 0:
        return
    half = planes.shape[3] / 2
    bottom = image.shape[2] - 1
    right = image.shape[3] - 1
    last = bottom / 2
    halved = subsampled[b] != 0
    for i in range(group * span, wp.min((group + 1) * span, half * (planes.shape[2] / 2))):
        cy = i / half
        cx = i % half
        blue_sum = 1 + (cx & 1)
        red_sum = blue_sum
        for k in range(4):
            y = 2 * cy + (k >> 1)
            x = 2 * cx + (k & 1)
            from_y = wp.min(y, bottom)
            from_x = wp.min(x, right)
            red = int(image[b, 0, from_y, from_x])
            green = int(image[b, 1, from_y, from_x])
            blue = int(image[b, 2, from_y, from_x])
            planes[b, 0, y, x] = wp.uint8(luma(red, green, blue))
            if halved and cy > last:  # below the picture, averaged rows are repeated, not pixels
                from_y = wp.min(2 * last + (k >> 1), bottom)
                red = int(image[b, 0, from_y, from_x])
                green = int(image[b, 1, from_y, from_x])
                blue = int(image[b, 2, from_y, from_x])
            cb = chroma_blue(red, green, blue)
            cr = chroma_red(red, green, blue)
            if halved:
                blue_sum += cb
                red_sum += cr
            else:
                planes[b, 1, y, x] = wp.uint8(cb)
                planes[b, 2, y, x] = wp.uint8(cr)
        if halved:
            planes[b, 1, cy, cx] = wp.uint8(blue_sum >> 2)
            planes[b, 2, cy, cx] = wp.uint8(red_sum >> 2)


@wp.func
def byte(value: int) -> wp.uint8:
    return wp.uint8(wp.clamp(value, 0, 255))


@wp.func
def centred(value: vec8ub) -> vec8:
    return vec8(
        int(value[0]) - 128,
        int(value[1]) - 128,
        int(value[2]) - 128,
        int(value[3]) - 128,
        int(value[4]) - 128,
        int(value[5]) - 128,
        int(value[6]) - 128,
        int(value[7]) - 128,
    )


@wp.func
def bytes_of(value: vec8) -> vec8ub:
    return vec8ub(
        byte(value[0] + 128),
        byte(value[1] + 128),
        byte(value[2] + 128),
        byte(value[3] + 128),
        byte(value[4] + 128),
        byte(value[5] + 128),
        byte(value[6] + 128),
        byte(value[7] + 128),
    )


@wp.kernel
def blocks_kernel(
    quality: wp.array[wp.int32],
    subsampled: wp.array[wp.int32],
    steps: wp.array3d[vec8],
    span: int,
    planes: wp.array4d[vec8ub],
):
    """Transform, quantise and restore each 8x8 block in place; ``planes`` by eight pixels side by side."""
    b, group = wp.tid()
    if quality[b] <= 0:
        return
    across = planes.shape[3]
    down = planes.shape[2] / 8
    per_plane = across * down
    halved = subsampled[b] != 0
    for i in range(group * span, wp.min((group + 1) * span, 3 * per_plane)):
        c = i / per_plane
        row = (i % per_plane) / across
        x = i % across
        if c == 0 or not halved or (2 * row < down and 2 * x < across):
            y = 8 * row
            kind = wp.min(c, 1)
            m = Block()
            m.a = centred(planes[b, c, y + 0, x])
            m.b = centred(planes[b, c, y + 1, x])
            m.c = centred(planes[b, c, y + 2, x])
            m.d = centred(planes[b, c, y + 3, x])
            m.e = centred(planes[b, c, y + 4, x])
            m.f = centred(planes[b, c, y + 5, x])
            m.g = centred(planes[b, c, y + 6, x])
            m.h = centred(planes[b, c, y + 7, x])
            m = forward(transposed(forward(transposed(m), 4, 0, 11)), 1, 2, 15)
            m.a = coarse_row(m.a, steps[b, kind, 0], steps[b, kind + 2, 0])
            m.b = coarse_row(m.b, steps[b, kind, 1], steps[b, kind + 2, 1])
            m.c = coarse_row(m.c, steps[b, kind, 2], steps[b, kind + 2, 2])
            m.d = coarse_row(m.d, steps[b, kind, 3], steps[b, kind + 2, 3])
            m.e = coarse_row(m.e, steps[b, kind, 4], steps[b, kind + 2, 4])
            m.f = coarse_row(m.f, steps[b, kind, 5], steps[b, kind + 2, 5])
            m.g = coarse_row(m.g, steps[b, kind, 6], steps[b, kind + 2, 6])
            m.h = coarse_row(m.h, steps[b, kind, 7], steps[b, kind + 2, 7])
            m = transposed(inverse(transposed(inverse(m, 11)), 18))
            planes[b, c, y + 0, x] = bytes_of(m.a)
            planes[b, c, y + 1, x] = bytes_of(m.b)
            planes[b, c, y + 2, x] = bytes_of(m.c)
            planes[b, c, y + 3, x] = bytes_of(m.d)
            planes[b, c, y + 4, x] = bytes_of(m.e)
            planes[b, c, y + 5, x] = bytes_of(m.f)
            planes[b, c, y + 6, x] = bytes_of(m.g)
            planes[b, c, y + 7, x] = bytes_of(m.h)


@wp.func
def around(planes: wp.array4d[wp.uint8], b: int, c: int, y: int, left: int, x: int, right: int) -> wp.vec3i:
    return wp.vec3i(int(planes[b, c, y, left]), int(planes[b, c, y, x]), int(planes[b, c, y, right]))


@wp.kernel
def join_kernel(
    planes: wp.array4d[wp.uint8],
    quality: wp.array[wp.int32],
    subsampled: wp.array[wp.int32],
    span: int,
    image: wp.array4d[wp.uint8],
):
    """Back to RGB; subsampled chroma through libjpeg's triangle filter (jdsample, "fancy upsampling")."""
    b, group = wp.tid()
    if quality[b] <= 0:
        return
    height = image.shape[2]
    width = image.shape[3]
    half = (width + 1) / 2
    last = (height + 1) / 2 - 1
    halved = subsampled[b] != 0
    for i in range(group * span, wp.min((group + 1) * span, half * (last + 1))):
        cy = i / half
        cx = i % half
        left = wp.max(cx - 1, 0)
        right = wp.min(cx + 1, half - 1)
        near_blue = wp.vec3i(0, 0, 0)
        near_red = wp.vec3i(0, 0, 0)
        if halved:
            near_blue = 3 * around(planes, b, 1, cy, left, cx, right)
            near_red = 3 * around(planes, b, 2, cy, left, cx, right)
        for row in range(2):
            y = 2 * cy + row
            far = wp.clamp(cy - 1 + 2 * row, 0, last)
            blue0 = int(0)  # noqa: RUF046, UP018 (a Warp variable that a branch changes must be declared by a call)
            blue1 = int(0)  # noqa: RUF046, UP018
            red0 = int(0)  # noqa: RUF046, UP018
            red1 = int(0)  # noqa: RUF046, UP018
            if halved:
                three = near_blue + around(planes, b, 1, far, left, cx, right)
                blue0 = (3 * three[1] + three[0] + 8) >> 4
                blue1 = (3 * three[1] + three[2] + 7) >> 4
                three = near_red + around(planes, b, 2, far, left, cx, right)
                red0 = (3 * three[1] + three[0] + 8) >> 4
                red1 = (3 * three[1] + three[2] + 7) >> 4
            else:
                blue0 = int(planes[b, 1, y, 2 * cx])
                blue1 = int(planes[b, 1, y, 2 * cx + 1])
                red0 = int(planes[b, 2, y, 2 * cx])
                red1 = int(planes[b, 2, y, 2 * cx + 1])
            for side in range(2):
                x = 2 * cx + side
                if y < height and x < width:
                    cb = blue0 - 128
                    cr = red0 - 128
                    if side == 1:
                        cb = blue1 - 128
                        cr = red1 - 128
                    light = int(planes[b, 0, y, x])
                    image[b, 0, y, x] = byte(light + ((91881 * cr + 32768) >> 16))
                    image[b, 1, y, x] = byte(light + ((-22554 * cb - 46802 * cr + 32768) >> 16))
                    image[b, 2, y, x] = byte(light + ((116130 * cb + 32768) >> 16))
