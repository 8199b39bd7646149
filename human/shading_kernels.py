"""Warp kernels of :mod:`human.shading`. Importing this module starts Warp (see :mod:`human.warp_start`)."""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)

from __future__ import annotations

import warp as wp

from human.warp_start import start_warp

start_warp()
wp.set_module_options({"enable_backward": False, "optimization_level": 3})


@wp.kernel
def texture_kernel(
    face_in: wp.array2d[wp.int32],
    bary: wp.array2d[wp.vec3],
    uv: wp.array2d[wp.vec2],
    texture: wp.array3d[wp.vec3],
    span: int,
    out: wp.array2d[wp.vec3],
):
    """Bilinear look-up, clamped at the border."""
    b, group = wp.tid()
    image = wp.min(b, texture.shape[0] - 1)
    bottom = texture.shape[1] - 1
    right = texture.shape[2] - 1
    for i in range(group * span, wp.min((group + 1) * span, face_in.shape[1])):
        f = face_in[b, i]
        if f >= 0:
            w = bary[b, i]
            at = w[0] * uv[f, 0] + w[1] * uv[f, 1] + w[2] * uv[f, 2]
            x = wp.clamp(at[0] * float(right + 1) - 0.5, 0.0, float(right))
            y = wp.clamp(at[1] * float(bottom + 1) - 0.5, 0.0, float(bottom))
            x0 = int(x)
            y0 = int(y)
            x1 = wp.min(x0 + 1, right)
            y1 = wp.min(y0 + 1, bottom)
            fx = x - float(x0)
            fy = y - float(y0)
            upper = (1.0 - fx) * texture[image, y0, x0] + fx * texture[image, y0, x1]
            lower = (1.0 - fx) * texture[image, y1, x0] + fx * texture[image, y1, x1]
            out[b, i] = (1.0 - fy) * upper + fy * lower


@wp.kernel
def shade_kernel(
    face_in: wp.array2d[wp.int32],
    bary: wp.array2d[wp.vec3],
    faces: wp.array[wp.vec3i],
    normals: wp.array2d[wp.vec3],
    albedo: wp.array2d[wp.vec3],
    terms: wp.array2d[wp.vec3],
    sun: wp.array2d[wp.vec3],
    span: int,
    out: wp.array2d[wp.vec3],
):
    """albedo * (polynomial in the normal + sun * max(n.d, 0)); ``terms`` hold the polynomial's factors."""
    b, group = wp.tid()
    for i in range(group * span, wp.min((group + 1) * span, face_in.shape[1])):
        f = face_in[b, i]
        if f >= 0:
            face = faces[f]
            w = bary[b, i]
            n = wp.normalize(w[0] * normals[b, face[0]] + w[1] * normals[b, face[1]] + w[2] * normals[b, face[2]])
            x = n[0]
            y = n[1]
            z = n[2]
            light = terms[b, 0] + y * terms[b, 1] + z * terms[b, 2] + x * terms[b, 3]
            light += (x * y) * terms[b, 4] + (y * z) * terms[b, 5] + (3.0 * z * z - 1.0) * terms[b, 6]
            light += (x * z) * terms[b, 7] + (x * x - y * y) * terms[b, 8]
            light = wp.max(light, wp.vec3(0.0, 0.0, 0.0)) + wp.max(wp.dot(n, sun[b, 0]), 0.0) * sun[b, 1]
            out[b, i] = wp.cw_mul(albedo[b, i], light)


@wp.kernel
def compose_kernel(
    colour: wp.array3d[wp.vec3],
    depth: wp.array3d[wp.float32],
    background: wp.array3d[wp.vec3],
    factor: int,
    span: int,
    out: wp.array3d[wp.vec3],
    alpha_out: wp.array3d[wp.float32],
    depth_out: wp.array3d[wp.float32],
):
    """Box-filter ``factor`` x ``factor`` samples over the background; depth is that of the nearest sample."""
    b, group = wp.tid()
    width = out.shape[2]
    samples = factor * factor
    for i in range(group * span, wp.min((group + 1) * span, out.shape[1] * width)):
        y = i / width
        x = i % width
        total = wp.vec3(0.0, 0.0, 0.0)
        covered = int(0)  # noqa: RUF046, UP018 (a Warp variable that a loop changes must be declared by a call)
        nearest = float(0.0)  # noqa: UP018
        for sy in range(y * factor, (y + 1) * factor):
            for sx in range(x * factor, (x + 1) * factor):
                z = depth[b, sy, sx]
                if z > 0.0:
                    total += colour[b, sy, sx]
                    covered += 1
                    if nearest == 0.0 or z < nearest:
                        nearest = z
        behind = background[b, y, x]
        if covered == samples:
            behind = wp.vec3(0.0, 0.0, 0.0)
        out[b, y, x] = (total + float(samples - covered) * behind) * (1.0 / float(samples))
        alpha_out[b, y, x] = float(covered) / float(samples)
        depth_out[b, y, x] = nearest
