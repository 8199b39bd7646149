"""The picture maker: exact coverage, light that conserves energy, shadows in their places, same bytes in any batch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from human.body import load_body
from human.camera import make_intrinsics
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.raster import rasterise
from human.rng import generator
from human.shading import constant_light, supersampled_intrinsics
from synth.dressed import DressedBody
from synth.lighting import Lighting
from synth.outfit import Outfit, OutfitConfig, draw_outfit, empty_outfit
from synth.paint import BODY, FABRIC, Banks, Paint, PaintConfig
from synth.paint_draws import draw_paint
from synth.scene import sample_scene
from synth.shading import Shaded, shade_shot

SIZE = 96
GREY = 120


@pytest.fixture(scope="module")
def dressed() -> DressedBody:
    return DressedBody(load_body())


@pytest.fixture(scope="module")
def banks() -> Banks:
    prints = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Banks.build(prints)


def light(batch: int = 1, level: float = 1.0, **given: Any) -> Lighting:
    """The same light from everywhere, no sun, no shadow, up is up."""
    row = {
        "sh": constant_light(torch.full((1, 3), level)),
        "sun": torch.tensor([[[0.0, 0.0, -1.0], [0.0, 0.0, 0.0]]]),
        "up": torch.tensor([[0.0, -1.0, 0.0]]),
    } | {name: torch.zeros(1) for name in ("occlusion", "gloss", "shadow", "softness")}
    row |= {name: torch.as_tensor(value, dtype=torch.float32)[None] for name, value in given.items()}
    return Lighting(**{name: value.expand(batch, *value.shape[1:]).clone() for name, value in row.items()})


def towards(x: float, y: float, z: float, radiance: float) -> Tensor:
    direction = torch.tensor([x, y, z])
    return torch.stack([direction / direction.norm(), torch.full((3,), radiance)])


def plain(batch: int, albedo: float = 1.0) -> Paint:
    """Bare even skin without a face."""
    row = draw_paint([generator("plain")], PaintConfig(), *(torch.zeros(1, 8, dtype=torch.int32).numpy(),) * 2)
    row.body[:] = 0
    row.body[:, BODY["skin"] : BODY["skin"] + 3] = albedo
    return Paint.cat([row] * batch)


def standing(dressed: DressedBody, yaw: float = 0.0, elevation: float = 0.0, pose: Tensor | None = None) -> Tensor:
    """(1,V,3) a person 4 m before the camera, which looks down by ``elevation`` radians."""
    turn = torch.tensor([[math.pi, 0.0, 0.0]])
    if yaw:
        turn = torch.tensor([[0.0, 0.0, math.pi]])  # seen from behind
    pose = torch.zeros(1, 23, 3) if pose is None else pose
    verts, _ = dressed.pose(torch.zeros(1, 10), pose, turn, torch.tensor([[0.0, 0.1, 0.0]]))
    c, s = math.cos(elevation), -math.sin(elevation)
    down = torch.tensor([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])
    return verts @ down.T + torch.tensor([0.0, 0.0, 4.0])


def view(batch: int = 1, size: int = SIZE) -> Tensor:
    return make_intrinsics(torch.full((batch,), 1.6 * size), size)


def grey(batch: int = 1, size: int = SIZE) -> Tensor:
    return torch.full((batch, size, size, 3), GREY, dtype=torch.uint8)


def draw(
    dressed: DressedBody, verts: Tensor, lighting: Lighting, banks: Banks, outfit: Outfit | None = None, **given: Any
) -> Shaded:
    batch = len(verts)
    outfit = empty_outfit(batch) if outfit is None else outfit
    out, cut, normals = dressed.drape(verts, outfit)
    cut = given.pop("cut", cut)
    paint = given.pop("paint", plain(batch, 0.5))
    arguments = (view(batch), outfit, paint, lighting, given.pop("backgrounds", grey(batch)), banks, SIZE)
    return shade_shot(dressed, out, normals, cut, *arguments, **given)


def crowd(dressed: DressedBody, count: int) -> dict[str, Any]:
    """Arguments of shade_shot for dressed people as the engine draws them."""
    spec = sample_scene(range(count), load_motion_bank(), dressed.body, SIZE)
    outfit = Outfit.cat([draw_outfit(generator("o", i), OutfitConfig(), dressed.surface) for i in range(count)])
    paint = draw_paint(
        [generator("p", i) for i in range(count)],
        PaintConfig(pattern_probability=1.0),
        outfit.kind.numpy(),
        outfit.params[..., 0].numpy(),
        cloth_PG=outfit.fabric.numpy(),
        prints=3,
    )
    verts, _ = dressed.pose(spec.betas, spec.body_pose, spec.global_orient, spec.transl)
    out, cut, normals = dressed.drape(verts, outfit)
    lighting = light(count, 0.5, sun=towards(0.4, -0.7, -0.5, 0.6), occlusion=0.8, gloss=1.0, shadow=0.6, softness=0.05)
    backgrounds = torch.randint(
        0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return {
        "verts_BV3": out, "normals_BV3": normals, "cut_BV": cut, "intrinsics_B33": spec.intrinsics, "outfit": outfit,
        "paint": paint, "lighting": lighting, "backgrounds_BHW3": backgrounds,
    }  # fmt: skip


def test_white_furnace(dressed: DressedBody, banks: Banks) -> None:
    """In light that is the same from everywhere, a white body shows the light's own radiance everywhere."""
    out = draw(dressed, standing(dressed), light(), banks, paint=plain(1), tone_curve=False)
    inside = out.coverage == 1
    assert inside.sum() > 600
    assert (out.image[inside] - 255).abs().max() < 0.1
    half = draw(dressed, standing(dressed), light(level=0.5), banks, paint=plain(1, 0.5), tone_curve=False)
    assert (half.image[inside] - 255 / 4).abs().max() < 0.1


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_coverage_and_depth_are_the_rasterisers(dressed: DressedBody, banks: Banks, supersample: int) -> None:
    scene = crowd(dressed, 2)
    out = shade_shot(dressed, banks=banks, size=SIZE, supersample=supersample, **scene)
    k = supersample
    fine = rasterise(
        scene["verts_BV3"], dressed.faces, supersampled_intrinsics(scene["intrinsics_B33"], k), (k * SIZE, k * SIZE),
        cut_BV=scene["cut_BV"],
    )  # fmt: skip
    blocks = fine.mask.float().view(2, SIZE, k, SIZE, k)
    assert (out.coverage - blocks.mean((2, 4))).abs().max() < 1e-6
    near = torch.where(fine.mask, fine.depth, 1e9).view(2, SIZE, k, SIZE, k).amin((2, 4))
    covered = out.coverage > 0
    assert torch.equal(out.layer >= 0, covered)
    assert len(out.layer.unique()) >= 4  # background, skin and clothes
    off = (out.depth - near)[covered].abs()
    # The body's far side, which is not drawn here, may own a sample on its very outline.
    assert (off > 1e-5).sum() <= 2


