"""Vertex normals and deferred shading: against closed forms, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from human import shading
from human.errors import PosesynError
from human.raster import Fragments, interpolate, rasterise, vertex_normals
from tests.human.meshes import SIZE, intrinsics, soup, sphere


def test_vertex_normals_of_a_sphere_point_outwards() -> None:
    verts, faces = sphere(24)
    normals = vertex_normals(verts[None] * 0.7, faces)[0]
    inner = (verts[:, 1].abs() < 0.99) & (verts[:, 2].abs() > 1e-3)  # poles and the seam have half a ring
    assert ((normals * verts).sum(-1)[inner] > 0.99).all()
    # A second topology with as many vertices must not meet the first one's cached rings.
    assert ((vertex_normals(verts[None], faces.flip(1))[0] * verts).sum(-1)[inner] < -0.99).all()


def test_vertex_normals_survive_nan() -> None:
    verts, faces = sphere(12)
    verts[30] = float("nan")
    assert vertex_normals(verts[None], faces).isfinite().all()


def shaded_sphere(light: torch.Tensor, sun: torch.Tensor | None = None) -> tuple[Fragments, torch.Tensor, torch.Tensor]:
    verts, faces = sphere(40)
    placed = verts[None] * 0.5 + torch.tensor([0.0, 0.0, 3.0])
    frags = rasterise(placed, faces, intrinsics(focal=110.0), SIZE)
    albedo = interpolate(frags, faces, torch.tensor([0.5, 0.25, 1.0]).expand(1, len(verts), 3))
    normals = vertex_normals(placed, faces)
    return frags, shading.shade(frags, faces, normals, albedo, light, sun), interpolate(frags, faces, normals)


def test_constant_light_shows_albedo_times_radiance() -> None:
    frags, colour, _ = shaded_sphere(shading.constant_light(torch.tensor([[0.8, 1.0, 2.0]])))
    assert frags.mask.sum() > 500
    assert torch.allclose(
        colour[frags.mask], torch.tensor([0.4, 0.25, 2.0]).expand(int(frags.mask.sum()), 3), atol=2e-5
    )
    assert not colour[~frags.mask].any()


def test_harmonics_are_orthonormal() -> None:
    """Monte-Carlo-free: a product grid of Gauss-Legendre nodes integrates order 4 exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    phi = np.arange(16) * 2 * np.pi / 16
    z = np.repeat(nodes, 16)
    r = np.sqrt(1 - z * z)
    directions = torch.tensor(np.stack([r * np.tile(np.cos(phi), 8), r * np.tile(np.sin(phi), 8), z], -1))
    basis = shading.sh_basis(directions).numpy()
    gram = (basis * np.repeat(weights, 16)[:, None]).T @ basis * (2 * np.pi / 16)
    np.testing.assert_allclose(gram, np.eye(9), atol=1e-5)


def test_directional_light_approximates_lambert_and_sun_is_lambert() -> None:
    towards = torch.nn.functional.normalize(torch.tensor([[0.5, -0.7, -1.0]]), dim=-1)
    rgb = torch.tensor([[1.0, 2.0, 0.5]])
    soft = shading.directional_light(towards, rgb)
    sun = torch.stack([towards, rgb], 1)
    frags, approximate, normals = shaded_sphere(soft)
    _, exact, _ = shaded_sphere(torch.zeros_like(soft), sun)
    unit = torch.nn.functional.normalize(normals, dim=-1)[frags.mask]
    want = (unit @ towards[0]).clamp(min=0)[:, None] * rgb * torch.tensor([0.5, 0.25, 1.0])
    assert torch.allclose(exact[frags.mask], want, atol=1e-5)
    # The clamped cosine cut at order 2 is 1/4 + c/2 + 5/32 (3 c^2 - 1): off by 3/32 at most, at the terminator.
    assert (approximate[frags.mask] - want).abs().max() < 3 / 32 * 0.5 + 1e-4
    cosine = unit @ towards[0]
    cut = (0.25 + cosine / 2 + 5 / 32 * (3 * cosine**2 - 1)).clamp(min=0)
    assert torch.allclose(approximate[frags.mask], cut[:, None] * rgb * torch.tensor([0.5, 0.25, 1.0]), atol=1e-4)


