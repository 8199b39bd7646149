"""Warp kernels that put a picture through JPEG: what an encoder and a decoder leave of it, without the file.

Integers throughout and the arithmetic of libjpeg's slow-but-accurate transforms (Loeffler, Ligtenberg & Moschytz,
ICASSP 1989), so the result is libjpeg's, byte for byte, on every device. Entropy coding is lossless and left out.
Importing this module starts Warp (see :mod:`human.raster_kernels`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)

from __future__ import annotations

import warp as wp

wp.set_module_options({"enable_backward": False, "optimization_level": 3})

vec8 = wp.types.vector(length=8, dtype=wp.int32)
#: A block by rows.
mat88 = wp.types.matrix(shape=(8, 8), dtype=wp.int32)


@wp.func
def plain(value: int) -> vec8:
    return vec8(value, value, value, value, value, value, value, value)


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
def coarse(value: int, step: int) -> int:
    """Quantised (the transform is 8 times too large) and restored."""
    size = (wp.abs(value) + step * 4) / (step * 8) * step
    if value < 0:
        return -size
    return size


@wp.func
def coarse_row(value: vec8, kind: int, row: int, b: int, steps: wp.array3d[vec8]) -> vec8:
    step = steps[b, kind, row]
    return vec8(
        coarse(value[0], step[0]),
        coarse(value[1], step[1]),
        coarse(value[2], step[2]),
        coarse(value[3], step[3]),
        coarse(value[4], step[4]),
        coarse(value[5], step[5]),
        coarse(value[6], step[6]),
        coarse(value[7], step[7]),
    )


@wp.kernel
def steps_kernel(base: wp.array3d[wp.int32], quality: wp.array[wp.int32], span: int, steps: wp.array3d[vec8]):
    """Quantisation tables (luma, chroma) of each row of the batch, by rows."""
    b, group = wp.tid()
    if quality[b] <= 0:
        return
    for i in range(group * span, wp.min((group + 1) * span, 16)):
        row = vec8()
        for x in range(8):
            row[x] = step_of(base[i / 8, i % 8, x], quality[b])
        steps[b, i / 8, i % 8] = row


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
            if subsampled[b] != 0 and cy > last:  # below the picture, averaged rows are repeated, not pixels
                from_y = wp.min(2 * last + (k >> 1), bottom)
                red = int(image[b, 0, from_y, from_x])
                green = int(image[b, 1, from_y, from_x])
                blue = int(image[b, 2, from_y, from_x])
            cb = chroma_blue(red, green, blue)
            cr = chroma_red(red, green, blue)
            if subsampled[b] != 0:
                blue_sum += cb
                red_sum += cr
            else:
                planes[b, 1, y, x] = wp.uint8(cb)
                planes[b, 2, y, x] = wp.uint8(cr)
        if subsampled[b] != 0:
            planes[b, 1, cy, cx] = wp.uint8(blue_sum >> 2)
            planes[b, 2, cy, cx] = wp.uint8(red_sum >> 2)


@wp.func
def loaded(planes: wp.array4d[wp.uint8], b: int, c: int, y: int, x: int) -> vec8:
    """Eight pixels below each other."""
    return vec8(
        int(planes[b, c, y, x]) - 128,
        int(planes[b, c, y + 1, x]) - 128,
        int(planes[b, c, y + 2, x]) - 128,
        int(planes[b, c, y + 3, x]) - 128,
        int(planes[b, c, y + 4, x]) - 128,
        int(planes[b, c, y + 5, x]) - 128,
        int(planes[b, c, y + 6, x]) - 128,
        int(planes[b, c, y + 7, x]) - 128,
    )


@wp.func
def stored(value: vec8, planes: wp.array4d[wp.uint8], b: int, c: int, y: int, x: int):
    for k in range(8):
        planes[b, c, y + k, x] = wp.uint8(wp.clamp(value[k] + 128, 0, 255))


@wp.kernel
def blocks_kernel(
    quality: wp.array[wp.int32],
    subsampled: wp.array[wp.int32],
    steps: wp.array3d[vec8],
    span: int,
    planes: wp.array4d[wp.uint8],
):
    """Transform, quantise and restore each 8x8 block in place."""
    b, group = wp.tid()
    if quality[b] <= 0:
        return
    across = planes.shape[3] / 8
    per_plane = across * (planes.shape[2] / 8)
    for i in range(group * span, wp.min((group + 1) * span, 3 * per_plane)):
        c = i / per_plane
        y = 8 * ((i % per_plane) / across)
        x = 8 * (i % across)
        if c == 0 or subsampled[b] == 0 or (2 * y < planes.shape[2] and 2 * x < planes.shape[3]):
            m = Block()
            m.a = loaded(planes, b, c, y, x)
            m.b = loaded(planes, b, c, y, x + 1)
            m.c = loaded(planes, b, c, y, x + 2)
            m.d = loaded(planes, b, c, y, x + 3)
            m.e = loaded(planes, b, c, y, x + 4)
            m.f = loaded(planes, b, c, y, x + 5)
            m.g = loaded(planes, b, c, y, x + 6)
            m.h = loaded(planes, b, c, y, x + 7)
            m = forward(transposed(forward(m, 4, 0, 11)), 1, 2, 15)
            kind = wp.min(c, 1)
            m.a = coarse_row(m.a, kind, 0, b, steps)
            m.b = coarse_row(m.b, kind, 1, b, steps)
            m.c = coarse_row(m.c, kind, 2, b, steps)
            m.d = coarse_row(m.d, kind, 3, b, steps)
            m.e = coarse_row(m.e, kind, 4, b, steps)
            m.f = coarse_row(m.f, kind, 5, b, steps)
            m.g = coarse_row(m.g, kind, 6, b, steps)
            m.h = coarse_row(m.h, kind, 7, b, steps)
            m = inverse(transposed(inverse(m, 11)), 18)
            stored(m.a, planes, b, c, y, x)
            stored(m.b, planes, b, c, y, x + 1)
            stored(m.c, planes, b, c, y, x + 2)
            stored(m.d, planes, b, c, y, x + 3)
            stored(m.e, planes, b, c, y, x + 4)
            stored(m.f, planes, b, c, y, x + 5)
            stored(m.g, planes, b, c, y, x + 6)
            stored(m.h, planes, b, c, y, x + 7)


@wp.func
def column(planes: wp.array4d[wp.uint8], b: int, c: int, near: int, far: int, x: int) -> int:
    return 3 * int(planes[b, c, near, x]) + int(planes[b, c, far, x])


@wp.func
def byte(value: int) -> wp.uint8:
    return wp.uint8(wp.clamp(value, 0, 255))


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
    for i in range(group * span, wp.min((group + 1) * span, half * (last + 1))):
        cy = i / half
        cx = i % half
        left = wp.max(cx - 1, 0)
        right = wp.min(cx + 1, half - 1)
        for row in range(2):
            y = 2 * cy + row
            far = wp.clamp(cy - 1 + 2 * row, 0, last)
            blue0 = int(0)  # noqa: RUF046, UP018 (a Warp variable that a branch changes must be declared by a call)
            blue1 = int(0)  # noqa: RUF046, UP018
            red0 = int(0)  # noqa: RUF046, UP018
            red1 = int(0)  # noqa: RUF046, UP018
            if subsampled[b] != 0:
                here = 3 * column(planes, b, 1, cy, far, cx)
                blue0 = (here + column(planes, b, 1, cy, far, left) + 8) >> 4
                blue1 = (here + column(planes, b, 1, cy, far, right) + 7) >> 4
                here = 3 * column(planes, b, 2, cy, far, cx)
                red0 = (here + column(planes, b, 2, cy, far, left) + 8) >> 4
                red1 = (here + column(planes, b, 2, cy, far, right) + 7) >> 4
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
