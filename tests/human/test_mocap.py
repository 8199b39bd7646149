"""Motion readers: limbs point where the file's own kinematics put them, and bad files are named, not swallowed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from human.body import load_body
from human.errors import PosesynError
from human.mocap import bank_from_motions, read_amass, read_amc, read_bvh, read_deepmimic, read_motion
from human.mocap import read_motion_folder as read_folder
from human.mocap.asfamc import read_amc_rig, read_asf
from human.mocap.bvh import read_bvh_rig
from human.mocap.clip import Motion
from human.mocap.retarget import name_joints, retarget
from human.motion import MotionBank, load_motion_bank
from human.skeleton import SMPL24

BODY = load_body("free")
LIMBS = [
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"), ("shoulder", "elbow"), ("elbow", "wrist"))
]

# (name, parent, offset in cm, channel order): a standing person, left at +x, arms spread
Joint = tuple[str, str | None, tuple[float, float, float], str]
T_POSE: list[Joint] = [
    ("mixamorig:Hips", None, (0, 95, 0), "ZXY"),
    ("mixamorig:Spine", "mixamorig:Hips", (0, 10, -1), "XYZ"),
    ("mixamorig:Spine1", "mixamorig:Spine", (0, 12, 0), "ZYX"),
    ("mixamorig:Neck", "mixamorig:Spine1", (0, 25, 2), "YXZ"),
    ("mixamorig:Head", "mixamorig:Neck", (0, 10, 2), "YZX"),
    *(
        (f"mixamorig:{side}{part}", f"mixamorig:{parent.format(side)}", (x * sign, y, z), order)
        for side, sign in (("Left", 1), ("Right", -1))
        for part, parent, (x, y, z), order in (
            ("UpLeg", "Hips", (9, -6, 0), "XZY"), ("Leg", "{}UpLeg", (0, -41, 1), "ZXY"),
            ("Foot", "{}Leg", (1, -42, -2), "ZYX"), ("ToeBase", "{}Foot", (0, -7, 13), "XYZ"),
            ("Shoulder", "Spine1", (6, 20, 0), "ZXY"), ("Arm", "{}Shoulder", (12, 0, -1), "YXZ"),
            ("ForeArm", "{}Arm", (28, 0, 0), "XYZ"), ("Hand", "{}ForeArm", (25, 1, 0), "ZXY"),
        )
    ),
]  # fmt: skip


def hanging(joints: list[Joint]) -> list[Joint]:
    """The same person with hanging arms as rest pose."""
    out = []
    for name, parent, (x, y, z), order in joints:
        down = name.endswith(("ForeArm", "Hand"))
        out.append((name, parent, (-y if x > 0 else y, -abs(x), z) if down else (x, y, z), order))
    return out


def z_up(joints: list[Joint]) -> list[Joint]:
    return [(name, parent, (x, -z, y), order) for name, parent, (x, y, z), order in joints]


def renamed(joints: list[Joint], table: dict[str, str]) -> list[Joint]:
    new = {}
    for name, *_ in joints:
        plain = name.removeprefix("mixamorig:")
        side = next((s for s in ("Left", "Right") if plain.startswith(s)), "")
        part = plain.removeprefix(side)
        new[name] = table.get(part, part).format(side=side.lower(), s=side[:1].lower(), S=side[:1], Side=side)
    return [(new[n], new[p] if p else None, o, r) for n, p, o, r in joints]


def bvh_text(joints: list[Joint], frames_deg: np.ndarray, seconds: float = 1 / 60) -> str:
    """``frames_deg``: (N, joints, 3) Euler angles in each joint's channel order; the hips move by one unit a frame."""
    children: dict[str | None, list[Joint]] = {}
    for joint in joints:
        children.setdefault(joint[1], []).append(joint)
    lines, order = ["HIERARCHY"], []

    def write(joint: Joint, depth: int) -> None:
        name, parent, offset, rotation = joint
        tab = "\t" * depth
        order.append(joints.index(joint))
        position = "Xposition Yposition Zposition " if parent is None else ""
        channels = position + " ".join(f"{a}rotation" for a in rotation)
        lines.extend([f"{tab}{'ROOT' if parent is None else 'JOINT'} {name}", f"{tab}{{"])
        lines.append(f"{tab}\tOFFSET {offset[0]} {offset[1]} {offset[2]}")
        lines.append(f"{tab}\tCHANNELS {len(channels.split())} {channels}")
        for child in children.get(name, []):
            write(child, depth + 1)
        if name not in children:
            lines.extend([f"{tab}\tEnd Site", f"{tab}\t{{", f"{tab}\t\tOFFSET 0 0 5", f"{tab}\t}}"])
        lines.append(f"{tab}}}")

    write(joints[0], 0)
    lines += ["MOTION", f"Frames: {len(frames_deg)}", f"Frame Time: {seconds:.7f}"]
    for n, frame in enumerate(frames_deg):
        place = np.array(joints[0][2]) + n
        lines.append(" ".join(f"{v:.6f}" for v in [*place, *frame[order].reshape(-1)]))
    return "\r\n".join(lines) + "\r\n"


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


