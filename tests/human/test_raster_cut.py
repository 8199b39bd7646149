"""Meshes cut along curves: the rasteriser's ``cut_BV`` against geometry that was really clipped."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor

from human.errors import PosesynError
from human.raster import rasterise
from tests.human.meshes import SIZE, intrinsics, same, soup


def clipped(verts_V3: Tensor, faces_F3: Tensor, cut_V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices and faces of the part of each triangle where the cut is not negative, and the face each comes from.

    Sutherland-Hodgman in float64; the cut is linear on a triangle, so its border is a straight line in space.
    """
    points: list[Tensor] = []
    origin: list[int] = []
    for f, face in enumerate(faces_F3.tolist()):
        polygon: list[Tensor] = []
        for a, b in zip(face, face[1:] + face[:1], strict=True):
            pa, pb, ca, cb = verts_V3[a].double(), verts_V3[b].double(), float(cut_V[a]), float(cut_V[b])
            if ca >= 0:
                polygon.append(pa)
            if (ca >= 0) != (cb >= 0):
                polygon.append(pa + (pb - pa) * (ca / (ca - cb)))
        for i in range(1, len(polygon) - 1):
            points += [polygon[0], polygon[i], polygon[i + 1]]
            origin.append(f)
    verts = torch.stack(points).float()
    return verts, torch.arange(len(verts)).view(-1, 3), torch.tensor(origin)


@pytest.mark.parametrize("backend", ["warp", "pytorch3d"])
def test_equals_clipped_geometry(backend: str) -> None:
    if backend == "pytorch3d" and importlib.util.find_spec("pytorch3d") is None:
        pytest.skip("PyTorch3D is not installed: cut meshes were NOT compared with it")
    verts, faces = soup(21, triangles=60)
    verts[..., 2].clamp_(min=0.5)
    cut = torch.randn(1, verts.shape[1], generator=torch.Generator().manual_seed(3))
    ours = rasterise(verts, faces, intrinsics(), SIZE, cut_BV=cut)
    whole = rasterise(verts, faces, intrinsics(), SIZE)
    points, triangles, origin = clipped(verts[0], faces, cut[0])
    theirs = rasterise(points[None], triangles, intrinsics(), SIZE, backend)
    want = torch.where(theirs.face >= 0, origin[theirs.face.long().clamp(min=0)], -1)
    assert (whole.face != ours.face).float().mean() > 0.1  # the cut does show
    assert ours.mask.sum() > 300
    # Only pixel centres on a border may differ: clipped corners are rounded.
    assert (ours.face != want).sum() <= 3
    assert (ours.mask != theirs.mask).sum() <= 2
    agree = ours.face == want
    assert (ours.depth - theirs.depth)[agree].abs().max() < 2e-3


def test_border_is_perspective_correct() -> None:
    """On a steeply slanted triangle cut at x = -0.25 m, exactly the pixels whose ray meets it beyond are drawn."""
    verts = torch.tensor([[[-0.6, -0.4, 1.0], [0.9, -0.5, 6.0], [-0.3, 0.9, 2.0]]])
    faces, k = torch.tensor([[0, 1, 2]]), intrinsics()
    whole = rasterise(verts, faces, k, SIZE)
    x = (whole.bary[0] * verts[0, :, 0]).sum(-1)
    sure = whole.mask[0] & ((x + 0.25).abs() > 1e-4)
    cut = rasterise(verts, faces, k, SIZE, cut_BV=verts[..., 0] + 0.25)
    assert torch.equal(cut.mask[0][sure], (x >= -0.25)[sure])
    assert 0.2 < cut.mask.sum() / whole.mask.sum() < 0.8
    kept = cut.mask
    assert torch.equal(cut.bary[kept], whole.bary[kept])
    assert torch.equal(cut.depth[kept], whole.depth[kept])


def test_nothing_cut_is_the_same_to_the_bit() -> None:
    verts, faces = soup(22, batch=2, triangles=80)
    whole = rasterise(verts, faces, intrinsics(2), SIZE)
    for value in (0.0, -0.0, 3.0):
        cut = torch.full(verts.shape[:2], value)
        assert same(whole, rasterise(verts, faces, intrinsics(2), SIZE, cut_BV=cut))


def test_cut_faces_show_what_is_behind() -> None:
    verts, faces = soup(23, triangles=40)
    cut = torch.ones(1, verts.shape[1])
    cut[0, faces[:10].flatten()] = -1.0
    cut[0, faces[10]] = float("nan")
    ours = rasterise(verts, faces, intrinsics(), SIZE, cut_BV=cut)
    kept = rasterise(verts, faces[11:], intrinsics(), SIZE)
    assert torch.equal(ours.face, torch.where(kept.mask, kept.face + 11, -1))
    assert torch.equal(ours.depth, kept.depth)
    assert not rasterise(verts, faces, intrinsics(), SIZE, cut_BV=-torch.ones_like(cut)).mask.any()


def test_one_nan_corner_cuts_its_triangle_away() -> None:
    verts, faces = soup(24, triangles=1)
    cut = torch.tensor([[1.0, float("nan"), 1.0]])
    assert rasterise(verts, faces, intrinsics(), SIZE).mask.any()
    assert not rasterise(verts, faces, intrinsics(), SIZE, cut_BV=cut).mask.any()


def test_same_bytes_for_any_batch_and_threads() -> None:
    verts, faces = soup(25, batch=5, triangles=150)
    k = intrinsics(5)
    cut = torch.randn(verts.shape[:2], generator=torch.Generator().manual_seed(1))
    whole = rasterise(verts, faces, k, SIZE, cut_BV=cut)
    assert same(whole, rasterise(verts, faces, k, SIZE, threads=3, cut_BV=cut))
    order = torch.tensor([4, 1])
    part = rasterise(verts[order], faces, k[order], SIZE, cut_BV=cut[order])
    assert torch.equal(part.face, whole.face[order])
    assert torch.equal(part.bary, whole.bary[order])


def test_misuse_says_what_to_do() -> None:
    verts, faces = soup(26, triangles=3)
    with pytest.raises(PosesynError, match="one value per vertex"):
        rasterise(verts, faces, intrinsics(), SIZE, cut_BV=torch.zeros(1, 4))
    with pytest.raises(PosesynError, match="use backend='warp'"):
        rasterise(verts, faces, intrinsics(), SIZE, "pytorch3d", cut_BV=torch.zeros(1, 9))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: cutting was NOT run on one")
def test_cuda_equals_cpu() -> None:
    verts, faces = soup(27, batch=2, triangles=200, extent=0.2)
    cut = torch.randn(verts.shape[:2], generator=torch.Generator().manual_seed(2))
    cpu = rasterise(verts, faces, intrinsics(2), SIZE, cut_BV=cut)
    gpu = rasterise(verts.cuda(), faces.cuda(), intrinsics(2).cuda(), SIZE, cut_BV=cut.cuda())
    assert (cpu.face != gpu.face.cpu()).float().mean() < 1e-3
