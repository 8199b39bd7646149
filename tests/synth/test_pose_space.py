"""The pose network: new combinations, valid ones, with what depends on each other kept together."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from human.body import load_body
from human.camera import project
from human.errors import PosesynError
from human.motion import MotionBank, load_motion_bank, mirror_pose
from human.skeleton import SMPL24
from synth.lift import camera_to_upright, lift_poses
from synth.pose_parts import PART_JOINTS, PARTS, features, without_heading
from synth.pose_space import PoseSpace, PoseSpaceConfig, free_pose_space
from synth.pose_validity import _segment_distance, free_body_capsules, is_valid, joint_positions, penetration
from synth.scene import sample_scene

PART = {name: k for k, name in enumerate(PARTS)}


def joint(name: str) -> int:
    return SMPL24.index(name) - 1


def test_parts_share_out_the_joints() -> None:
    assert sorted(j for joints in PART_JOINTS for j in joints) == list(range(24))


def test_feature_distance_is_the_angle() -> None:
    turn = np.zeros((2, 24, 3))
    turn[1, 5] = [0, 0.3, 0]
    turn[:, 7] = [1.0, 2.0, 0.5]
    a, b = features(turn).reshape(2, -1)
    assert np.linalg.norm(a - b) == pytest.approx(2 * np.sin(0.15), abs=1e-12)


def test_tilt_does_not_know_the_heading() -> None:
    rng = np.random.default_rng(0)
    root = Rotation.random(50, random_state=1)
    heading = Rotation.from_euler("y", rng.uniform(-np.pi, np.pi, (50, 1)))
    plain, turned = without_heading(root.as_rotvec()), without_heading((heading * root).as_rotvec())
    np.testing.assert_allclose(
        Rotation.from_rotvec(plain).as_matrix(), Rotation.from_rotvec(turned).as_matrix(), atol=1e-9
    )
    np.testing.assert_allclose(without_heading(heading.as_rotvec()), 0, atol=1e-9)
    np.testing.assert_allclose(Rotation.from_rotvec(plain).apply([0, 1, 0])[:, 1], root.apply([0, 1, 0])[:, 1])
    np.testing.assert_allclose(np.abs(without_heading(np.array([[0, 0, np.pi]]))), [[0, 0, np.pi]])  # upside down


def test_segment_distance_is_the_least_distance() -> None:
    rng = np.random.default_rng(0)
    a0, a1, b0, b1 = rng.normal(size=(4, 60, 3))
    a1[:10], b1[5:15] = a0[:10], b0[5:15]  # points
    a1[20:25] = a0[20:25] + (b1 - b0)[20:25]  # parallel
    t = np.linspace(0, 1, 201)
    along_a = a0[:, None] + t[:, None] * (a1 - a0)[:, None]
    along_b = b0[:, None] + t[:, None] * (b1 - b0)[:, None]
    brute = np.linalg.norm(along_a[:, :, None] - along_b[:, None], axis=-1).min((1, 2))
    ours = _segment_distance(a0, a1, b0, b1)
    assert (ours <= brute + 1e-9).all()
    np.testing.assert_allclose(ours, brute, atol=0.01)


def test_joint_positions_are_the_bodys() -> None:
    pose = load_motion_bank("free").poses[::60]
    theirs = load_body("free").joints(
        torch.zeros(len(pose), 10), torch.from_numpy(pose.copy()), torch.zeros(len(pose), 3)
    )
    theirs = theirs[:, :24] - theirs[:, :1]
    np.testing.assert_allclose(joint_positions(pose, free_body_capsules().offsets), theirs.numpy(), atol=1e-5)


def test_impossible_poses_are_told() -> None:
    pose = np.zeros((5, 23, 3))
    pose[1, joint("left_shoulder")] = [0, 0, np.deg2rad(-75)]  # an arm that hangs
    pose[2, joint("left_elbow")] = [0, np.pi / 2, 0]  # backwards
    pose[3, joint("left_shoulder")] = [0, np.deg2rad(-140), 0]  # across, the forearm straight back into the chest
    pose[3, joint("left_elbow")] = [0, np.deg2rad(-150), 0]
    pose[4, 3, 1] = np.nan
    assert is_valid(pose).tolist() == [True, True, False, False, False]
    assert penetration(pose[:1])[0] < 0
    assert penetration(pose[3:4])[0] > 0.05
    assert is_valid(pose[:0]).shape == (0,)
    with pytest.raises(PosesynError, match="shape"):
        is_valid(pose[0])


def test_recorded_motion_is_mostly_valid() -> None:
    assert is_valid(load_motion_bank("free").poses).mean() > 0.9


@pytest.fixture(scope="module")
def fitted() -> PoseSpace:
    pytest.importorskip("pgmpy", reason="learning a pose space needs the extra pose-space")
    bank = load_motion_bank("free")
    return PoseSpace.fit(bank.poses, bank.root)


def test_the_packaged_space_is_the_one_that_is_learnt(fitted: PoseSpace) -> None:
    packaged = free_pose_space()
    np.testing.assert_array_equal(packaged.edges, fitted.edges)
    # k-means may tie differently on another processor: the partitions must be the same up to a few poses
    assert (packaged.labels == fitted.labels).mean() > 0.99
    np.testing.assert_array_equal(packaged.poses, fitted.poses)
    np.testing.assert_allclose(packaged.tilt, fitted.tilt, atol=1e-6)


def test_the_network_is_sparse_and_has_no_circle() -> None:
    space = free_pose_space()
    assert 5 <= len(space.edges) <= 2 * len(PARTS)
    assert max(len(space.parents(p)) for p in range(len(PARTS))) <= 2
    place = {p: k for k, p in enumerate(space.order)}
    assert all(place[a] < place[b] for a, b in space.edges)
    linked = {frozenset((list(PARTS)[a], list(PARTS)[b])) for a, b in space.edges}
    assert frozenset(("left_upper_arm", "right_upper_arm")) in linked  # most of the clips move both arms at once
    circle = replace(space, edges=np.array([[0, 1], [1, 2], [2, 0]]))
    with pytest.raises(PosesynError, match="circle"):
        circle.sample(1)


def test_samples_are_valid_and_new() -> None:
    space = free_pose_space()
    poses, root = space.sample(300, seed=3)
    assert poses.shape == (300, 23, 3)
    assert root.shape == (300, 3)
    assert poses.dtype == root.dtype == np.float32
    assert is_valid(poses, space.config.limit_slack + 0.01, space.config.overlap + 1e-4).mean() > 0.995
    assert space.acceptance() > 0.7
    # new: far from every recorded pose, though each part is near a recorded configuration of that part
    flat, known = (features(np.concatenate([np.zeros((len(p), 1, 3)), p], 1)) for p in (poses, space.poses))
    limbs = SMPL24.indices(*(f"{s}_{j}" for s in ("left", "right") for j in ("hip", "knee", "shoulder", "elbow")))
    chord = np.linalg.norm(flat[:, None, limbs] - known[None, ::2, limbs], axis=-1)
    nearest = np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1)).mean(-1).min(1))
    assert np.median(nearest) > 10
    for joints in PART_JOINTS[1:]:
        part = np.linalg.norm(flat[:, None, list(joints)] - known[None, :, list(joints)], axis=-1).mean(-1).min(1)
        assert np.degrees(np.median(part)) < 8
    np.testing.assert_allclose(without_heading(root), root, atol=1e-5)


def test_a_sample_depends_on_its_number_and_the_seed_alone() -> None:
    space = free_pose_space()
    poses, root = space.sample(40, seed=7)
    some, some_root = space.sample(5, seed=7, first=20)
    assert some.tobytes() == poses[20:25].tobytes()
    assert some_root.tobytes() == root[20:25].tobytes()
    assert not np.array_equal(space.sample(40, seed=8)[0], poses)
    code = "from synth.pose_space import *; import sys; sys.stdout.buffer.write(free_pose_space().sample(40, 7)[0])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=Path(__file__).parents[2])
    assert other.stdout == poses.tobytes()


def two_mode_poses(n: int) -> np.ndarray:
    """Right arm up exactly when the right leg is; the left arm by itself."""
    rng = np.random.default_rng(5)
    pose = 0.03 * rng.standard_normal((n, 23, 3))
    together, alone = rng.random(n) < 0.5, rng.random(n) < 0.5
    pose[together, joint("right_hip")] += [-1.2, 0, 0]
    pose[together, joint("right_shoulder")] += [0, 0, -1.0]
    pose[alone, joint("left_shoulder")] += [0, 0, 1.0]
    return pose.astype(np.float32)


def test_what_belongs_together_stays_together() -> None:
    pytest.importorskip("pgmpy", reason="learning a pose space needs the extra pose-space")
    space = PoseSpace.fit(two_mode_poses(600), clusters=4, mirror=False, config=PoseSpaceConfig(smoothing=0.5))
    linked = {frozenset(e) for e in space.edges.tolist()}
    assert frozenset((PART["right_upper_leg"], PART["right_upper_arm"])) in linked
    assert all(PART["left_upper_arm"] not in e for e in linked)
    poses, _ = space.sample(400)
    leg, arm = poses[:, joint("right_hip"), 0] < -0.6, poses[:, joint("right_shoulder"), 2] < -0.5
    other = poses[:, joint("left_shoulder"), 2] > 0.5
    assert (leg == arm).mean() > 0.97
    assert 0.4 < leg.mean() < 0.6
    assert abs((leg == other).mean() - 0.5) < 0.1
    free = replace(space, config=PoseSpaceConfig(smoothing=1e9))  # smoothed away: the table knows no parents
    poses, _ = free.sample(400)
    leg, arm = poses[:, joint("right_hip"), 0] < -0.6, poses[:, joint("right_shoulder"), 2] < -0.5
    assert (leg == arm).mean() < 0.6


def test_an_impossible_space_falls_back_to_what_was_recorded() -> None:
    space = free_pose_space()
    never = replace(space, config=PoseSpaceConfig(limit_slack=-1e4))
    poses, _ = never.sample(8)
    assert all((np.abs(space.poses - p).max((1, 2)) < 1e-6).any() for p in poses)


def test_a_saved_space_draws_the_same(tmp_path: Path) -> None:
    space = replace(free_pose_space(), config=PoseSpaceConfig(smoothing=3.0, blend=0.2))
    space.save(tmp_path / "space.npz")
    again = PoseSpace.load(tmp_path / "space.npz")
    assert again.config == space.config
    np.testing.assert_array_equal(again.edges, space.edges)
    # stored as float16
    np.testing.assert_allclose(again.sample(20, 1)[0], space.sample(20, 1)[0], atol=0.01)
    bank = load_motion_bank(f"pose_space:{tmp_path / 'space.npz'}")
    assert len(bank) == 10_000
    np.testing.assert_array_equal(bank.poses[:20], again.sample(20)[0])
    assert (tmp_path / "space.npz").stat().st_size < 400_000


def test_bad_spaces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="there is no pose space"):
        PoseSpace.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(PosesynError, match="is not a pose space"):
        PoseSpace.load(tmp_path / "text.npz")
    free_pose_space().save(tmp_path / "space.npz")
    arrays = dict(np.load(tmp_path / "space.npz"))
    np.savez(tmp_path / "other.npz", **arrays | {"parts": np.array(["body"])})
    with pytest.raises(PosesynError, match="other body parts"):
        PoseSpace.load(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("poses", "root", "message"),
    [
        (np.zeros((40, 69)), None, "expected body_pose"),
        (np.zeros((40, 23, 3)), np.zeros((39, 3)), "expected body_pose"),
        (np.full((40, 23, 3), np.nan), None, "not finite"),
        (np.zeros((3, 23, 3)), None, "at least 32"),
    ],
)
def test_bad_poses_are_refused(poses: np.ndarray, root: np.ndarray | None, message: str) -> None:
    with pytest.raises(PosesynError, match=message):
        PoseSpace.fit(poses, root)
    with pytest.raises(PosesynError, match="count"):
        free_pose_space().sample(0)


def test_scenes_are_drawn_from_sampled_poses() -> None:
    bank = free_pose_space().bank(50)
    assert isinstance(bank, MotionBank)
    assert bank.fps == 0
    spec = sample_scene(range(6), bank, load_body("free"), 64)
    assert torch.isfinite(spec.body_pose).all()
    assert len(load_motion_bank("free_sampled")) == 10_000


def lsp_labels(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses of the free bank, their LSP joints before a camera, pixels, and the camera."""
    bank, body = load_motion_bank("free"), load_body("free")
    rows = np.linspace(0, len(bank) - 1, n).astype(int)
    pose = torch.from_numpy(bank.poses[rows].copy())
    root = Rotation.from_euler("x", 180, degrees=True) * Rotation.from_rotvec(bank.root[rows])
    transl = torch.tensor([0.0, 0.0, 6.0]).repeat(n, 1)
    out = body(torch.zeros(n, 10), pose, torch.from_numpy(root.as_rotvec()).float(), transl)
    joints = body.regress(out.vertices, "lsp14")
    camera = torch.tensor([[900.0, 0, 100], [0, 900, 100], [0, 0, 1]]).repeat(n, 1, 1)
    return bank.poses[rows], project(joints, camera).numpy(), camera.numpy()


