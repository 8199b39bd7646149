"""Warp kernels of the rasteriser: one source for CPU and CUDA.

Importing this module starts Warp; :mod:`human.raster` does so at its first call, never at import.

Screen positions are snapped to a fixed-point grid of 2^-14 px, so edge functions are exact 64-bit integers: two
triangles that share an edge evaluate it to the same number, and no pixel falls between them. The edge-function and
perspective-correction formulas are those of Pineda, "A Parallel Algorithm for Polygon Rasterization", SIGGRAPH 1988.
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)

from __future__ import annotations

import warp as wp

from human.warp_start import start_warp

start_warp()
wp.set_module_options({"enable_backward": False, "optimization_level": 3})

SUBPIXEL_BITS = wp.constant(14)
SUBPIXEL = wp.constant(1 << 14)
ROUND_UP = wp.constant((1 << 14) - 1)
#: Products of two coordinate differences must fit 63 bits, hence positions stay below 2^30 sub-pixels.
SCREEN_LIMIT = wp.constant(65535.0)
FACE_BITS = wp.constant(0x7FFFFFFF)
#: Without the sign bit, which marks a vertex that is cut away.
INVERSE_BITS = wp.constant(0x7FFFFFFF)
FACE_MASK = wp.constant(wp.int64(0x7FFFFFFF))
mat23 = wp.types.matrix(shape=(2, 3), dtype=wp.float32)
vec3l = wp.types.vector(length=3, dtype=wp.int64)


@wp.kernel
def project_kernel(
    verts: wp.array2d[wp.vec3],
    cameras: wp.array[mat23],
    cut: wp.array2d[wp.float32],
    near: float,
    span: int,
    screen: wp.array2d[wp.vec3i],
):
    """Camera-frame vertex -> (x, y) in sub-pixels and the bits of 1/z; all zero where it cannot be drawn.

    A vertex whose ``cut`` is below 0 (or NaN) has the sign bit of 1/z set; ``cut`` without columns cuts nothing.
    """
    b, group = wp.tid()
    for v in range(group * span, wp.min((group + 1) * span, verts.shape[1])):
        p = verts[b, v]
        out = wp.vec3i(0, 0, 0)
        if p[2] > near:
            inverse = 1.0 / p[2]
            uv = cameras[b] * wp.vec3(p[0] * inverse, p[1] * inverse, 1.0)
            # NaN fails both comparisons.
            if wp.abs(uv[0]) <= SCREEN_LIMIT and wp.abs(uv[1]) <= SCREEN_LIMIT:
                scale = float(SUBPIXEL)
                bits = wp.cast(inverse, wp.int32)
                if cut.shape[1] > 0:
                    bits = wp.where(cut[b, v] >= 0.0, bits, bits | ~INVERSE_BITS)
                out = wp.vec3i(int(wp.rint(uv[0] * scale)), int(wp.rint(uv[1] * scale)), bits)
        screen[b, v] = out


@wp.func
def edge(ax: wp.int64, ay: wp.int64, bx: wp.int64, by: wp.int64, px: wp.int64, py: wp.int64):
    """Twice the signed area of (a, b, p): exact."""
    return (bx - ax) * (py - ay) - (by - ay) * (px - ax)


@wp.func_native("""
#if !defined(__CUDA_ARCH__)
    typedef wp::int64 lanes __attribute__((vector_size(64), aligned(8)));
    typedef float floats __attribute__((vector_size(32)));
    typedef wp::int32 words __attribute__((vector_size(32)));
    const lanes steps = {0, 1, 2, 3, 4, 5, 6, 7};
    const lanes d0 = steps * dx[0], d1 = steps * dx[1], d2 = steps * dx[2];
    const float s0 = scale * inverse[0], s1 = scale * inverse[1], s2 = scale * inverse[2];
    for (int y = top; y <= bottom; ++y) {
        for (int x = left; x <= right; x += 8) {
            const int at = wp::min(x, width - 8);
            const wp::int64 off = at - left;
            const lanes e0 = row[0] + off * dx[0] + d0, e1 = row[1] + off * dx[1] + d1, e2 = row[2] + off * dx[2] + d2;
            const floats f0 = __builtin_convertvector(e0, floats);
            const floats f1 = __builtin_convertvector(e1, floats);
            const floats f2 = __builtin_convertvector(e2, floats);
            lanes inside = (e0 | e1 | e2) >= 0;
            if (border)
                inside &= __builtin_convertvector((words)(f0 * cuts[0] + f1 * cuts[1] + f2 * cuts[2] >= 0.0f), lanes);
            const floats depth = f0 * s0 + f1 * s1 + f2 * s2;
            const lanes key = ((__builtin_convertvector((words)depth, lanes) << 32) | low) & inside;
            lanes* const keys = (lanes*)(line.data + wp::int64(y) * width + at);
            const lanes old = *keys;
            const lanes nearer = key > old;
            *keys = (key & nearer) | (old & ~nearer);
        }
        row += dy;
    }
