"""Motion features against HumanML3D's own files, and there and back on motions of our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from human.errors import PosesynError
from human.motion_features import (
    HUMANML3D,
    KIT,
    FeatureLayout,
    bone_lengths,
    canonicalise,
    features_to_joints,
    heading,
    joints_to_features,
    root_path,
    turn_about_y,
    uniform_skeleton,
)
from tests.human.motions import smooth_motion

LAYOUTS = pytest.mark.parametrize("layout", [HUMANML3D, KIT], ids=lambda layout: layout.name)


@pytest.fixture(scope="module")
def official(shared_data: Path) -> tuple[Tensor, Tensor]:
    """Joints (1, 170, 22, 3) and features (1, 170, 263) of clip 012314, as published."""
    folder = shared_data / "samples" / "humanml3d"
    joints, features = (np.load(folder / kind / "012314.npy") for kind in ("new_joints", "new_joint_vecs"))
    return torch.from_numpy(joints)[None], torch.from_numpy(features)[None]


def test_published_features_give_the_published_joints(official: tuple[Tensor, Tensor]) -> None:
    joints, features = official
    assert torch.allclose(features_to_joints(features), joints, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("canonical", [True, False])
def test_features_of_the_published_joints_are_the_published_ones(
    official: tuple[Tensor, Tensor], dtype: torch.dtype, canonical: bool
) -> None:
    """All 170 rows, all 263 columns. The published joints end with the last row's frame; the frame after it, which
    their last row was made with, is in that row's velocities."""
    joints, features = official
    whole = torch.cat([joints, features_to_joints(features, last=True)[:, -1:]], 1)
    ours = joints_to_features(whole.to(dtype), canonical=canonical)
    assert ours.dtype == dtype
    assert ours.shape == features.shape
    assert (ours - features).abs().max() < 2e-5
    assert torch.equal(ours[..., HUMANML3D.slices["contacts"]], features[..., HUMANML3D.slices["contacts"]].to(dtype))


def test_without_its_last_frame_only_the_smoothed_headings_near_the_end_differ(official: tuple[Tensor, Tensor]) -> None:
    joints, features = official
    error = (joints_to_features(joints) - features[:, :-1]).abs()
    assert error[:, : 169 - 80].max() < 2e-5
    assert error[..., HUMANML3D.slices["contacts"]].max() == 0
    height = error[..., 3]
    assert height.max() < 2e-5
    turned = error[..., HUMANML3D.slices["positions"]].max()
    assert 1e-3 < turned < 1e-2, "the heading of the last rows reaches into the frame that is missing"


def test_published_skeleton(official: tuple[Tensor, Tensor]) -> None:
    joints, _ = official
    lengths = bone_lengths(joints[0])
    assert HUMANML3D.bone_lengths is not None
    assert torch.allclose(lengths.mean(0), torch.tensor(HUMANML3D.bone_lengths), atol=6e-5)
    assert torch.allclose(uniform_skeleton(joints, lengths[0]), joints, atol=1e-5)


@LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip(layout: FeatureLayout, dtype: torch.dtype) -> None:
    """To well under the millimetre, over 400 frames with full turns."""
    joints = smooth_motion(layout, batch=3, frames=400, seed=1).to(dtype)
    canonical = canonicalise(joints, layout)
    features = joints_to_features(joints, layout)
    assert features.shape == (3, 399, layout.size)
    back = features_to_joints(features, layout, last=True)
    assert (back - canonical.joints).abs().max() < (2e-4 if dtype == torch.float32 else 1e-10)
    assert torch.equal(features_to_joints(features, layout), back[:, :-1])
    placed = turn_about_y(back, canonical.heading_B) + canonical.offset_B3[:, None, None]
    assert (placed - joints).abs().max() < (2e-4 if dtype == torch.float32 else 1e-10)


