"""The motion bank: limbs must point where DeepMimic's own kinematics point them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from human.errors import PosesynError
from human.mocap.deepmimic import deepmimic_joints, read_rotations, resample, retarget_deepmimic
from human.motion import load_motion_bank, mirror_pose, mirror_root
from human.skeleton import SMPL24

LIMBS = [
    (f"{side}_{upper}", f"{side}_{lower}")
    for side in ("left", "right")
    for upper, lower in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
]
# A T-pose with straight limbs: offsets from the parent, metres; the left side, mirrored for the right.
_OFFSETS = {
    "spine1": (0, 0.11, 0), "spine2": (0, 0.13, 0), "spine3": (0, 0.05, 0), "neck": (0, 0.21, 0),
    "head": (0, 0.09, 0.05), "left_hip": (0.07, -0.09, 0), "left_knee": (0, -0.38, 0), "left_ankle": (0, -0.40, 0),
    "left_foot": (0, -0.06, 0.12), "left_collar": (0.08, 0.11, 0), "left_shoulder": (0.09, 0.03, 0),
    "left_elbow": (0.26, 0, 0), "left_wrist": (0.25, 0, 0), "left_hand": (0.08, 0, 0),
}  # fmt: skip


def smpl_joints(root_N3: np.ndarray, pose_N233: np.ndarray) -> dict[str, np.ndarray]:
    world, place = [Rotation.from_rotvec(root_N3)], [np.zeros((len(root_N3), 3))]
    for i, (joint, parent) in enumerate(zip(SMPL24.joints, SMPL24.parents, strict=True)):
        if parent < 0:
            continue
        offset = np.array(_OFFSETS.get(joint.replace("right_", "left_")), dtype=float)
        offset[0] *= -1 if joint.startswith("right_") else 1
        place.append(place[parent] + world[parent].apply(offset))
        world.append(world[parent] * Rotation.from_rotvec(pose_N233[:, i - 1]))
    return dict(zip(SMPL24.joints, place, strict=True))


def limb_angles(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> np.ndarray:
    """Degrees between the same limbs of two skeletons: (limbs, N)."""
    out = []
    for upper, lower in LIMBS:
        u, v = a[lower] - a[upper], b[lower] - b[upper]
        cross = np.linalg.norm(np.cross(u, v), axis=-1)
        out.append(np.degrees(np.arctan2(cross, (u * v).sum(-1))))
    return np.array(out)


def random_frames(n: int) -> np.ndarray:
    """DeepMimic frames with every joint turned arbitrarily."""
    rng = np.random.default_rng(0)
    return np.concatenate([np.full((n, 1), 1 / 30), rng.normal(size=(n, 43))], axis=1)


def test_retargeted_limbs_point_where_deepmimics_do() -> None:
    rotations = read_rotations(random_frames(200))
    angles = limb_angles(deepmimic_joints(rotations), smpl_joints(*retarget_deepmimic(rotations)))
    assert angles.max() < 1e-3


def test_retargeted_trunk_turns_as_deepmimics() -> None:
    rotations = read_rotations(random_frames(50))
    ours, theirs = smpl_joints(*retarget_deepmimic(rotations)), deepmimic_joints(rotations)
    for a, b in (("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")):
        u, v = ours[a] - ours[b], theirs[a] - theirs[b]
        cosine = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
        np.testing.assert_allclose(cosine, 1, atol=1e-9)


def test_resampling_keeps_the_clip_and_its_length() -> None:
    frames = random_frames(31)
    frames[:, 0] = 1 / 60
    rotations, position = resample(frames, fps=30)
    assert len(position) == 16
    every_other = read_rotations(frames[::2])
    for joint, rotation in rotations.items():
        assert (rotation * every_other[joint].inv()).magnitude().max() < 1e-6, joint


def test_free_bank_is_complete() -> None:
    bank = load_motion_bank()
    n = len(bank)
    assert n >= 1000
    assert bank.poses.shape == (n, 23, 3)
    assert bank.root.shape == bank.position.shape == (n, 3)
    assert bank.fps == 30
    assert len(bank.clip_names) == len(set(bank.clip_names)) == 20
    assert (np.diff(bank.clip) >= 0).all()
    assert set(bank.clip) == set(range(20))
    for values in (bank.poses, bank.root):
        assert np.isfinite(values).all()
        assert np.linalg.norm(values, axis=-1).max() <= np.pi + 1e-2


def test_knees_bend_backwards_and_elbows_forwards() -> None:
    bank = load_motion_bank()
    for side in ("left", "right"):
        knee = bank.poses[:, SMPL24.index(f"{side}_knee") - 1]
        assert np.abs(knee[:, 1:]).max() == 0  # a hinge about x
        assert np.percentile(knee[:, 0], 2) > -0.05
        elbow = bank.poses[:, SMPL24.index(f"{side}_elbow") - 1]
        assert np.abs(elbow[:, [0, 2]]).max() < 1e-3  # a hinge about y in the T-pose
        assert np.percentile(elbow[:, 1] * (-1 if side == "left" else 1), 2) > -0.05


def test_actors_are_upright_when_walking_and_overturn_in_a_backflip() -> None:
    bank = load_motion_bank()
    up_N = Rotation.from_rotvec(bank.root).apply([0, 1, 0])[:, 1]
    assert up_N[bank.frames("walk")].min() > 0.9
    assert up_N[bank.frames("run")].min() > 0.8
    assert up_N[bank.frames("backflip")].min() < -0.9
    joints = smpl_joints(bank.root, bank.poses)
    walk = bank.frames("walk")
    assert (joints["left_wrist"][walk, 1] < joints["left_shoulder"][walk, 1] - 0.3).all()
    forward = Rotation.from_rotvec(bank.root[walk]).apply([0, 0, 1]).mean(0)
    travelled = bank.position[walk][-1] - bank.position[walk][0]
    assert travelled @ forward > 0.9 * np.linalg.norm(travelled)


def test_mirrored_pose_is_the_mirrored_person() -> None:
    bank = load_motion_bank()
    index = np.arange(0, len(bank), 37)
    plain, mirrored = bank.sample(index), bank.sample(index, np.ones(len(index), dtype=bool))
    a, b = smpl_joints(plain[1], plain[0]), smpl_joints(mirrored[1], mirrored[0])
    for joint, other in zip(SMPL24.joints, np.array(SMPL24.joints)[list(SMPL24.flip_permutation)], strict=True):
        np.testing.assert_allclose(a[joint] * [-1, 1, 1], b[str(other)], atol=1e-5)


def test_mirror_is_its_own_inverse_and_works_on_tensors() -> None:
    pose, root = load_motion_bank().sample(np.arange(5))
    tensor = torch.from_numpy(pose.copy())
    assert torch.equal(mirror_pose(mirror_pose(tensor)), tensor)
    np.testing.assert_array_equal(mirror_pose(tensor).numpy(), mirror_pose(pose))
    np.testing.assert_array_equal(mirror_root(torch.from_numpy(root.copy())).numpy(), mirror_root(root))


def test_sample_mirrors_only_what_is_asked() -> None:
    bank = load_motion_bank()
    pose, root = bank.sample(np.array([3, 3]), np.array([False, True]))
    np.testing.assert_array_equal(pose[0], bank.poses[3])
    np.testing.assert_array_equal(pose[1], mirror_pose(bank.poses[3]))
    np.testing.assert_array_equal(root[1], mirror_root(bank.root[3]))


@pytest.mark.parametrize("index", [[-1], [10**6]])
def test_sample_refuses_numbers_outside_the_bank(index: list[int]) -> None:
    with pytest.raises(PosesynError, match="run from 0 to"):
        load_motion_bank().sample(np.array(index))


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(PosesynError, match="known: free"):
        load_motion_bank("amass")
    with pytest.raises(PosesynError, match="backflip"):
        load_motion_bank().frames("moonwalk")
