"""Launches the kernels of :mod:`synth.shading` on torch tensors. Importing this module starts Warp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import warp as wp
from torch import Tensor

from human import raster_kernels as rk
from human.raster import NEAR
from human.raster_warp import launch, vectors
from synth import scan_kernels as ck
from synth import shading_kernels as sk
from synth import shadow_kernels as dk
from synth import surface_kernels

if TYPE_CHECKING:
    from synth.outfit import Outfit
    from synth.paint import Banks, Paint
    from synth.shading import Dressed, Places


#: On the CPU this many fine pixels are drawn at a time: fewer stay nearer to the cache, but take more launches.
CHUNK = 1 << 20
#: Depth where there is nobody (metres).
_FAR = 1.0e4


@dataclass(frozen=True)
class Mesh:
    """What all pictures share, as Warp arrays on one device; ``keep`` holds the tensors they view."""

    faces: Any
    layers: Any
    fields: Any
    uv: Any
    balls: Any
    radii: Any
    anatomy: Any
    culled: int
    skin: int
    casters: Any
    keep: list[Tensor]


_meshes: list[tuple[Tensor, Mesh]] = []
_idle: list[tuple[dict[str, tuple[int, ...]], dict[str, Tensor]]] = []


def mesh_of(dressed: Dressed, places: Places) -> Mesh:
    """The last few are remembered, by the identity of their face tensor."""
    for faces, known in _meshes:
        if faces is dressed.faces:
            return known
    device = dressed.faces.device
    faces = dressed.faces.to(torch.int32).contiguous()
    layers = dressed.layer_F.to(device, torch.int32).contiguous()
    fields = dressed.fields_V6.to(device, torch.float32).contiguous()
    uv = dressed.uv_F32.to(device, torch.float32).contiguous()
    balls, radii = torch.from_numpy(places.balls).to(device), torch.from_numpy(places.radii).to(device)
    shells = (layers > 0).nonzero()
    # A garment is seen from inside too, through its openings; the body never.
    culled = int(shells[0]) if len(shells) else len(faces)
    casters = _coarser(faces, culled)
    mesh = Mesh(
        vectors(faces, wp.vec3i),
        wp.from_torch(layers),
        vectors(fields, sk.vec6),
        vectors(uv, wp.vec2),
        wp.from_torch(balls),
        wp.from_torch(radii),
        surface_kernels.vec16(places.anatomy.tolist()),
        culled,
        int(faces[:culled].max()) + 1 if culled else 0,
        vectors(casters, wp.vec3i),
        [faces, layers, fields, uv, balls, radii, casters],
    )
    _meshes.append((dressed.faces, mesh))
    del _meshes[:-4]
    return mesh


def _coarser(faces_F3: Tensor, count: int) -> Tensor:
    """The faces with the first ``count`` collapsed onto fewer of their vertices: what casts the sun's shadow.

    Each vertex in turn that is not yet merged takes its neighbours in, so nothing merges that does not touch.
    """
    faces = faces_F3.cpu().numpy()
    fine = faces[:count]
    edges = np.unique(np.concatenate([fine[:, [0, 1]], fine[:, [1, 2]], fine[:, [2, 0]]]), axis=0)
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    starts = np.searchsorted(edges[:, 0], np.arange(int(faces.max()) + 2))
    seat = np.full(int(faces.max()) + 1, -1)
    for v in np.unique(fine):
        if seat[v] < 0:
            ring = edges[starts[v] : starts[v + 1], 1]
            seat[v] = v
            seat[ring[seat[ring] < 0]] = v
    merged = seat[fine]
    kept = (merged != np.roll(merged, 1, axis=1)).all(1)
    coarse = np.concatenate([merged[kept], faces[count:]]).astype(np.int32)
    return torch.from_numpy(coarse).to(faces_F3.device)


def _take_scratch(shapes: dict[str, tuple[int, ...]], device: torch.device) -> dict[str, Tensor]:
    """Uninitialised work space, nobody else's. On the CPU the last one is used again: the system clears fresh pages.

    (Not kept per thread: samples are also drawn in threads of Lance's, where Python's thread-local tensors are freed
    twice.)
    """
    if device.type == "cpu":
        try:
            known, tensors = _idle.pop()
        except IndexError:
            known, tensors = {}, {}
        if known == shapes:
            return tensors
    types = {"keys": torch.int64, "sun": torch.int64}
    types |= dict.fromkeys(("screen", "sun_screen", "samples", "box"), torch.int32)
    return {k: torch.empty(s, dtype=types.get(k, torch.float32), device=device) for k, s in shapes.items()}


def _give_back(shapes: dict[str, tuple[int, ...]], tensors: dict[str, Tensor], device: torch.device) -> None:
    if device.type == "cpu" and len(_idle) < 2:
        _idle.append((shapes, tensors))


def draw(
    mesh: Mesh,
    verts: Tensor,
    normals: Tensor,
    cut: Tensor,
    cameras_B33: Tensor,
    outfit: Outfit,
    paint: Paint,
    light: tuple[Tensor, Tensor, Tensor],
    strengths: tuple[Tensor, ...],
    backgrounds: Tensor,
    banks: Banks,
    tables: tuple[Tensor, Tensor],
    size: int,
    factor: int,
    side: int,
    maps: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(image (B,H,W,3), coverage, depth, layer (B,H,W)); see :func:`synth.shading.shade_shot`."""
    device = verts.device
    batch, count = verts.shape[:2]
    fine, pixels, half = factor * size, size * size, (size + 1) // 2
    image = torch.empty(batch, pixels, 3, device=device)
    coverage = torch.zeros(batch, pixels, device=device)
    depth = torch.zeros(batch, pixels if maps else 0, device=device)
    layer = torch.full(depth.shape, -1, dtype=torch.int32, device=device)
    rows = cameras_B33[:, :2].contiguous()
    flat = torch.stack([rows[:, 0, 0], rows[:, 1, 1], rows[:, 0, 2], rows[:, 1, 2]], 1)
    terms, sun, up = (vectors(t, wp.vec3) for t in light)
    occlusion, gloss, shadow, softness = (wp.from_torch(t) for t in strengths)
    lenses = vectors(rows, rk.mat23)
    verts_w, cut_w, views = vectors(verts, wp.vec3), wp.from_torch(cut), vectors(flat, wp.vec4)
    kind, worn = (t.to(torch.int32).contiguous() for t in (outfit.kind, outfit.layer))
    params = outfit.params.float().contiguous()
    made_of = [
        wp.from_torch(kind), wp.from_torch(worn), vectors(params, sk.vec8),
        *(wp.from_torch(t.contiguous()) for t in (paint.body, paint.fabric, paint.photo, paint.texture, paint.atlas)),
        wp.from_torch(paint.seed.contiguous()),
        *(vectors(t, surface_kernels.vec4ub) for t in (banks.prints, banks.textures, banks.atlases)),
        wp.from_torch(tables[0]),
    ]  # fmt: skip
    shows = [verts_w, vectors(normals, wp.vec3), views, mesh.anatomy]
    behind, tones = vectors(backgrounds.view(batch, pixels, 3), wp.vec3ub), wp.from_torch(tables[1])
    share = wp.from_torch(coverage)
    outputs = [share, wp.from_torch(depth), wp.from_torch(layer)]

    step = max(1, CHUNK // (fine * fine)) if device.type == "cpu" else max(1, batch)
    step = min(step, max(1, batch))
    shapes = {
        "keys": (step, fine * fine), "sun": (step, side * side), "screen": (step, count, 3),
        "sun_screen": (step, count, 3), "samples": (step, pixels), "box": (step, 4), "bounds": (step, 8),
        "frames": (step, 1, 16), "ground": (step, half * half), "distance": (step, pixels),
    }  # fmt: skip
    scratch = _take_scratch(shapes, device)
    keys_t, sun_t, screen_t, sun_screen_t = (scratch[k] for k in ("keys", "sun", "screen", "sun_screen"))
    samples_t, box_t, bounds_t, frames_t = (scratch[k] for k in ("samples", "box", "bounds", "frames"))
    ground_t, distance_t = scratch["ground"], scratch["distance"]
    for first in range(0, batch, step):
        n = min(step, batch - first)
        keys, sun_keys = wp.from_torch(keys_t[:n]), wp.from_torch(sun_t[:n].zero_())
        screen, sun_screen = (vectors(t[:n], wp.vec3i) for t in (screen_t, sun_screen_t))
        bounds, frames = wp.from_torch(bounds_t[:n].fill_(1e9)), vectors(frames_t[:n].view(n, 1, 4, 4), sk.mat44)
        ground, box = wp.from_torch(ground_t[:n]), wp.from_torch(box_t[:n].fill_(1 << 29))
        samples, distances = wp.from_torch(samples_t[:n].zero_()), wp.from_torch(distance_t[:n].fill_(_FAR))
        here = wp.from_torch(cut[first : first + n])
        faces = len(mesh.keep[0])
        # --- the camera's view
        inputs = [verts_w, lenses, cut_w, sun, up, NEAR, mesh.skin, factor, first]
        launch(ck.view_kernel, n, count, inputs, [screen, box, bounds], device, span=256)
        launch(ck.clear_kernel, n, size, [box, size, factor], [keys], device)
        launch(rk.raster_kernel, n, faces, [screen, mesh.faces, here, fine, fine, mesh.culled], [keys], device)
        scanned = [samples, distances, *outputs]
        launch(ck.scan_kernel, n, pixels, [keys, mesh.layers, box, size, size, factor, first], scanned, device)
        # --- the sun's
        launch(dk.frame_kernel, n, 1, [bounds, sun, side, first], [frames], device)
        launch(
            dk.sun_project_kernel, n, count, [verts_w, cut_w, sun, frames, mesh.skin, side, first], [sun_screen], device
        )
        cast_by = len(mesh.keep[-1])
        inputs = [sun_screen, mesh.casters, here, side, side, cast_by]
        launch(rk.raster_kernel, n, cast_by, inputs, [sun_keys], device)
        # --- pictures
        cast = [
            mesh.balls,
            mesh.radii,
            views,
            terms,
            sun,
            up,
            shadow,
            softness,
            frames,
            sun_keys,
            side,
            half,
            factor,
            first,
        ]
        launch(dk.ground_kernel, n, half * half, [verts_w, *cast], [ground], device)
        seen = [keys, samples, distances, screen, mesh.faces, mesh.layers, mesh.fields, mesh.uv, *shows]
        lit = [terms, sun, occlusion, gloss, softness, shadow, frames, sun_keys, side]
        place = [behind, ground, tones, size, size, factor, share, first]
        launch(sk.shade_kernel, n, pixels, [*seen, *made_of, *lit, *place], [vectors(image, wp.vec3)], device)
    _give_back(shapes, scratch, device)
    shape = (batch, size, size)
    rest = shape if maps else (batch, 0, 0)
    return image.view(*shape, 3), coverage.view(shape), depth.view(rest), layer.view(rest)