def test_background_stays_without_shadow(dressed: DressedBody, banks: Banks) -> None:
    scene = crowd(dressed, 2)
    scene["lighting"] = replace(scene["lighting"], shadow=torch.zeros(2))
    out = shade_shot(dressed, banks=banks, size=SIZE, **scene)
    away = out.coverage == 0
    assert torch.equal(out.image[away], scene["backgrounds_BHW3"][away].float())
    assert ((out.image >= 0) & (out.image <= 255)).all()


def test_sun_from_the_left_throws_the_shadow_to_the_right(dressed: DressedBody, banks: Banks) -> None:
    verts = standing(dressed, elevation=0.5)
    up = [0.0, -math.cos(0.5), -math.sin(0.5)]
    middle: list[float] = []
    for side in (-1.0, 1.0):
        lighting = light(level=0.3, up=up, sun=towards(side, -0.9, -0.5, 2.0), shadow=0.9, softness=0.02)
        out = draw(dressed, verts, lighting, banks)
        dark = (GREY - out.image[0, ..., 0]).clamp(min=0) * (out.coverage[0] == 0)
        assert dark.max() > 25
        assert (dark > 10).sum() > 60
        columns = torch.arange(SIZE).float()
        middle.append(float((dark.sum(0) * columns).sum() / dark.sum()))
    assert middle[0] > (SIZE - 1) / 2 + 4  # the sun stands on the left
    assert middle[1] < (SIZE - 1) / 2 - 4
    # The mirrored sun over a nearly mirrored body: mirrored shadows.
    assert abs(middle[0] + middle[1] - (SIZE - 1)) < 3


