"""Posing and draping: equal to the body model, exact over batches, nothing pokes through."""

import dataclasses

import numpy as np
import pytest
import torch
import warp as wp

from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.raster import interpolate, rasterise, vertex_normals
from human.rng import generator
from synth.drape_kernels import garment_depth, vec6, vec8
from synth.dressed import DressedBody
from synth.outfit import GARMENTS, KINDS, PARAMS, Outfit, OutfitConfig, draw_outfit, empty_outfit
from synth.scene import sample_scene

COUNT = 12


@wp.kernel
def depth_kernel(
    fields: wp.array2d[vec6],
    kind: wp.array2d[wp.int32],
    layer: wp.array2d[wp.int32],
    params: wp.array2d[vec8],
    out: wp.array2d[wp.float32],
):
    """Metres inside the clothes (on shells, hair left out) that cover a point of the body."""
    b, i = wp.tid()
    deepest = float(-1.0)  # noqa: UP018
    for g in range(kind.shape[1]):
        if layer[b, g] > 0 and kind[b, g] > 0 and kind[b, g] != 7:
            deepest = wp.max(deepest, garment_depth(kind[b, g], params[b, g], fields[b, i]))
    out[b, i] = deepest


@pytest.fixture(scope="module")
def dressed() -> DressedBody:
    return DressedBody(load_body())


@pytest.fixture(scope="module")
def people(dressed: DressedBody) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    scene = sample_scene(range(COUNT), load_motion_bank(), dressed.body, 128)
    return scene.betas, scene.body_pose, scene.global_orient, scene.transl, scene.intrinsics


@pytest.fixture(scope="module")
def outfit(dressed: DressedBody) -> Outfit:
    rows = [draw_outfit(generator("outfit", i), OutfitConfig(), dressed.surface) for i in range(COUNT)]
    return Outfit.cat(rows)


def one_garment(kind: str, layer: int, count: int = 1, **numbers: float) -> Outfit:
    outfit = empty_outfit(count)
    outfit.kind[:, 0], outfit.layer[:, 0] = KINDS.index(kind), layer
    for name, value in numbers.items():
        outfit.params[:, 0, PARAMS.index(name)] = value
    return outfit


def test_pose_equals_the_body_model(dressed: DressedBody, people: tuple) -> None:
    *pose, _ = people
    verts, joints = dressed.pose(*pose)
    wanted = dressed.body(*pose)
    skin = verts[:, : len(dressed.body.v_template)]
    assert (skin - wanted.vertices).abs().max() < 1e-5
    assert (joints - wanted.joints).abs().max() < 1e-5
    assert torch.equal(dressed.faces[: len(dressed.body.faces)], dressed.body.faces.int())
    assert (dressed.layer_F[: len(dressed.body.faces)] == 0).all()
    assert (verts[:, dressed.layer_V == 1] == verts[:, dressed.layer_V == 2]).all()


def test_large_rotations(dressed: DressedBody) -> None:
    rng = torch.Generator().manual_seed(0)
    pose = torch.randn(4, 23, 3, generator=rng)
    pose[0], pose[1, 0] = 0, torch.tensor([3.14159, 0, 0])
    given = torch.zeros(4, 10), pose, torch.randn(4, 3, generator=rng) * 3, torch.randn(4, 3, generator=rng)
    assert (dressed.pose(*given)[1] - dressed.body.joints(*given)).abs().max() < 1e-5


def test_bytes_do_not_depend_on_the_batch(dressed: DressedBody, people: tuple, outfit: Outfit) -> None:
    *pose, _ = people
    verts, joints = dressed.pose(*pose)
    all_rows = (verts, joints, *dressed.drape(verts, outfit))
    for rows in ([0], [3, 7, 5], list(range(COUNT))[::-1]):
        some, some_joints = dressed.pose(*(p[rows] for p in pose))
        parts = (some, some_joints, *dressed.drape(some, outfit[rows]))
        for whole, part in zip(all_rows, parts, strict=True):
            assert torch.equal(whole[rows], part)


