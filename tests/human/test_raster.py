"""The rasteriser against a float64 brute force, against PyTorch3D, and at its edges."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from human import shading
from human.errors import PosesynError
from human.raster import NEAR, Fragments, interpolate, rasterise, vertex_normals
from tests.human.meshes import SIZE, intrinsics, same, soup, sphere

NO_FACES = torch.zeros((0, 3), dtype=torch.long)


def brute_force(verts_V3: np.ndarray, faces: np.ndarray, k: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Float64 z-buffer over all pixels and faces; also how far every pixel is from any decision that could flip."""
    height, width = size
    ys, xs = np.mgrid[:height, :width].astype(np.float64)
    depth = np.full(size, np.inf)
    second = np.full(size, np.inf)
    face = np.full(size, -1)
    bary = np.zeros((*size, 3))
    margin = np.full(size, np.inf)
    for f, corners in enumerate(faces):
        p = verts_V3[corners].astype(np.float64)
        uv = (p / p[:, 2:]) @ k[:2].T
        low, high = uv.min(0) - 0.01, uv.max(0) + 0.01
        close = (xs > low[0]) & (xs < high[0]) & (ys > low[1]) & (ys < high[1])
        edges = []
        for i in range(3):
            (ax, ay), (bx, by) = uv[(i + 1) % 3], uv[(i + 2) % 3]
            edges.append((bx - ax) * (ys - ay) - (by - ay) * (xs - ax))
            distance = np.abs(edges[-1]) / np.hypot(bx - ax, by - ay)
            margin[close] = np.minimum(margin, distance)[close]
        area = sum(edges)
        screen = np.stack([e / area for e in edges], -1)
        inside = (screen >= 0).all(-1)
        weight = screen / p[:, 2]
        z = np.where(inside, 1 / weight.sum(-1), np.inf)
        nearer = z < depth
        second = np.where(nearer, depth, np.minimum(second, z))
        face[nearer] = f
        bary[nearer] = (weight * z[..., None])[nearer]
        depth[nearer] = z[nearer]
    with np.errstate(invalid="ignore"):
        gap = np.nan_to_num(second - depth, nan=np.inf)
    safe = (margin > 1e-4) & (gap > 1e-4)
    return {"face": face, "bary": bary, "depth": np.where(face >= 0, depth, 0), "safe": safe}


# --- against references ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extent", [0.5, 0.05, 0.01], ids=["large", "small", "subpixel"])
def test_equals_brute_force(extent: float) -> None:
    verts, faces = soup(1, batch=2, triangles={0.5: 40, 0.05: 300, 0.01: 2000}[extent], extent=extent)
    verts[..., 2].clamp_(min=0.3)
    frags = rasterise(verts, faces, intrinsics(2), SIZE)
    for b in range(2):
        want = brute_force(verts[b].numpy(), faces.numpy(), intrinsics()[0].double().numpy(), SIZE)
        safe = want["safe"]
        assert safe.mean() > 0.95
        assert (want["face"] >= 0).sum() > 40
        np.testing.assert_array_equal(frags.face[b].numpy()[safe], want["face"][safe])
        np.testing.assert_allclose(frags.depth[b].numpy()[safe], want["depth"][safe], rtol=2e-4)
        # Snapping moves corners by up to 2^-15 px, which the barycentrics of small triangles feel most.
        np.testing.assert_allclose(frags.bary[b].numpy()[safe], want["bary"][safe], atol=5e-5 / extent)


@pytest.mark.parametrize("size", [(40, 52), (52, 40), (33, 33)])
@pytest.mark.parametrize("cull", [False, True])
def test_equals_pytorch3d(size: tuple[int, int], cull: bool) -> None:
    if importlib.util.find_spec("pytorch3d") is None:
        pytest.skip("PyTorch3D is not installed: the rasteriser was NOT compared with it")
    verts, faces = sphere(16)
    placed = verts * 0.8 + torch.tensor([[[0.0, 0.0, 3.0]], [[0.7, -0.4, 2.0]]])
    ours = rasterise(placed, faces, intrinsics(2, size=size), size, cull_backfaces=cull)
    theirs = rasterise(placed, faces, intrinsics(2, size=size), size, "pytorch3d", cull_backfaces=cull)
    assert ours.mask.sum() > 500
    assert torch.equal(ours.mask, theirs.mask)
    agree = ours.mask & (ours.face == theirs.face)
    assert agree.sum() >= 0.999 * ours.mask.sum()
    assert (ours.depth - theirs.depth).abs().max() < 2e-4
    assert (ours.bary - theirs.bary)[agree].abs().max() < 2e-3


