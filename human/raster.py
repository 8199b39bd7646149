"""Batched z-buffer rasteriser: camera-frame triangles -> face index, barycentrics and depth per pixel.

Camera frame: OpenCV (x right, y down, z forward), metres. Integer pixel coordinates are pixel centres.
Two backends: "warp" (:mod:`human.raster_warp`, CPU and CUDA) and "pytorch3d" (:mod:`human.raster_pytorch3d`, optional,
the test oracle). The caller chooses; nothing switches silently. Neither is differentiable.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from human.errors import PosesynError

BACKENDS = ("warp", "pytorch3d")
#: Triangles with a vertex at or nearer than this are not drawn (metres).
NEAR = 0.01
#: Pixels are counted in 32 bits.
MAX_SIDE = 16384


@dataclass(frozen=True)
class Fragments:
    """What each pixel of a batch of images sees.

    Attributes:
        face: (B,H,W) int32, index into the faces; -1 is background.
        bary: (B,H,W,3) float32, perspective-correct barycentrics; 0 at background.
        depth: (B,H,W) float32, z in the camera frame, metres; 0 at background.
    """

    face: torch.Tensor
    bary: torch.Tensor
    depth: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """(B,H,W) bool, True where a triangle covers the pixel centre."""
        return self.face >= 0


def rasterise(
    verts_cam_BV3: torch.Tensor,
    faces_F3: torch.Tensor,
    intrinsics_B33: torch.Tensor,
    size: tuple[int, int],
    backend: str = "warp",
    *,
    cull_backfaces: bool = False,
    threads: int = 1,
    cut_BV: torch.Tensor | None = None,
) -> Fragments:
    """Draw each mesh of a batch into its own image.

    A pixel is covered when its centre lies in a projected triangle, borders included, so neighbours leave no cracks.
    The nearest triangle wins; at equal depth the lowest face index. The result depends on nothing but the arguments:
    it has the same bytes for any batch composition and number of threads.

    A triangle is left out, not clipped, when one of its vertices is NaN or infinite, has z <= 0.01 m, or projects
    more than 65535 px from the origin; and when it has no area on screen.

    Args:
        verts_cam_BV3: vertices in the camera frame, metres.
        faces_F3: vertex indices, shared by the batch.
        intrinsics_B33: pixel intrinsics; the last row is taken as (0, 0, 1).
        size: (height, width) in pixels.
        backend: "warp" or "pytorch3d".
        cull_backfaces: draw only faces wound counter-clockwise as the camera sees them.
        threads: Warp on the CPU only: split the batch over this many threads.
        cut_BV: Warp only: a value per vertex; the surface is drawn where its perspective-correct interpolation is 0 or
            more, so that a mesh can end along a curve that crosses its triangles. NaN is cut away.

    Raises:
        PosesynError: unknown or absent backend, shapes that do not fit, an index outside the vertices, or a cut with
            the pytorch3d backend.
    """
    if backend not in BACKENDS:
        raise PosesynError(f"no rasteriser is called {backend!r}; known: {', '.join(BACKENDS)}")
    if threads < 1:
        raise PosesynError(f"rasterise: threads is {threads}; give 1 or more")
    height, width = size
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise PosesynError(f"rasterise: size is {tuple(size)}; give (height, width) between 1 and {MAX_SIDE} px")
    verts, faces = _checked_mesh(verts_cam_BV3, faces_F3)
    if intrinsics_B33.shape != (len(verts), 3, 3):
        raise PosesynError(
            f"rasterise: intrinsics are {tuple(intrinsics_B33.shape)}; {len(verts)} meshes need ({len(verts)}, 3, 3)"
        )
    cameras = intrinsics_B33.detach().to(verts.device, torch.float32)[:, :2].contiguous()
    if cut_BV is None:
        cut = verts.new_zeros((len(verts), 0))
    elif cut_BV.shape == verts.shape[:2]:
        cut = cut_BV.detach().to(verts.device, torch.float32).contiguous()
    else:
        raise PosesynError(
            f"rasterise: cut is {tuple(cut_BV.shape)}; give one value per vertex, {tuple(verts.shape[:2])}"
        )
    if backend == "pytorch3d":
        if cut_BV is not None:
            raise PosesynError(
                "rasterise: the pytorch3d backend cannot cut meshes; use backend='warp' or give no cut_BV"
            )
        from human import raster_pytorch3d

        return Fragments(*raster_pytorch3d.rasterise(verts, faces, cameras, (height, width), NEAR, cull_backfaces))
    from human import raster_warp

    return Fragments(
        *raster_warp.rasterise(
            verts, faces, cameras, (height, width), NEAR, cull_backfaces, min(threads, len(verts) or 1), cut
        )
    )


def interpolate(frags: Fragments, faces_F3: torch.Tensor, attributes_BVC: torch.Tensor) -> torch.Tensor:
    """Interpolate per-vertex attributes over the image, perspective-correctly: (B,V,C) -> (B,H,W,C) float32.

    Background pixels are 0. Not differentiable. ``faces_F3`` are those that ``frags`` were drawn with.
    """
    from human import raster_warp as rw

    attributes = attributes_BVC.detach().to(torch.float32).contiguous()
    faces = lookup_faces(frags, faces_F3, attributes)
    batch, height, width = frags.face.shape
    channels = attributes.shape[-1]
    out = torch.zeros((batch, height * width, channels), device=attributes.device)
    inputs = [
        rw.wp.from_torch(frags.face.flatten(1)),
        rw.vectors(frags.bary.flatten(1, 2), rw.wp.vec3),
        rw.vectors(faces, rw.wp.vec3i),
        rw.wp.from_torch(attributes),
    ]
    rw.launch(rw.kernels.interpolate_kernel, batch, height * width, inputs, [rw.wp.from_torch(out)], out.device)
    return out.view(batch, height, width, channels)


def vertex_normals(verts_BV3: torch.Tensor, faces_F3: torch.Tensor) -> torch.Tensor:
    """Unit vertex normals, area-weighted over the incident faces: (B,V,3) -> (B,V,3) float32.

    The normal of a face (a, b, c) is (b-a) x (c-a): outward when faces are counter-clockwise seen from outside, in any
    right-handed frame. A vertex without a usable face gets 0. Not differentiable.
    """
    from human import raster_warp as rw

    verts, faces = _checked_mesh(verts_BV3, faces_F3)
    out = torch.zeros_like(verts)
    if out.numel() and len(faces):
        starts, incident = _incidence(faces, verts.shape[1])
        face_normals = torch.empty((len(verts), len(faces), 3), device=verts.device)
        normals = rw.vectors(face_normals, rw.wp.vec3)
        triangles = [rw.vectors(verts, rw.wp.vec3), rw.vectors(faces, rw.wp.vec3i)]
        rw.launch(rw.kernels.face_normal_kernel, len(verts), len(faces), triangles, [normals], out.device)
        rings = [normals, rw.wp.from_torch(starts), rw.wp.from_torch(incident)]
        rw.launch(
            rw.kernels.vertex_normal_kernel, len(verts), out.shape[1], rings, [rw.vectors(out, rw.wp.vec3)], out.device
        )
    return out


def lookup_faces(frags: Fragments, faces_F3: torch.Tensor, values_BVC: torch.Tensor) -> torch.Tensor:
    """The faces as contiguous int32, after checking that every look-up through them stays inside ``values_BVC``."""
    batch = len(frags.face)
    if values_BVC.ndim != 3 or len(values_BVC) != batch:
        raise PosesynError(f"fragments: per-vertex values are {tuple(values_BVC.shape)}; give ({batch}, V, C)")
    faces = faces_F3.to(frags.face.device, torch.int32).contiguous()
    used = int(frags.face.max()) + 1 if frags.face.numel() else 0
    if used > len(faces):
        raise PosesynError(f"fragments: they show face {used - 1} but only {len(faces)} faces are given; give the same")
    _check_indices(faces, values_BVC.shape[1])
    return faces


_incidence_cache: list[tuple[torch.Tensor, int, torch.Tensor, torch.Tensor]] = []


def _incidence(faces_F3: torch.Tensor, vertices: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Faces around each vertex as (starts (V+1,), face indices (3F,)), both int32, ascending per vertex.

    The last few topologies are remembered, compared by content: sorting costs more than the normals themselves.
    """
    for known, count, starts, incident in _incidence_cache:
        if count == vertices and known.device == faces_F3.device and torch.equal(known, faces_F3):
            return starts, incident
    corners = faces_F3.flatten().long()
    incident = (torch.argsort(corners, stable=True) // 3).to(torch.int32)
    starts = torch.zeros(vertices + 1, dtype=torch.int32, device=faces_F3.device)
    starts[1:] = torch.bincount(corners, minlength=vertices).cumsum(0)
    _incidence_cache.append((faces_F3.clone(), vertices, starts, incident))
    del _incidence_cache[:-4]
    return starts, incident


def _checked_mesh(verts_BV3: torch.Tensor, faces_F3: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Contiguous float32 vertices and int32 faces on the vertices' device."""
    if verts_BV3.ndim != 3 or verts_BV3.shape[2] != 3:
        raise PosesynError(f"mesh: vertices are {tuple(verts_BV3.shape)}; give (B, V, 3)")
    if verts_BV3.device.type not in ("cpu", "cuda"):
        raise PosesynError(f"mesh: vertices are on {verts_BV3.device}; move them to the CPU or a CUDA device")
    if faces_F3.ndim != 2 or faces_F3.shape[1] != 3:
        raise PosesynError(f"mesh: faces are {tuple(faces_F3.shape)}; give (F, 3)")
    verts = verts_BV3.detach().to(torch.float32).contiguous()
    faces = faces_F3.to(verts.device, torch.int32).contiguous()
    _check_indices(faces, verts.shape[1])
    return verts, faces


def _check_indices(faces_F3: torch.Tensor, vertices: int) -> None:
    """The kernels do not check bounds."""
    if len(faces_F3):
        low, high = (int(x) for x in torch.aminmax(faces_F3))
        if low < 0 or high >= vertices:
            raise PosesynError(f"mesh: faces use vertices {low}..{high}; there are only 0..{vertices - 1}")