def test_canonical_motion_starts_facing_z_over_the_origin_on_the_floor() -> None:
    joints = smooth_motion(HUMANML3D, batch=4, frames=50, seed=2)
    moved = canonicalise(joints).joints
    assert heading(moved[:, 0]).abs().max() < 1e-5
    assert moved[:, 0, 0, [0, 2]].abs().max() < 1e-6
    assert moved[..., 1].amin((1, 2)).abs().max() < 1e-6
    # Where the motion stood and how it was turned is gone.
    elsewhere = turn_about_y(joints, torch.tensor([0.5, 3.0, -2.0, 1.0])) + torch.tensor([3.0, 1.0, -2.0])
    assert torch.allclose(canonicalise(elsewhere).joints, moved, atol=1e-5)
    assert torch.allclose(joints_to_features(elsewhere), joints_to_features(joints), atol=1e-4)


def test_person_in_rest_pose_faces_z() -> None:
    """SMPL's frame: the left is +x."""
    joints = torch.zeros(22, 3)
    joints[[1, 16], 0], joints[[2, 17], 0] = 0.1, -0.1
    assert heading(joints).abs() < 1e-6
    assert torch.allclose(heading(turn_about_y(joints, torch.tensor(0.7))), torch.tensor(0.7), atol=1e-6)


@LAYOUTS
def test_motions_of_different_lengths_in_one_batch(layout: FeatureLayout) -> None:
    joints = smooth_motion(layout, batch=3, frames=120, seed=3)
    lengths = torch.tensor([120, 37, 1])
    padded = joints.clone()
    padded[1, 37:] = torch.nan
    padded[2, 1:] = 1e6
    batched = joints_to_features(padded, layout, lengths=lengths, uniform=bone_lengths(joints[0, 0], layout))
    for i, length in enumerate(lengths.tolist()):
        alone = joints_to_features(joints[i : i + 1, :length], layout, uniform=bone_lengths(joints[0, 0], layout))
        assert torch.allclose(batched[i, : length - 1], alone[0], atol=1e-5)
        assert not batched[i, length - 1 :].any()