def test_contact_shadow_lies_under_the_feet(dressed: DressedBody, banks: Banks) -> None:
    """Under an even sky without sun the ground is dark where the body hides the sky: at the feet, less farther off."""
    verts = standing(dressed, elevation=0.5)
    lighting = light(up=[0.0, -math.cos(0.5), -math.sin(0.5)], shadow=1.0)
    out = draw(dressed, verts, lighting, banks)
    dark = (GREY - out.image[0, ..., 0]) * (out.coverage[0] == 0)
    sole = verts[0, :, :][dressed.fields_V6[:, 1].argmin()]
    u, v = (float(1.6 * SIZE * sole[i] / sole[2] + (SIZE - 1) / 2) for i in (0, 1))
    ys, xs = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    away = ((xs - u) ** 2 + ((ys - v) * 2) ** 2).sqrt()
    rings = [float(dark[(away >= a) & (away < a + 6) & (ys > v)].mean()) for a in (0, 12, 30)]
    assert rings[0] > 10
    assert rings[0] > 1.5 * rings[1]
    assert rings[1] > 1.5 * rings[2]


def test_an_arm_before_the_trunk_shadows_it(dressed: DressedBody, banks: Banks) -> None:
    pose = torch.zeros(1, 23, 3)
    pose[0, 15] = torch.tensor([0.0, -1.5, 0.0])  # the left arm points forwards
    pose[0, 17] = torch.tensor([0.0, -1.2, 0.0])  # and bends across the chest
    verts = standing(dressed, pose=pose)
    lighting = light(level=0.2, sun=towards(0.1, -1.0, -1.0, 1.0))
    _, cut, _ = dressed.drape(verts, empty_outfit(1))
    left_arm = (dressed.fields_V6[:, 3] > 0.3) & (dressed.fields_V6[:, 0] > 0) & (dressed.layer_V == 0)
    without = cut.masked_fill(left_arm, -1.0)
    both = draw(dressed, verts, lighting, banks, tone_curve=False)
    bare = draw(dressed, verts, lighting, banks, cut=without, tone_curve=False)
    trunk = (both.coverage[0] == 1) & (bare.coverage[0] == 1) & ((both.depth - bare.depth)[0].abs() < 1e-4)
    ratio = both.image[0, ..., 1][trunk] / bare.image[0, ..., 1][trunk]
    assert (ratio < 0.6).sum() > 20
    assert (ratio > 0.95).float().mean() > 0.5  # and the rest stays lit
    assert (ratio > 1.05).float().mean() < 0.01  # the sun's view moves a little with what it sees


def test_near_surfaces_darken_each_other(dressed: DressedBody, banks: Banks) -> None:
    verts = standing(dressed)
    open_sky = draw(dressed, verts, light(), banks, tone_curve=False)
    occluded = draw(dressed, verts, light(occlusion=1.0), banks, tone_curve=False)
    inside = open_sky.coverage == 1
    ratio = (occluded.image / open_sky.image.clamp(min=1))[inside][:, 1]
    assert ratio.max() <= 1.0
    assert ratio.min() < 0.8
    assert ratio.median() > 0.9


def test_same_bytes_in_any_batch(dressed: DressedBody, banks: Banks) -> None:
    scene = crowd(dressed, 9)
    whole = shade_shot(dressed, banks=banks, size=SIZE, **scene)
    order = torch.tensor([8, 3, 0])
    for rows in (order, torch.tensor([5])):
        part = shade_shot(dressed, banks=banks, size=SIZE, **{k: v[rows] for k, v in scene.items()})
        for name in ("image", "coverage", "depth", "layer"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[rows]), name


def test_texture_shows_front_and_back(dressed: DressedBody) -> None:
    """A shirt whose texture is red in front and blue behind."""
    textures = torch.zeros(1, 2, 16, 16, 3, dtype=torch.uint8)
    textures[0, 0, ..., 0], textures[0, 1, ..., 2] = 220, 220
    banks = Banks.build(None, textures)
    outfit = empty_outfit(1)
    outfit.kind[0, 0], outfit.layer[0, 0] = 1, 2
    outfit.params[0, 0] = torch.tensor([0.01, 0.5, -0.1, 0.45, 0.0, 0.0, 0.0, 0.0])
    paint = plain(1, 0.5)
    paint.texture[0, 0] = 0
    paint.fabric[0, 0, FABRIC["folds"]] = 0
    for yaw, channel in ((0.0, 0), (math.pi, 2)):
        out = draw(dressed, standing(dressed, yaw), light(), banks, outfit, paint=paint)
        shirt = out.image[(out.layer == 2) & (out.coverage == 1)]
        assert len(shirt) > 150
        share = (shirt.argmax(1) == channel).float().mean()
        assert share > 0.9


