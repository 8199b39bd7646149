"""The Warp kernel that turns z-buffers into a picture: surface colour, relief, light, and what lies behind.

One thread per output pixel (CUDA) or per run of them (CPU); pixels that nobody covers cost only the background.
Importing this module starts Warp (see :mod:`human.warp_start`).
"""

# mypy: ignore-errors
# (Warp compiles these bodies itself; its type stubs do not describe what kernels may do with arrays.)
# ruff: noqa: UP018, RUF046, SIM109
# (A Warp variable that a branch or loop changes must be declared by a call; Warp knows no `in`.)

from __future__ import annotations

import warp as wp

from human.raster_kernels import FACE_BITS, FACE_MASK, INVERSE_BITS, SUBPIXEL, edge
from synth import paint_kernels as pk
from synth import skin_kernels, surface_kernels
from synth.drape_kernels import HAIR, LEGS, SHOE, SKIRT, TOP, garment_depth, vec6, vec8
from synth.scan_kernels import CENTRE, ONCE
from synth.shadow_kernels import OFFSET, lit, mat44, nearness, turn_at
from synth.surface_kernels import vec4ub, vec16

wp.set_module_options({"enable_backward": False, "optimization_level": 3})

HAIR_LAYER = wp.constant(4)
#: Steps of the tone table over the square root of radiance, and the radiance at its end.
TONE_STEPS = wp.constant(1023.0)
TONE_TOP = wp.constant(4.0)
NEAR_REACH = wp.constant(0.22)


@wp.func
def weights_at(p0: wp.vec3i, p1: wp.vec3i, p2: wp.vec3i, px: wp.int64, py: wp.int64) -> wp.vec3:
    """Perspective-correct barycentrics of a screen position (as human.raster_kernels.resolve), kept in the triangle."""
    x0 = wp.int64(p0[0])
    y0 = wp.int64(p0[1])
    x1 = wp.int64(p1[0])
    y1 = wp.int64(p1[1])
    x2 = wp.int64(p2[0])
    y2 = wp.int64(p2[1])
    a = wp.float32(edge(x1, y1, x2, y2, px, py)) * wp.cast(p0[2] & INVERSE_BITS, wp.float32)
    b = wp.float32(edge(x2, y2, x0, y0, px, py)) * wp.cast(p1[2] & INVERSE_BITS, wp.float32)
    c = wp.float32(edge(x0, y0, x1, y1, px, py)) * wp.cast(p2[2] & INVERSE_BITS, wp.float32)
    if edge(x0, y0, x1, y1, x2, y2) < wp.int64(0):
        a = -a
        b = -b
        c = -c
    # A pixel's centre may lie beside the triangle that one of its samples hit.
    a = wp.max(a, 0.0)
    b = wp.max(b, 0.0)
    c = wp.max(c, 0.0)
    total = a + b + c
    if total <= 0.0:
        return wp.vec3(1.0, 0.0, 0.0)
    return wp.vec3(a / total, b / total, c / total)


@wp.func
def irradiance(terms: wp.array2d[wp.vec3], b: int, n: wp.vec3) -> wp.vec3:
    """Light reflected by a white surface with this normal (Ramamoorthi & Hanrahan 2001, eq. 13)."""
    x = n[0]
    y = n[1]
    z = n[2]
    light = terms[b, 0] + y * terms[b, 1] + z * terms[b, 2] + x * terms[b, 3]
    light += (x * y) * terms[b, 4] + (y * z) * terms[b, 5] + (3.0 * z * z - 1.0) * terms[b, 6]
    light += (x * z) * terms[b, 7] + (x * x - y * y) * terms[b, 8]
    return wp.max(light, wp.vec3(0.0, 0.0, 0.0))


@wp.func
def over_edge(cosine: float, wrap: float) -> float:
    """Lambert's cosine, reaching ``wrap`` beyond the terminator, with the same total light over a sphere."""
    return wp.max(cosine + wrap, 0.0) / ((1.0 + wrap) * (1.0 + wrap))


@wp.func
def tone(table: wp.array[wp.float32], radiance: float) -> float:
    t = wp.min(wp.sqrt(wp.max(radiance, 0.0) / TONE_TOP), 1.0) * TONE_STEPS
    i = wp.min(int(t), int(TONE_STEPS) - 1)
    return table[i] + (t - float(i)) * (table[i + 1] - table[i])


