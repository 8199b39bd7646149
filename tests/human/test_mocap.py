"""Retargeting: limbs point where the file's own kinematics put them, whatever the rig's conventions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from human.body import load_body
from human.errors import PosesynError
from human.mocap import read_amass, read_amc, read_bvh, read_motion
from human.mocap.asfamc import read_amc_rig, read_asf
from human.mocap.bvh import read_bvh_rig
from human.mocap.clip import Motion
from human.mocap.retarget import name_joints, retarget
from human.skeleton import SMPL24
from tests.human.motion_files import T_POSE, Joint, amc_frame, amc_text, asf_text, bvh_text, hanging, renamed, z_up

BODY = load_body("free")
LIMBS = [
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"), ("shoulder", "elbow"), ("elbow", "wrist"))
]


def bodies(motion: Motion) -> dict[str, np.ndarray]:
    pose, root = torch.from_numpy(motion.body_pose), torch.from_numpy(motion.global_orient)
    joints = BODY.joints(torch.zeros(len(pose), 10), pose, root)[:, :24].numpy()
    return {name: joints[:, k] for k, name in enumerate(SMPL24.joints)}


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)))


CONVENTIONS: dict[str, list[Joint]] = {
    "mixamo": T_POSE,
    "hanging arms": hanging(T_POSE),
    "z up": z_up(T_POSE),
    "poser": renamed(
        T_POSE,
        {"UpLeg": "{Side}Hip", "Leg": "{Side}Knee", "Foot": "{Side}Ankle", "ToeBase": "{Side}Toe",
         "Shoulder": "{Side}Collar", "Arm": "{Side}Shoulder", "ForeArm": "{Side}Elbow", "Hand": "{Side}Wrist"},
    ),
    "smpl": renamed(
        T_POSE,
        {"UpLeg": "{S}_Hip", "Leg": "{S}_Knee", "Foot": "{S}_Ankle", "ToeBase": "{S}_Foot", "Shoulder": "{S}_Collar",
         "Arm": "{S}_Shoulder", "ForeArm": "{S}_Elbow", "Hand": "{S}_Wrist"},
    ),
    "unreal": renamed(
        T_POSE,
        {"UpLeg": "thigh_{s}", "Leg": "calf_{s}", "Foot": "foot_{s}", "ToeBase": "ball_{s}",
         "Shoulder": "clavicle_{s}", "Arm": "upperarm_{s}", "ForeArm": "lowerarm_{s}", "Hand": "hand_{s}"},
    ),
    "biped": renamed(
        T_POSE,
        {"UpLeg": "Bip01 {S} Thigh", "Leg": "Bip01 {S} Calf", "Foot": "Bip01 {S} Foot", "ToeBase": "Bip01 {S} Toe0",
         "Shoulder": "Bip01 {S} Clavicle", "Arm": "Bip01 {S} UpperArm", "ForeArm": "Bip01 {S} Forearm",
         "Hand": "Bip01 {S} Hand"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_bvh_limbs_point_where_the_file_puts_them(tmp_path: Path, convention: str) -> None:
    joints = CONVENTIONS[convention]
    path = tmp_path / "clip.bvh"
    angles = np.random.default_rng(1).uniform(-70, 70, (20, len(joints), 3))
    path.write_text(bvh_text(joints, angles))
    # the file's own kinematics, written out again here
    turn: dict[str, Rotation] = {}
    place: dict[str, np.ndarray] = {}
    for k, (name, parent, offset, order) in enumerate(joints):
        local = Rotation.from_euler(order, angles[:, k], degrees=True)
        turn[name] = local if parent is None else turn[parent] * local
        place[name] = np.zeros((20, 3)) if parent is None else place[parent] + turn[parent].apply(offset)
    motion = read_bvh(path)
    assert motion.fps == pytest.approx(60, rel=1e-4)
    ours = bodies(motion)
    rig, _ = read_bvh_rig(path)
    named = {ours_name: rig.names[k] for ours_name, k in name_joints(rig).items()}
    stand = Rotation.from_euler("x", -90 if convention == "z up" else 0, degrees=True)
    for a, b in LIMBS:
        theirs = stand.apply(place[named[b]] - place[named[a]])
        assert angle(ours[b] - ours[a], theirs).max() < 0.02, (a, b)
    hips = stand.apply(place[named["left_hip"]] - place[named["right_hip"]])
    assert angle(ours["left_hip"] - ours["right_hip"], hips).max() < 0.02
    # centimetres are told from the legs; the hip joints' middle travels with the root
    start = stand.apply(np.array(joints[0][2]) + (place[named["left_hip"]][0] + place[named["right_hip"]][0]) / 2)
    np.testing.assert_allclose(motion.transl[0], start / 100, atol=1e-4)


@pytest.mark.parametrize("convention", ["mixamo", "z up", "biped"])
def test_a_spread_rest_pose_is_smpls_zero_pose(tmp_path: Path, convention: str) -> None:
    joints = CONVENTIONS[convention]
    path = tmp_path / "rest.bvh"
    path.write_text(bvh_text(joints, np.zeros((1, len(joints), 3))))
    motion = read_bvh(path)
    np.testing.assert_allclose(motion.global_orient, 0, atol=1e-6)
    assert np.degrees(np.linalg.norm(motion.body_pose, axis=-1)).max() < 12  # limbs that lean a little at rest
    trunk = [SMPL24.index(j) - 1 for j in ("spine1", "spine2", "spine3", "neck", "head", "left_collar")]
    np.testing.assert_allclose(motion.body_pose[:, trunk], 0, atol=1e-6)


def test_spine_turns_are_shared_out_over_smpls_spine(tmp_path: Path) -> None:
    angles = np.zeros((1, len(T_POSE), 3))
    for k, (name, _, _, order) in enumerate(T_POSE):
        if name.endswith(("Spine", "Spine1")):
            angles[0, k, order.index("Y")] = 30
    path = tmp_path / "twist.bvh"
    path.write_text(bvh_text(T_POSE, angles))
    pose = read_bvh(path).body_pose[0]
    spine = pose[[SMPL24.index(f"spine{k}") - 1 for k in (1, 2, 3)]]
    np.testing.assert_allclose(np.degrees(spine), [[0, 20, 0]] * 3, atol=1e-3)


def test_unknown_joint_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "robot.bvh"
    path.write_text(bvh_text(renamed(T_POSE, {"Leg": "{Side}Piston"}), np.zeros((1, len(T_POSE), 3))))
    with pytest.raises(PosesynError, match=r"robot\.bvh.*left_knee"):
        read_bvh(path)


def test_a_rig_with_all_bones_along_one_axis_is_fitted_by_its_joints(tmp_path: Path) -> None:
    """As in LAFAN1's files, where at rest the legs' bones lie along their own x."""
    straight = []
    for name, parent, (x, y, z), order in T_POSE:
        along = name.endswith(("tLeg", "Foot", "ToeBase"))
        length = float(np.linalg.norm((x, y, z)))
        straight.append((name, parent, (length, 0.0, 0.0) if along and "UpLeg" not in name else (x, y, z), order))
    n = 12
    turns = np.zeros((n, len(straight), 3))
    swing = np.linspace(0, 1, n)
    for k, (name, _, _, order) in enumerate(straight):
        if "UpLeg" in name:  # down (about z), then swung
            side = 1 if "Left" in name else -1
            turns[:, k, order.index("Z")] = -90
            turns[:, k, order.index("X")] = side * 30 * np.sin(2 * np.pi * swing)
        elif name.endswith("tLeg"):  # knees bend about what is the legs' own y
            turns[:, k, order.index("Y")] = 25 + 20 * np.cos(2 * np.pi * swing)
    path = tmp_path / "lafan.bvh"
    path.write_text(bvh_text(straight, turns))
    rig, _ = read_bvh_rig(path)
    named, (_, place) = name_joints(rig), rig.world()
    motion = read_bvh(path)
    ours = bodies(motion)
    assert (ours["left_knee"] - ours["left_hip"])[:, 1].max() < 0
    errors = []
    for a, b in LIMBS[:2] + LIMBS[3:7] + LIMBS[8:]:
        errors.append(angle(ours[b] - ours[a], place[:, named[b]] - place[:, named[a]]))
    assert np.mean(errors) < 3
    assert np.max(errors) < 12


def test_acclaim_turns_are_about_the_bones_own_axes(tmp_path: Path) -> None:
    (tmp_path / "t.asf").write_text(asf_text())
    path = tmp_path / "t_01.amc"
    path.write_text(amc_text([amc_frame(root=[1, 17, 3, 0, 90, 0], ltibia=[40], lradius=[60])]))
    skeleton = read_asf(tmp_path / "t.asf")
    _, place = read_amc_rig(path, skeleton).world()
    at = dict(zip([b.name for b in skeleton.bones], place[0], strict=True))
    motion = read_amc(path)
    assert motion.name == "t_01"
    assert motion.fps == 120
    # knee: 40 degrees about the axis across the splayed thigh, which the root's quarter turn about y then turns
    turn, axes = Rotation.from_euler("y", 90, degrees=True), Rotation.from_euler("z", 20, degrees=True)
    bend = axes * Rotation.from_euler("x", 40, degrees=True) * axes.inv()
    shin = np.array([0.34, -0.94, 0]) / np.linalg.norm([0.34, -0.94])
    ours = bodies(motion)
    assert angle((ours["left_ankle"] - ours["left_knee"])[0], turn.apply(bend.apply(shin))) < 0.02
    for a, b, s, e in (("left_hip", "left_knee", "lfemur", "ltibia"), ("left_shoulder", "left_elbow", "lhumerus",
                                                                       "lradius")):  # fmt: skip
        assert angle((ours[b] - ours[a])[0], at[e] - at[s]) < 0.02
    # inches over 0.45; the pelvis is between the hip joints, which lie below the root
    np.testing.assert_allclose(motion.transl[0], np.array([1, 17 - 0.6 * 2.0, 3]) * 0.0254 / 0.45, atol=1e-5)


def test_bvh_and_acclaim_files_of_one_take_agree(shared_data: Path) -> None:
    folder = shared_data / "samples" / "cmu_mocap"
    a, b = read_motion(folder / "asfamc/02/02_01.amc"), read_motion(folder / "bvh/02_01.bvh")
    # the BVH conversion gives the hands other axes
    same = [k for k, j in enumerate(SMPL24.joints[1:]) if "wrist" not in j]
    turns = [Rotation.from_rotvec(m.body_pose[:, same].reshape(-1, 3)) for m in (a, b)]
    assert np.degrees((turns[0].inv() * turns[1]).magnitude()).max() < 0.05
    roots = [Rotation.from_rotvec(m.global_orient) for m in (a, b)]
    assert np.degrees((roots[0].inv() * roots[1]).magnitude()).max() < 0.01
    np.testing.assert_allclose(a.transl, b.transl, atol=1e-4)


def test_real_bvh_limbs_point_where_the_file_puts_them(shared_data: Path) -> None:
    files = sorted((shared_data / "samples" / "cmu_mocap" / "bvh").glob("*.bvh"))[::5]
    assert files
    for path in files:
        rig, _ = read_bvh_rig(path)
        _, place = rig.world()
        named, ours = name_joints(rig), bodies(read_bvh(path))
        for a, b in LIMBS:
            theirs = place[:, named[b]] - place[:, named[a]]
            assert angle(ours[b] - ours[a], theirs).max() < 0.05, (path.name, a, b)
        shoulders = place[:, named["left_shoulder"]] - place[:, named["right_shoulder"]]
        assert angle(ours["left_shoulder"] - ours["right_shoulder"], shoulders).mean() < 5
        up = ours["head"] - ours["pelvis"]
        assert (up[:, 1] > 0.4).all()  # all walk


def test_real_amass_stands_on_the_ground(shared_data: Path) -> None:
    folder = shared_data / "samples" / "amass"
    motion = read_amass(folder / "dmpl_sample.npz")
    assert motion.fps == pytest.approx(120, abs=0.001)
    assert motion.gender == "female"
    assert motion.betas is not None
    assert motion.betas.shape == (16,)
    ours = bodies(motion)
    up = ours["head"] - ours["pelvis"]
    assert np.median(up[:, 1] / np.linalg.norm(up, axis=-1)) > 0.97  # a jumping jack
    lowest = np.minimum(ours["left_foot"], ours["right_foot"])[:, 1] - ours["pelvis"][:, 1] + motion.transl[:, 1]
    assert np.median(np.abs(lowest)) < 0.08
    assert (motion.body_pose[:, 21:] == 0).all()  # SMPL's hands are no joint of SMPL-H's body


def test_resampling_follows_the_rotation() -> None:
    n = 101
    turn = np.linspace(0, 3.0, n)
    pose = np.zeros((n, 23, 3))
    pose[:, 0, 1] = turn
    motion = Motion(pose, np.zeros((n, 3)), np.stack([turn] * 3, 1), 100.0, "turn")
    for fps, count in ((50.0, 51), (30.0, 31), (24.5, 25), (200.0, 201)):
        other = motion.resampled(fps)
        assert len(other) == count
        np.testing.assert_allclose(other.body_pose[:, 0, 1], np.arange(count) / fps * 3, atol=1e-5)
        np.testing.assert_allclose(other.transl[:, 0], other.body_pose[:, 0, 1], atol=1e-5)


def test_unit_of_length_is_told_from_the_legs(tmp_path: Path) -> None:
    for scale, metres in ((1, 0.01), (0.01, 1.0), (10, 0.001), (1 / 2.54, 0.0254)):
        joints = [(n, p, (x * scale, y * scale, z * scale), o) for n, p, (x, y, z), o in T_POSE]
        path = tmp_path / "u.bvh"
        path.write_text(bvh_text(joints, np.zeros((1, len(joints), 3))))
        rig, _ = read_bvh_rig(path)
        np.testing.assert_allclose(retarget(rig)[2], retarget(rig, unit=metres)[2])