#endif
""")
def draw_eight(
    line: wp.array[wp.int64],
    left: int,
    right: int,
    top: int,
    bottom: int,
    width: int,
    row: vec3l,
    dx: vec3l,
    dy: vec3l,
    scale: float,
    inverse: wp.vec3,
    border: bool,
    cuts: wp.vec3,
    low: wp.int64,
):
    """The loop of :func:`draw` for the CPU, eight pixels at a time: most triangles are no wider, and asking each pixel
    whether it is inside is mispredicted too often. ``line`` is the contiguous z-buffer of an image at least 8 wide.
    """
    ...


@wp.func
def draw(
    screen: wp.array2d[wp.vec3i],
    faces: wp.array[wp.vec3i],
    cut: wp.array2d[wp.float32],
    b: int,
    f: int,
    height: int,
    width: int,
    culled: int,
    eight: bool,
    zbuffer: wp.array2d[wp.int64],
):
    """Keep the largest (bits of 1/z, 2^31-1 - face) of every pixel that triangle ``f`` covers and does not cut.

    The first ``culled`` triangles are drawn only where they face the camera.
    """
    face = faces[f]
    p0 = screen[b, face[0]]
    if p0[2] == 0:  # (asked first: all of a layer that nobody wears is like this)
        return
    p1 = screen[b, face[1]]
    p2 = screen[b, face[2]]
    if p1[2] == 0 or p2[2] == 0:
        return
    if (p0[2] & p1[2] & p2[2]) < 0:
        return
    x0 = wp.int64(p0[0])
    y0 = wp.int64(p0[1])
    x1 = wp.int64(p1[0])
    y1 = wp.int64(p1[1])
    x2 = wp.int64(p2[0])
    y2 = wp.int64(p2[1])
    area = edge(x0, y0, x1, y1, x2, y2)
    # With y down, a face wound counter-clockwise as seen from the camera has a negative area.
    if area == wp.int64(0) or (f < culled and area > wp.int64(0)):
        return
    left = wp.max((wp.min(wp.min(p0[0], p1[0]), p2[0]) + ROUND_UP) >> SUBPIXEL_BITS, 0)
    right = wp.min(wp.max(wp.max(p0[0], p1[0]), p2[0]) >> SUBPIXEL_BITS, width - 1)
    if left > right:
        return
    top = wp.max((wp.min(wp.min(p0[1], p1[1]), p2[1]) + ROUND_UP) >> SUBPIXEL_BITS, 0)
    bottom = wp.min(wp.max(wp.max(p0[1], p1[1]), p2[1]) >> SUBPIXEL_BITS, height - 1)
    if top > bottom:
        return
    sign = wp.int64(1)
    if area < wp.int64(0):
        sign = wp.int64(-1)
    one = wp.int64(SUBPIXEL)
    px = wp.int64(left) * one
    py = wp.int64(top) * one
    row0 = sign * edge(x1, y1, x2, y2, px, py)
    row1 = sign * edge(x2, y2, x0, y0, px, py)
    row2 = sign * edge(x0, y0, x1, y1, px, py)
    dx0 = sign * (y1 - y2) * one
    dx1 = sign * (y2 - y0) * one
    dx2 = sign * (y0 - y1) * one
    dy0 = sign * (x2 - x1) * one
    dy1 = sign * (x0 - x2) * one
    dy2 = sign * (x1 - x0) * one
    scale = 1.0 / wp.float32(sign * area)
    inverse0 = wp.cast(p0[2] & INVERSE_BITS, wp.float32)
    inverse1 = wp.cast(p1[2] & INVERSE_BITS, wp.float32)
    inverse2 = wp.cast(p2[2] & INVERSE_BITS, wp.float32)
    low = wp.int64(FACE_BITS - f)
    border = (p0[2] | p1[2] | p2[2]) < 0
    cuts = wp.vec3(0.0, 0.0, 0.0)
    if border:
        cuts = wp.vec3(cut[b, face[0]] * inverse0, cut[b, face[1]] * inverse1, cut[b, face[2]] * inverse2)
    if eight:
        row = vec3l(row0, row1, row2)
        dx = vec3l(dx0, dx1, dx2)
        dy = vec3l(dy0, dy1, dy2)
        nearness = wp.vec3(inverse0, inverse1, inverse2)
        draw_eight(zbuffer[b], left, right, top, bottom, width, row, dx, dy, scale, nearness, border, cuts, low)
        return
    for y in range(top, bottom + 1):
        e0 = row0
        e1 = row1
        e2 = row2
        entered = int(0)  # noqa: RUF046, UP018 (a Warp variable that a branch changes must be declared by a call)
        for x in range(left, right + 1):
            if (e0 | e1 | e2) < wp.int64(0):
                if entered == 1:  # a row of a triangle has no gaps
                    break
            else:
                entered = 1
                inverse = (
                    (wp.float32(e0) * scale) * inverse0
                    + (wp.float32(e1) * scale) * inverse1
                    + (wp.float32(e2) * scale) * inverse2
                )
                key = (wp.int64(wp.cast(inverse, wp.int32)) << wp.int64(32)) | low
                # The interpolated cut over 1/z: only its sign matters, and 1/z is positive.
                kept = float(0.0)  # noqa: UP018
                if border:
                    kept = wp.float32(e0) * cuts[0] + wp.float32(e1) * cuts[1] + wp.float32(e2) * cuts[2]
                if kept >= 0.0:
                    wp.atomic_max(zbuffer, b, y * width + x, key)
            e0 += dx0
            e1 += dx1
            e2 += dx2
        row0 += dy0
        row1 += dy1
        row2 += dy2


@wp.kernel
def raster_kernel(
    screen: wp.array2d[wp.vec3i],
    faces: wp.array[wp.vec3i],
    cut: wp.array2d[wp.float32],
    height: int,
    width: int,
    culled: int,
    span: int,
    zbuffer: wp.array2d[wp.int64],
):
    """One thread per (image, ``span`` triangles)."""
    b, group = wp.tid()
    eight = span > 1 and width >= 8  # (a thread of a GPU takes one triangle)
    for f in range(group * span, wp.min((group + 1) * span, faces.shape[0])):
        draw(screen, faces, cut, b, f, height, width, culled, eight, zbuffer)


@wp.func
def resolve(
    zbuffer: wp.array2d[wp.int64],
    screen: wp.array2d[wp.vec3i],
    faces: wp.array[wp.vec3i],
    b: int,
    i: int,
    width: int,
    face_out: wp.array2d[wp.int32],
    bary_out: wp.array2d[wp.vec3],
    depth_out: wp.array2d[wp.float32],
):
    """Winning key of one pixel -> face index, perspective-correct barycentrics, depth."""
    key = zbuffer[b, i]
    if key == wp.int64(0):
        face_out[b, i] = -1
        bary_out[b, i] = wp.vec3(0.0, 0.0, 0.0)
        depth_out[b, i] = 0.0
        return
    f = FACE_BITS - int(key & FACE_MASK)
    face = faces[f]
    p0 = screen[b, face[0]]
    p1 = screen[b, face[1]]
    p2 = screen[b, face[2]]
    px = wp.int64((i % width) * SUBPIXEL)
    py = wp.int64((i / width) * SUBPIXEL)
    x0 = wp.int64(p0[0])
    y0 = wp.int64(p0[1])
    x1 = wp.int64(p1[0])
    y1 = wp.int64(p1[1])
    x2 = wp.int64(p2[0])
    y2 = wp.int64(p2[1])
    weight = wp.vec3(
        wp.float32(edge(x1, y1, x2, y2, px, py)) * wp.cast(p0[2] & INVERSE_BITS, wp.float32),
        wp.float32(edge(x2, y2, x0, y0, px, py)) * wp.cast(p1[2] & INVERSE_BITS, wp.float32),
        wp.float32(edge(x0, y0, x1, y1, px, py)) * wp.cast(p2[2] & INVERSE_BITS, wp.float32),
    )
    face_out[b, i] = f
    bary_out[b, i] = weight / (weight[0] + weight[1] + weight[2])
    depth_out[b, i] = 1.0 / wp.cast(int(key >> wp.int64(32)), wp.float32)


@wp.kernel
def resolve_kernel(
    zbuffer: wp.array2d[wp.int64],
    screen: wp.array2d[wp.vec3i],
    faces: wp.array[wp.vec3i],
    width: int,
    span: int,
    face_out: wp.array2d[wp.int32],
    bary_out: wp.array2d[wp.vec3],
    depth_out: wp.array2d[wp.float32],
):
    """One thread per (image, ``span`` pixels)."""
    b, group = wp.tid()
    for i in range(group * span, wp.min((group + 1) * span, zbuffer.shape[1])):
        resolve(zbuffer, screen, faces, b, i, width, face_out, bary_out, depth_out)


@wp.kernel
def interpolate_kernel(
    face_in: wp.array2d[wp.int32],
    bary: wp.array2d[wp.vec3],
    faces: wp.array[wp.vec3i],
    attributes: wp.array3d[wp.float32],
    span: int,
    out: wp.array3d[wp.float32],
):
    """Sum of the attributes of the face's corners, weighted by the barycentrics."""
    b, group = wp.tid()
    for i in range(group * span, wp.min((group + 1) * span, face_in.shape[1])):
        f = face_in[b, i]
        if f >= 0:
            face = faces[f]
            w = bary[b, i]
            for c in range(attributes.shape[2]):
                out[b, i, c] = (
                    w[0] * attributes[b, face[0], c]
                    + w[1] * attributes[b, face[1], c]
                    + w[2] * attributes[b, face[2], c]
                )