@wp.kernel
def shade_kernel(
    # what is seen
    keys: wp.array2d[wp.int64],
    samples_of: wp.array2d[wp.int32],
    distances: wp.array2d[wp.float32],
    screen: wp.array2d[wp.vec3i],
    faces: wp.array[wp.vec3i],
    layers: wp.array[wp.int32],
    fields: wp.array[vec6],
    uv: wp.array2d[wp.vec2],
    verts: wp.array2d[wp.vec3],
    normals: wp.array2d[wp.vec3],
    cameras: wp.array[wp.vec4],
    anatomy: vec16,
    # what it is made of
    kinds: wp.array2d[wp.int32],
    garment_layers: wp.array2d[wp.int32],
    params: wp.array2d[vec8],
    body: wp.array2d[wp.float32],
    fabric: wp.array3d[wp.float32],
    photos: wp.array2d[wp.int32],
    garment_textures: wp.array2d[wp.int32],
    atlas: wp.array[wp.int32],
    seeds: wp.array[wp.int32],
    prints: wp.array3d[vec4ub],
    textures: wp.array3d[vec4ub],
    atlases: wp.array3d[vec4ub],
    linear: wp.array[wp.float32],
    # what lights it
    terms: wp.array2d[wp.vec3],
    sun: wp.array2d[wp.vec3],
    occlusion: wp.array[wp.float32],
    glosses: wp.array[wp.float32],
    softness: wp.array[wp.float32],
    shadow: wp.array[wp.float32],
    frames: wp.array2d[mat44],
    sun_keys: wp.array2d[wp.int64],
    sun_side: int,
    # what lies behind
    background: wp.array2d[wp.vec3ub],
    ground: wp.array2d[wp.float32],
    tones: wp.array[wp.float32],
    height: int,
    width: int,
    factor: int,
    coverage: wp.array2d[wp.float32],
    first: int,
    span: int,
    image: wp.array2d[wp.vec3],
):
    """See the module; ``cameras`` are (fx, fy, cx, cy) of the fine pixels; ``image`` is in display values 0..255."""
    local, group = wp.tid()
    b = first + local
    fine = factor * width
    camera = cameras[b]
    seed = wp.uint32(seeds[b])
    frame = frames[local, 0]
    towards = sun[b, 0]
    lamp = sun[b, 1]
    shines = wp.length_sq(lamp) > 0.0
    half_width = (width + 1) / 2
    half_height = (height + 1) / 2
    middle = 0.5 * float(factor - 1)
    scale = 1.0 / float(factor)
    coarse = scale * wp.vec4(camera[0], camera[1], camera[2] - middle, camera[3] - middle)
    # The outermost garment, and the innermost on each layer, which fills whatever the mesh there shows.
    count = int(0)
    innermost = wp.vec4i(-1, -1, -1, -1)
    for inner in range(kinds.shape[1]):
        g = kinds.shape[1] - 1 - inner
        if kinds[b, g] != 0:
            count = wp.max(count, g + 1)
            on = garment_layers[b, g]
            if kinds[b, g] != HAIR and on > 0 and on < 4:
                innermost[on] = g
    row = int(group * span / width)
    column = int(group * span) - row * width - 1
    for i in range(group * span, wp.min((group + 1) * span, height * width)):
        column += 1
        if column == width:  # (a division per pixel is not cheap on the CPU)
            column = 0
            row += 1
        share = float(0.0)
        total = wp.vec3(0.0, 0.0, 0.0)
        packed = samples_of[local, i]
        if packed != 0:
            share = coverage[b, i]
            corner = row * factor * fine + column * factor
            one = packed & 15
            two = (packed >> 4) & 15
            samples = wp.where((packed & ONCE) != 0, 1, 2)
            turn = turn_at(column, row)
            for k in range(samples):
                s = wp.where(k == 1, two, one)
                f = FACE_BITS - int(keys[local, corner + (s / factor) * fine + s % factor] & FACE_MASK)
                px = (column * factor + s % factor) * SUBPIXEL
                py = (row * factor + s / factor) * SUBPIXEL
                if (packed & CENTRE) != 0:
                    px = column * factor * SUBPIXEL + (factor - 1) * SUBPIXEL / 2
                    py = row * factor * SUBPIXEL + (factor - 1) * SUBPIXEL / 2
                # --- where on the surface
                face = faces[f]
                w = weights_at(
                    screen[local, face[0]], screen[local, face[1]], screen[local, face[2]], wp.int64(px), wp.int64(py)
                )
                field0 = fields[face[0]]
                field1 = fields[face[1]]
                field2 = fields[face[2]]
                field = w[0] * field0 + w[1] * field1 + w[2] * field2
                c0 = verts[b, face[0]]
                e1 = verts[b, face[1]] - c0
                e2 = verts[b, face[2]] - c0
                p = c0 + w[1] * e1 + w[2] * e2
                n = wp.normalize(w[0] * normals[b, face[0]] + w[1] * normals[b, face[1]] + w[2] * normals[b, face[2]])
                flat_normal = wp.cross(e1, e2)
                back = wp.dot(flat_normal, p) > 0.0
                if back:
                    n = -n
                view = -wp.normalize(p)
                pixel = p[2] * float(factor) / camera[0]
                footprint = pixel / wp.max(wp.dot(n, view), 0.3)
                layer = layers[f]
                # --- what is there
                albedo = wp.vec3(0.0, 0.0, 0.0)
                slope = wp.vec3(0.0, 0.0, 0.0)
                wrap = float(0.0)  # how far light spreads under the surface
                gloss = float(0.0)
                power = int(4)  # highlights are cos^(2^power)
                sheen = float(0.0)
                baked = float(0.0)
                open = float(1.0)  # what garments farther in have left to show
                rim = float(0.0)  # shadow of a garment's edge on the skin beside it
                person = atlas[b]
                if person >= 0 and layer == 0:
                    t = w[0] * uv[f, 0] + w[1] * uv[f, 1] + w[2] * uv[f, 2]
                    texel = surface_kernels.sample(atlases, linear, person, t[0], t[1], 0.6 * footprint)
                    baked = texel[3]
                    albedo = baked * wp.vec3(texel[0], texel[1], texel[2])
                    open = 1.0 - baked
                elif layer == HAIR_LAYER:
                    open = 0.0
                    hairs = skin_kernels.strand_gradient(field, seed)
                    fade = wp.min(0.006 / footprint, 1.0)
                    albedo = surface_kernels.colour(body, b, surface_kernels.HAIRS) * (
                        1.0 + body[b, surface_kernels.STRANDS] * hairs[0]
                    )
                    slope = wp.vec3(hairs[1], hairs[2], hairs[3]) * fade
                    gloss = 0.1
                    power = 4
                else:
                    last = innermost[layer]
                    for reverse in range(count):
                        g = count - 1 - reverse
                        kind = kinds[b, g]
                        if kind == HAIR:
                            if layer == 0 and garment_layers[b, g] == 0 and open > 0.0:
                                depth = garment_depth(kind, params[b, g], field)
                                soft = wp.max(footprint, 0.008)
                                if depth < -0.005 - 0.5 * soft:
                                    continue
                                hairs = skin_kernels.strand_gradient(field, seed)
                                # The hairline is a fringe of locks, not a line.
                                amount = open * surface_kernels.step(depth + 0.005 * hairs[0], soft)
                                fade = amount * wp.min(0.006 / footprint, 1.0)
                                albedo += (
                                    amount
                                    * (1.0 + body[b, surface_kernels.STRANDS] * hairs[0])
                                    * surface_kernels.colour(body, b, surface_kernels.HAIRS)
                                )
                                slope += wp.vec3(hairs[1], hairs[2], hairs[3]) * fade
                                gloss += 0.1 * amount
                                open -= amount
                        elif kind != 0 and open > 0.0:
                            if garment_layers[b, g] == layer:
                                depth = garment_depth(kind, params[b, g], field)
                                amount = surface_kernels.step(depth, footprint)
                                if g == last:
                                    amount = 1.0
                                if amount > 0.0:
                                    amount *= open
                                    texture = garment_textures[b, g]
                                    tint = wp.vec3(0.0, 0.0, 0.0)
                                    noise_seed = seed + wp.uint32(1000 * g)
                                    if texture >= 0:
                                        r1 = wp.vec3(
                                            field1[0] - field0[0], field1[1] - field0[1], field1[2] - field0[2]
                                        )
                                        r2 = wp.vec3(
                                            field2[0] - field0[0], field2[1] - field0[1], field2[2] - field0[2]
                                        )
                                        turned = wp.normalize(wp.cross(r1, r2))
                                        tint = pk.planar_colour(
                                            textures, linear, texture, field[0], field[1], turned[2], footprint
                                        )
                                    else:
                                        tint = pk.fabric_colour(
                                            fabric, prints, linear, b, g, kind, photos[b, g], field, anatomy,
                                            footprint, noise_seed,
                                        )  # fmt: skip
                                        tint = pk.trimmings(
                                            fabric, b, g, kind, tint, depth, params[b, g][2], field, anatomy, footprint
                                        )
                                    grain = fabric[b, g, pk.GRAIN] * wp.min(0.004 / footprint, 1.0)
                                    if grain > 0.02:
                                        tint = tint * (
                                            1.0
                                            + grain * surface_kernels.speck(field[0], field[1], field[2], noise_seed)
                                        )
                                    if back:
                                        tint = tint * 0.6
                                    albedo += amount * tint
                                    folds = fabric[b, g, pk.FOLDS]
                                    if kind == TOP or kind == LEGS or kind == SKIRT:
                                        slope += pk.fold_gradient(
                                            kind, field, params[b, g][2], amount * folds, noise_seed
                                        )
                                    gloss += amount * fabric[b, g, pk.SHINE]
                                    sheen += amount * fabric[b, g, pk.SHEEN]
                                    if kind == SHOE:
                                        power = 5
                                    open = open - amount
                            elif layer == 0:
                                depth = garment_depth(kind, params[b, g], field)
                                rim = wp.max(rim, surface_kernels.bump(wp.min(depth + 0.002, 0.0) / 0.022))
                if open > 0.0:
                    albedo += (
                        open * (1.0 - 0.4 * rim) * skin_kernels.skin_colour(body, b, field, anatomy, footprint, seed)
                    )
                    wrap = open
                    gloss += open * body[b, surface_kernels.OIL]
                # --- relief: slopes over the rest position, carried by the triangle to where it is now
                # (Mikkelsen, "Bump Mapping Unparametrized Surfaces on the GPU", 2010, eq. 4-5, with the triangle's own
                # edges for derivatives).
                if wp.length_sq(slope) > 0.0:
                    h1 = (
                        slope[0] * (field1[0] - field0[0])
                        + slope[1] * (field1[1] - field0[1])
                        + slope[2] * (field1[2] - field0[2])
                    )
                    h2 = (
                        slope[0] * (field2[0] - field0[0])
                        + slope[1] * (field2[1] - field0[1])
                        + slope[2] * (field2[2] - field0[2])
                    )
                    square = wp.dot(flat_normal, flat_normal)
                    if square > 1.0e-16:
                        tilt = (h1 * wp.cross(e2, flat_normal) + h2 * wp.cross(flat_normal, e1)) / square
                        steep = wp.length(tilt)
                        n = wp.normalize(n - tilt / (1.0 + 0.6 * steep))
                # --- light
                gloss *= glosses[b]
                dark = occlusion[b] * nearness(distances, local, height, width, coarse, p, n, NEAR_REACH, turn)
                sky = irradiance(terms, b, n)
                # What is dark in a fold of skin is red: light has gone through it.
                veil = wp.vec3(1.0 - dark * (1.0 - 0.25 * wrap), 1.0 - dark, 1.0 - dark)
                out = wp.cw_mul(albedo, wp.cw_mul(sky, veil))
                grazing = 1.0 - wp.clamp(wp.dot(n, view), 0.0, 1.0)
                fresnel = grazing * grazing * grazing
                out += (sheen * fresnel * (1.0 - dark)) * wp.cw_mul(0.4 * albedo + wp.vec3(0.06, 0.06, 0.06), sky)
                if shines:
                    cosine = wp.dot(n, towards)
                    if cosine > -0.3 * wrap:
                        free = lit(sun_keys, local, frame, sun_side, p + OFFSET * n, 1.2 + 8.0 * softness[b], turn)
                        if free > 0.0:
                            red = over_edge(cosine, 0.3 * wrap)
                            green = over_edge(cosine, 0.12 * wrap)
                            blue = over_edge(cosine, 0.08 * wrap)
                            out += free * wp.cw_mul(wp.cw_mul(albedo, lamp), wp.vec3(red, green, blue))
                            halfway = wp.normalize(towards + view)
                            shine = wp.max(wp.dot(n, halfway), 0.0)
                            for _ in range(power):
                                shine *= shine
                            strength = gloss * (0.5 + 2.0 * fresnel) * shine * free
                            out += (strength * wp.max(cosine, 0.0) * float(power)) * lamp
                out += (gloss * 0.25 * (0.15 + fresnel) * (1.0 - dark)) * sky
                if baked > 0.0:
                    # A photograph's own light is in it already.
                    out += 0.85 * baked * (albedo - out)
                total += out
            total = total / float(samples)
        # --- what lies behind, and the camera's tone curve
        behind = background[b, i]
        shown = wp.vec3(0.0, 0.0, 0.0)
        if share < 1.0:
            shown = wp.vec3(float(int(behind[0])), float(int(behind[1])), float(int(behind[2])))
            if shadow[b] > 0.0:
                gx = 0.5 * float(column) - 0.25
                gy = 0.5 * float(row) - 0.25
                x0 = wp.max(int(gx), 0)
                y0 = wp.max(int(gy), 0)
                x1 = wp.min(x0 + 1, half_width - 1)
                y1 = wp.min(y0 + 1, half_height - 1)
                fx = wp.clamp(gx - float(x0), 0.0, 1.0)
                fy = wp.clamp(gy - float(y0), 0.0, 1.0)
                upper = (1.0 - fx) * ground[local, y0 * half_width + x0] + fx * ground[local, y0 * half_width + x1]
                lower = (1.0 - fx) * ground[local, y1 * half_width + x0] + fx * ground[local, y1 * half_width + x1]
                light = (1.0 - fy) * upper + fy * lower
                if light < 1.0:
                    shown = shown * wp.pow(wp.max(light, 0.0), 0.4545)
        if packed != 0:
            display = wp.vec3(tone(tones, total[0]), tone(tones, total[1]), tone(tones, total[2]))
            shown += share * (display - shown)
        image[b, i] = shown
