"""Body atlases: which point of the surface each texel of a picture in the body's texture coordinates shows, and how
what was seen of a surface is spread over the rest of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from human.body import BodyModel
from human.errors import PosesynError
from human.raster import rasterise
from human.skeleton import SMPL24
from synth.surface import BodySurface

#: Factor by which each next source of colour counts less than the one before it.
_NEXT_SOURCE = 0.03
_SMOOTHING = 12  # neighbour averages over what was filled from afar


def atlas_uv(body: BodyModel) -> torch.Tensor:
    """(F,3,2) float32 corners of each face in an atlas, u right and v down, as ``sample_texture`` wants."""
    uv = body.uv.float().clone()
    uv[:, 1] = 1 - uv[:, 1]
    return uv[body.faces_uv]


@dataclass(frozen=True)
class BodyAtlas:
    """The n covered texels of a (size, size) atlas of one body.

    ``row_n``, ``column_n``; ``face_n`` and ``bary_n3`` their point of the surface; ``nearest`` (size, size) the covered
    texel nearest to each texel, which gives gutters a colour; ``sources`` (K, n): texels that a texel not seen may be
    coloured after, best first: its mirror image, then the other side of the same limb; ``reach_x_n2`` the surface's
    fields of these names (:mod:`synth.surface`).
    """

    size: int
    faces: np.ndarray
    row_n: np.ndarray
    column_n: np.ndarray
    face_n: np.ndarray
    bary_n3: np.ndarray
    nearest: np.ndarray
    sources: np.ndarray
    reach_x_n2: np.ndarray
    regions_V: np.ndarray
    edges: csr_matrix

    def __len__(self) -> int:
        return len(self.face_n)

    def at(self, values_VC: np.ndarray) -> np.ndarray:
        """(n, C) of per-vertex values."""
        return np.asarray(np.einsum("nkc,nk->nc", values_VC[self.faces[self.face_n]], self.bary_n3))

    def image(self, values_nC: np.ndarray) -> np.ndarray:
        """(size, size, C) with gutters filled."""
        return np.asarray(values_nC[self.nearest])

    @cached_property
    def to_vertices(self) -> csr_matrix:
        """(V, n) weights of each texel in its vertices, not normalised."""
        rows = self.faces[self.face_n].ravel()
        columns = np.repeat(np.arange(len(self)), 3)
        return coo_matrix((self.bary_n3.ravel(), (rows, columns)), (len(self.regions_V), len(self))).tocsr()

    def spread(self, colour_nC: np.ndarray, weight_n: np.ndarray) -> np.ndarray:
        """Colours (n, C) for all texels from those seen with ``weight`` (n,) 0..1.

        A texel seen badly is blended with its mirror image and with the other side of its limb, so far as those were
        seen; where none was, colours come along the surface from the nearest part of the same region (hair from hair,
        face from face), smoothed.
        """
        total, colours = weight_n.copy(), colour_nC * weight_n[:, None]
        for rank, source in enumerate(self.sources):
            share = weight_n[source] * (source >= 0) * _NEXT_SOURCE ** (rank + 1)
            colours += colour_nC[source] * share[:, None]
            total += share
        known = total > 1e-5
        if not known.any():
            raise PosesynError("no part of the body is seen well enough to take its colours")
        colours /= np.maximum(total, 1e-5)[:, None]
        if known.all():
            return np.asarray(colours)
        filled = self.at(self._along_surface(colours, known.astype(colours.dtype)))
        # Where almost nothing was seen, what was is less to be trusted than what comes along the surface.
        share = np.clip(total / 1e-4, 0, 1)[:, None]
        return np.asarray(filled + share * (colours - filled))

    def _along_surface(self, colour_nC: np.ndarray, known_n: np.ndarray) -> np.ndarray:
        """(V, C): the mean of a vertex's known texels, or the colour of the nearest vertex that has one."""
        total = self.to_vertices @ known_n
        sums = self.to_vertices @ (colour_nC * known_n[:, None])
        seen = total > 0.05
        values = sums / np.maximum(total, 1e-6)[:, None]
        source = np.full(len(seen), -9999)
        inside = self.edges.tocoo()
        same = self.regions_V[inside.row] == self.regions_V[inside.col]
        within = csr_matrix((inside.data[same], (inside.row[same], inside.col[same])), self.edges.shape)
        for graph in (within, self.edges):  # across a region's border only when nothing of the region was seen
            missing = source < 0
            if missing.any():
                _, _, found = dijkstra(graph, indices=np.flatnonzero(seen), min_only=True, return_predecessors=True)
                source = np.where(missing, found, source)
        values = values[np.where(source < 0, np.flatnonzero(seen)[0], source)]
        mean = self.edges.copy()
        mean.data = np.ones_like(mean.data)
        mean = csr_matrix(mean.multiply(1 / np.maximum(mean.sum(1), 1)))
        for _ in range(_SMOOTHING):
            values = np.where(seen[:, None], values, 0.5 * values + 0.5 * (mean @ values))
        return np.asarray(values)


_made: list[tuple[torch.Tensor, int, BodyAtlas]] = []