ASF = """# a comment
:version 1.10
:name test
:units
  mass 1.0
  length 0.45
  angle deg
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
{bones}:hierarchy
  begin
    root lhipjoint rhipjoint lowerback
    lhipjoint lfemur
    lfemur ltibia
    ltibia lfoot
    rhipjoint rfemur
    rfemur rtibia
    rtibia rfoot
    lowerback lhumerus rhumerus
    lhumerus lradius
    rhumerus rradius
  end
"""


def asf_text() -> str:
    bones = ""
    for name, way, length, axis, dof in [
        ("lowerback", (0, 1, 0), 8, (0, 0, 0), "rx ry rz"),
        *((f"{s}{n}", (x * k, y, z), length, (ax, 0, az * k), dof)
          for s, k in (("l", 1), ("r", -1))
          for n, (x, y, z), length, (ax, az), dof in (
              ("hipjoint", (0.8, -0.6, 0), 2.0, (0, 0), ""), ("femur", (0.34, -0.94, 0), 7.2, (0, 20), "rx ry rz"),
              ("tibia", (0.34, -0.94, 0), 7.5, (0, 20), "rx"),
              ("foot", (0.07, -0.18, 0.98), 2.4, (-90, 20), "rx rz"),
              ("humerus", (1, 0, 0), 5.0, (180, 90), "rx ry rz"),
              ("radius", (1, 0, 0), 3.4, (180, 90), "rx"))),
    ]:  # fmt: skip
        bones += f"  begin\n     id 1\n     name {name}\n     direction {way[0]} {way[1]} {way[2]}\n"
        bones += f"     length {length}\n     axis {axis[0]} {axis[1]} {axis[2]}   XYZ\n"
        bones += f"    dof {dof}\n    limits (-160.0 20.0)\n" if dof else ""
        bones += "  end\n"
    return ASF.format(bones=bones)


def amc_text(frames: list[dict[str, list[float]]]) -> str:
    lines = ["#!OML:ASF test.asf", ":FULLY-SPECIFIED", ":DEGREES"]
    for number, frame in enumerate(frames, 1):
        lines += [str(number), *(f"{bone} {' '.join(map(str, values))}" for bone, values in frame.items())]
    return "\n".join(lines) + "\n"


def amc_frame(**angles: list[float]) -> dict[str, list[float]]:
    bones = {"root": 6, "lowerback": 3, "lhumerus": 3, "lradius": 1, "rhumerus": 3, "rradius": 1, "lfemur": 3,
             "ltibia": 1, "lfoot": 2, "rfemur": 3, "rtibia": 1, "rfoot": 2}  # fmt: skip
    return {bone: angles.get(bone, [0.0] * n) for bone, n in bones.items()}


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


