"""Warp kernels of :mod:`synth.sensor`: blur, resolution, tone and noise; one source for CPU and CUDA.

Images are (B, H*W) vec3, 0..255. A row that does not use a step leaves the kernel at once. Importing this module starts
Warp (see :mod:`human.raster_kernels`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)

from __future__ import annotations

import warp as wp

from human.warp_start import start_warp

start_warp()
wp.set_module_options({"enable_backward": False, "optimization_level": 3})

#: Taps of half a Gaussian, the middle one included: the largest radius is one less.
TAPS = wp.constant(64)
#: Steps of the tone table over 0..255.
TONES = wp.constant(256)
#: Quantiles of the normal distribution that noise is drawn from.
QUANTILES = wp.constant(4096)
MULTIPLY = wp.constant(wp.uint32(747796405))
ADD = wp.constant(wp.uint32(2891336453))
MIX = wp.constant(wp.uint32(277803737))
GOLDEN = wp.constant(wp.uint32(0x9E3779B9))


@wp.func
def radius_of(sigma: float) -> int:
    return wp.min(int(wp.ceil(2.7 * sigma)), TAPS - 1)


@wp.func
def curve_at(step: int, gamma: float, contrast: float) -> float:
    return (255.0 * wp.pow(float(step) / float(TONES), gamma) - 128.0) * contrast + 128.0


@wp.kernel
def prepare_kernel(
    blur: wp.array[wp.float32],
    gamma: wp.array[wp.float32],
    contrast: wp.array[wp.float32],
    noise: wp.array[wp.float32],
    shot: wp.array[wp.float32],
    span: int,
    taps: wp.array2d[wp.float32],
    tone: wp.array2d[wp.vec3],
):
    """Per row: the Gaussian's taps, and (value, rise to the next, deviation of its noise) over the input's levels."""
    b, group = wp.tid()
    for i in range(group * span, wp.min((group + 1) * span, TONES + 1)):
        value = curve_at(i, gamma[b], contrast[b])
        rise = curve_at(i + 1, gamma[b], contrast[b]) - value
        bright = wp.clamp(value, 0.0, 255.0) / 128.0
        tone[b, i] = wp.vec3(value, rise, noise[b] * wp.sqrt(1.0 - shot[b] + shot[b] * bright))
    if group == 0 and blur[b] > 0.0:
        radius = radius_of(blur[b])
        total = float(0.0)  # noqa: UP018 (a Warp variable that a loop changes must be declared by a call)
        for k in range(radius + 1):
            weight = wp.exp(-0.5 * float(k * k) / (blur[b] * blur[b]))
            taps[b, k] = weight
            total += weight
            if k > 0:
                total += weight
        for k in range(radius + 1):
            taps[b, k] = taps[b, k] / total


@wp.kernel
def blur_across_kernel(
    image: wp.array2d[wp.vec3],
    blur: wp.array[wp.float32],
    taps: wp.array2d[wp.float32],
    width: int,
    span: int,
    out: wp.array2d[wp.vec3],
):
    b, group = wp.tid()
    if blur[b] <= 0.0:
        return
    radius = radius_of(blur[b])
    line = image[b]
    weights = taps[b]
    x = (group * span) % width - 1
    for i in range(group * span, wp.min((group + 1) * span, line.shape[0])):
        x += 1
        if x == width:
            x = 0
        total = weights[0] * line[i]
        if x >= radius and x + radius < width:
            for k in range(1, radius + 1):
                total += weights[k] * (line[i - k] + line[i + k])
        else:
            for k in range(1, radius + 1):
                total += weights[k] * (line[i - wp.min(k, x)] + line[i + wp.min(k, width - 1 - x)])
        out[b, i] = total


@wp.kernel
def blur_down_kernel(
    image: wp.array2d[wp.vec3],
    blur: wp.array[wp.float32],
    taps: wp.array2d[wp.float32],
    width: int,
    span: int,
    out: wp.array2d[wp.vec3],
):
    b, group = wp.tid()
    if blur[b] <= 0.0:
        return
    radius = radius_of(blur[b])
    line = image[b]
    weights = taps[b]
    far = radius * width
    last = line.shape[0] - width
    for i in range(group * span, wp.min((group + 1) * span, line.shape[0])):
        total = weights[0] * line[i]
        if i >= far and i < line.shape[0] - far:
            for k in range(1, radius + 1):
                total += weights[k] * (line[i - k * width] + line[i + k * width])
        else:
            x = i % width
            for k in range(1, radius + 1):
                above = line[wp.max(i - k * width, x)]
                below = line[wp.min(i + k * width, last + x)]
                total += weights[k] * (above + below)
        out[b, i] = total


@wp.kernel
def motion_kernel(
    image: wp.array2d[wp.vec3],
    blurred: wp.array2d[wp.vec3],
    blur: wp.array[wp.float32],
    motion: wp.array[wp.vec2],
    width: int,
    span: int,
    out: wp.array2d[wp.vec3],
):
    """Average along a straight stroke: one tap per pixel of its longer axis, linear between the two nearest pixels."""
    b, group = wp.tid()
    dx = wp.abs(motion[b][0])
    dy = wp.abs(motion[b][1])
    length = wp.max(dx, dy)
    if length <= 0.0:
        return
    slope = wp.min(dx, dy) / length
    if motion[b][0] * motion[b][1] < 0.0:
        slope = -slope
    height = image.shape[1] / width
    reach = 0.5 * length + 0.5
    steps = int(wp.ceil(reach)) - 1
    soft = blur[b] > 0.0
    upright = dy > dx
    along = wp.where(upright, width, 1)
    aside_step = wp.where(upright, 1, width)
    margin = steps + 1
    for i in range(group * span, wp.min((group + 1) * span, image.shape[1])):
        x = i % width
        y = i / width
        inside = x >= margin and y >= margin and x + margin < width and y + margin < height
        total = wp.vec3(0.0, 0.0, 0.0)
        weights = float(0.0)  # noqa: UP018
        for k in range(-steps, steps + 1):
            aside = float(k) * slope
            low = int(wp.floor(aside))
            share = aside - float(low)
            at0 = i + k * along + low * aside_step
            at1 = at0 + aside_step
            if not inside:
                x0 = wp.where(upright, x + low, x + k)
                y0 = wp.where(upright, y + k, y + low)
                x1 = wp.where(upright, x0 + 1, x0)
                y1 = wp.where(upright, y0, y0 + 1)
                at0 = wp.clamp(y0, 0, height - 1) * width + wp.clamp(x0, 0, width - 1)
                at1 = wp.clamp(y1, 0, height - 1) * width + wp.clamp(x1, 0, width - 1)
            weight = wp.min(reach - wp.abs(float(k)), 1.0)
            weights += weight
            if soft:
                total += (weight * (1.0 - share)) * blurred[b, at0] + (weight * share) * blurred[b, at1]
            else:
                total += (weight * (1.0 - share)) * image[b, at0] + (weight * share) * image[b, at1]
        out[b, i] = total / weights


@wp.func
def reduced(side: int, factor: float) -> int:
    """Pixels of a side that is shrunk by ``factor``, at least 8 (or the side)."""
    return wp.clamp(int(wp.rint(float(side) / factor)), wp.min(8, side), side)


@wp.kernel
def shrink_kernel(
    image: wp.array2d[wp.vec3],
    blurred: wp.array2d[wp.vec3],
    moved: wp.array2d[wp.vec3],
    blur: wp.array[wp.float32],
    motion: wp.array[wp.vec2],
    factor: wp.array[wp.float32],
    width: int,
    span: int,
    out: wp.array2d[wp.vec3],
):
    """Average over the area of each larger pixel."""
    b, group = wp.tid()
    if factor[b] <= 1.0:
        return
    height = image.shape[1] / width
    small_w = reduced(width, factor[b])
    small_h = reduced(height, factor[b])
    step_x = float(width) / float(small_w)
    step_y = float(height) / float(small_h)
    shaken = motion[b][0] != 0.0 or motion[b][1] != 0.0
    soft = blur[b] > 0.0
    for i in range(group * span, wp.min((group + 1) * span, small_w * small_h)):
        left = float(i % small_w) * step_x
        top = float(i / small_w) * step_y
        right = left + step_x
        bottom = top + step_y
        total = wp.vec3(0.0, 0.0, 0.0)
        for y in range(int(top), wp.min(int(wp.ceil(bottom - 1.0e-4)), height)):
            tall = wp.min(float(y + 1), bottom) - wp.max(float(y), top)
            for x in range(int(left), wp.min(int(wp.ceil(right - 1.0e-4)), width)):
                weight = tall * (wp.min(float(x + 1), right) - wp.max(float(x), left))
                at = y * width + x
                if shaken:
                    total += weight * moved[b, at]
                elif soft:
                    total += weight * blurred[b, at]
                else:
                    total += weight * image[b, at]
        out[b, i] = total / (step_x * step_y)


@wp.kernel
def enlarge_kernel(
    small: wp.array2d[wp.vec3],
    factor: wp.array[wp.float32],
    width: int,
    span: int,
    out: wp.array2d[wp.vec3],
):
    """Linear interpolation back to the full size."""
    b, group = wp.tid()
    if factor[b] <= 1.0:
        return
    height = out.shape[1] / width
    small_w = reduced(width, factor[b])
    small_h = reduced(height, factor[b])
    step_x = float(small_w) / float(width)
    step_y = float(small_h) / float(height)
    for i in range(group * span, wp.min((group + 1) * span, out.shape[1])):
        x = wp.clamp((float(i % width) + 0.5) * step_x - 0.5, 0.0, float(small_w - 1))
        y = wp.clamp((float(i / width) + 0.5) * step_y - 0.5, 0.0, float(small_h - 1))
        x0 = int(x)
        y0 = int(y)
        fx = x - float(x0)
        fy = y - float(y0)
        upper = y0 * small_w
        lower = wp.min(y0 + 1, small_h - 1) * small_w
        x1 = wp.min(x0 + 1, small_w - 1)
        above = (1.0 - fx) * small[b, upper + x0] + fx * small[b, upper + x1]
        below = (1.0 - fx) * small[b, lower + x0] + fx * small[b, lower + x1]
        out[b, i] = (1.0 - fy) * above + fy * below


@wp.func
def hashed(word: wp.uint32) -> wp.uint32:
    """PCG-RXS-M-XS 32, O'Neill 2014, as a hash (Jarzynski & Olano, "Hash Functions for GPU Rendering", JCGT 2020)."""
    state = word * MULTIPLY + ADD
    mixed = ((state >> ((state >> wp.uint32(28)) + wp.uint32(4))) ^ state) * MIX
    return (mixed >> wp.uint32(22)) ^ mixed