@wp.kernel
def face_normal_kernel(
    verts: wp.array2d[wp.vec3],
    faces: wp.array[wp.vec3i],
    span: int,
    out: wp.array2d[wp.vec3],
):
    """Area-weighted face normals; zero where a corner is not finite."""
    b, group = wp.tid()
    for f in range(group * span, wp.min((group + 1) * span, faces.shape[0])):
        face = faces[f]
        origin = verts[b, face[0]]
        normal = wp.cross(verts[b, face[1]] - origin, verts[b, face[2]] - origin)
        if not wp.isfinite(normal):
            normal = wp.vec3(0.0, 0.0, 0.0)
        out[b, f] = normal


@wp.kernel
def vertex_normal_kernel(
    face_normals: wp.array2d[wp.vec3],
    starts: wp.array[wp.int32],
    incident: wp.array[wp.int32],
    span: int,
    out: wp.array2d[wp.vec3],
):
    """Sum over the faces around a vertex in a fixed order (a scatter with float atomics would not be repeatable)."""
    b, group = wp.tid()
    for v in range(group * span, wp.min((group + 1) * span, out.shape[1])):
        total = wp.vec3(0.0, 0.0, 0.0)
        for i in range(starts[v], starts[v + 1]):
            total += face_normals[b, incident[i]]
        out[b, v] = wp.normalize(total)