def body_atlas(body: BodyModel, size: int) -> BodyAtlas:
    """The atlas of a body, made once per process and size (a second of work)."""
    if not 32 <= size <= 2048:
        raise PosesynError(f"a body atlas needs a size from 32 to 2048 texels, got {size}")
    for template, known, atlas in _made:
        if known == size and template is body.v_template:
            return atlas
    atlas = _make(body, size)
    _made.append((body.v_template, size, atlas))
    del _made[:-4]
    return atlas


def _make(body: BodyModel, size: int) -> BodyAtlas:
    corners = atlas_uv(body).cpu()
    count = len(corners)
    # Flat at distance 1 under a camera with focal length `size`: texel centres are pixel centres.
    flat = torch.cat([corners.reshape(-1, 2), torch.ones(3 * count, 1)], 1)
    camera = torch.tensor([[size, 0, -0.5], [0, size, -0.5], [0, 0, 1]], dtype=torch.float32)
    frags = rasterise(flat[None], torch.arange(3 * count).reshape(-1, 3), camera[None], (size, size))
    face = frags.face[0].numpy()
    row, column = np.nonzero(face >= 0)
    face_n, bary_n3 = face[row, column].astype(np.int64), frags.bary[0].numpy()[row, column].astype(np.float64)
    index = np.full((size, size), -1)
    index[row, column] = np.arange(len(row))
    where = distance_transform_edt(face < 0, return_distances=False, return_indices=True)

    surface = BodySurface(body.cpu() if body.v_template.is_cuda else body)
    vertices = np.stack([surface.vertices.x, surface.vertices.y, surface.vertices.z], 1).astype(np.float64)
    faces = body.faces.cpu().numpy()
    points = np.einsum("nkc,nk->nc", vertices[faces[face_n]], bary_n3)
    part_n = body.part.cpu().numpy()[faces[face_n, 0]]
    mirror = cKDTree(points).query(points * [-1, 1, 1], distance_upper_bound=0.03)[1]
    mirror = np.where(mirror < len(points), mirror, -1)
    across = _other_side(points, vertices, faces, face_n, part_n)
    both = np.where((across >= 0) & (mirror[across] >= 0), mirror[across], -1)

    # Regions that keep their colours to themselves: hair, face and neck, hands, the rest.
    head = np.isin(body.part.cpu().numpy(), [SMPL24.index(n) for n in ("neck", "head")])
    hand = np.abs(surface.vertices.reach) > 2.02
    regions = np.where(head & (surface.vertices.hair > 0), 1, np.where(head, 2, np.where(hand, 3, 0)))
    regions = np.where((surface.vertices.level < -2.0) & ~head & ~hand, 4, regions)  # feet
    return BodyAtlas(
        size,
        faces,
        row,
        column,
        face_n,
        bary_n3,
        index[where[0], where[1]],
        np.stack([mirror, across, both]),
        np.stack([surface.vertices.reach, surface.vertices.x], 1)[faces[face_n, 0]],
        regions,
        _mesh_graph(vertices, faces),
    )


def _other_side(
    points: np.ndarray, vertices: np.ndarray, faces: np.ndarray, face_n: np.ndarray, part_n: np.ndarray
) -> np.ndarray:
    """For each texel the one behind it in the T-pose (same x and y, other side), -1 on the head, whose back is hair."""
    a, b, c = (vertices[faces[face_n, k]] for k in range(3))
    facing = np.cross(b - a, c - a)[:, 2] >= 0
    head = np.isin(part_n, [SMPL24.index(n) for n in ("neck", "head")])
    out = np.full(len(points), -1)
    for side in (True, False):
        here, there = np.flatnonzero((facing == side) & ~head), np.flatnonzero((facing != side) & ~head)
        distance, found = cKDTree(points[there, :2]).query(points[here, :2], distance_upper_bound=0.02)
        good = np.isfinite(distance)
        out[here[good]] = there[found[good]]
    return out


def _mesh_graph(vertices: np.ndarray, faces: np.ndarray) -> csr_matrix:
    """(V, V) symmetric edge lengths, metres; separate pieces (eyes) are tied to the nearest vertex of the largest."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    graph = _symmetric(pairs, vertices)
    _, label = connected_components(graph, directed=False)
    main = np.flatnonzero(label == np.bincount(label).argmax())
    rest = np.flatnonzero(label != label[main[0]])
    if len(rest):
        _, nearest = cKDTree(vertices[main]).query(vertices[rest])
        graph = _symmetric(np.concatenate([pairs, np.stack([rest, main[nearest]], 1)]), vertices)
    return graph


def _symmetric(pairs: Sequence[Sequence[int]] | np.ndarray, vertices: np.ndarray) -> csr_matrix:
    low = np.unique(np.sort(np.asarray(pairs), axis=1), axis=0)
    length = np.linalg.norm(vertices[low[:, 0]] - vertices[low[:, 1]], axis=1) + 1e-6
    both = np.concatenate([low, low[:, ::-1]])
    return coo_matrix((np.tile(length, 2), (both[:, 0], both[:, 1])), (len(vertices), len(vertices))).tocsr()
