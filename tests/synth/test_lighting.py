"""Light: harmonics turn as normals do, energy is what was asked for, and nothing degenerate comes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from human.rng import generator
from human.shading import sh_basis
from synth import lighting
from synth.lighting import Lighting, LightingConfig, draw_lighting, free_environments, rotate_harmonics, world_to_camera

GREY = np.full((32, 32, 3), 120, np.uint8)


def shown(row: dict[str, np.ndarray], normals: np.ndarray) -> np.ndarray:
    """What a white surface of given normals shows (N,3)."""
    ambient = (lighting.harmonics(normals) * lighting._COSINE) @ row["sh"]
    return np.maximum(ambient, 0) + np.maximum(normals @ row["sun"][0], 0)[:, None] * row["sun"][1]


def rows_of(batch: Lighting) -> list[dict[str, np.ndarray]]:
    return [{name: value[i].numpy() for name, value in vars(batch).items()} for i in range(len(batch))]


def light_of(
    *key: str | int, config: LightingConfig, behind: np.ndarray = GREY, up: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    ups = None if up is None else up[None]
    return rows_of(draw_lighting([generator(*key)], config, [behind], ups))[0]


def sphere(count: int, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).standard_normal((count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_harmonics_are_those_of_the_shader() -> None:
    directions = sphere(200)
    np.testing.assert_allclose(
        lighting.harmonics(directions), sh_basis(torch.from_numpy(directions)).numpy(), atol=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_turning_the_light_is_turning_the_normals_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sh, turn = rng.standard_normal((9, 3)), Rotation.random(random_state=seed).as_matrix()
    directions = sphere(100, seed)
    turned = lighting.harmonics(directions @ turn.T) @ rotate_harmonics(sh, turn)
    np.testing.assert_allclose(turned, lighting.harmonics(directions) @ sh, atol=1e-10)
    np.testing.assert_allclose(rotate_harmonics(rotate_harmonics(sh, turn), turn.T), sh, atol=1e-10)
    for band in (slice(0, 1), slice(1, 4), slice(4, 9)):  # bands keep their energy
        assert (rotate_harmonics(sh, turn)[band] ** 2).sum() == pytest.approx((sh[band] ** 2).sum())


@pytest.mark.parametrize("up", [(0, -1, 0), (0.2, -0.9, -0.4), (0, 0, 1), (0, 0, -1), (1, 0, 0), (0, 1, 0)])
def test_world_to_camera_is_a_rotation_that_lifts_y_to_up(up: tuple[float, float, float]) -> None:
    unit = np.array(up) / np.linalg.norm(up)
    turn = world_to_camera(unit, 0.7)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_allclose(turn @ [0, 1, 0], unit, atol=1e-12)


def test_measured_environments_are_lit_from_above_and_scaled() -> None:
    places = free_environments()
    assert len(places) == 18
    np.testing.assert_allclose(np.linalg.norm(places.towards, axis=1), 1, atol=1e-5)
    assert (places.towards[:, 1] > 0).all()
    luminance = np.array([0.2126, 0.7152, 0.0722])
    # Mean radiance of the rest is sh_0 Y_0; a sun that shows r on a facing wall adds r / 4 on average over directions.
    total = places.sh[:, 0] @ luminance * 0.282095 + places.sun @ luminance / 4
    np.testing.assert_allclose(total, 1, atol=0.15)
    lit = lighting.harmonics(np.array([[0.0, 1, 0], [0, -1, 0]])) * lighting._COSINE @ places.sh @ luminance
    assert (lit[:, 0] > lit[:, 1]).mean() > 0.7


def test_a_seed_names_a_light_and_every_light_is_sane() -> None:
    up = np.array([0, -1, 0.1])
    rngs = [generator("light", i) for i in range(200)]
    batch = draw_lighting(rngs, LightingConfig(), [GREY] * 200, np.tile(up, (200, 1)))
    rows, again = rows_of(batch), light_of("light", 7, config=LightingConfig(), up=up)
    assert all(np.array_equal(rows[7][key], again[key]) for key in again)
    assert len(batch) == 200
    assert batch.sh.shape == (200, 9, 3)
    assert batch.sun.shape == (200, 2, 3)
    assert all(torch.isfinite(v).all() and v.dtype == torch.float32 for v in batch.values())
    assert torch.allclose(batch.sun[:, 0].norm(dim=-1), torch.ones(200), atol=1e-5)
    assert ((batch.sun[:, 0] * batch.up).sum(-1) > 0.1).all(), "a key light below the ground"
    assert (batch.sun[:, 1] >= 0).all()
    share = (batch.shadow > 0).float().mean()
    assert 0.35 < share < 0.65
    # All 200 differ, and visibly so: the spread of the level is about the exposure's.
    level = np.array([shown(row, lighting._NORMALS).mean() for row in rows])
    assert 0.25 < np.log2(level).std() < 1.0
    assert 0.2 < np.median(level) < 1.5


def test_energy_does_not_depend_on_the_suns_share() -> None:
    """Where the key light is before the person, ambient and key light trade places at equal mean brightness."""
    luminance = np.array([0.2126, 0.7152, 0.0722])
    for seed in range(20):
        means = []
        for share in (0.0, 0.6):
            config = LightingConfig(sun_share=(share, share), measured_sun_probability=0.0)
            row = light_of("energy", seed, config=config)
            means.append(float((shown(row, lighting._NORMALS) @ luminance).mean()))
        facing = (
            np.maximum(lighting._NORMALS @ row["sun"][0], 0).mean() * (row["sun"][1] @ luminance) / row["sun"][1].max()
        )
        if facing > 0.1:
            assert means[1] == pytest.approx(means[0], rel=0.05)
        else:  # behind the person: a rim, not an exposure correction
            assert means[1] <= means[0] * 1.05


def test_light_follows_the_picture_behind() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    config = LightingConfig(match_background=(1.0, 1.0), sun_share=(0.0, 0.0), white_balance=(0.0, 0.0))
    rows = [light_of("red", i, config=config, behind=red) for i in range(20)]
    shown_3 = np.mean([shown(row, lighting._NORMALS).mean(0) for row in rows], 0)
    assert shown_3[0] > 1.5 * shown_3[1]


@pytest.mark.parametrize("up", [None, np.zeros(3), np.array([np.nan, 0, 1]), np.array([np.inf, 0, 0])])
@pytest.mark.parametrize("value", [0, 255])
def test_degenerate_input_gives_a_usable_light(up: np.ndarray | None, value: int) -> None:
    row = light_of("odd", 1, config=LightingConfig(), behind=np.full((1, 1, 3), value, np.uint8), up=up)
    np.testing.assert_array_equal(row["up"], np.array([0, -1, 0], np.float32))
    assert all(np.isfinite(v).all() for v in row.values())
    assert shown(row, lighting._NORMALS).mean() > 0.1


def test_scenes_say_where_up_is() -> None:
    from human.body import load_body
    from human.motion import load_motion_bank
    from synth.scene import sample_scene

    spec = sample_scene(range(8), load_motion_bank("free"), load_body("free"), 64)
    assert spec.up is not None
    assert spec.up.shape == (8, 3)
    assert torch.allclose(spec.up.norm(dim=-1), torch.ones(8), atol=1e-6)
    assert (spec.up[:, 1] < -0.5).all()
