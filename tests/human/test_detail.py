"""The free body's coarse mesh: closed, made of the body's vertices, close to its surface."""

from pathlib import Path

import numpy as np
import pytest
import torch

from human.body import load_body
from human.detail import load_detail
from human.errors import PosesynError
from human.raster import rasterise, vertex_normals
from human.wardrobe import load_wardrobe


def test_closed_and_oriented() -> None:
    body, detail = load_body(), load_detail()
    assert len(np.unique(detail.vertices)) == len(detail.vertices) < len(body.v_template) / 3
    assert np.unique(detail.faces).tolist() == list(range(len(detail.vertices)))
    edges = np.concatenate([detail.faces[:, [0, 1]], detail.faces[:, [1, 2]], detail.faces[:, [2, 0]]])
    # Every directed edge once, and its reverse once: no hole, no flipped triangle.
    assert len(np.unique(edges, axis=0)) == len(edges)
    assert {tuple(e) for e in edges.tolist()} == {tuple(e[::-1]) for e in edges.tolist()}
    rest = body.v_template[detail.vertices]
    coarse = vertex_normals(rest[None], torch.from_numpy(detail.faces))[0]
    fine = vertex_normals(body.v_template[None], body.faces)[0, detail.vertices]
    assert ((coarse * fine).sum(-1) > 0.5).float().mean() > 0.98


def test_texture_coordinates_are_the_vertices_own() -> None:
    body, detail = load_body(), load_detail()
    own = set(zip(body.faces.flatten().tolist(), body.faces_uv.flatten().tolist(), strict=True))
    corners = detail.vertices[detail.faces].ravel().tolist()
    assert set(zip(corners, detail.faces_uv.ravel().tolist(), strict=True)) <= own


def test_looks_like_the_body() -> None:
    body, detail = load_body(), load_detail()
    with torch.no_grad():
        pose = torch.zeros(2, 23, 3)
        pose[1, 17, 1], pose[1, 3, 0] = 1.8, 1.8  # elbow and knee
        verts = body(torch.zeros(2, 10), pose, torch.tensor([[np.pi, 0, 0]] * 2, dtype=torch.float32)).vertices
    verts = verts + torch.tensor([0, 0, 2.5])
    camera = torch.tensor([[256.0, 0, 127.5], [0, 256, 127.5], [0, 0, 1]]).expand(2, 3, 3)
    fine = rasterise(verts, body.faces, camera, (256, 256))
    coarse = rasterise(verts[:, detail.vertices], torch.from_numpy(detail.faces), camera, (256, 256))
    union = (fine.mask | coarse.mask).sum()
    assert (fine.mask ^ coarse.mask).sum() / union < 0.02
    both = fine.mask & coarse.mask
    assert (fine.depth - coarse.depth)[both].abs().mean() < 0.002


def test_shells_are_bound_to_it() -> None:
    body, detail = load_body(), load_detail()
    rest = body.v_template.numpy()[detail.vertices]
    fine = body.v_template.numpy()[body.faces.numpy()]
    for name, shell in load_wardrobe().items():
        here = (rest[detail.faces[detail.bind_face[name]]] * detail.bind_bary[name][..., None]).sum(1)
        there = (fine[shell.bind_face] * shell.bind_bary[..., None]).sum(1)
        away = [np.linalg.norm(shell.v_template - p, axis=1) for p in (here, there)]
        assert np.abs(away[0] - away[1]).max() < 0.015


def test_absent_or_foreign_file(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="no coarse body at"):
        load_detail(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(1))
    with pytest.raises(PosesynError, match="has no 'faces'"):
        load_detail(tmp_path / "other.npz")