def test_texture_is_bilinear_and_upright() -> None:
    """A square seen head-on, one texel per pixel, reproduces the texture; half a pixel off, its bilinear mean."""
    texture = torch.rand((1, 8, 8, 3), generator=torch.Generator().manual_seed(0))
    verts = torch.tensor([[[-0.5, -0.5, 1.0], [-0.5, 7.5, 1.0], [7.5, 7.5, 1.0], [7.5, -0.5, 1.0]]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    uv = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])[faces]
    k = torch.eye(3)[None]
    flat = shading.sample_texture(rasterise(verts, faces, k, (8, 8)), uv, texture)
    assert torch.allclose(flat, texture, atol=1e-5)
    k[0, 0, 2] = 0.5
    shifted = shading.sample_texture(rasterise(verts, faces, k, (8, 8)), uv, texture)
    assert torch.allclose(shifted[:, :, 1:], (texture[:, :, 1:] + texture[:, :, :-1]) / 2, atol=1e-5)
    both = rasterise(verts.expand(2, -1, -1), faces, torch.eye(3).expand(2, 3, 3), (8, 8))
    assert torch.equal(shading.sample_texture(both, uv, texture)[1], flat[0])


def test_compose_keeps_background_and_smooths_edges() -> None:
    verts, faces = soup(9, batch=2, triangles=30)
    k = intrinsics(2)
    background = torch.rand((2, *SIZE, 3), generator=torch.Generator().manual_seed(1))
    plain = rasterise(verts, faces, k, SIZE)
    white = torch.ones((2, *SIZE, 3))
    hard = shading.compose(white, plain, background)
    assert torch.equal(hard.colour, torch.where(plain.mask[..., None], white, background))
    assert torch.equal(hard.alpha, plain.mask.float())
    assert torch.equal(hard.depth, plain.depth)

    s = 3
    fine = (SIZE[0] * s, SIZE[1] * s)
    frags = rasterise(verts, faces, shading.supersampled_intrinsics(k, s), fine)
    smooth = shading.compose(torch.ones((2, *fine, 3)), frags, background, supersample=s)
    want = frags.mask.float().view(2, SIZE[0], s, SIZE[1], s).mean((2, 4))
    assert torch.allclose(smooth.alpha, want)
    assert torch.allclose(smooth.colour, want[..., None] + (1 - want[..., None]) * background, atol=1e-6)
    # The middle sample of an odd factor is the pixel's own centre.
    assert torch.equal(frags.mask[:, 1::3, 1::3], plain.mask)
    assert (smooth.depth > 0).sum() >= (plain.depth > 0).sum()


def test_shading_an_empty_batch() -> None:
    verts, faces = soup(4)
    empty = rasterise(verts[:0], faces, intrinsics(0), SIZE)
    image = torch.zeros((0, *SIZE, 3))
    shaded = shading.shade(empty, faces, verts[:0], image, torch.zeros(0, 9, 3))
    textured = shading.sample_texture(empty, torch.zeros(len(faces), 3, 2), torch.zeros(1, 4, 4, 3))
    assert shaded.shape == textured.shape == (0, *SIZE, 3)
    assert shading.compose(image, empty, image).colour.shape == (0, *SIZE, 3)
    small = torch.zeros((0, SIZE[0] // 2, SIZE[1] // 2, 3))
    assert shading.compose(image, empty, small, supersample=2).alpha.shape == small.shape[:3]


def test_shading_refuses_misfits() -> None:
    verts, faces = soup(10)
    frags = rasterise(verts, faces, intrinsics(), SIZE)
    image = torch.zeros((1, *SIZE, 3))
    with pytest.raises(PosesynError, match="light"):
        shading.shade(frags, faces, verts, image, torch.zeros(1, 3, 9))
    with pytest.raises(PosesynError, match="albedo"):
        shading.shade(frags, faces, verts, image[:, 1:], torch.zeros(1, 9, 3))
    with pytest.raises(PosesynError, match="supersample=2"):
        shading.compose(image, frags, image, supersample=2)
    with pytest.raises(PosesynError, match="texture"):
        shading.sample_texture(frags, torch.zeros(len(faces), 3, 2), torch.zeros(3, 8, 8, 3))
    with pytest.raises(PosesynError, match="uv"):
        shading.sample_texture(frags, torch.zeros(len(faces), 2), torch.zeros(1, 8, 8, 3))
