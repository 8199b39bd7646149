"""Warp kernels that read a z-buffer: where in the picture the person may be, and what each output pixel's samples see.

Importing this module starts Warp (see :mod:`human.raster_kernels`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)
# ruff: noqa: UP018, RUF046
# (A Warp variable that a branch or loop changes must be declared by a call.)

from __future__ import annotations

import warp as wp

from human.raster_kernels import FACE_BITS, FACE_MASK, SUBPIXEL

wp.set_module_options({"enable_backward": False, "optimization_level": 3})

#: Samples of a pixel that lie within this of each other (metres), on one layer, are shaded once.
FLAT = wp.constant(0.03)
#: Bits of what :func:`scan_kernel` writes, and the depth where there is nothing (metres).
ONCE = wp.constant(1 << 8)
CENTRE = wp.constant(1 << 9)
SEEN = wp.constant(1 << 10)
FAR = wp.constant(1.0e4)


@wp.kernel
def box_kernel(
    screen: wp.array2d[wp.vec3i],
    cut: wp.array2d[wp.float32],
    factor: int,
    first: int,
    span: int,
    box: wp.array2d[wp.int32],
):
    """Least x, y and -x, -y of the output pixels that the drawn mesh may cover."""
    local, group = wp.tid()
    low = wp.vec4i(1 << 29, 1 << 29, 1 << 29, 1 << 29)
    unit = factor * int(SUBPIXEL)
    for v in range(group * span, wp.min((group + 1) * span, screen.shape[1])):
        p = screen[local, v]
        if p[2] != 0 and cut[first + local, v] > -1.0:  # (-1 is a layer that is not worn)
            low = wp.min(low, wp.vec4i(p[0], p[1], -p[0], -p[1]))
    # Rounded outwards, whatever the sign.
    for k in range(4):
        wp.atomic_min(box, local, k, low[k] / unit - 1)


@wp.kernel
def scan_kernel(
    keys: wp.array2d[wp.int64],
    layers: wp.array[wp.int32],
    box: wp.array2d[wp.int32],
    height: int,
    width: int,
    factor: int,
    first: int,
    span: int,
    samples_out: wp.array2d[wp.int32],
    distance_out: wp.array2d[wp.float32],
    coverage_out: wp.array2d[wp.float32],
    depth_out: wp.array2d[wp.float32],
    layer_out: wp.array2d[wp.int32],
):
    """What the samples of each output pixel see.

    ``samples_out``: 0 nothing, else the first and last sample that see the person (4 bits each), then bit 8 where the
    first stands for all, bit 9 where the pixel's centre does. ``distance_out`` is the depth, far where there is none.
    """
    local, group = wp.tid()
    b = first + local
    fine = factor * width
    left = box[local, 0]
    top = box[local, 1]
    right = -box[local, 2]
    bottom = -box[local, 3]
    row = int(group * span / width)
    column = int(group * span) - row * width - 1
    for i in range(group * span, wp.min((group + 1) * span, height * width)):
        column += 1
        if column == width:  # (a division per pixel costs more on the CPU)
            column = 0
            row += 1
        covered = int(0)
        one = int(0)
        two = int(0)
        near = float(0.0)
        far = float(1.0e9)
        packed = int(0)
        depth = float(0.0)
        layer = int(-1)
        if column >= left and column <= right and row >= top and row <= bottom:
            corner = row * factor * fine + column * factor
            head = wp.int64(0)
            last = wp.int64(0)
            s = int(0)
            for down in range(factor):
                for across in range(factor):  # (quotients of a sample's number would cost more than the look-up)
                    key = keys[local, corner + down * fine + across]
                    if key != wp.int64(0):
                        if covered == 0:
                            one = s
                            head = key
                        two = s
                        last = key
                        covered += 1
                        inverse = wp.cast(int(key >> wp.int64(32)), wp.float32)
                        near = wp.max(near, inverse)
                        far = wp.min(far, inverse)
                    s += 1
            if covered > 0:
                layer = layers[FACE_BITS - int(head & FACE_MASK)]
                packed = one | (two << 4)
                # Where the pixel shows one smooth surface, its centre stands for all of it.
                flat = layer == layers[FACE_BITS - int(last & FACE_MASK)] and (1.0 / far - 1.0 / near) < FLAT
                if covered == 1 or flat:
                    packed = packed | ONCE
                    if covered == factor * factor:
                        packed = packed | CENTRE
                packed = packed | SEEN
                depth = 1.0 / near
        samples_out[local, i] = packed
        distance_out[local, i] = wp.where(covered > 0, depth, FAR)
        coverage_out[b, i] = float(covered) / float(factor * factor)
        depth_out[b, i] = depth
        layer_out[b, i] = layer
