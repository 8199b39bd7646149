"""Warp kernels of PA-MPJPE: one thread per pose, float64 inside, one source for CPU and CUDA.

Importing this module starts Warp; :mod:`metrics.functional.mpjpe` does so at its first call, never at import.
The method and its sources are those of :mod:`metrics.functional.procrustes`. Loops over joints have no branches, which
is worth a factor of four on a CPU; so a joint without weight is read as if it lay on the shift.
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)

from __future__ import annotations

from typing import Any

import warp as wp

from human.warp_start import start_warp
from metrics.functional.procrustes import _WELL_CONDITIONED

start_warp()
wp.set_module_options({"enable_backward": False, "optimization_level": 3})

MIN_ZETA = wp.constant(wp.float64(_WELL_CONDITIONED))
#: Where centring leaves less than this share of the moments about the shift, half their digits are gone.
MIN_SHARE = wp.constant(wp.float64(1e-6))
MM_PER_M = wp.constant(wp.float64(1000.0))
CLOSE = wp.constant(wp.float64(1e-9))  # Newton's steps are quadratic: the next is lost in rounding
SQRT12 = wp.constant(wp.float64(12.0**0.5))


@wp.struct
class Map:
    """x -> row . x + shift; ``good`` is 0 where this closed form cannot be trusted."""

    row0: wp.vec3d
    row1: wp.vec3d
    row2: wp.vec3d
    shift: wp.vec3d
    good: int


@wp.func
def widen(v: Any):
    return wp.vec3d(wp.float64(v[0]), wp.float64(v[1]), wp.float64(v[2]))


@wp.func
def best_map(
    total: wp.float64, sx: wp.vec3d, sy: wp.vec3d, row0: wp.vec3d, row1: wp.vec3d, row2: wp.vec3d, xx: wp.vec3d
) -> Map:
    """From weighted sums over joints of 1, x, y, the rows y_i x, and x_i x_i, about one joint of each set."""
    out = Map()
    one = wp.float64(1.0)
    share = one / total
    mx = share * sx
    my = share * sy
    # Rows of the covariance, target by source.
    a = share * row0 - my[0] * mx
    b = share * row1 - my[1] * mx
    c = share * row2 - my[2] * mx
    raw = share * (xx[0] + xx[1] + xx[2])
    spread = raw - wp.dot(mx, mx)
    norm2 = wp.dot(a, a) + wp.dot(b, b) + wp.dot(c, c)
    # A comparison with NaN is false: what is not finite is not good.
    if spread > MIN_SHARE * raw and norm2 > wp.float64(0.0) and wp.isfinite(norm2 + spread):
        norm = wp.sqrt(norm2)
        inverse = one / norm
        a = inverse * a
        b = inverse * b
        c = inverse * c
        ka = wp.cross(b, c)
        kb = wp.cross(c, a)
        kc = wp.cross(a, b)
        det = wp.dot(a, ka)
        adj2 = wp.dot(ka, ka) + wp.dot(kb, kb) + wp.dot(kc, kc)
        # Newton on Markley's quartic from above: the largest root has
        # gain^2 = 1 + 2 (s1 s2 + s2 s3 + s3 s1) <= 1 + 2 sqrt(3) |adj M|.
        constant = one - wp.float64(4.0) * adj2
        gain = wp.sqrt(one + SQRT12 * wp.sqrt(adj2))
        step = wp.float64(1.0)
        steps = int(0)  # noqa: RUF046, UP018 (a Warp variable that a loop changes must be declared by a call)
        while step > CLOSE and steps < 16:
            square = gain * gain
            value = (square - wp.float64(2.0)) * square - wp.float64(8.0) * det * gain + constant
            slope = wp.float64(4.0) * gain * (square - one) - wp.float64(8.0) * det
            step = value / wp.max(slope, wp.float64(1e-30))
            gain -= step
            steps += 1
        kappa = wp.float64(0.5) * (gain * gain - one)
        zeta = kappa * gain - det
        if zeta > MIN_ZETA:
            # Markley's eq. 14 times the scale; M M^T M by rows.
            scale = gain * norm / (spread * zeta)
            ab = wp.dot(a, b)
            ac = wp.dot(a, c)
            bc = wp.dot(b, c)
            k1 = kappa + one
            out.row0 = scale * ((k1 - wp.dot(a, a)) * a - ab * b - ac * c + gain * ka)
            out.row1 = scale * ((k1 - wp.dot(b, b)) * b - ab * a - bc * c + gain * kb)
            out.row2 = scale * ((k1 - wp.dot(c, c)) * c - ac * a - bc * b + gain * kc)
            out.shift = my - wp.vec3d(wp.dot(out.row0, mx), wp.dot(out.row1, mx), wp.dot(out.row2, mx))
            out.good = 1
    return out


@wp.func
def distance(m: Map, x: wp.vec3d, y: wp.vec3d) -> wp.float64:
    dx = wp.dot(m.row0, x) + m.shift[0] - y[0]
    dy = wp.dot(m.row1, x) + m.shift[1] - y[1]
    dz = wp.dot(m.row2, x) + m.shift[2] - y[2]
    return wp.sqrt(dx * dx + dy * dy + dz * dz)


@wp.kernel
def plain_kernel(
    pred: wp.array2d[Any],
    target: wp.array2d[Any],
    span: int,
    error: wp.array[wp.float64],
    hard: wp.array[wp.uint8],
):
    """PA-MPJPE in mm of poses whose joints are all labelled; ``hard`` marks those that are to be done otherwise,
    which includes all with a number that is not finite."""
    _, group = wp.tid()
    joints = pred.shape[1]
    for b in range(group * span, wp.min((group + 1) * span, pred.shape[0])):
        x0 = widen(pred[b, 0])
        y0 = widen(target[b, 0])
        sx = wp.vec3d()
        sy = wp.vec3d()
        row0 = wp.vec3d()
        row1 = wp.vec3d()
        row2 = wp.vec3d()
        xx = wp.vec3d()
        for j in range(joints):
            x = widen(pred[b, j]) - x0
            y = widen(target[b, j]) - y0
            sx += x
            sy += y
            row0 += y[0] * x
            row1 += y[1] * x
            row2 += y[2] * x
            xx += wp.cw_mul(x, x)
        m = best_map(wp.float64(joints), sx, sy, row0, row1, row2, xx)
        total = wp.float64(0.0)
        if m.good == 1:
            for j in range(joints):
                total += distance(m, widen(pred[b, j]) - x0, widen(target[b, j]) - y0)
        error[b] = MM_PER_M * total / wp.float64(joints)
        hard[b] = wp.uint8(1)
        if m.good == 1 and wp.isfinite(total):
            hard[b] = wp.uint8(0)


@wp.kernel
def weighted_kernel(
    pred: wp.array2d[Any],
    target: wp.array2d[Any],
    weight: wp.array2d[wp.float64],
    span: int,
    error: wp.array[wp.float64],
    hard: wp.array[wp.uint8],
):
    """As :func:`plain_kernel` with weights >= 0, which are 0 wherever the target is not finite.

    A pose without weights is not hard: its error is NaN.
    """
    _, group = wp.tid()
    joints = pred.shape[1]
    zero = wp.float64(0.0)
    for b in range(group * span, wp.min((group + 1) * span, pred.shape[0])):
        first = int(0)  # noqa: RUF046, UP018
        while first < joints - 1 and weight[b, first] == zero:
            first += 1
        x0 = widen(pred[b, first])
        y0 = widen(target[b, first])
        weights = wp.float64(0.0)
        sx = wp.vec3d()
        sy = wp.vec3d()
        row0 = wp.vec3d()
        row1 = wp.vec3d()
        row2 = wp.vec3d()
        xx = wp.vec3d()
        for j in range(joints):
            w = weight[b, j]
            x = wp.where(w > zero, widen(pred[b, j]), x0) - x0
            y = wp.where(w > zero, widen(target[b, j]), y0) - y0
            wx = w * x
            weights += w
            sx += wx
            sy += w * y
            row0 += y[0] * wx
            row1 += y[1] * wx
            row2 += y[2] * wx
            xx += wp.cw_mul(wx, x)
        error[b] = wp.float64(wp.nan)
        hard[b] = wp.uint8(0)
        if weights > zero:
            m = best_map(weights, sx, sy, row0, row1, row2, xx)
            total = wp.float64(0.0)
            if m.good == 1:
                for j in range(joints):
                    w = weight[b, j]
                    x = wp.where(w > zero, widen(pred[b, j]), x0) - x0
                    y = wp.where(w > zero, widen(target[b, j]), y0) - y0
                    total += w * distance(m, x, y)
            hard[b] = wp.uint8(1)
            if m.good == 1 and wp.isfinite(total):
                hard[b] = wp.uint8(0)
                error[b] = MM_PER_M * total / weights


def _overloads(kernel, dtype):
    return wp.overload(kernel, {"pred": wp.array2d(dtype=dtype), "target": wp.array2d(dtype=dtype)})


PLAIN = {size: _overloads(plain_kernel, dtype) for size, dtype in ((4, wp.vec3), (8, wp.vec3d))}
WEIGHTED = {size: _overloads(weighted_kernel, dtype) for size, dtype in ((4, wp.vec3), (8, wp.vec3d))}