def test_lifting_explains_the_labels_and_counts_what_it_drops() -> None:
    _, joints, _ = lsp_labels(24)
    conf = np.ones(joints.shape[:2])
    conf[3, 5] = 0
    joints[3, 5] = [-1e4, np.nan]  # junk where nothing is labelled
    conf[4, 2:] = 0  # two joints are no pose
    joints[5] = np.random.default_rng(0).uniform(0, 200, (14, 2))  # no human being
    lifted = lift_poses(joints, conf, load_body("free"))
    assert len(lifted) + lifted.unfitted + lifted.misfit + lifted.impossible == 24
    assert lifted.unfitted == 1
    assert 4 not in lifted.index
    assert 5 not in lifted.index
    assert len(lifted) >= 17
    assert lifted.error.max() <= 0.03
    assert is_valid(lifted.body_pose).all()
    strict = lift_poses(joints, conf, load_body("free"), max_error=1e-4)
    assert strict.misfit > lifted.misfit


def test_lifted_people_stand_as_their_pictures_do() -> None:
    _, joints, _ = lsp_labels(24)
    lifted = lift_poses(joints, np.ones(joints.shape[:2]), load_body("free"), max_error=0.1, overlap=1.0)
    # up the picture is up: the trunk leans as the trunk of the labels does
    up = Rotation.from_rotvec(lifted.root).apply(joint_positions(lifted.body_pose, free_body_capsules().offsets)[:, 12])
    hips, neck = joints[lifted.index, 2:4].mean(1), joints[lifted.index, 12]
    seen = neck - hips
    assert (np.sign(up[:, 1]) == -np.sign(seen[:, 1]))[np.abs(seen[:, 1]) > 20].mean() > 0.95
    np.testing.assert_allclose(camera_to_upright(torch.tensor([[np.pi, 0.0, 0.0]])).numpy(), 0, atol=1e-6)