def amass_arrays(n: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    poses = rng.normal(0, 0.3, (n, 156))
    poses[:, :3] = Rotation.from_euler("x", 90, degrees=True).as_rotvec()  # upright where z is up
    return {
        "poses": poses, "trans": np.tile([1.0, 2.0, 0.9], (n, 1)), "betas": np.zeros(16), "dmpls": np.zeros((n, 8)),
        "gender": np.array("male"), "mocap_framerate": np.array(100.0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fps", "gender"),
    [
        ({}, 100.0, "male"),
        (
            {"gender": np.array(b"female"), "mocap_framerate": np.array(120.00004577636719)},
            120.00004577636719,
            "female",
        ),
        ({"mocap_framerate": np.array("59.94")}, 59.94, "male"),
        ({"mocap_framerate": None, "mocap_frame_rate": np.array(60)}, 60.0, "male"),
        ({"gender": np.array(["male", None], dtype=object)}, 100.0, "neutral"),  # a pickle; left unopened
    ],
)
def test_amass_variants(tmp_path: Path, change: dict[str, np.ndarray], fps: float, gender: str) -> None:
    arrays = amass_arrays() | change
    path = tmp_path / "walk_poses.npz"
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    motion = read_motion(path)
    assert (motion.fps, motion.gender, motion.name) == (fps, gender, "walk")
    np.testing.assert_allclose(motion.body_pose[:, :21].reshape(5, 63), arrays["poses"][:, 3:66], rtol=1e-6)
    np.testing.assert_allclose(motion.global_orient, 0, atol=1e-6)
    # z was up and y pointed backwards; the pelvis is off SMPL's origin
    np.testing.assert_allclose(motion.transl[0], [1 - 0.0018, 0.9 + 0.0282, -2 + 0.2233], atol=1e-6)


def test_split_smplx_poses_are_read(tmp_path: Path) -> None:
    arrays = amass_arrays()
    whole, split = tmp_path / "whole.npz", tmp_path / "split.npz"
    np.savez(whole, **arrays)
    poses = arrays.pop("poses")
    np.savez(split, **arrays, root_orient=poses[:, :3], pose_body=poses[:, 3:66])
    np.testing.assert_array_equal(read_motion(split).body_pose, read_motion(whole).body_pose)


def deepmimic_text(n: int = 11) -> str:
    frame = np.random.default_rng(3).normal(size=(n, 44))
    frame[:, 0] = 1 / 60
    return json.dumps({"Loop": "wrap", "Frames": frame.tolist()})


def test_deepmimic_clip_is_read_at_a_steady_rate(tmp_path: Path) -> None:
    path = tmp_path / "humanoid3d_walk.txt"
    path.write_text(deepmimic_text())
    motion = read_motion(path)
    assert (motion.name, motion.fps, len(motion)) == ("walk", 30.0, 6)
    knee = motion.body_pose[:, SMPL24.index("left_knee") - 1]
    assert np.abs(knee[:, 1:]).max() < 1e-9  # a hinge


def npz_with(**change: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        arrays: dict[str, object] = amass_arrays() | change  # type: ignore[operator]
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})

    return write


def text(value: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(value)


_REST = np.zeros((3, len(T_POSE), 3))
BAD: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "empty npz": ("a.npz", text(""), "not a readable npz"),
    "text in npz": ("a.npz", text("hello"), "not a readable npz"),
    "no poses": ("a.npz", npz_with(poses=None), "no AMASS file"),
    "no trans": ("a.npz", npz_with(trans=None), "no 'trans'"),
    "no rate": ("a.npz", npz_with(mocap_framerate=None), "no frame rate"),
    "rate in words": ("a.npz", npz_with(mocap_framerate=np.array("fast")), "'fast', not a number"),
    "rate zero": ("a.npz", npz_with(mocap_framerate=np.array(0.0)), "frame rate must be"),
    "pickled poses": ("a.npz", npz_with(poses=np.array([[1], None], dtype=object)), "plain numbers"),
    "flat poses": ("a.npz", npz_with(poses=np.zeros(156)), r"must be \(N, 156\)"),
    "other length": ("a.npz", npz_with(trans=np.zeros((4, 3))), "'trans' must be"),
    "no frames": ("a.npz", npz_with(poses=np.zeros((0, 156)), trans=np.zeros((0, 3))), "no frames"),
    "nan": ("a.npz", npz_with(poses=np.full((5, 156), np.nan)), "not finite"),
    "huge": ("a.npz", npz_with(trans=np.full((5, 3), 1e30)), "absurdly large"),
    "empty bvh": ("a.bvh", text(""), "no BVH file"),
    "bvh without motion": ("a.bvh", text(bvh_text(T_POSE, _REST).split("MOTION")[0]), "no BVH file"),
    "cut bvh": ("a.bvh", text(bvh_text(T_POSE, _REST)[:-40]), "cut off|could not convert"),
    "bvh nan": ("a.bvh", text(bvh_text(T_POSE, _REST * np.nan)), "not finite"),
    "bvh braces": ("a.bvh", text(bvh_text(T_POSE, _REST).replace("}", "", 1)), "not a valid BVH"),
    "bvh no frames": ("a.bvh", text(bvh_text(T_POSE, _REST[:0])), "0 frames"),
    "bvh channel": ("a.bvh", text(bvh_text(T_POSE, _REST).replace("Xrotation", "Wrotation", 1)), "unknown channel"),
    "amc alone": ("a.amc", text(amc_text([amc_frame()])), "needs its skeleton"),
    "not deepmimic": ("a.json", text('{"frames": 3}'), "not a DeepMimic clip"),
    "deepmimic width": ("a.json", text('{"Frames": [[1, 2]]}'), "44 numbers"),
    "deepmimic nan": ("a.json", text(deepmimic_text().replace(str(1 / 60), "NaN", 1)), "not finite|lasts no time"),
    "picture": ("a.png", text("PNG"), "no motion file by name or content"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_give_one_clear_error(tmp_path: Path, case: str) -> None:
    name, write, message = BAD[case]
    write(tmp_path / name)
    with pytest.raises(PosesynError, match=message) as error:
        read_motion(tmp_path / name)
    assert "a." in str(error.value) or "'a'" in str(error.value)  # it says which file
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("dof rx\n", "dof rx rz\n", "numbers a frame"), ("name ltibia", "name shin", "ltibia|shin"),
     (":bonedata", ":bones", "not a valid ASF"), ("length 7.5", "length long", "not a valid ASF")],
)  # fmt: skip
def test_bad_skeletons_give_one_clear_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "t.asf").write_text(asf_text().replace(old, new))
    (tmp_path / "t_01.amc").write_text(amc_text([amc_frame()]))
    with pytest.raises(PosesynError, match=message):
        read_motion(tmp_path / "t_01.amc")