def test_empty_outfit_is_the_bare_body(dressed: DressedBody, people: tuple) -> None:
    *pose, _ = people
    verts, _ = dressed.pose(*pose)
    draped, cut, normals = dressed.drape(verts, empty_outfit(COUNT))
    skin = dressed.layer_V == 0
    assert torch.equal(draped[:, skin], verts[:, skin])
    assert (cut[:, skin] > 0).all()
    assert (cut[:, ~skin] < 0).all()
    wanted = vertex_normals(verts[:, skin], dressed.body.faces)
    assert (normals[:, skin] - wanted).abs().max() < 1e-4


def test_normals_of_what_is_drawn(dressed: DressedBody, people: tuple, outfit: Outfit) -> None:
    *pose, _ = people
    draped, cut, normals = dressed.drape(dressed.pose(*pose)[0], outfit)
    assert torch.isfinite(draped).all()
    corners = cut[:, dressed.faces.long()].amax(-1) >= 0
    for b in range(3):
        used = dressed.faces[corners[b]].unique().long()
        assert (normals[b, used].norm(dim=-1) - 1).abs().max() < 1e-4
        wanted = vertex_normals(draped[b : b + 1], dressed.faces[corners[b]])[0, used]
        assert (normals[b, used] - wanted).abs().max() < 1e-3


def images(dressed: DressedBody, people: tuple, verts: torch.Tensor, cut: torch.Tensor, size: int) -> tuple:
    intrinsics = people[4].clone()
    intrinsics[:, :2] *= size / 128
    fragments = rasterise(verts, dressed.faces, intrinsics, (size, size), cut_BV=cut)
    fields = interpolate(fragments, dressed.faces, dressed.fields_V6.expand(len(verts), -1, -1).contiguous())
    layer = torch.where(fragments.mask, dressed.layer_F[fragments.face.clamp_min(0).long()], -1)
    return fragments, fields, layer


def test_nothing_pokes_through(dressed: DressedBody, people: tuple, outfit: Outfit) -> None:
    size = 256
    *pose, _ = people
    verts, _ = dressed.pose(*pose)
    draped, cut, _ = dressed.drape(verts, outfit)
    fragments, fields, layer = images(dressed, people, draped, cut, size)
    depth = torch.empty(COUNT, size * size)
    inputs = [wp.from_torch(fields.flatten(1, 2).contiguous(), dtype=vec6), wp.from_torch(outfit.kind)]
    inputs += [wp.from_torch(outfit.layer), wp.from_torch(outfit.params, dtype=vec8)]
    wp.launch(depth_kernel, (COUNT, size * size), inputs, [wp.from_torch(depth)], device="cpu")
    inside = (layer.flatten(1) == 0) & (depth > 0.01)
    # Under a skirt and into wide openings one may look; of ordinary views that is little.
    share = inside.sum() / fragments.mask.sum()
    print(f"skin inside clothes: {100 * share:.2f} % of the person")
    assert share < 0.005

    bare, bare_cut, _ = dressed.drape(verts, empty_outfit(COUNT))
    naked = images(dressed, people, bare, bare_cut, size)[0]
    holes = (naked.mask & ~fragments.mask).sum() / naked.mask.sum()
    print(f"holes: {100 * holes:.2f} % of the person")
    assert holes < 0.005


def test_an_outer_garment_lies_outside(dressed: DressedBody, people: tuple) -> None:
    *pose, _ = people
    rows = [0, 1, 2]
    verts, _ = dressed.pose(*(p[rows] for p in pose))
    outfit = one_garment("legs", 1, 3, thickness=0.02, hem=0.1, leg=2.0)
    for b in range(3):
        outfit.kind[b, 1], outfit.layer[b, 1] = KINDS.index("top"), 2
        for name, value in {"thickness": 0.002, "hem": -0.05, "neckline": 0.55, "sleeve": 1.0}.items():
            outfit.params[b, 1, PARAMS.index(name)] = value
    draped, cut, normals = dressed.drape(verts, outfit)
    inner, outer = (dressed.layer_V == i for i in (1, 2))
    both = (cut[:, inner] > 0) & (cut[:, outer] > 0)
    assert both.any()
    lifted = ((draped[:, outer] - draped[:, inner]) * normals[:, outer]).sum(-1)
    assert (lifted[both] > 0).float().mean() > 0.97
    # and hides what lies well under it
    fields = dressed.fields_V6[inner]
    well_under = (fields[:, 1] > 0.0) & (fields[:, 1] < 0.08) & (fields[:, 3] < 0)
    assert (cut[:, inner][:, well_under] < 0).all()