def test_lifting_refuses_other_shapes() -> None:
    with pytest.raises(PosesynError, match="lsp14 has 14 joints"):
        lift_poses(np.zeros((2, 17, 2)), np.ones((2, 17)), load_body("free"))
    with pytest.raises(PosesynError, match="no persons"):
        lift_poses(np.zeros((0, 14, 2)), np.ones((0, 14)), load_body("free"))


def test_lifted_lspet_reaches_where_mocap_does_not(shared_data: Path) -> None:
    from datamodules.readers.lspet import LspetReader
    from human.skeleton import convert

    labels = LspetReader(shared_data / "lspet", "train").index.joints2d[::60]
    joints, conf = convert(labels[..., :2], labels[..., 2], "pose32", "lsp14")
    lifted = lift_poses(joints, conf, load_body("free"))
    assert len(lifted) > 0.7 * len(joints)
    bank = load_motion_bank("free").poses
    arms = [joint("left_shoulder") + 1, joint("right_shoulder") + 1]
    known = np.concatenate([bank, mirror_pose(bank)])
    flat, seen = (
        features(np.concatenate([np.zeros((len(p), 1, 3)), p], 1))[:, arms] for p in (lifted.body_pose, known)
    )
    far = np.linalg.norm(flat[:, None] - seen[None], axis=-1).mean(-1).min(1)
    assert np.degrees(np.median(far)) > 10