@wp.func
def developed(value: float, tint: float, tone: wp.array[wp.vec3], normal: float) -> wp.uint8:
    at = wp.clamp(value, 0.0, 255.0) * (float(TONES) / 255.0)
    step = wp.min(int(at), TONES - 1)
    low = tone[step]
    curve = low[0] + (at - float(step)) * low[1]
    # The sensor saturates first; noise comes on top.
    out = wp.clamp(curve * tint, 0.0, 255.0) + low[2] * normal
    return wp.uint8(int(wp.clamp(out + 0.5, 0.0, 255.0)))


@wp.kernel
def develop_kernel(
    image: wp.array2d[wp.vec3],
    blurred: wp.array2d[wp.vec3],
    moved: wp.array2d[wp.vec3],
    resized: wp.array2d[wp.vec3],
    blur: wp.array[wp.float32],
    motion: wp.array[wp.vec2],
    factor: wp.array[wp.float32],
    grey: wp.array[wp.float32],
    tint: wp.array[wp.vec3],
    seed: wp.array[wp.int64],
    tone: wp.array2d[wp.vec3],
    normal: wp.array[wp.float32],
    span: int,
    out: wp.array3d[wp.uint8],
):
    """Tone curve, tint and noise; rounded, (B,3,H*W) uint8. Noise is a function of (seed, pixel) alone."""
    b, group = wp.tid()
    key = hashed(wp.uint32(seed[b])) ^ wp.uint32(seed[b] >> wp.int64(32))
    mask = wp.uint32(QUANTILES - 1)
    shaken = motion[b][0] != 0.0 or motion[b][1] != 0.0
    shrunk = factor[b] > 1.0
    soft = blur[b] > 0.0
    pale = grey[b]
    red = tint[b][0]
    green = tint[b][1]
    blue = tint[b][2]
    curve = tone[b]
    for i in range(group * span, wp.min((group + 1) * span, image.shape[1])):
        colour = wp.vec3(0.0, 0.0, 0.0)
        if shrunk:
            colour = resized[b, i]
        elif shaken:
            colour = moved[b, i]
        elif soft:
            colour = blurred[b, i]
        else:
            colour = image[b, i]
        if pale > 0.0:
            luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
            colour += pale * (wp.vec3(luma, luma, luma) - colour)
        first = hashed(wp.uint32(i) ^ key)
        second = hashed(first ^ GOLDEN)
        out[b, 0, i] = developed(colour[0], red, curve, normal[int(first & mask)])
        out[b, 1, i] = developed(colour[1], green, curve, normal[int((first >> wp.uint32(16)) & mask)])
        out[b, 2, i] = developed(colour[2], blue, curve, normal[int(second & mask)])
