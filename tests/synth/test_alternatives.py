"""What the motion synthesis module is compared with: the mis-predicted pose, the pose space, noise on a code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from human.body import load_body
from human.errors import PosesynError
from human.joint_limits import clamp_pose
from human.rotations import geodesic_degrees, matrix_to_rotvec, rotation_about, rotvec_to_matrix
from synth.alternatives.pose_space import heading, in_camera
from synth.pool import Pool
from synth.pose_prior import JOINTS, decode_pose, posterior_of
from synth.pose_prior_files import shared_pose_prior
from synth.pose_space import free_pose_space
from synth.pose_validity import is_valid
from synth.synthesis import Challenges, Synthesised, Synthesiser
from synth.synthesisers import make_synthesiser
from synth.variation import VariationConfig, image_error
from tests.synth.people import People
from tests.synth.test_refresh import make as refreshing
from tests.synth.test_refresh import refresh
from tests.synth.test_synthesis import some_challenges
from tests.tiny import rendered_people

BODY = load_body()
NAMES = ("pose_only", "pose_space", "latent_noise")
SLOTS, SEEDS = np.array([0, 1, 2, 3, 0, 1]), [5, 6, 7, 8, 9, 10]


def build(name: str, **options: Any) -> Synthesiser:
    return make_synthesiser(name, options, VariationConfig(best_of=2))


def make(
    name: str, some: Challenges, slots: np.ndarray = SLOTS, seeds: list[int] = SEEDS, **options: Any
) -> Synthesised:
    return build(name, **options).synthesise(some, slots, seeds, BODY)


def parts(made: Synthesised) -> dict[str, Tensor]:
    return {k: getattr(made, k) for k in ("betas", "body_pose", "global_orient", "fit")}


def assert_same(a: Synthesised, b: Synthesised, rows: Any = slice(None)) -> None:
    for name, value in parts(a).items():
        assert torch.equal(value[rows].nan_to_num(-1), parts(b)[name].nan_to_num(-1)), name


@pytest.fixture(scope="module")
def some() -> Challenges:
    return some_challenges()


@pytest.mark.parametrize(("name", "options"), [*((n, {}) for n in NAMES), ("pose_space", {"best_of": 3}),
                                               ("latent_noise", {"best_of": 3})])  # fmt: skip
def test_a_slot_is_a_function_of_its_challenge_and_seed(some: Challenges, name: str, options: dict[str, Any]) -> None:
    made = make(name, some, **options)
    assert made.body_pose.shape == (6, 23, 3)
    assert all(v.isfinite().all() for k, v in parts(made).items() if k != "fit")
    assert made.fit.isfinite().all() == ("best_of" in options)
    for rows in ([3], [5, 0]):  # alone, and in another order
        again = make(name, some, SLOTS[rows], [SEEDS[r] for r in rows], **options)
        assert_same(made, again, rows)


@pytest.mark.parametrize("name", NAMES)
def test_nobody_and_nothing_asked(some: Challenges, name: str) -> None:
    made = make(name, some, np.zeros(0, np.int64), [])
    assert made.body_pose.shape == (0, 23, 3)
    assert made.fit.shape == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_that_is_not_finite_is_counted_and_replaced(some: Challenges, name: str) -> None:
    pose = some.predictions.body_pose.clone()
    pose[1] = torch.nan
    broken = replace(some, predictions=replace(some.predictions, body_pose=pose))
    whole, made, other = make(name, some), make(name, broken), make("variation", broken)
    assert made.report == {"slots": 6, "fell_back": 2, "not_finite": 1}
    for key, value in parts(made).items():
        assert torch.equal(value[[1, 5]], parts(other)[key][[1, 5]]), key
        sound = [0, 2, 3, 4]
        assert torch.equal(value[sound].nan_to_num(-1), parts(whole)[key][sound].nan_to_num(-1)), key
    nobody = replace(broken, predictions=replace(some.predictions, body_pose=torch.full_like(pose, torch.nan)))
    assert make(name, nobody).body_pose.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_settings_make_the_hash(name: str) -> None:
    assert build(name).config_hash() == build(name).config_hash() != make_synthesiser(name).config_hash()
    assert len({build(n).config_hash() for n in NAMES}) == len(NAMES)


# -- the pose itself -------------------------------------------------------------------------------------------------
def test_pose_only_is_the_prediction(some: Challenges) -> None:
    made, rows = make("pose_only", some), torch.from_numpy(SLOTS)
    assert torch.equal(made.body_pose, some.predictions.body_pose[rows])
    assert torch.equal(made.global_orient, some.predictions.global_orient[rows])
    assert torch.equal(made.betas, some.predictions.betas[rows])


# -- the pose space --------------------------------------------------------------------------------------------------
def test_sampled_poses_are_valid_and_know_no_prediction(some: Challenges) -> None:
    made = make("pose_space", some)
    assert is_valid(made.body_pose.numpy()).all()
    pose = some.predictions.body_pose.roll(1, 0)
    assert torch.equal(
        make("pose_space", replace(some, predictions=replace(some.predictions, body_pose=pose))).body_pose,
        made.body_pose,
    )


def test_sampled_people_head_as_predicted_and_stand_as_sampled() -> None:
    turn = torch.tensor([-3.0, -1.0, 0.0, 0.5, 3.1])
    tilt = torch.tensor([[0.3, 0.0, -0.4]]).expand(5, 3)
    orient = in_camera(tilt, turn)
    assert torch.allclose(heading(in_camera(torch.zeros(5, 3), turn)), turn, atol=1e-5)
    # Level: whatever the heading, the spine leaves the vertical by as much.
    up = torch.tensor([0.0, 1.0, 0.0])
    lean = (rotvec_to_matrix(orient) @ up)[:, 1]
    assert torch.allclose(lean, -(rotvec_to_matrix(tilt[0]) @ up)[1].expand(5), atol=1e-5)
    upright_facing = torch.tensor([[torch.pi, 0.0, 0.0]])
    assert torch.allclose(heading(upright_facing), torch.zeros(1), atol=1e-5)
    head_down = matrix_to_rotvec(rotation_about("z", torch.tensor([torch.pi])) @ rotvec_to_matrix(upright_facing))
    assert heading(head_down).isfinite().all()


def test_sampled_headings(some: Challenges) -> None:
    made = make("pose_space", some)
    rows = torch.from_numpy(SLOTS)
    away = (heading(made.global_orient) - heading(some.predictions.global_orient)[rows] + torch.pi) % (2 * torch.pi)
    assert torch.allclose(away, torch.full((6,), torch.pi), atol=0.05)
    count = 300
    anywhere = make("pose_space", some, np.zeros(count, np.int64), list(range(count)), heading="random")
    spread = torch.histc(heading(anywhere.global_orient), 6, -torch.pi, torch.pi) / count
    assert (spread > 0.08).all()


def test_numbered_poses_of_the_space() -> None:
    space = free_pose_space()
    pose, root = space.sample(4, 3, first=20)
    again = space.at(np.array([22, 20]), 3)
    assert np.array_equal(again[0], pose[[2, 0]])
    assert np.array_equal(again[1], root[[2, 0]])
    assert space.at(np.array([space.NUMBERS - 1]))[0].shape == (1, 23, 3)
    for wrong in (-1, space.NUMBERS):
        with pytest.raises(PosesynError, match="numbered"):
            space.at(np.array([wrong]))
    other = replace(space, config=replace(space.config, blend=0.1))
    assert space.content_hash() == free_pose_space().content_hash() != other.content_hash()


# -- noise on the code -----------------------------------------------------------------------------------------------
def test_no_noise_is_the_reconstruction(some: Challenges) -> None:
    made = make("latent_noise", some, scale=0.0, orient_scale=0.0, shape_scale=0.0, posterior="mean")
    prior, rows = shared_pose_prior(), torch.from_numpy(SLOTS)
    pose = some.predictions.body_pose
    wanted = clamp_pose(decode_pose(prior, posterior_of(prior, pose).mean, pose[:, JOINTS:]))[rows]
    assert torch.equal(made.body_pose, wanted)
    assert torch.equal(made.global_orient, some.predictions.global_orient[rows])
    assert torch.equal(made.betas, some.predictions.betas[rows])


def test_more_noise_leads_further_away(some: Challenges) -> None:
    count = 64
    slots, seeds = np.arange(count) % 4, list(range(count))
    still = {"orient_scale": 0.0, "shape_scale": 0.0, "posterior": "mean"}
    start = make("latent_noise", some, slots, seeds, scale=0.0, **still).body_pose
    away = []
    for scale in (0.25, 0.5, 1.0, 2.0):
        pose = make("latent_noise", some, slots, seeds, scale=scale, **still).body_pose
        away.append(float(geodesic_degrees(rotvec_to_matrix(pose), rotvec_to_matrix(start)).mean()))
    assert away == sorted(away)
    assert away[0] > 1


def test_equations_are_the_papers(some: Challenges) -> None:
    """One slot by hand."""
    from human.rng import derive_seed, generator

    prior = shared_pose_prior()
    made = make("latent_noise", some, np.array([2]), [77])
    noise = torch.from_numpy(generator("latent_noise", derive_seed("latent_noise", 77, 0)).standard_normal(77)).float()
    mine = posterior_of(prior, some.predictions.body_pose[2:3])
    z = (mine.mean + mine.std * noise[32:64]) * (1 + noise[:32])
    assert torch.equal(made.body_pose[:, :JOINTS], clamp_pose(decode_pose(prior, z))[:, :JOINTS])
    assert torch.equal(made.global_orient[0], some.predictions.global_orient[2] * (1 + 0.1 * noise[64:67]))
    assert torch.equal(made.betas[0], some.predictions.betas[2] * (1 + 0.1 * noise[67:]))


@pytest.mark.parametrize("name", ["pose_space", "latent_noise"])
def test_the_best_of_more_candidates_fits_better(some: Challenges, name: str) -> None:
    few, many = make(name, some, best_of=2), make(name, some, best_of=12)
    assert (many.fit <= few.fit).all()
    assert (many.fit < few.fit).any()
    joints = BODY.joints(many.betas, many.body_pose, many.global_orient)[:, None]
    error = image_error(joints, some.crops.joints2d[SLOTS], some.crops.joints2d_conf[SLOTS])[:, 0]
    assert torch.allclose(error, many.fit, rtol=1e-4)


def test_people_without_labels_still_get_a_pose(some: Challenges) -> None:
    blind = replace(some, crops=some.crops.replace(joints2d_conf=torch.zeros_like(some.crops.joints2d_conf)))
    for name in ("pose_space", "latent_noise"):
        made = make(name, blind, best_of=3)
        assert made.body_pose.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("pose_space", {"best_of": 0}, "best_of"),
        ("latent_noise", {"best_of": 0}, "best_of"),
        ("pose_space", {"heading": "north"}, "predicted or random"),
        ("pose_space", {"space": "nowhere.npz"}, "nowhere.npz"),
        ("latent_noise", {"scale": -1.0}, "scales"),
        ("latent_noise", {"scale": float("nan")}, "scales"),
        ("latent_noise", {"posterior": "mode"}, "sample or mean"),
        ("latent_noise", {"prior": "packaged:nothing"}, "pose_prior_free"),
        ("pose_only", {"best_of": 2}, "no option"),
    ],
)
def test_options_that_are_mistyped(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        build(name, **options)


# -- in a refresh ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_a_refresh_says_who_made_its_poses(name: str, tmp_path: Path) -> None:
    synthesiser = build(name)
    refresher = refreshing(samples=4, synthesiser=synthesiser)
    done = refresh(Pool(tmp_path / "pool"), People(rendered_people(range(6))), refresher=refresher)
    assert done.info is not None
    assert done.info.synthesiser == f"{name}:{synthesiser.config_hash()}"
    assert done.info.passed == 4
    assert np.isnan(done.fit_mean)
