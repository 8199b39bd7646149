"""Checks of generated motion, on real motion and on broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.motion_joints import bank_to_joints
from synth.msm.motion_checks import floor_height, foot_contacts, foot_slide, ground_motion, jumps

CHECKS = [floor_height, foot_contacts, foot_slide, jumps, ground_motion]


@pytest.fixture(scope="module")
def walk() -> Tensor:
    """(1, T, 22, 3) about a second of walking."""
    return bank_to_joints(load_motion_bank("free"), load_body("free"), "walk")[None]


@pytest.fixture(scope="module")
def official(shared_data: Path) -> Tensor:
    joints = np.load(shared_data / "samples" / "humanml3d" / "new_joints" / "012314.npy")
    return torch.from_numpy(joints)[None]


def glide(joints: Tensor, speed: float) -> Tensor:
    """The whole person carried along x on top of the motion, m/s."""
    carried = joints.clone()
    carried[..., 0] += torch.arange(joints.shape[1])[:, None] * speed / 20
    return carried


def test_real_motion_passes(official: Tensor) -> None:
    assert floor_height(official).abs() < 1e-6
    assert not jumps(official).any()
    assert foot_slide(official) < 0.1
    contacts = foot_contacts(official)
    assert 0.3 < contacts[..., [1, 3]].float().mean() < 1
    assert (ground_motion(official)[:, :, 0] - official[:, :, 0]).norm(dim=-1).max() < 0.3


def test_every_free_clip_is_free_of_jumps() -> None:
    bank, body = load_motion_bank("free"), load_body("free")
    for name in bank.clip_names:
        assert not jumps(bank_to_joints(bank, body, name)[None]).any(), name


def test_a_file_of_cmu_whose_arms_are_missing_at_first_jumps_where_they_appear(shared_data: Path) -> None:
    """03_02.amc has zeros for the arms up to about its 50th frame of 120 a second: a T-pose until they appear."""
    bank = load_motion_bank(str(shared_data / "samples" / "cmu_mocap" / "asfamc" / "03" / "03_02.amc"))
    joints = bank_to_joints(bank, load_body("free"), 0)[None]
    assert jumps(joints).nonzero()[:, 1].tolist() == [9]


def test_floor_is_the_lowest_joint_and_ground_motion_puts_it_at_zero(walk: Tensor) -> None:
    raised = torch.cat([walk, walk + torch.tensor([0.0, 1.5, 0.0]), walk - torch.tensor([0.0, 0.3, 0.0])])
    assert torch.allclose(floor_height(raised), torch.tensor([0.0, 1.5, -0.3]), atol=1e-5)
    grounded = ground_motion(raised)
    assert floor_height(grounded).abs().max() < 1e-5
    assert torch.allclose(grounded, grounded[:1].expand_as(grounded), atol=1e-4)
    assert torch.equal(foot_contacts(raised), foot_contacts(walk).expand(3, -1, -1))


def test_feet_in_contact_alternate_in_a_walk(walk: Tensor) -> None:
    left, right = (foot_contacts(walk)[0, :, toes] for toes in (1, 3))
    assert (left & ~right).any()
    assert (right & ~left).any()
    assert not foot_contacts(glide(walk, 3.0))[..., [0, 2]].any(), "feet that race along the floor stand nowhere"
    assert not foot_contacts(walk.clone().index_fill_(2, torch.tensor([0]), -1.0)).any(), "and feet in the air neither"


def test_sliding_is_measured_and_taken_out(walk: Tensor) -> None:
    """Standing still and carried along at half a metre a second, as generated motion likes to."""
    still = walk[:, :1].expand(-1, 40, -1, -1)
    assert foot_slide(still) == 0
    sliding = glide(still, 0.5)
    assert torch.allclose(foot_slide(sliding), torch.tensor([0.5]), atol=1e-4)
    slow = glide(still, 0.25)
    assert foot_slide(ground_motion(slow)) < 1e-4, "a planted foot stays where it is"
    assert foot_slide(ground_motion(sliding)) < 0.5 * foot_slide(sliding)
    racing = glide(still, 2.0)
    assert torch.allclose(ground_motion(racing)[..., 0], racing[..., 0], atol=1e-5), (
        "a foot that swings does not hold the person"
    )


def test_grounding_keeps_poses_and_hardly_changes_a_real_walk(walk: Tensor) -> None:
    grounded = ground_motion(walk)
    assert torch.allclose(grounded - grounded[:, :, :1], walk - walk[:, :, :1], atol=1e-5)
    assert foot_slide(grounded) <= foot_slide(walk) + 1e-3
    assert (grounded[:, :, 0] - walk[:, :, 0]).norm(dim=-1).max() < 0.1
    assert not jumps(grounded).any()


@pytest.mark.parametrize("at", [1, 10, -1])
def test_jumps_are_found_where_they_are(walk: Tensor, at: int) -> None:
    at %= walk.shape[1]
    moved, turned = walk.clone(), walk.clone()
    moved[:, at:] += torch.tensor([0.3, 0.0, 0.0])
    turned[:, at:, 20] += torch.tensor([0.0, 0.7, 0.0])
    for broken in (moved, turned):
        assert jumps(broken).nonzero()[:, 1].tolist() == [at]
    assert not jumps(moved, root=1.0).any()
    assert not jumps(turned, pose=2.0).any()


def test_a_single_wrong_frame_is_two_jumps(walk: Tensor) -> None:
    broken = walk.clone()
    broken[:, 12, 20] += 0.4
    assert jumps(broken).nonzero()[:, 1].tolist() == [12, 13]


def test_motions_of_different_lengths(walk: Tensor) -> None:
    lengths = torch.tensor([walk.shape[1], 9, 1])
    padded = walk.repeat(3, 1, 1, 1)
    padded[1, 9:] = torch.nan
    padded[2, 1:] -= 5.0
    assert not jumps(padded, lengths).any()
    assert jumps(padded)[1, 9:].all()
    for i, length in enumerate(lengths.tolist()):
        alone = walk[:, :length]
        assert torch.allclose(floor_height(padded, lengths)[i], floor_height(alone)[0])
        assert torch.equal(foot_contacts(padded, lengths)[i, :length], foot_contacts(alone)[0])
        assert not foot_contacts(padded, lengths)[i, length:].any()
        assert torch.allclose(foot_slide(padded, lengths)[i], foot_slide(alone)[0], equal_nan=True)
        assert torch.allclose(ground_motion(padded, lengths)[i, :length], ground_motion(alone)[0], atol=1e-5)


def test_frames_that_are_not_finite_are_jumps_and_disturb_no_other_check(walk: Tensor) -> None:
    broken = walk.clone()
    broken[:, 5, 3, 1] = torch.nan
    broken[:, 8, 20] = torch.inf
    assert jumps(broken).nonzero()[:, 1].tolist() == [5, 8]
    assert torch.allclose(floor_height(broken), floor_height(walk), atol=0.02)
    assert foot_slide(broken).isfinite()
    assert not foot_contacts(broken)[0, [5, 8]].any()
    grounded = ground_motion(broken)
    assert grounded.isfinite().all(-1).all(-1)[0].logical_not().nonzero().flatten().tolist() == [5, 8]
    nothing = torch.full_like(walk, torch.nan)
    assert jumps(nothing).all()
    assert floor_height(nothing).isnan().all()
    assert foot_slide(nothing).isnan().all()
    assert not foot_contacts(nothing).any()
    assert ground_motion(nothing).isnan().all()


def test_one_frame_no_frame_no_motion(walk: Tensor) -> None:
    one = walk[:, :1] + 1.0
    assert not jumps(one).any()
    assert not foot_contacts(one).any()
    assert foot_slide(one).isnan().all()
    assert ground_motion(one)[..., 1].min() == 0
    assert not jumps(walk[:, :2]).any()
    assert jumps(walk[:, [0, 12]] * torch.tensor([2.0, 1.0, 2.0])).tolist() == [[False, True]]
    for shape in ((2, 0, 22, 3), (0, 5, 22, 3), (0, 0, 22, 3)):
        empty = torch.zeros(shape)
        assert [check(empty).shape for check in CHECKS] == [
            shape[:1], (*shape[:2], 4), shape[:1], shape[:2], shape,
        ]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_mistakes_are_named(check, walk: Tensor) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PosesynError, match="shape"):
        check(walk[0])
    with pytest.raises(PosesynError, match="one for each motion"):
        check(walk, torch.tensor([3, 4]))
