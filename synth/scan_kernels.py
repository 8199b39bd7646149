"""Warp kernels around the z-buffer: where the vertices are seen, and what each output pixel's samples see.

Importing this module starts Warp (see :mod:`human.warp_start`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)
# ruff: noqa: UP018, RUF046
# (A Warp variable that a branch or loop changes must be declared by a call.)

from __future__ import annotations

import warp as wp

from human.raster_kernels import FACE_BITS, FACE_MASK, INVERSE_BITS, SCREEN_LIMIT, SUBPIXEL, mat23
from synth.shadow_kernels import NOT_WORN, sun_axes, vec8

wp.set_module_options({"enable_backward": False, "optimization_level": 3})

#: Samples of a pixel that lie within this of each other (metres), on one layer, are shaded once.
FLAT = wp.constant(0.03)
#: The sun's bounds are taken over every so many vertices (synth.shadow_kernels.BOUND_MARGIN).
BOUND_STEP = wp.constant(3)
#: Bits of what :func:`scan_kernel` writes.
ONCE = wp.constant(1 << 8)
CENTRE = wp.constant(1 << 9)
SEEN = wp.constant(1 << 10)


@wp.kernel
def view_kernel(
    verts: wp.array2d[wp.vec3],
    cameras: wp.array[mat23],
    cut: wp.array2d[wp.float32],
    sun: wp.array2d[wp.vec3],
    up: wp.array[wp.vec3],
    near: float,
    skin: int,
    factor: int,
    first: int,
    span: int,
    screen: wp.array2d[wp.vec3i],
    box: wp.array2d[wp.int32],
    bounds: wp.array2d[wp.float32],
):
    """What one walk over the vertices tells; a layer that is not worn is passed over, and drawn nowhere.

    ``screen`` as :func:`human.raster_kernels.project_kernel`. ``box``: least x, y and -x, -y of the output pixels that
    the drawn mesh may cover. ``bounds``: least x, -x, y, -y, z, -z in the sun's frame and least height of what is
    drawn; minima round nothing.
    """
    local, group = wp.tid()
    b = first + local
    camera = cameras[b]
    axes = sun_axes(sun[b, 0])
    upward = up[b]
    big = float(1.0e9)
    low = vec8(big, big, big, big, big, big, big, big)
    corner = wp.vec4i(1 << 29, 1 << 29, 1 << 29, 1 << 29)
    some = screen.shape[1] / BOUND_STEP * BOUND_STEP
    for v in range(group * span, wp.min((group + 1) * span, screen.shape[1])):
        out = wp.vec3i(0, 0, 0)
        inside = cut[b, v]
        if v < skin or inside != NOT_WORN:
            p = verts[b, v]
            if p[2] > near:
                inverse = 1.0 / p[2]
                uv = camera * wp.vec3(p[0] * inverse, p[1] * inverse, 1.0)
                # NaN fails both comparisons.
                if wp.abs(uv[0]) <= SCREEN_LIMIT and wp.abs(uv[1]) <= SCREEN_LIMIT:
                    scale = float(SUBPIXEL)
                    bits = wp.cast(inverse, wp.int32)
                    bits = wp.where(inside >= 0.0, bits, bits | ~INVERSE_BITS)
                    out = wp.vec3i(int(wp.rint(uv[0] * scale)), int(wp.rint(uv[1] * scale)), bits)
                    if inside > NOT_WORN:
                        corner = wp.min(corner, wp.vec4i(out[0], out[1], -out[0], -out[1]))
            if inside >= 0.0 and v % BOUND_STEP == 0 and v < some:
                q = axes * p
                low = wp.min(low, vec8(q[0], -q[0], q[1], -q[1], q[2], -q[2], wp.dot(upward, p), big))
        screen[local, v] = out
    unit = factor * int(SUBPIXEL)
    # Rounded outwards, whatever the sign.
    for k in range(4):
        wp.atomic_min(box, local, k, corner[k] / unit - 1)
    for k in range(7):
        wp.atomic_min(bounds, local, k, low[k])


@wp.func_native("""
#if defined(__CUDA_ARCH__)
    for (int i = first; i < last; ++i)
        keys.data[i] = 0;
#else
    __builtin_memset(keys.data + first, 0, (last - first) * sizeof(keys.data[0]));
#endif
""")
def empty(keys: wp.array[wp.int64], first: int, last: int):
    """Zeros into part of a contiguous array."""
    ...


@wp.kernel
def clear_kernel(
    box: wp.array2d[wp.int32],
    width: int,
    factor: int,
    span: int,
    keys: wp.array2d[wp.int64],
):
    """Empty a z-buffer, row by row of the output, where the mesh may be drawn: the rest is never read."""
    local, group = wp.tid()
    left = wp.max(box[local, 0], 0) * factor
    right = (wp.min(-box[local, 2], width - 1) + 1) * factor
    fine = width * factor
    top = wp.max(box[local, 1], group * span)
    bottom = wp.min(-box[local, 3] + 1, wp.min((group + 1) * span, keys.shape[1] / (fine * factor)))
    for row in range(top * factor, bottom * factor):
        if left < right:
            empty(keys[local], row * fine + left, row * fine + right)


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
    """What the samples of each output pixel see; only pixels that see the person are written.

    ``samples_out``: 0 nothing, else the first and last sample that see the person (4 bits each), then bit 8 where the
    first stands for all, bit 9 where the pixel's centre does. ``distance_out`` is the depth. ``depth_out`` and
    ``layer_out`` may have no columns, and are then left alone.
    """
    local, group = wp.tid()
    b = first + local
    fine = factor * width
    left = wp.max(box[local, 0], 0)
    right = wp.min(-box[local, 2], width - 1)
    start = int(group * span)
    stop = wp.min(start + span, height * width)
    top = wp.max(box[local, 1], start / width)
    bottom = wp.min(-box[local, 3], (stop - 1) / width)
    all_samples = factor * factor
    for row in range(top, bottom + 1):
        line = row * width
        for column in range(wp.max(left, start - line), wp.min(right, stop - 1 - line) + 1):
            covered = int(0)
            one = int(0)
            two = int(0)
            near = float(0.0)
            far = float(1.0e9)
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
                    if covered == all_samples:
                        packed = packed | CENTRE
                packed = packed | SEEN
                depth = 1.0 / near
                i = line + column
                samples_out[local, i] = packed
                distance_out[local, i] = depth
                coverage_out[b, i] = float(covered) / float(all_samples)
                if depth_out.shape[1] > 0:
                    depth_out[b, i] = depth
                    layer_out[b, i] = layer