def test_atlas_paints_the_body(dressed: DressedBody) -> None:
    atlas = torch.zeros(1, 16, 16, 4, dtype=torch.uint8)
    atlas[..., 1], atlas[..., 3] = 180, 255
    banks = Banks.build(None, None, atlas)
    paint = plain(1, 0.5)
    paint.atlas[0] = 0
    sunny = light(level=0.3, sun=towards(1.0, -0.5, -0.5, 2.0))
    out = draw(dressed, standing(dressed), sunny, banks, paint=paint, tone_curve=False)
    skin = out.image[out.coverage == 1]
    assert (skin[:, 1] > 60).all()
    assert (skin[:, [0, 2]] < 1).all()
    # Its own light is in it: the sun matters little.
    assert skin[:, 1].std() / skin[:, 1].mean() < 0.25


def test_paint_is_drawn_by_key_and_garments_are_independent() -> None:
    def row(kinds: list[int], among: int = 0) -> Paint:
        """The paint of key 3, drawn together with ``among`` others."""
        kind = torch.tensor([kinds + [0] * (8 - len(kinds))], dtype=torch.int32).numpy().repeat(1 + among, 0)
        rngs = [generator("paint", key) for key in (3, *range(10, 10 + among))]
        return draw_paint(rngs, PaintConfig(), kind, kind * 0.01, prints=5, textures=4)[:1]

    first, again, other = row([4, 2, 1]), row([4, 2, 1], among=4), row([4, 6, 1])
    for name, value in vars(first).items():
        assert (value == getattr(again, name)).all(), name
    assert (first.fabric[0, 2] == other.fabric[0, 2]).all()
    assert (first.body == other.body).all()
    ones = torch.ones(60, 8, dtype=torch.int32).numpy()
    paint = draw_paint([generator("paint", i) for i in range(60)], PaintConfig(), ones, ones, textures=7)
    assert paint.texture.min() == -1
    assert paint.texture.max() == 6
    assert paint.photo.max() == -1
    assert len(paint.fabric[..., FABRIC["pattern"]].unique()) > 10
    assert paint.body[:, BODY["skin"]].std() > 0.1


def test_kernels_know_the_columns_by_their_places() -> None:
    from synth import paint_kernels, surface_kernels
    from synth.paint import PATTERNS, TRIMS

    for name, column in BODY.items():
        assert getattr(surface_kernels, {"hair": "HAIRS"}.get(name, name.upper())) == column
    for name, column in FABRIC.items():
        assert getattr(paint_kernels, name.upper()) == column
    for names in (PATTERNS, TRIMS[1:]):
        for index, name in enumerate(names, start=0 if names is PATTERNS else 1):
            assert getattr(paint_kernels, name.upper()) == index


def test_pyramid_levels_are_means() -> None:
    picture = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    levels = Banks.build(picture).prints
    assert levels.shape == (1, 16, 8, 4)
    assert torch.equal(levels[:, :8, :, :3], picture)
    assert (levels[0, 14, 0, :3].float() - picture.float().mean((0, 1, 2))).abs().max() <= 1.0
    clear = torch.zeros(1, 8, 8, 4, dtype=torch.uint8)
    clear[:, :, ::2] = 200
    half = Banks.build(None, None, clear).atlases[0, 8:12, :4]
    assert (half[..., :3].int() - 200).abs().max() <= 1  # transparent texels do not darken
    assert (half[..., 3].int() - 100).abs().max() <= 1


def test_misuse_says_what_to_do(dressed: DressedBody, banks: Banks) -> None:
    verts = standing(dressed)
    with pytest.raises(PosesynError, match="power of two"):
        Banks.build(torch.zeros(2, 12, 12, 3, dtype=torch.uint8))
    with pytest.raises(PosesynError, match="uint8"):
        Banks.build(torch.zeros(2, 8, 8, 3))
    with pytest.raises(PosesynError, match="backgrounds"):
        draw(dressed, verts, light(), banks, backgrounds=grey(1, 32))
    with pytest.raises(PosesynError, match="2 rows of paint"):
        draw(dressed, verts, light(), banks, paint=plain(2))
    with pytest.raises(PosesynError, match="supersample is 5"):
        draw(dressed, verts, light(), banks, supersample=5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the shading kernels were NOT run on one")
def test_cuda_equals_cpu(dressed: DressedBody, banks: Banks) -> None:
    scene = crowd(dressed, 4)
    cpu = shade_shot(dressed, banks=banks, size=SIZE, **scene)
    there = DressedBody(load_body()).to("cuda")
    gpu = shade_shot(there, banks=banks.to("cuda"), size=SIZE, **{k: v.to("cuda") for k, v in scene.items()})
    same_faces = (cpu.depth - gpu.depth.cpu()).abs() < 1e-4
    assert same_faces.float().mean() > 0.999
    far = (cpu.image - gpu.image.cpu()).abs().amax(-1)[same_faces] > 1.0
    assert far.float().mean() < 1e-3