def test_gradients_reach_every_joint_and_are_right() -> None:
    joints = smooth_motion(HUMANML3D, batch=1, frames=6, seed=4).double().requires_grad_()

    def without_contacts(values: Tensor) -> Tensor:
        return joints_to_features(values)[..., : HUMANML3D.slices["contacts"].start]

    assert torch.autograd.gradcheck(without_contacts, (joints,), fast_mode=True)
    features = without_contacts(joints).detach()
    features = torch.nn.functional.pad(features, (0, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: features_to_joints(values, last=True), (features,), fast_mode=True)


def test_gradients_stay_finite_for_padding_and_degenerate_poses() -> None:
    """A bone against its rest direction, a bone of no length, shoulders and hips on one point, padding of NaN."""
    joints = smooth_motion(HUMANML3D, batch=2, frames=8, seed=5)
    joints[0, :, 18] = joints[0, :, 16] + torch.tensor([0.0, 0.3, 0.0])
    joints[0, 2:, 15] = joints[0, 2:, 12]
    joints[1, :, [1, 2, 16, 17]] = joints[1, :, [0]]
    joints[1, 5:] = torch.nan
    joints.requires_grad_()
    features = joints_to_features(joints, lengths=torch.tensor([8, 5]))
    assert features.isfinite().all()
    features.square().sum().backward()
    assert joints.grad is not None
    assert joints.grad.isfinite().all()


def test_bone_against_its_rest_direction_gets_a_rotation() -> None:
    joints = smooth_motion(HUMANML3D, batch=1, frames=4, seed=6)
    joints[:, :, 18] = joints[:, :, 16] + torch.tensor([0.0, 0.3, 0.0])
    columns = joints_to_features(joints)[..., HUMANML3D.slices["rotations"]].unflatten(-1, (21, 2, 3))[0, :, 17]
    assert torch.allclose(columns @ columns.mT, torch.eye(2).expand(3, 2, 2), atol=1e-5)


def test_unfinite_frames_spread_to_the_rows_near_them_only() -> None:
    joints = smooth_motion(HUMANML3D, batch=2, frames=300, seed=7)
    joints[0, 20, 3, 1] = torch.nan
    features = joints_to_features(joints, canonical=False)
    assert features[0, 20].isnan().any()
    assert features[0, 101:].isfinite().all()
    assert features[1].isfinite().all()
    joints[0, 20] = torch.nan
    features = joints_to_features(joints, canonical=False)
    assert features[0, 20, HUMANML3D.slices["contacts"]].isnan().all()
    assert features[0, 101:].isfinite().all()
    assert features[1].isfinite().all()


def test_one_frame_has_no_rows_and_no_rows_no_frames() -> None:
    one = smooth_motion(HUMANML3D, batch=2, frames=1, seed=8)
    assert joints_to_features(one).shape == (2, 0, 263)
    assert features_to_joints(torch.zeros(2, 0, 263)).shape == (2, 0, 22, 3)
    assert features_to_joints(torch.zeros(2, 0, 263), last=True).shape == (2, 0, 22, 3)
    assert joints_to_features(torch.zeros(0, 5, 22, 3)).shape == (0, 4, 263)
    facing, root = root_path(torch.zeros(2, 0, 263))
    assert facing.shape == (2, 0)
    assert root.shape == (2, 0, 3)


@pytest.mark.parametrize("shape", [(5, 22, 3), (1, 5, 21, 3), (1, 0, 22, 3), (1, 5, 22, 2)])
def test_wrong_joints_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(PosesynError, match="humanml3d motions are floating-point joints"):
        joints_to_features(torch.zeros(shape))


def test_other_mistakes_are_named() -> None:
    joints = smooth_motion(HUMANML3D, batch=2, frames=5, seed=9)
    with pytest.raises(PosesynError, match="floating-point"):
        joints_to_features(joints.long())
    with pytest.raises(PosesynError, match="263"):
        features_to_joints(torch.zeros(1, 4, 251))
    for lengths in (torch.tensor([5, 6]), torch.tensor([0, 5]), torch.tensor([5])):
        with pytest.raises(PosesynError, match="lengths must be 2 numbers from 1 to 5"):
            joints_to_features(joints, lengths=lengths)
    with pytest.raises(PosesynError, match="bone lengths"):
        uniform_skeleton(joints, torch.ones(21))
    with pytest.raises(PosesynError, match="not known here"):
        joints_to_features(smooth_motion(KIT, batch=1, frames=5, seed=9), KIT, uniform=True)


def test_uniform_skeleton_keeps_directions_and_takes_lengths() -> None:
    joints = smooth_motion(HUMANML3D, batch=2, frames=10, seed=10)
    target = torch.tensor(HUMANML3D.bone_lengths)
    moved = uniform_skeleton(joints, target)
    assert torch.allclose(bone_lengths(moved), target.expand(2, 10, -1), atol=1e-5)
    parents = list(HUMANML3D.parents[1:])
    old, new = (torch.nn.functional.normalize(j[:, :, 1:] - j[:, :, parents], dim=-1) for j in (joints, moved))
    assert torch.allclose(old, new, atol=1e-5)
    legs = bone_lengths(joints[:, 0])[:, [5, 8]].sum(-1)
    scale = target[[5, 8]].sum() / legs
    assert torch.allclose(moved[:, :, 0], joints[:, :, 0] * scale[:, None, None], atol=1e-5)
    assert torch.allclose(
        joints_to_features(joints, uniform=True), joints_to_features(joints, uniform=target), atol=1e-6
    )


@LAYOUTS
def test_layout_covers_its_vector(layout: FeatureLayout) -> None:
    columns = [i for s in layout.slices.values() for i in range(s.start, s.stop)]
    assert columns == list(range(layout.size))
    assert layout.size == {"humanml3d": 263, "kit": 251}[layout.name]
    assert layout.parents[0] == -1
    assert all(p >= 0 for p in layout.parents[1:])