def test_pytorch3d_backend_skips_what_cannot_be_drawn() -> None:
    if importlib.util.find_spec("pytorch3d") is None:
        pytest.skip("PyTorch3D is not installed: its backend was NOT tested")
    verts, faces = soup(2, batch=3, triangles=20)
    verts[0, 0] = float("nan")
    verts[0, 3, 2] = -1.0
    verts[1] = float("nan")
    ours, theirs = (rasterise(verts, faces, intrinsics(3), SIZE, backend) for backend in ("warp", "pytorch3d"))
    assert (ours.face != theirs.face).float().mean() < 1e-3
    assert not theirs.mask[1].any()


def test_linear_attribute_is_perspective_correct() -> None:
    """Interpolating camera-frame positions gives the point on the pixel's ray, whatever the slant."""
    verts = torch.tensor([[[-0.6, -0.4, 1.0], [0.9, -0.5, 6.0], [-0.3, 0.9, 2.0]]])
    faces = torch.tensor([[0, 1, 2]])
    k = intrinsics()
    frags = rasterise(verts, faces, k, SIZE)
    points = interpolate(frags, faces, verts)[0]
    hit = frags.mask[0]
    assert hit.sum() > 100
    uv = (points / points[..., 2:]) @ k[0].T
    ys, xs = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    assert (uv[..., 0] - xs)[hit].abs().max() < 1e-3
    assert (uv[..., 1] - ys)[hit].abs().max() < 1e-3
    assert torch.allclose(points[..., 2], frags.depth[0], atol=1e-5)
    assert torch.equal(points[~hit], torch.zeros_like(points[~hit]))


# --- coverage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.785398])
@pytest.mark.parametrize("cells", [7, 150])
def test_tessellated_quad_has_no_holes(angle: float, cells: int) -> None:
    """Jittered grids of triangles, coarser and much finer than a pixel, fill exactly what their outline covers."""
    rng = np.random.default_rng(cells)
    axis = np.linspace(-1, 1, cells + 1)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    grid[1:-1, 1:-1] += rng.uniform(-0.3, 0.3, (cells - 1, cells - 1, 2)) * 2 / cells
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    plane = torch.tensor((grid @ turn.T).reshape(1, -1, 2), dtype=torch.float32)
    verts = torch.cat([plane * 16, torch.ones(1, plane.shape[1], 1)], -1)
    at = torch.arange((cells + 1) ** 2).view(cells + 1, cells + 1)
    a, b, c, d = (x.reshape(-1) for x in (at[:-1, :-1], at[1:, :-1], at[:-1, 1:], at[1:, 1:]))
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([c, b, d], -1)])
    k = torch.tensor([[[1.0, 0, 25.0], [0, 1.0, 19.0], [0, 0, 1.0]]])
    fine = rasterise(verts, faces, k, SIZE)
    corners = torch.tensor([[0, cells, cells * (cells + 1)], [cells, cells * (cells + 1), (cells + 1) ** 2 - 1]])
    outline = rasterise(verts, corners, k, SIZE)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    local = np.stack([xs - 25.0, ys - 19.0], -1) @ turn
    reach = np.abs(local).max(-1)
    inner, outer = torch.tensor(reach < 15.99), torch.tensor(reach > 16.01)
    assert fine.mask[0][inner].all()
    assert not fine.mask[0][outer].any()
    assert torch.equal(outline.mask[0][inner | outer], fine.mask[0][inner | outer])
    assert (fine.depth[fine.mask] - 1).abs().max() < 1e-5