def test_thickness_moves_the_outline(dressed: DressedBody) -> None:
    verts, _ = dressed.pose(torch.zeros(2, 10), torch.zeros(2, 23, 3), torch.zeros(2, 3))
    outfit = one_garment("top", 2, 2, hem=-0.05, neckline=0.55, sleeve=1.0)
    outfit.params[:, 0, 0] = torch.tensor([0.001, 0.03])
    draped, cut, _ = dressed.drape(verts, outfit)
    worn = (cut[0] > 0.1) & (dressed.layer_V == 2)
    moved = (draped - verts)[:, worn].norm(dim=-1).mean(1)
    assert moved[0] < 0.012
    assert moved[1] > moved[0] + 0.015


def test_outfits_are_drawn_by_seed_and_vary(dressed: DressedBody) -> None:
    config = OutfitConfig()

    def draw(i: int) -> Outfit:
        return draw_outfit(generator("outfit", i), config, dressed.surface)

    for a, b in zip(draw(3).values(), draw(3).values(), strict=True):
        assert torch.equal(a, b)
    many = Outfit.cat([draw(i) for i in range(300)])
    assert many.kind.shape == (300, GARMENTS)
    assert many.params.shape == (300, GARMENTS, len(PARAMS))
    worn = {KINDS[k] for k in many.kind.unique().tolist()}
    assert worn == set(KINDS)
    assert many.fabric.min() >= 0
    assert (many.fabric <= torch.arange(GARMENTS)).all()
    tops = many.params[many.kind == 1]
    assert tops[:, 1].min() < 0 < 1.6 < tops[:, 1].max()  # sleeveless and long sleeves


def test_config_probabilities(dressed: DressedBody) -> None:
    bald = OutfitConfig(hair=(("bald", 1.0),), outfits=(("dress", 1.0),), hat_probability=0, barefoot_probability=1)
    kinds = Outfit.cat([draw_outfit(generator(i), bald, dressed.surface) for i in range(20)]).kind
    assert {KINDS[k] for k in kinds.unique().tolist()} == {"none", "top", "skirt"}
    with pytest.raises(PosesynError, match="no outfit is called 'toga'"):
        draw_outfit(generator(0), dataclasses.replace(bald, outfits=(("toga", 1.0),)), dressed.surface)
    with pytest.raises(PosesynError, match="no hair is called 'blue'"):
        draw_outfit(generator(0), dataclasses.replace(bald, hair=(("blue", 1.0),)), dressed.surface)


def test_body_alone(dressed: DressedBody, people: tuple) -> None:
    alone = DressedBody(dressed.body, {})
    *pose, _ = people
    verts, _ = alone.pose(*pose)
    assert verts.shape[1] == len(dressed.body.v_template)
    assert torch.equal(verts, dressed.pose(*pose)[0][:, : verts.shape[1]])


def test_wrong_input(dressed: DressedBody) -> None:
    with pytest.raises(PosesynError, match="body_pose must have shape"):
        dressed.pose(torch.zeros(2, 10), torch.zeros(2, 22, 3), torch.zeros(2, 3))
    with pytest.raises(PosesynError, match="drape needs vertices of shape"):
        dressed.drape(torch.zeros(2, 7, 3), empty_outfit(2))


def test_garment_borders_are_where_they_say(dressed: DressedBody) -> None:
    verts, _ = dressed.pose(torch.zeros(1, 10), torch.zeros(1, 23, 3), torch.zeros(1, 3))
    _, cut, _ = dressed.drape(verts, one_garment("top", 2, hem=0.0, neckline=0.5, sleeve=0.5))
    fields = dressed.fields_V6.numpy()
    drawn = ((cut[0] > 0) & (dressed.layer_V == 2)).numpy()
    assert drawn.sum() > 300
    assert fields[drawn, 1].min() > 0
    assert fields[drawn, 1].max() < 0.5
    assert fields[drawn, 3].max() < 0.5
    assert np.abs(fields[drawn, 0]).max() > 0.25  # half way along the upper arm