def test_a_file_cut_anywhere_is_read_or_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", **amass_arrays())
    (tmp_path / "t.asf").write_text(asf_text())
    whole = {
        "b.npz": (tmp_path / "x.npz").read_bytes(),
        "b.bvh": bvh_text(T_POSE, _REST).encode(),
        "t_2.amc": amc_text([amc_frame()] * 2).encode(),
        "b.json": deepmimic_text(2).encode(),
    }
    refused = 0
    for name, data in whole.items():
        for end in np.linspace(0, len(data) - 1, 15).astype(int):
            (tmp_path / name).write_bytes(data[:end])
            try:
                assert len(read_motion(tmp_path / name)) > 0
            except PosesynError:
                refused += 1
    assert refused > 45


def test_a_folder_is_read_and_what_is_corrupt_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "b").mkdir()
    np.savez(tmp_path / "a_poses.npz", **amass_arrays())
    (tmp_path / "b" / "clip.bvh").write_text(bvh_text(T_POSE, np.zeros((9, len(T_POSE), 3))))
    (tmp_path / "b" / "humanoid3d_a.txt").write_text(deepmimic_text())
    (tmp_path / "b" / "t.asf").write_text(asf_text())
    (tmp_path / "b" / "t_01.amc").write_text(amc_text([amc_frame()] * 8))
    (tmp_path / "LICENSE.txt").write_text("all yours")
    (tmp_path / "broken.bvh").write_text("HIERARCHY")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with caplog.at_level(logging.WARNING):
        motions = read_folder(tmp_path)
    assert [m.name for m in motions] == ["a", "clip", "a", "t_01"]
    assert len(caplog.records) == 1
    assert "skipped 2 of 6" in caplog.text
    bank = bank_from_motions(motions, fps=30.0)
    assert bank.clip_names == ("a", "clip", "a (2)", "t_01")
    assert [int((bank.clip == k).sum()) for k in range(4)] == [2, 5, 6, 2]  # at 100, 60, 30 and 120 poses per second
    assert load_motion_bank(str(tmp_path)).poses.tobytes() == bank.poses.tobytes()


