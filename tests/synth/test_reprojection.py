"""Reference re-projection: what a picture shows comes back, what it does not is mirrored, and others are refused."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
import torch

from human.body import BodyModel, load_body
from human.camera import make_intrinsics
from human.errors import PosesynError
from human.fit import FitResult, fit_joints2d
from human.raster import Fragments, rasterise, vertex_normals
from human.shading import compose, constant_light, directional_light, sample_texture, shade, supersampled_intrinsics
from synth.body_atlas import atlas_uv, body_atlas
from synth.reference_light import estimate_light, response
from synth.reprojection import ReferenceAppearance, ReferenceBank, build_reference_bank, reproject_reference

SIZE = 256


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body()


def standing(arms_down: float = 1.0, yaw: float = 0.0, x: float = 0.0) -> FitResult:
    """A body 4 m away, facing the camera, arms beside it."""
    pose = torch.zeros(1, 23, 3)
    pose[0, 15, 2], pose[0, 16, 2] = -arms_down, arms_down
    turn = cv2.Rodrigues(np.array([np.pi, 0, 0]))[0] @ cv2.Rodrigues(np.array([0, yaw, 0]))[0]
    orient = torch.from_numpy(cv2.Rodrigues(turn)[0].T.astype(np.float32))
    one = torch.ones(1)
    return FitResult(torch.zeros(1, 10), pose, orient, torch.tensor([[x, 0.05, 4.0]]), 0 * one, one > 0)


CAMERA = make_intrinsics(torch.tensor([1.7 * SIZE]), SIZE)


def draw(
    body: BodyModel, fit: FitResult, texture_TT3: np.ndarray, background: np.ndarray, light: torch.Tensor
) -> tuple[np.ndarray, Fragments]:
    """(H, W, 3) uint8, twice supersampled, and the fragments of the picture's own pixels."""
    with torch.no_grad():
        verts = body(fit.betas, fit.body_pose, fit.global_orient, fit.transl).vertices
    frags = rasterise(verts, body.faces, supersampled_intrinsics(CAMERA, 2), (2 * SIZE, 2 * SIZE))
    albedo = sample_texture(frags, atlas_uv(body), torch.from_numpy(linear(texture_TT3))[None])
    colour = shade(frags, body.faces, vertex_normals(verts, body.faces), albedo, light)
    picture = compose(colour, frags, torch.from_numpy(linear(background))[None], 2).colour[0].numpy()
    return display(picture), rasterise(verts, body.faces, CAMERA, (SIZE, SIZE))


def linear(picture: np.ndarray) -> np.ndarray:
    return ((picture / 255.0) ** 2.2).astype(np.float32)