def test_pixel_centres_are_integers() -> None:
    """A square from 2.0 to 5.0 px covers pixels 2..5, borders included; from 2.1 to 4.9 only 3 and 4."""
    k = torch.eye(3)[None]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    for low, high, want in ((2.0, 5.0, range(2, 6)), (2.1, 4.9, range(3, 5))):
        verts = torch.tensor([[[low, low, 1.0], [low, high, 1.0], [high, high, 1.0], [high, low, 1.0]]])
        covered = rasterise(verts, faces, k, (9, 9)).mask[0]
        assert covered.nonzero().tolist() == [[y, x] for y in want for x in want]


def test_a_triangle_around_the_whole_image_fills_it() -> None:
    verts = torch.tensor([[[-500.0, -500.0, 1.0], [60000.0, -500.0, 1.0], [-500.0, 60000.0, 1.0]]])
    assert rasterise(verts, torch.tensor([[0, 1, 2]]), torch.eye(3)[None], (64, 64)).mask.all()


def test_both_windings_are_drawn_unless_culled() -> None:
    front = torch.tensor([[0, 1, 2]])  # counter-clockwise on screen
    verts = torch.tensor([[[2.0, 2.0, 1.0], [2.0, 9.0, 1.0], [9.0, 9.0, 1.0]]])
    back = front.flip(1)
    k = torch.eye(3)[None]
    assert torch.equal(rasterise(verts, front, k, (12, 12)).mask, rasterise(verts, back, k, (12, 12)).mask)
    assert rasterise(verts, front, k, (12, 12), cull_backfaces=True).mask.any()
    assert not rasterise(verts, back, k, (12, 12), cull_backfaces=True).mask.any()


def test_equal_depth_goes_to_the_lowest_face() -> None:
    verts = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 9.0, 1.0], [9.0, 0.0, 1.0]]]).repeat(1, 3, 1)
    faces = torch.arange(9).view(3, 3)
    frags = rasterise(verts, faces, torch.eye(3)[None], (8, 8))
    assert set(frags.face[frags.mask].tolist()) == {0}


# --- ugly input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        [float("nan"), 0.0, 2.0],
        [0.0, float("inf"), 2.0],
        [0.0, 0.0, float("nan")],
        [0.0, 0.0, float("inf")],
        [0.0, 0.0, -1.0],
        [0.0, 0.0, 0.0],
        [0.1, 0.1, NEAR],
        [1e6, 0.0, 2.0],
    ],
)
def test_undrawable_triangles_are_left_out_and_others_untouched(bad: list[float]) -> None:
    verts, faces = soup(3, triangles=20)
    broken = verts.clone()
    broken[0, faces[4, 1]] = torch.tensor(bad)
    frags = rasterise(broken, faces, intrinsics(), SIZE)
    kept = torch.cat([faces[:4], faces[5:]])
    without = rasterise(verts, kept, intrinsics(), SIZE)
    assert torch.equal(frags.depth, without.depth)
    assert torch.equal(frags.face, torch.where(without.face >= 4, without.face + 1, without.face))
    assert frags.bary.isfinite().all()


def test_degenerate_triangles_draw_nothing() -> None:
    point = torch.tensor([[[3.0, 3.0, 1.0], [3.0, 3.0, 1.0], [6.0, 6.0, 1.0]]])
    line = torch.tensor([[[1.0, 1.0, 1.0], [3.0, 3.0, 1.0], [6.0, 6.0, 1.0]]])
    for verts in (point, line):
        assert not rasterise(verts, torch.tensor([[0, 1, 2]]), torch.eye(3)[None], (9, 9)).mask.any()


@pytest.mark.parametrize("backend", ["warp", "pytorch3d"])
def test_empty_batch_and_no_faces(backend: str) -> None:
    if backend == "pytorch3d" and importlib.util.find_spec("pytorch3d") is None:
        pytest.skip("PyTorch3D is not installed: its backend was NOT tested")
    verts, faces = soup(4, batch=2)
    empty = rasterise(verts[:0], faces, intrinsics(0), SIZE, backend)
    assert empty.face.shape == (0, *SIZE)
    assert empty.bary.shape == (0, *SIZE, 3)
    bare = rasterise(verts, NO_FACES, intrinsics(2), SIZE, backend)
    assert not bare.mask.any()
    assert not bare.depth.any()
    assert interpolate(bare, NO_FACES, verts).shape == (2, *SIZE, 3)
    assert interpolate(empty, faces, verts[:0]).shape == (0, *SIZE, 3)
    assert not vertex_normals(verts, NO_FACES).any()
    assert vertex_normals(verts[:0], faces).shape == (0, verts.shape[1], 3)