def test_a_folder_without_motion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="no motion could be read"):
        load_motion_bank(str(tmp_path))
    (tmp_path / "x.bvh").write_text("")
    with pytest.raises(PosesynError, match=r"no motion could be read.*no BVH file"):
        read_folder(tmp_path)
    with pytest.raises(PosesynError, match="there is no motion at"):
        load_motion_bank(str(tmp_path / "nowhere"))


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


def test_a_saved_bank_is_the_bank(tmp_path: Path) -> None:
    bank = load_motion_bank("free")
    bank.save(tmp_path / "bank.npz")
    again = load_motion_bank(str(tmp_path / "bank.npz"))
    np.testing.assert_array_equal(again.poses, bank.poses)  # the packaged bank is float16 as well
    assert (again.clip_names, again.fps) == (bank.clip_names, bank.fps)
    twice = MotionBank.cat([bank, again])
    assert len(twice) == 2 * len(bank)
    assert twice.clip.max() == 39
    with pytest.raises(PosesynError, match="different rates"):
        MotionBank.cat([bank, MotionBank(bank.poses, bank.root, bank.position, bank.clip, bank.clip_names, 60.0)])


def test_a_broken_bank_file_is_refused(tmp_path: Path) -> None:
    bank = load_motion_bank("free")
    arrays = {"root": bank.root, "position": bank.position, "clip": bank.clip, "clip_names": np.array(["a"]), "fps": 30}
    np.savez(tmp_path / "flat.npz", poses=bank.poses.reshape(len(bank), -1), **arrays)
    with pytest.raises(PosesynError, match=r"flat\.npz is not a motion bank"):
        load_motion_bank(str(tmp_path / "flat.npz"))
    np.savez(tmp_path / "nan.npz", poses=bank.poses * np.nan, **arrays)
    with pytest.raises(PosesynError, match=r"nan\.npz: .* not finite"):
        load_motion_bank(str(tmp_path / "nan.npz"))


def test_unit_of_length_is_told_from_the_legs(tmp_path: Path) -> None:
    for scale, metres in ((1, 0.01), (0.01, 1.0), (10, 0.001), (1 / 2.54, 0.0254)):
        joints = [(n, p, (x * scale, y * scale, z * scale), o) for n, p, (x, y, z), o in T_POSE]
        path = tmp_path / "u.bvh"
        path.write_text(bvh_text(joints, np.zeros((1, len(joints), 3))))
        rig, _ = read_bvh_rig(path)
        np.testing.assert_allclose(retarget(rig)[2], retarget(rig, unit=metres)[2])


def test_deepmimic_reader_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="there is no file"):
        read_deepmimic(tmp_path / "none.txt")
