"""Depth maps and masks at latent size, against hand-made scenes and against what the original computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from human.body import load_body
from human.camera import project
from human.motion import load_motion_bank
from synth.diffusion.depth_guidance import FLOOR, guide, relative_depth, scaled_intrinsics, scene_depth
from synth.scene import SceneConfig, SceneSpec, sample_scene

BODY = load_body()
SIDE, LATENT = 128, 16
NOTHING = torch.zeros(SIDE, SIDE, dtype=torch.bool)


@pytest.fixture(scope="module")
def scene() -> SceneSpec:
    return sample_scene([3], load_motion_bank(), BODY, 64, SceneConfig(truncation_probability=0.0))


@pytest.fixture(scope="module")
def depth(scene: SceneSpec) -> torch.Tensor:
    return scene_depth(BODY, [scene], 64, SIDE)


def test_a_larger_drawing_is_the_same_picture(scene: SceneSpec, depth: torch.Tensor) -> None:
    small = scene_depth(BODY, [scene], 64, 64)
    assert depth.shape == (SIDE, SIDE)
    share = torch.nn.functional.avg_pool2d((depth > 0)[None].float(), 2)[0]
    assert ((share > 0.5) == (small > 0)).float().mean() > 0.99
    joints = BODY.joints(scene.betas, scene.body_pose, scene.global_orient, scene.transl)
    twice = project(joints, scaled_intrinsics(scene.intrinsics, 2.0))
    assert torch.allclose(twice, 2 * project(joints, scene.intrinsics) + 0.5, atol=1e-3)


def test_the_nearer_of_two_people_is_seen(scene: SceneSpec, depth: torch.Tensor) -> None:
    behind = replace(scene, transl=scene.transl * 1.3)
    both = scene_depth(BODY, [scene, behind], 64, SIDE)
    assert torch.equal(both, scene_depth(BODY, [replace(behind, intrinsics=scene.intrinsics), scene], 64, SIDE))
    mine = depth > 0
    assert torch.equal(both[mine], depth[mine])


def test_levels_are_the_originals(depth: torch.Tensor) -> None:
    """hmr_utils.py spreads the body over 150..210 and api.py turns it round with 50 to spare."""
    covered = depth > 0
    grey = torch.where(covered, 150 + 60 * (depth - depth[covered].min()) / (depth.max() - depth[covered].min()), 0.0)
    theirs = (grey.max() + 50 - grey) * covered
    assert torch.allclose(relative_depth(depth), theirs / theirs.max(), atol=1e-5)
    assert relative_depth(depth)[covered].min() == pytest.approx(FLOOR)
    assert relative_depth(depth).max() == 1


def test_flat_and_empty_maps_stay_finite() -> None:
    flat = torch.zeros(SIDE, SIDE)
    assert not relative_depth(flat).any()
    flat[10:60, 10:60] = 2.0
    assert torch.equal(relative_depth(flat), (flat > 0).float())
    empty = guide(torch.zeros(SIDE, SIDE), NOTHING, NOTHING, LATENT)
    assert torch.equal(empty.depth, torch.full((1, LATENT, LATENT), -1.0))
    assert not empty.people.any()
    assert empty.hidden == 0


def test_the_map_is_at_latent_size(depth: torch.Tensor) -> None:
    made = guide(depth, NOTHING, NOTHING, LATENT)
    assert made.depth.shape == made.people.shape == (1, LATENT, LATENT)
    assert -1 <= made.depth.min() < -0.95
    assert 0.5 < made.depth.max() <= 1
    touched = torch.nn.functional.max_pool2d((depth > 0)[None].float(), SIDE // LATENT)
    assert torch.equal(made.people, touched)
    far = torch.nn.functional.max_pool2d(touched, 3, 1, 1) == 0
    assert (made.depth[far] < -0.98).all()


def test_people_of_the_picture_are_made_anew_too(depth: torch.Tensor) -> None:
    other = NOTHING.clone()
    other[:32, :32] = True
    made = guide(depth, other, NOTHING, LATENT)
    assert made.people[0, :4, :4].all()
    assert torch.equal(made.depth, guide(depth, NOTHING, NOTHING, LATENT).depth)


def test_what_stands_before_the_body_stays(depth: torch.Tensor) -> None:
    body = depth > 0
    start = 8 * int(torch.nonzero(body.any(0))[:, 0].float().mean() / 8)  # whole cells of the latents
    pole = NOTHING.clone()
    pole[:, start : start + 8] = True
    made, bare = guide(depth, body, pole, LATENT), guide(depth, body, NOTHING, LATENT)
    assert 0 < made.hidden <= 0.5
    cells = torch.nn.functional.max_pool2d(pole[None].float(), SIDE // LATENT) == 1
    assert not made.people[cells].any()
    assert made.people.sum() < bare.people.sum()
    assert made.depth[cells].mean() < bare.depth[cells].mean() - 0.05


def test_an_object_that_hides_the_person_is_taken_for_a_mistake(depth: torch.Tensor) -> None:
    everything = ~NOTHING
    made, bare = guide(depth, NOTHING, everything, LATENT), guide(depth, NOTHING, NOTHING, LATENT)
    assert made.hidden == 1
    assert torch.equal(made.depth, bare.depth)
    assert made.people.sum() > 0
    strict = guide(depth, NOTHING, everything, LATENT, hidden_at_most=1.0)
    assert torch.equal(strict.depth, torch.full_like(strict.depth, -1))
    assert not strict.people.any()


def test_the_same_numbers_every_time(depth: torch.Tensor) -> None:
    """A change of these is a change of every picture: raise the engine's VERSION."""
    made = guide(depth, depth > 0, NOTHING, LATENT)
    figures = [float(depth[depth > 0].mean()), float(made.depth.mean()), float(made.people.mean())]
    assert np.allclose(figures, EXPECTED, atol=2e-3), figures


EXPECTED = [5.3876, -0.8807, 0.1367]