def test_lookups_that_would_leave_memory_are_refused() -> None:
    verts, faces = soup(4)
    frags = rasterise(verts, faces, intrinsics(), SIZE)
    with pytest.raises(PosesynError, match="there are only"):
        interpolate(frags, faces, verts[:, :-30])
    with pytest.raises(PosesynError, match="faces are given"):
        interpolate(frags, faces[:1], verts)
    with pytest.raises(PosesynError, match=r"give \(1, V, C\)"):
        interpolate(frags, faces, verts[0])
    with pytest.raises(PosesynError, match="uv is for 1 faces"):
        shading.sample_texture(frags, torch.zeros(1, 3, 2), torch.zeros(1, 4, 4, 3))


def test_bad_arguments_say_what_to_do() -> None:
    verts, faces = soup(5)
    k = intrinsics()
    with pytest.raises(PosesynError, match="no rasteriser is called 'opengl'; known: warp, pytorch3d"):
        rasterise(verts, faces, k, SIZE, "opengl")
    with pytest.raises(PosesynError, match=r"give \(B, V, 3\)"):
        rasterise(verts[0], faces, k, SIZE)
    with pytest.raises(PosesynError, match=r"give \(F, 3\)"):
        rasterise(verts, faces[0], k, SIZE)
    with pytest.raises(PosesynError, match=r"need \(1, 3, 3\)"):
        rasterise(verts, faces, k[0], SIZE)
    with pytest.raises(PosesynError, match=r"there are only 0\.\.119"):
        rasterise(verts, faces + 1, k, SIZE)
    with pytest.raises(PosesynError, match="size"):
        rasterise(verts, faces, k, (0, 5))
    with pytest.raises(PosesynError, match="threads"):
        rasterise(verts, faces, k, SIZE, threads=0)
    with pytest.raises(PosesynError, match="on meta"):
        rasterise(verts.to("meta"), faces, k, SIZE)


def test_absent_pytorch3d_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch3d.renderer.mesh.rasterize_meshes", None)  # makes the import fail
    verts, faces = soup(6)
    with pytest.raises(PosesynError, match=r"pip install 'posesyn\[pytorch3d\]'"):
        rasterise(verts, faces, intrinsics(), SIZE, "pytorch3d")


def test_import_starts_neither_warp_nor_pytorch3d() -> None:
    code = "import sys, human.raster, human.shading; assert not {'warp', 'pytorch3d'} & set(sys.modules)"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


# --- determinism -------------------------------------------------------------------------------------------------


def test_same_bytes_for_any_batch_and_threads() -> None:
    verts, faces = soup(7, batch=5, triangles=200)
    k = intrinsics(5, focal=45.0)
    whole = rasterise(verts, faces, k, SIZE)
    assert whole.mask.float().mean() > 0.3
    for threads in (2, 3, 9):
        assert same(whole, rasterise(verts, faces, k, SIZE, threads=threads))
    order = torch.tensor([3, 0, 4])
    part = rasterise(verts[order], faces, k[order], SIZE)
    assert same(part, Fragments(whole.face[order], whole.bary[order], whole.depth[order]))
    normals = vertex_normals(verts, faces)
    assert torch.equal(normals[order], vertex_normals(verts[order], faces))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the CUDA kernels were NOT run")
def test_cuda_equals_cpu() -> None:
    verts, faces = soup(8, batch=3, triangles=300, extent=0.1)
    verts[0, 0] = float("nan")
    k = intrinsics(3)
    cpu = rasterise(verts, faces, k, SIZE)
    gpu = rasterise(verts.cuda(), faces.cuda(), k.cuda(), SIZE)
    assert (cpu.face != gpu.face.cpu()).float().mean() < 1e-3
    assert (cpu.depth - gpu.depth.cpu())[cpu.face == gpu.face.cpu()].abs().max() < 1e-4
    assert same(gpu, rasterise(verts.cuda(), faces.cuda(), k.cuda(), SIZE))
    assert torch.allclose(vertex_normals(verts.cuda(), faces).cpu(), vertex_normals(verts, faces), atol=1e-5)
