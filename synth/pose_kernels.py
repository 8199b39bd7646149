"""Warp kernels that pose a mesh: forward kinematics and sparse skinning (SMPL, Loper et al. 2015, Eq. 2-4 and 7).

One thread owns a joint chain or a vertex and sums in a fixed order, so a sample has the same bytes in any batch.
Importing this module starts Warp (see :mod:`human.warp_start`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)

from __future__ import annotations

import warp as wp

from human.warp_start import start_warp

start_warp()
wp.set_module_options({"enable_backward": False, "optimization_level": 3})

BETAS = wp.constant(10)
INFLUENCES = wp.constant(6)
mat34 = wp.types.matrix(shape=(3, 4), dtype=wp.float32)


@wp.func
def rotation(rotvec: wp.vec3) -> wp.mat33:
    """Rodrigues' formula."""
    square = wp.dot(rotvec, rotvec)
    s = 1.0 - square / 6.0
    c = 0.5 - square / 24.0
    if square > 1.0e-4:
        angle = wp.sqrt(square)
        s = wp.sin(angle) / angle
        half = wp.sin(0.5 * angle)
        c = 2.0 * half * half / square
    k = wp.skew(rotvec)
    return wp.identity(n=3, dtype=wp.float32) + s * k + c * (k * k)


@wp.kernel
def chain_kernel(
    betas: wp.array2d[wp.float32],
    body_pose: wp.array2d[wp.vec3],
    global_orient: wp.array[wp.vec3],
    transl: wp.array[wp.vec3],
    joint_template: wp.array[wp.vec3],
    joint_shapedirs: wp.array2d[wp.vec3],
    parents: wp.array[wp.int32],
    span: int,
    rest: wp.array2d[wp.vec3],
    world: wp.array2d[wp.mat33],
    joints: wp.array2d[wp.vec3],
    motion: wp.array2d[mat34],
):
    """One thread per person: rest joints, world rotations, posed joints, each joint's rigid motion from rest."""
    b, _group = wp.tid()
    for j in range(parents.shape[0]):
        at_rest = joint_template[j]
        for k in range(BETAS):
            at_rest += betas[b, k] * joint_shapedirs[j, k]
        rest[b, j] = at_rest
    for j in range(parents.shape[0]):
        parent = parents[j]
        if parent < 0:
            world[b, j] = rotation(global_orient[b])
            joints[b, j] = rest[b, j] + transl[b]
        else:
            world[b, j] = world[b, parent] * rotation(body_pose[b, j - 1])
            joints[b, j] = joints[b, parent] + world[b, parent] * (rest[b, j] - rest[b, parent])
        r = world[b, j]
        t = joints[b, j] - r * rest[b, j]
        motion[b, j] = mat34(
            r[0, 0], r[0, 1], r[0, 2], t[0],
            r[1, 0], r[1, 1], r[1, 2], t[1],
            r[2, 0], r[2, 1], r[2, 2], t[2],
        )  # fmt: skip


@wp.func
def posed(
    betas: wp.array2d[wp.float32],
    motion: wp.array2d[mat34],
    mean: wp.array[wp.vec3],
    shapedirs: wp.array2d[wp.vec3],
    weight_joint: wp.array2d[wp.int32],
    weight: wp.array2d[wp.float32],
    b: int,
    v: int,
) -> wp.vec3:
    """A vertex of person ``b``."""
    p = mean[v]
    for k in range(BETAS):
        p += betas[b, k] * shapedirs[v, k]
    m = weight[v, 0] * motion[b, weight_joint[v, 0]]
    for i in range(1, INFLUENCES):
        w = weight[v, i]
        if w > 0.0:
            m += w * motion[b, weight_joint[v, i]]
    return wp.vec3(
        m[0, 0] * p[0] + m[0, 1] * p[1] + m[0, 2] * p[2] + m[0, 3],
        m[1, 0] * p[0] + m[1, 1] * p[1] + m[1, 2] * p[2] + m[1, 3],
        m[2, 0] * p[0] + m[2, 1] * p[1] + m[2, 2] * p[2] + m[2, 3],
    )


@wp.kernel
def skin_kernel(
    betas: wp.array2d[wp.float32],
    motion: wp.array2d[mat34],
    mean: wp.array[wp.vec3],
    shapedirs: wp.array2d[wp.vec3],
    weight_joint: wp.array2d[wp.int32],
    weight: wp.array2d[wp.float32],
    target: wp.array2d[wp.int32],
    span: int,
    out: wp.array2d[wp.vec3],
):
    """Shape and pose each distinct vertex and write it to its one or two places in the drawn mesh."""
    b, group = wp.tid()
    for v in range(group * span, wp.min((group + 1) * span, mean.shape[0])):
        x = posed(betas, motion, mean, shapedirs, weight_joint, weight, b, v)
        out[b, target[v, 0]] = x
        if target[v, 1] >= 0:
            out[b, target[v, 1]] = x


@wp.kernel
def regress_kernel(
    betas: wp.array2d[wp.float32],
    motion: wp.array2d[mat34],
    mean: wp.array[wp.vec3],
    shapedirs: wp.array2d[wp.vec3],
    weight_joint: wp.array2d[wp.int32],
    skin_weight: wp.array2d[wp.float32],
    index: wp.array2d[wp.int32],
    weight: wp.array2d[wp.float32],
    first: int,
    span: int,
    joints: wp.array2d[wp.vec3],
):
    """Joint ``first`` + j is a fixed combination of vertices, posed here."""
    b, group = wp.tid()
    for j in range(group * span, wp.min((group + 1) * span, index.shape[0])):
        total = wp.vec3(0.0, 0.0, 0.0)
        for k in range(index.shape[1]):
            w = weight[j, k]
            if w != 0.0:
                total += w * posed(betas, motion, mean, shapedirs, weight_joint, skin_weight, b, index[j, k])
        joints[b, first + j] = total
