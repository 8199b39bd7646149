"""Warp kernels of clothing: where a garment covers the surface, and how far it stands off the skin.

Importing this module starts Warp (see :mod:`human.warp_start`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)

from __future__ import annotations

import math

import warp as wp

from human.warp_start import start_warp

start_warp()
wp.set_module_options({"enable_backward": False, "optimization_level": 3})

#: x, y, z, reach, level, hair of a surface point at rest (``synth.surface.FIELDS``).
vec6 = wp.types.vector(length=6, dtype=wp.float32)
#: A garment's numbers (``synth.outfit.PARAMS``): thickness, sleeve, hem, neckline, v_neck, leg, cut, flare.
vec8 = wp.types.vector(length=8, dtype=wp.float32)

# Kinds of garment (``synth.outfit.KINDS``).
NONE = wp.constant(0)
TOP = wp.constant(1)
LEGS = wp.constant(2)
SHOE = wp.constant(3)
SOCK = wp.constant(4)
HAT = wp.constant(5)
SKIRT = wp.constant(6)
HAIR = wp.constant(7)
#: The layer of hair (``synth.dressed.LAYERS``).
HAIR_LAYER = wp.constant(4)

#: Vertices in a row whose fields have common bounds.
BLOCK = wp.constant(32)
HALF_PI = wp.constant(0.5 * math.pi)
#: Metres outside a garment's border up to which it still shapes a shell: about the length of a shell's triangles.
NEAR = wp.constant(-0.08)
#: A vertex cut by more than this is no corner of a drawn face: triangles are smaller (metres).
HIDDEN = wp.constant(-0.1)


@wp.func
def garment_depth(kind: int, params: vec8, field: vec6) -> float:
    """Metres (nearly) of a rest-pose surface point from the garment's border: positive inside.

    * top: down to the height ``hem``, up to ``neckline`` (lower in front by ``v_neck``), along the arm to ``sleeve``
      (units of reach).
    * legs, skirt: from the height ``hem`` (the waist) down to ``leg`` (units of -level); ``cut`` raises the leg
      opening sideways, as on swimwear.
    * shoe: below the height ``hem``. sock: below ``leg`` (0 ankle, 1 knee).
    * hat: more than ``hem`` above the hairline.
    * hair: where the field hair is more than ``hem`` (on the skin: height above the hairline; on the hair shell: height
      at rest). With ``sleeve`` > 0 also the mane: within ``sleeve`` of the middle, from the height ``v_neck`` down to
      ``leg``, behind the depth ``neckline``. Else the hair is shorter by ``neckline`` before the shoulders, its ends
      are ragged by ``v_neck``, and ``cut`` > 0 takes the fringe away.
    """
    x = wp.abs(field[0])
    y = field[1]
    z = field[2]
    reach = field[3]
    level = field[4]
    hair = field[5]
    hem = params[2]
    leg = params[5]
    depth = float(-1.0)  # noqa: UP018 (a Warp variable that a branch changes must be declared by a call)
    if kind == TOP:
        arms = 0.26 * (params[1] - reach)
        front = wp.max(z, 0.0) * 8.0
        collar = params[3] - y - params[4] * front * wp.max(1.0 - x * 11.0, 0.0)
        depth = wp.min(wp.min(arms, y - hem), collar)
    elif kind == LEGS or kind == SKIRT:  # noqa: SIM109 (Warp knows no `in`)
        depth = wp.min(hem - y, 0.4 * (level + leg) - params[6] * x)
    elif kind == SHOE:
        depth = hem - y
    elif kind == SOCK:
        depth = 0.4 * (leg - 2.0 - level)
    elif kind == HAT:
        depth = hair - hem
    elif kind == HAIR:
        depth = hair - hem
        if params[1] > 0.0:
            across = wp.min(params[1] - x, params[3] - z)
            depth = wp.max(depth, wp.min(across, wp.min(y - leg, params[4] - y)))
        else:
            fringe = wp.max(reach, 0.0)
            depth -= params[3] * wp.clamp(z * 25.0, 0.0, 1.0) * (1.0 - fringe) + params[6] * fringe
            if params[4] > 0.0 and depth > NEAR:  # (it only takes away)
                side = field[0]
                ragged = 0.5 + 0.5 * wave(190.0 * side + 110.0 * z + 2.0 * wave(67.0 * side - 90.0 * z))
                depth -= params[4] * (1.0 + 9.0 * fringe) * ragged
    return depth


@wp.func
def deepest(kind: int, params: vec8, low: vec6, high: vec6) -> float:
    """No point whose fields lie between ``low`` and ``high`` has a greater :func:`garment_depth`."""
    hem = params[2]
    leg = params[5]
    depth = float(-1.0)  # noqa: UP018
    if kind == TOP:
        depth = wp.min(wp.min(0.26 * (params[1] - low[3]), high[1] - hem), params[3] - low[1])
        if params[4] < 0.0:
            depth += 10.0
    elif kind == LEGS or kind == SKIRT:  # noqa: SIM109 (Warp knows no `in`)
        depth = wp.min(hem - low[1], 0.4 * (high[4] + leg) + wp.max(-params[6], 0.0))
    elif kind == SHOE:
        depth = hem - low[1]
    elif kind == SOCK:
        depth = 0.4 * (leg - 2.0 - low[4])
    elif kind == HAT:
        depth = high[5] - hem
    elif kind == HAIR:
        depth = high[5] - hem
        if params[1] > 0.0:
            across = wp.min(params[1], params[3] - low[2])
            depth = wp.max(depth, wp.min(across, wp.min(high[1] - leg, params[4] - low[1])))
        else:
            depth += 2.0 * (wp.max(-params[3], 0.0) + wp.max(-params[6], 0.0))
    return depth


@wp.func
def garments_near(
    kind: wp.array2d[wp.int32], params: wp.array2d[vec8], bounds: wp.array2d[vec6], b: int, block: int
) -> int:
    """The garments of row ``b`` that may shape a vertex of a block, as bits; ``bounds`` are those of its fields."""
    out = int(0)  # noqa: RUF046, UP018
    for g in range(kind.shape[1]):
        what = kind[b, g]
        if what != NONE and deepest(what, params[b, g], bounds[block, 0], bounds[block, 1]) > NEAR - 1.0e-5:
            out = out | (1 << g)
    return out


@wp.func
def wave(x: float) -> float:
    """Sine, within 2e-4 up to 300 radians; the C library's is a call per wave on the CPU."""
    turn = x * wp.static(0.5 / math.pi)
    whole = float(int(turn))
    t = turn - whole
    t = 4.0 * (t - wp.where(t > 0.5, 1.0, wp.where(t < -0.5, -1.0, 0.0)))  # quarter turns, -2..2
    t = wp.where(t > 1.0, 2.0 - t, wp.where(t < -1.0, -2.0 - t, t))
    s = t * t
    return t * (1.5706268 + s * (-0.6432292 + s * 0.0727102))


