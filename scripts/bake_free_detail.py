"""Bake the free body's coarse mesh: human/data/free_detail.npz.

    python scripts/bake_free_detail.py [--vertices 3600] [--seed 0]

Half-edge collapse (Garland & Heckbert, "Surface Simplification Using Quadric Error Metrics", SIGGRAPH 1997, with the
target at one end of the edge, so that the vertices kept are some of the body's own). The error is summed over several
shapes and poses, so that joints keep the vertices that they bend at (Mohr & Gleicher, "Deformation Sensitive
Decimation", 2003). Seams of the texture stay where they are. Takes about half a minute.
"""

from __future__ import annotations

import argparse
import heapq
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bake_wardrobe import closest_on_mesh
from numpy.typing import NDArray

from human.body import BodyModel, load_body
from human.motion import load_motion_bank
from human.rng import generator
from human.wardrobe import load_wardrobe
from synth.surface import BodySurface

Array = NDArray[np.float64]
POSES = 10
#: Importance of a part's errors: people look at faces, and fingers are thin.
WEIGHTS = {"head": 6.0, "hand": 4.0, "foot": 1.5}
#: No edge grows beyond this (metres at rest): garments' borders on the skin need corners.
LONGEST = 0.06
#: Least cosine between a face's normals before and after, and least height over longest edge.
TURN, SLIVER = 0.2, 0.05


def examples(body: BodyModel, seed: int) -> Array:
    """(V,P,3) vertices of the mean body at rest and of random people in random poses."""
    rng, bank = generator("detail", seed), load_motion_bank()
    drawn, _ = bank.sample(rng.choice(len(bank), POSES))
    betas = torch.from_numpy(rng.normal(size=(POSES, 10))).float()
    pose = torch.from_numpy(drawn).float()
    betas[0], pose[0] = 0, 0
    with torch.no_grad():
        out = body(betas, pose, torch.zeros(POSES, 3)).vertices
    return out.double().numpy().transpose(1, 0, 2)


def importance(body: BodyModel) -> Array:
    """(V,) factor on a vertex's error."""
    from human.skeleton import SMPL24

    part = np.array([max([1.0, *(w for k, w in WEIGHTS.items() if k in name)]) for name in SMPL24.joints])
    weight = part[body.part.numpy()]
    # The back of the head is under hair; the face and the ears are not.
    surface = BodySurface(body)
    head = np.array([name == "head" for name in SMPL24.joints])[body.part.numpy()]
    weight[head & (surface.vertices.hair > 0.02)] = 2.0
    return weight


