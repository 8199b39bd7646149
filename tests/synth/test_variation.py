"""Poses around mis-predicted ones: simulated errors, of which the truth is known."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from torch import Tensor

from human.body import BodyModel, load_body
from human.errors import PosesynError
from human.joint_limits import JOINT_LIMITS, clamp_pose
from human.motion import MotionBank, load_motion_bank
from human.prediction import Prediction
from human.rotations import matrix_to_rotvec, rotation_about
from human.skeleton import SMPL24
from metrics.functional import pa_mpjpe
from synth.variation import VariationConfig, Variations, vary

BODY, BANK = load_body(), load_motion_bank()
LIMBS = [
    SMPL24.index(f"{side}_{joint}") - 1 for side in ("left", "right") for joint in ("hip", "knee", "shoulder", "elbow")
]


@dataclass
class Challenges:
    """Poses of motion, their 2D joints, and predictions whose limbs are off."""

    prediction: Prediction
    joints2d: Tensor
    conf: Tensor
    truth: Tensor  # (N,32,3)

    def varied(self, seeds: list[int] | None = None, **config: float) -> Variations:
        seeds = list(range(len(self.truth))) if seeds is None else seeds
        settings = VariationConfig(**config)  # type: ignore[arg-type]
        return vary(self.prediction, self.joints2d, self.conf, seeds, BODY, BANK, settings)

    def distance(self, pose: Tensor, orient: Tensor) -> float:
        """Mean PA-MPJPE to the truth, mm."""
        joints = BODY.joints(torch.zeros(len(pose), 10), pose, orient)
        return float(pa_mpjpe(joints[:, :24], self.truth[:, :24]).mean())


def challenges(count: int, degrees: float = 30.0, body: BodyModel = BODY, bank: MotionBank = BANK) -> Challenges:
    rng, noise = np.random.default_rng(0), torch.Generator().manual_seed(0)
    pose = clamp_pose(torch.from_numpy(bank.sample(rng.integers(len(bank), size=count))[0]).float())
    yaw = torch.from_numpy(rng.uniform(-3, 3, count)).float()
    upright = rotation_about("x", torch.full((count,), torch.pi))
    orient = matrix_to_rotvec(upright @ rotation_about("y", yaw))
    truth = body.joints(torch.zeros(count, 10), pose, orient)
    wrong = pose.clone()
    wrong[:, LIMBS] += torch.randn(count, len(LIMBS), 3, generator=noise) * np.deg2rad(degrees)
    zeros = torch.zeros
    prediction = Prediction(
        zeros(count, 32, 3), zeros(count, 32, 2), orient, clamp_pose(wrong), zeros(count, 10), zeros(count, 3),
        torch.eye(3).repeat(count, 1, 1),
    )  # fmt: skip
    return Challenges(prediction, truth[..., :2] * 60 + 64, torch.ones(count, 32), truth)


def assert_same(a: Variations, b: Variations, rows: list[int] | slice = slice(None)) -> None:
    for f in fields(Variations):
        torch.testing.assert_close(getattr(a, f.name)[rows], getattr(b, f.name), rtol=0, atol=0, equal_nan=True)


def test_a_pose_is_a_function_of_its_challenge_and_seed() -> None:
    some = challenges(6)
    seeds = [11, 12, 13, 11, 15, 16]
    all_of_them = some.varied(seeds, best_of=4)
    assert_same(all_of_them, some.varied(seeds, best_of=4))
    rows = [4, 1]
    part = Challenges(some.prediction[rows], some.joints2d[rows], some.conf[rows], some.truth[rows])
    other = part.varied([15, 12], best_of=4)
    # In another company: the same candidates, of which rounding could only choose among equals.
    torch.testing.assert_close(other.body_pose, all_of_them.body_pose[rows])
    torch.testing.assert_close(other.betas, all_of_them.betas[rows])
    assert not torch.equal(some.varied([21, 22, 23, 24, 25, 26], best_of=4).body_pose, all_of_them.body_pose)


def test_seeds_of_one_challenge_give_different_poses() -> None:
    one = challenges(1)
    rows = [0] * 8
    many = Challenges(one.prediction[rows], one.joints2d[rows], one.conf[rows], one.truth[rows]).varied(best_of=4)
    assert len(torch.unique(many.body_pose.flatten(1), dim=0)) == 8
    assert len(torch.unique(many.betas, dim=0)) == 8


@pytest.mark.parametrize("best_of", [1, 8])
def test_poses_stay_within_the_joint_limits(best_of: int) -> None:
    drawn = challenges(20, 60).varied(best_of=best_of, joint_noise=120.0, mirror_p=1.0, mocap_p=1.0, beta_noise=9.0)
    assert (drawn.body_pose >= JOINT_LIMITS[..., 0] - 1e-6).all()
    assert (drawn.body_pose <= JOINT_LIMITS[..., 1] + 1e-6).all()
    assert drawn.betas.abs().max() <= 2.5
    assert all(getattr(drawn, f.name).isfinite().all() for f in fields(drawn) if f.name != "fit")


def test_more_candidates_fit_the_image_better_and_come_nearer_the_truth() -> None:
    some = challenges(40)
    fits, distances = [], []
    wrong = some.distance(some.prediction.body_pose, some.prediction.global_orient)
    for best_of in (1, 2, 16, 64):
        drawn = some.varied(best_of=best_of, beta_noise=0.0)
        fits.append(float(drawn.fit.mean()))
        distances.append(some.distance(drawn.body_pose, drawn.global_orient))
    assert np.isnan(fits[0])  # nothing was compared
    assert fits[1] > fits[2] > fits[3]
    assert distances[0] > distances[2] > distances[3]
    # On simulated errors, what is synthesised lies nearer the hidden true pose than what was predicted (167 mm).
    assert distances[2] < 0.92 * wrong
    assert distances[3] < 0.85 * wrong


def test_without_any_noise_the_prediction_stands() -> None:
    some = challenges(5)
    still = some.varied(
        best_of=3, joint_noise=0.0, orient_noise=0.0, mocap_p=0.0, mirror_p=0.0, turn_p=0.0, beta_noise=0.0
    )
    torch.testing.assert_close(still.body_pose, some.prediction.body_pose)
    torch.testing.assert_close(still.betas, some.prediction.betas)
    torch.testing.assert_close(
        BODY.joints(still.betas, still.body_pose, still.global_orient),
        BODY.joints(some.prediction.betas, some.prediction.body_pose, some.prediction.global_orient),
        rtol=0,
        atol=1e-4,
    )


def test_turned_bodies_face_the_other_way() -> None:
    some = challenges(5, degrees=0.0)
    turned = some.varied(
        best_of=1, joint_noise=0.0, orient_noise=0.0, mocap_p=0.0, mirror_p=0.0, turn_p=1.0, beta_noise=0.0
    )
    joints = BODY.joints(turned.betas, turned.body_pose, turned.global_orient)
    hips = [SMPL24.index("left_hip"), SMPL24.index("right_hip")]
    across, before = ((j[:, hips[0]] - j[:, hips[1]]) for j in (joints, some.truth))
    torch.testing.assert_close(across[:, [0, 2]], -before[:, [0, 2]], rtol=0, atol=1e-3)  # x and depth
    torch.testing.assert_close(across[:, 1], before[:, 1], rtol=0, atol=1e-3)


def test_labels_that_are_absent_may_be_anything() -> None:
    some = challenges(10)
    conf = some.conf.clone()
    conf[:, [SMPL24.index("left_wrist"), SMPL24.index("right_ankle"), 30]] = 0
    junk = torch.where(conf[..., None] > 0, some.joints2d, torch.nan)
    zero = torch.where(conf[..., None] > 0, some.joints2d, 0.0)
    a, b = (Challenges(some.prediction, xy, conf, some.truth).varied(best_of=8) for xy in (junk, zero))
    assert a.fit.isfinite().all()
    assert_same(a, b)


def test_a_challenge_without_any_label_still_gets_a_pose() -> None:
    some = challenges(3)
    drawn = Challenges(some.prediction, some.joints2d * torch.nan, some.conf * 0, some.truth).varied(best_of=4)
    assert drawn.body_pose.isfinite().all()


@pytest.mark.parametrize("wrong", [0, -3])
def test_settings_that_make_no_sense(wrong: int) -> None:
    with pytest.raises(PosesynError, match=str(wrong)):
        VariationConfig(best_of=wrong)