def display(picture: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(picture, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def paint(body: BodyModel, size: int, symmetric: bool) -> np.ndarray:
    """A texture smooth on the surface: colours are waves of the rest position, of |x| if symmetric; green trousers."""
    atlas = body_atlas(body, size)
    with torch.no_grad():
        rest = body(torch.zeros(1, 10), torch.zeros(1, 23, 3), torch.zeros(1, 3)).vertices[0].numpy()
    x, y, _ = atlas.at(rest.astype(np.float64)).T
    x = np.abs(x) if symmetric else x
    waves = np.stack([150 + 60 * np.sin(14 * y), 90 + 50 * np.sin(11 * x + 1), 110 + 40 * np.cos(9 * (x + y))], 1)
    waves[y < 0.05] = waves[y < 0.05] * [0.4, 1.2, 0.4]
    return atlas.image(waves).clip(0, 255).astype(np.uint8)


def scene(seed: int = 0) -> np.ndarray:
    """A bluish wall over a brown floor, with texture."""
    rng = np.random.default_rng(seed)
    wall = np.full((SIZE, SIZE, 3), (90, 140, 215), np.float32)
    wall[170:] = (120, 95, 70)
    noise = cv2.resize(rng.normal(0, 14, (64, 64, 1)).astype(np.float32), (SIZE, SIZE))[..., None]
    return (wall + noise).clip(0, 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


WHITE = constant_light(torch.ones(1, 3))


@pytest.mark.parametrize("shaded", [False, True])
def test_a_person_drawn_again_looks_the_same(body: BodyModel, shaded: bool) -> None:
    """And from its own picture only: the visible area of the re-rendering agrees to more than 28 dB."""
    light = constant_light(torch.full((1, 3), 0.75)) if shaded else WHITE
    if shaded:
        light = light + directional_light(
            torch.nn.functional.normalize(torch.tensor([[-1.0, -1, -1]])), torch.full((1, 3), 0.3)
        )
    fit = standing(yaw=0.4)
    picture, _ = draw(body, fit, paint(body, 512, symmetric=False), scene(), light)
    made = reproject_reference(picture, fit, CAMERA, body)
    again, frags = draw(body, fit, made.atlas[..., :3], made.background, torch.from_numpy(made.light)[None])
    visible = cv2.erode(frags.mask[0].numpy().astype(np.uint8), np.ones((3, 3))) > 0
    assert psnr(again[visible], picture[visible]) > 28
    assert made.atlas.shape == (256, 256, 4)
    assert (made.atlas[..., 3] == 255).all()
    assert made.quality["overlap"] > 0.85


def test_the_side_not_seen_is_the_seen_side_mirrored(body: BodyModel) -> None:
    """The person's left side only is seen; its symmetric clothing comes back on the right one, no wall with it."""
    texture = paint(body, 256, symmetric=True)
    fit = standing(arms_down=1.25, yaw=1.57)
    picture, _ = draw(body, fit, texture, scene(), WHITE)
    made = reproject_reference(picture, fit, CAMERA, body, flatten=False)
    atlas = body_atlas(body, 256)
    seen = made.seen[atlas.row_n, atlas.column_n]
    mirror = atlas.sources[0]
    only_mirrored = (seen == 0) & (mirror >= 0) & (seen[mirror] > 250)
    assert only_mirrored.sum() > 2000
    true, found = texture[atlas.row_n, atlas.column_n], made.atlas[atlas.row_n, atlas.column_n, :3]
    assert psnr(found[only_mirrored], true[only_mirrored]) > 22
    # Nothing on the body has the wall's colour, which no part of the texture has.
    wall = (90, 140, 215)
    assert np.linalg.norm(found.astype(float) - wall, axis=1).min() > 25


def test_the_other_side_of_the_trunk_is_like_the_front(body: BodyModel) -> None:
    texture = paint(body, 256, symmetric=True)
    picture, _ = draw(body, standing(), texture, scene(), WHITE)
    made = reproject_reference(picture, standing(), CAMERA, body, flatten=False)
    again, frags = draw(body, standing(yaw=np.pi), made.atlas[..., :3], made.background, WHITE)
    true, _ = draw(body, standing(yaw=np.pi), texture, scene(), WHITE)
    visible = cv2.erode(frags.mask[0].numpy().astype(np.uint8), np.ones((5, 5))) > 0
    assert psnr(again[visible], true[visible]) > 20


def test_the_person_is_gone_from_the_background(body: BodyModel) -> None:
    empty = scene()
    picture, frags = draw(body, standing(), paint(body, 256, True), empty, WHITE)
    made = reproject_reference(picture, standing(), CAMERA, body)
    person = frags.mask[0].numpy()
    before = np.abs(picture.astype(float) - empty).mean(-1)[person].mean()
    after = np.abs(made.background.astype(float) - empty).mean(-1)[person].mean()
    assert before > 45
    assert after < 15
    # No ghost: the border between wall and floor goes on behind the legs.
    assert np.abs(made.background[150:165, 100:156].mean((0, 1)) - (90, 140, 215)).max() < 25
    assert np.abs(made.background[180:200, 100:156].mean((0, 1)) - (120, 95, 70)).max() < 25


def test_the_same_bytes_every_time(body: BodyModel) -> None:
    picture, _ = draw(body, standing(), paint(body, 256, True), scene(), WHITE)
    one, two = (reproject_reference(picture, standing(), CAMERA, body) for _ in range(2))
    assert one.atlas.tobytes() == two.atlas.tobytes()
    assert one.background.tobytes() == two.background.tobytes()


def test_light_is_found_where_cloth_has_one_brightness() -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(4000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals[:, 2] = -np.abs(normals[:, 2])
    group = rng.integers(0, 5, 4000)
    true = 1 + 0.3 * normals @ np.array([0.6, -0.7, -0.39])
    colours = (np.array([0.1, 0.2, 0.4, 0.15, 0.3])[group] * true)[:, None] * np.ones(3)
    found = response(estimate_light(colours, normals, group, np.ones(4000)), normals)
    assert np.corrcoef(found, true)[0, 1] > 0.97
    assert found.min() > 0.55
    assert found.max() < 1.6
    assert abs(found.mean() - 1) < 0.05


def test_pictures_without_the_person_are_refused(body: BodyModel) -> None:
    fit = standing()
    with pytest.raises(PosesynError, match="no person"):
        reproject_reference(scene(), fit, CAMERA, body)
    rng = np.random.default_rng(0)
    with pytest.raises(PosesynError, match="no person"):
        reproject_reference(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8), fit, CAMERA, body)
    picture, _ = draw(body, fit, paint(body, 256, True), scene(), WHITE)
    with pytest.raises(PosesynError, match="no person"):  # the person stands elsewhere
        reproject_reference(picture, standing(x=0.8), CAMERA, body)
    with pytest.raises(PosesynError, match="covers 0 pixels"):
        reproject_reference(picture, standing(x=9.0), CAMERA, body)
    with pytest.raises(PosesynError, match="not finite"):
        reproject_reference(
            picture, FitResult(*(v * torch.nan for v in fit.values()[:4]), *fit.values()[4:]), CAMERA, body
        )


def test_a_fit_that_misses_the_labels_is_refused(body: BodyModel) -> None:
    fit = standing()
    picture, _ = draw(body, fit, paint(body, 256, True), scene(), WHITE)
    with torch.no_grad():
        joints = body.joints(fit.betas, fit.body_pose, fit.global_orient, fit.transl)[0]
    pixels = joints[:, :2] / joints[:, 2:] * 1.7 * SIZE + (SIZE - 1) / 2
    made = reproject_reference(picture, fit, CAMERA, body, joints2d=pixels, joints2d_conf=torch.ones(32))
    assert made.quality["joint_error"] < 1e-3
    with pytest.raises(PosesynError, match="misses the labelled joints"):
        reproject_reference(picture, fit, CAMERA, body, joints2d=pixels + 30, joints2d_conf=torch.ones(32))


def test_a_bank_counts_what_it_skips(body: BodyModel, caplog: pytest.LogCaptureFixture) -> None:
    fit = standing()
    picture, _ = draw(body, fit, paint(body, 256, True), scene(), WHITE)
    with caplog.at_level(logging.WARNING):
        bank, names = build_reference_bank(
            [("good", picture, fit, CAMERA), ("empty", scene(), fit, CAMERA)], body, size=128
        )
    assert names == ["good"]
    assert len(bank) == 1
    assert bank.atlas.shape == (1, 128, 128, 4)
    assert "reference empty skipped: no person" in caplog.text
    assert "1 of 2 references" in caplog.text
    assert isinstance(bank[[0, 0]], ReferenceBank)
    assert len(bank[[0, 0]]) == 2
    with pytest.raises(PosesynError, match="at least one reference"):
        build_reference_bank([("empty", scene(), fit, CAMERA)], body)


def test_a_fit_of_the_joints_will_do(body: BodyModel) -> None:
    """The whole way from labels: body fitted to 2D joints, and the clothes end where they should."""
    true = standing(yaw=0.3)
    texture = paint(body, 256, symmetric=True)
    picture, _ = draw(body, true, texture, scene(), WHITE)
    with torch.no_grad():
        joints = body.joints(true.betas, true.body_pose, true.global_orient, true.transl)
    pixels = joints[..., :2] / joints[..., 2:] * 1.7 * SIZE + (SIZE - 1) / 2
    fit = fit_joints2d(body, pixels, torch.ones(1, 32), CAMERA)
    made: ReferenceAppearance = reproject_reference(picture, fit, CAMERA, body)
    atlas = body_atlas(body, 256)
    found, right = made.atlas[atlas.row_n, atlas.column_n, :3].astype(float), texture[atlas.row_n, atlas.column_n]
    with torch.no_grad():
        rest = body(torch.zeros(1, 10), torch.zeros(1, 23, 3), torch.zeros(1, 3)).vertices[0].numpy()
    _, y, _ = atlas.at(rest.astype(np.float64)).T
    trousers = (y < -0.1) & (y > -0.7)
    assert ((found[:, 1] > found[:, 0]) == trousers)[trousers].mean() > 0.95
    assert np.abs(found - right).mean() < 20