class Collapse:
    """A triangle mesh that loses one vertex at a time."""

    def __init__(
        self, examples_VP3: Array, faces: NDArray[np.int64], faces_uv: NDArray[np.int64], weight: Array
    ) -> None:
        self.points, self.faces, self.uv = examples_VP3, faces.copy(), faces_uv.copy()
        self.alive = np.ones(len(faces), bool)
        self.around: list[set[int]] = [set() for _ in examples_VP3]
        for f, face in enumerate(faces):
            for v in face:
                self.around[v].add(f)
        a, b, c = (self.points[faces[:, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        area = np.linalg.norm(normal, axis=-1, keepdims=True)
        plane = np.concatenate([normal / np.maximum(area, 1e-12), np.zeros_like(area)], -1)
        plane[..., 3] = -(plane[..., :3] * a).sum(-1)
        quadric = area[..., None] * plane[..., :, None] * plane[..., None, :]
        self.quadric = np.zeros((len(examples_VP3), examples_VP3.shape[1], 4, 4))
        for k in range(3):
            np.add.at(self.quadric, faces[:, k], quadric * weight[faces[:, k], None, None, None])
        self.version = np.zeros(len(examples_VP3), int)
        self.heap: list[tuple[float, int, int, int]] = []
        for v in range(len(examples_VP3)):
            self.push(v)

    def neighbours(self, v: int) -> set[int]:
        return {int(w) for f in self.around[v] for w in self.faces[f]} - {v}

    def push(self, u: int) -> None:
        """Queue the cheapest ways to remove ``u``."""
        self.version[u] += 1
        ring = np.array(sorted(self.neighbours(u)))
        p = np.concatenate([self.points[ring], np.ones((*self.points[ring].shape[:2], 1))], -1)
        cost = np.einsum("npi,pij,npj->n", p, self.quadric[u], p)
        # Of equal errors, short edges first.
        cost += 1e-7 * ((self.points[ring, 0] - self.points[u, 0]) ** 2).sum(-1)
        for v, c in zip(ring, cost, strict=True):
            heapq.heappush(self.heap, (float(c), u, int(v), int(self.version[u])))

    def allowed(self, u: int, v: int) -> dict[int, int] | None:
        """Where ``u``'s texture coordinates go when it moves onto ``v``; None where it must not."""
        both = self.around[u] & self.around[v]
        if len(both) != 2 or len(self.neighbours(u) & self.neighbours(v)) != 2 or len(self.around[u]) <= 3:
            return None
        moved: dict[int, int] = {}
        for f in both:
            at, to = (int(self.uv[f][self.faces[f] == w][0]) for w in (u, v))
            if moved.setdefault(at, to) != to:
                return None
        for f in self.around[u] - both:
            if int(self.uv[f][self.faces[f] == u][0]) not in moved:
                return None
        if any(len(self.around[w]) <= 3 for w in self.neighbours(u) & self.neighbours(v)):
            return None
        rest = np.array(sorted(self.around[u] - both))
        old = self.points[self.faces[rest]]
        new = self.points[np.where(self.faces[rest] == u, v, self.faces[rest])]
        before = np.cross(old[:, 1] - old[:, 0], old[:, 2] - old[:, 0])
        after = np.cross(new[:, 1] - new[:, 0], new[:, 2] - new[:, 0])
        size = np.linalg.norm(after, axis=-1)
        cosine = (before * after).sum(-1) / np.maximum(size * np.linalg.norm(before, axis=-1), 1e-15)
        edges = np.linalg.norm(new - np.roll(new, 1, axis=1), axis=-1).max(1)
        # Skin may fold in a pose; at rest no face may turn over.
        if cosine[:, 0].min() < TURN or (cosine.mean(1) < 0.5).any():
            return None
        if (size[:, 0] < SLIVER * edges[:, 0] ** 2).any() or edges[:, 0].max() > LONGEST:
            return None
        return moved

    def run(self, vertices: int) -> None:
        left = len(self.around)
        while left > vertices:
            _, u, v, version = heapq.heappop(self.heap)
            if version != self.version[u]:
                continue
            moved = self.allowed(u, v)
            if moved is None:
                continue
            for f in self.around[u] & self.around[v]:
                self.alive[f] = False
                for w in self.faces[f]:
                    if w != u:
                        self.around[w].discard(f)
                self.around[u].discard(f)
            for f in self.around[u]:
                k = int(np.flatnonzero(self.faces[f] == u)[0])
                self.faces[f, k], self.uv[f, k] = v, moved[int(self.uv[f, k])]
                self.around[v].add(f)
            self.quadric[v] += self.quadric[u]
            self.around[u] = set()
            self.version[u] += 1
            left -= 1
            for w in {v} | self.neighbours(v):
                self.push(w)


def near_together(points: Array) -> NDArray[np.int64]:
    """An order in which neighbours are close: halves of the widest side, again and again."""

    def halves(index: NDArray[np.int64]) -> list[int]:
        if len(index) <= 4:
            return index.tolist()
        axis = int(np.ptp(points[index], axis=0).argmax())
        index = index[np.argsort(points[index, axis], kind="stable")]
        return halves(index[: len(index) // 2]) + halves(index[len(index) // 2 :])

    return np.array(halves(np.arange(len(points))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vertices", type=int, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "human/data/free_detail.npz")
    args = parser.parse_args()
    body = load_body()
    points = examples(body, args.seed)
    mesh = Collapse(points, body.faces.numpy(), body.faces_uv.numpy(), importance(body))
    mesh.run(args.vertices)

    faces, uv = mesh.faces[mesh.alive], mesh.uv[mesh.alive]
    kept = np.unique(faces)
    kept = kept[near_together(points[kept, 0])]
    place = np.full(len(points), -1)
    place[kept] = np.arange(len(kept))
    order = np.argsort(place[faces].min(1), kind="stable")
    faces, uv = place[faces[order]], uv[order]
    data: dict[str, NDArray[Any]] = {
        "vertices": kept.astype(np.uint16),
        "faces": faces.astype(np.uint16),
        "faces_uv": uv.astype(np.uint16),
    }
    rest = body.v_template.double().numpy()
    for name, shell in load_wardrobe().items():
        face, bary = closest_on_mesh(shell.v_template.astype(np.float64), rest[kept], faces)
        data[f"{name}_bind_face"] = face.astype(np.uint16)
        data[f"{name}_bind_bary"] = np.asarray(bary, np.float32)
    np.savez_compressed(args.out, allow_pickle=False, **data)
    face, bary = closest_on_mesh(rest, rest[kept], faces)
    away = 1000 * np.linalg.norm((rest[kept][faces[face]] * bary[..., None]).sum(1) - rest, axis=1)
    size = args.out.stat().st_size / 1024
    print(f"{args.out}: {len(kept)} vertices, {len(faces)} triangles, {size:.0f} KiB")
    print(
        f"the body's vertices lie {away.mean():.2f} mm from it on average, 99 % within {np.percentile(away, 99):.1f} mm"
    )


if __name__ == "__main__":
    main()