@wp.func
def smooth(t: float) -> float:
    """0 below 0, 1 above 1, smooth between."""
    t = wp.clamp(t, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@wp.func
def stand_off(kind: int, params: vec8, phase: float, field: vec6, normal: wp.vec3) -> float:
    """Metres between the skin and a garment at a rest-pose point with the rest normal ``normal``.

    Cloth lies close at its upper border, hangs from the undersides of arms and the backs of legs, widens towards its
    lower borders by ``flare`` (metres per metre), and folds in low waves fixed to the cloth.
    """
    thickness = params[0]
    flare = params[7]
    p = wp.vec3(field[0], field[1], field[2])
    first = wave(23.0 * p[0] + 34.0 * p[1] + 19.0 * p[2] + phase)
    second = wave(41.0 * p[0] - 17.0 * p[1] + 37.0 * p[2] + 1.7 * phase + 1.5 * first)
    folds = 1.0 + 0.22 * first * second + 0.1 * second
    # Cloth spans the hollows of the seat and the chest.
    middle = smooth(1.0 - wp.abs(p[0]) / 0.05) * wp.min(thickness / 0.006, 1.0)
    seat = smooth(-p[2] / 0.06) * smooth((p[1] + 0.06) / 0.08) * smooth((0.1 - p[1]) / 0.1)
    chest = smooth(p[2] / 0.06) * smooth((p[1] - 0.18) / 0.06) * smooth((0.42 - p[1]) / 0.08)
    hollow = middle * (0.012 * seat + 0.012 * chest)
    out = thickness
    if kind == TOP:
        loose = thickness * (0.3 + 0.7 * smooth((params[3] - p[1]) / 0.15))
        arm = smooth(field[3] / 0.3)
        below = wp.max(-normal[1], 0.0)
        end = wp.max(0.25 - 0.26 * (params[1] - field[3]), 0.0)
        loose = loose * (1.0 + 0.9 * arm * below) + arm * flare * end * (0.5 + below)
        loose += (1.0 - arm) * flare * wp.max(0.3 - (p[1] - params[2]), 0.0)
        out = 0.003 + loose * folds + hollow
    elif kind == LEGS:
        waist = params[2] - p[1]
        down = wp.max(-field[4], 0.0) * 0.4
        loose = (
            thickness * (0.25 + 0.75 * smooth(waist / 0.2)) * (1.0 + 0.6 * wp.max(-normal[2], 0.0) * smooth(down / 0.3))
        )
        out = 0.003 + (loose + flare * down) * folds + hollow
        if field[4] > -0.6:  # the legs of trousers do not cross the middle plane
            out = wp.min(out, 0.003 + 0.3 * wp.abs(p[0]) + hollow)
    elif kind == SKIRT:
        waist = wp.max(params[2] - p[1], 0.0)
        # sin(7 a + phase) and sin(5 a - 2.3 phase) of the angle a about the vertical, by powers of (cos a, sin a)
        one = wp.normalize(wp.vec2(p[2] + 0.02, p[0]))
        two = wp.vec2(one[0] * one[0] - one[1] * one[1], 2.0 * one[0] * one[1])
        four = wp.vec2(two[0] * two[0] - two[1] * two[1], 2.0 * two[0] * two[1])
        five = wp.vec2(four[0] * one[0] - four[1] * one[1], four[0] * one[1] + four[1] * one[0])
        seven = wp.vec2(five[0] * two[0] - five[1] * two[1], five[0] * two[1] + five[1] * two[0])
        pleats = 0.5 * (seven[1] * wave(phase + HALF_PI) + seven[0] * wave(phase))
        pleats += 0.25 * (five[1] * wave(2.3 * phase + HALF_PI) - five[0] * wave(2.3 * phase))
        out = 0.004 + thickness * smooth(waist / 0.1) + (flare + 0.03) * waist * (1.0 + pleats) - 0.03 * waist
    elif kind == SHOE:
        out = thickness + 0.008 * smooth((-normal[1] - 0.5) / 0.3)
    elif kind == HAIR:
        out = thickness * (1.0 + 0.3 * wave(60.0 * p[0] + 1.3 * phase) + 0.2 * wave(25.0 * p[1] + phase + 9.0 * p[0]))
    return out


@wp.func
def ring_normal(
    verts: wp.array2d[wp.vec3], b: int, v: int, starts: wp.array[wp.int32], ring: wp.array[wp.int32]
) -> wp.vec3:
    """Area-weighted unit normal; ``ring`` holds the corners around each vertex in turn (synth.dressed._rings)."""
    total = wp.vec3(0.0, 0.0, 0.0)
    p = verts[b, v]
    begin = starts[v]
    last = verts[b, ring[begin]] - p
    for i in range(begin + 1, starts[v + 1]):
        following = verts[b, ring[i]] - p
        total += wp.cross(last, following)
        last = following
    return wp.normalize(total)


@wp.func
def cover(kind: int, params: vec8, field: vec6, depth: float) -> float:
    """Metres by which a point under a garment at ``depth`` is out of sight: hidden where positive."""
    out = depth - 0.025
    if kind == SKIRT:
        # From below one looks into a skirt: it hides only what lies well above its hem.
        out = wp.min(params[2] - field[1] - 0.02, 0.4 * (field[4] + params[5]) - 0.15)
    return out


@wp.kernel
def drape_skin_kernel(
    verts: wp.array2d[wp.vec3],
    skin: int,
    fields: wp.array[vec6],
    bounds: wp.array2d[vec6],
    starts: wp.array[wp.int32],
    ring: wp.array[wp.int32],
    kind: wp.array2d[wp.int32],
    layer: wp.array2d[wp.int32],
    params: wp.array2d[vec8],
    span: int,
    out: wp.array2d[wp.vec3],
    cut: wp.array2d[wp.float32],
):
    """The first ``skin`` vertices: lifted by what is painted on them, sunk and then cut away under clothes."""
    b, group = wp.tid()
    count = kind.shape[1]
    block = int(-1)  # noqa: RUF046, UP018
    close = int(0)  # noqa: RUF046, UP018
    for v in range(group * span, wp.min((group + 1) * span, skin)):
        if v / BLOCK != block:
            block = v / BLOCK
            close = garments_near(kind, params, bounds, b, block)
        if close == 0:
            out[b, v] = verts[b, v]
            cut[b, v] = 1.0
            continue
        field = fields[v]
        lift = float(0.0)  # noqa: UP018
        shown = float(1.0)  # noqa: UP018
        covered = float(0.0)  # noqa: UP018
        for inner in range(count):  # from the outermost: what one hides, none need lift
            g = count - 1 - inner
            if (close >> g) & 1 == 0 or shown < HIDDEN:
                continue
            what = kind[b, g]
            on = layer[b, g]
            if on > 0 and what == HAIR:
                continue
            numbers = params[b, g]
            d = garment_depth(what, numbers, field)
            if d < NEAR:
                continue
            if on == 0:
                edge = 0.02
                if what == HAIR or what == HAT:  # noqa: SIM109
                    edge = 0.03
                lift = wp.max(lift, numbers[0] * smooth(d / edge))
            else:
                shown = wp.min(shown, -cover(what, numbers, field, d))
                covered = wp.max(covered, smooth(d / 0.02))
        x = verts[b, v]
        lift -= 0.004 * covered
        if lift != 0.0 and shown > HIDDEN:
            x += ring_normal(verts, b, v, starts, ring) * lift
        out[b, v] = x
        cut[b, v] = shown


@wp.kernel
def drape_shell_kernel(
    verts: wp.array2d[wp.vec3],
    skin: int,
    layers: wp.array[wp.int32],
    fields: wp.array[vec6],
    bounds: wp.array2d[vec6],
    rest_normals: wp.array[wp.vec3],
    starts: wp.array[wp.int32],
    ring: wp.array[wp.int32],
    bind: wp.array[wp.vec3i],
    bind_bary: wp.array[wp.vec3],
    kind: wp.array2d[wp.int32],
    layer: wp.array2d[wp.int32],
    params: wp.array2d[vec8],
    phase: wp.array2d[wp.float32],
    span: int,
    out: wp.array2d[wp.vec3],
    cut: wp.array2d[wp.float32],
):
    """The vertices from ``skin`` on: moved to where their layer's garments lie.

    Garments come innermost first; each lies outside those below it. ``cut`` is the depth inside the layer's garments,
    less where an outer garment hides the place.
    """
    b, group = wp.tid()
    worn = int(0)  # noqa: RUF046, UP018 (layers that any garment is on, as bits)
    count = int(0)  # noqa: RUF046, UP018
    for g in range(kind.shape[1]):
        if kind[b, g] != NONE:
            worn = worn | (1 << layer[b, g])
            count = g + 1
    block = int(-1)  # noqa: RUF046, UP018
    close = int(0)  # noqa: RUF046, UP018
    for v in range(skin + group * span, wp.min(skin + (group + 1) * span, layers.shape[0])):
        mine = layers[v]
        x = verts[b, v]
        if (worn >> mine) & 1 == 0:
            out[b, v] = x
            cut[b, v] = -1.0
            continue
        if v / BLOCK != block:
            block = v / BLOCK
            close = garments_near(kind, params, bounds, b, block)
        field = fields[v]
        own = float(-1.0)  # noqa: UP018
        shown = float(1.0)  # noqa: UP018 (negative where an outer garment hides this layer)
        depths = vec8(-1.0)
        for g in range(count):
            if (close >> g) & 1 == 0:
                continue
            what = kind[b, g]
            on = layer[b, g]
            if on != mine and (on == 0 or what == HAIR):
                continue
            d = garment_depth(what, params[b, g], field)
            depths[g] = d
            if on == mine:
                own = wp.max(own, d)
                if d >= NEAR:
                    shown = 1.0
            elif d >= NEAR and own > NEAR:
                shown = wp.min(shown, -cover(what, params[b, g], field, d))
        if own <= NEAR or shown < HIDDEN:
            out[b, v] = x
            cut[b, v] = wp.min(own, shown)
            continue
        below = float(0.0)  # noqa: UP018 (how far the garments so far stand off the skin)
        lift = float(0.0)  # noqa: UP018
        lid = float(1.0)  # noqa: UP018 (an outer garment's height, which this layer must not pass)
        reached = int(0)  # noqa: RUF046, UP018
        for g in range(count):
            d = depths[g]
            if d < NEAR:
                continue
            what = kind[b, g]
            on = layer[b, g]
            numbers = params[b, g]
            height = 0.004 + numbers[0]
            if what != SKIRT or mine == 3:
                height = stand_off(what, numbers, phase[b, g], field, rest_normals[v])
            if what == HAIR:  # the tights lie up to 2 cm off the skin that hair is bound to
                height += wp.min(4.0 * below, below + 0.018)
            height = wp.max(height, below + 0.003)
            if on == mine:
                lift = wp.max(lift, height)
                reached = 1
                lid = 1.0
            elif reached == 1 and d > -0.02:
                lid = wp.min(lid, height - 0.003 + 0.05 * (1.0 - smooth(d / 0.02 + 1.0)))
            below = wp.max(below, height * smooth(d / 0.03 + 0.5))
        x += ring_normal(verts, b, v, starts, ring) * lift
        # Never inside the skin, whatever the pose does to shell and body; nor above what is worn over it.
        f = bind[v]
        w = bind_bary[v]
        corner = verts[b, f[0]]
        at = w[0] * corner + w[1] * verts[b, f[1]] + w[2] * verts[b, f[2]]
        up = wp.normalize(wp.cross(verts[b, f[1]] - corner, verts[b, f[2]] - corner))
        gap = wp.dot(x - at, up)
        wanted = wp.max(gap, lift)
        if lid < 1.0:
            wanted = wp.min(wanted, wp.max(lid, 0.002))
        x += up * (wanted - gap)
        out[b, v] = x
        cut[b, v] = wp.min(own, shown)


@wp.kernel
def normal_kernel(
    verts: wp.array2d[wp.vec3],
    cut: wp.array2d[wp.float32],
    layers: wp.array[wp.int32],
    starts: wp.array[wp.int32],
    ring: wp.array[wp.int32],
    span: int,
    out: wp.array2d[wp.vec3],
):
    """Unit normals at the corners of drawn faces, summed in a fixed order; 0 farther away."""
    b, group = wp.tid()
    for v in range(group * span, wp.min((group + 1) * span, out.shape[1])):
        normal = wp.vec3(0.0, 0.0, 0.0)
        near = cut[b, v]
        if near >= 0.0:
            normal = ring_normal(verts, b, v, starts, ring)
        elif near > HIDDEN or (near > -1.0 and layers[v] == HAIR_LAYER):  # (a fringe's cut is not in metres)
            p = verts[b, v]
            last = ring[starts[v]]
            for i in range(starts[v] + 1, starts[v + 1]):
                following = ring[i]
                if cut[b, last] >= 0.0 or cut[b, following] >= 0.0:
                    normal += wp.cross(verts[b, last] - p, verts[b, following] - p)
                last = following
            normal = wp.normalize(normal)
        out[b, v] = normal
