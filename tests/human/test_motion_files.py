"""Files of motions and folders of them: variants are read, and what is broken is named, not swallowed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from human.errors import PosesynError
from human.mocap import bank_from_motions, read_deepmimic, read_motion
from human.mocap import read_motion_folder as read_folder
from human.motion import MotionBank, load_motion_bank
from human.skeleton import SMPL24
from tests.human.motion_files import T_POSE, amass_arrays, amc_frame, amc_text, asf_text, bvh_text, deepmimic_text


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


def test_deepmimic_reader_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="there is no file"):
        read_deepmimic(tmp_path / "none.txt")


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
