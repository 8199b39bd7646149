"""AGORA: frames become the truth before the camera; what is missing, damaged or hostile is told."""

from __future__ import annotations

import logging
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules.readers import READERS
from datamodules.readers.agora import AgoraReader
from human.errors import PosesynError
from tests.datasets import agora
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(agora.GENDERS, 3, kind="smplx", seed=4)


@pytest.fixture(scope="module")
def written(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("agora")
    agora.write(root, people)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(written, tmp_path / "agora"))


def read(root: Path, split: str = "validation", **options: Any) -> AgoraReader:
    return AgoraReader(root, split, cache=root.parent / "cache", **options)


def labels(root: Path) -> Path:
    return root / "validation_SMPLX" / "SMPLX" / "validation_0_withjv.pkl"


def rewrite(root: Path, change: Callable[[pd.DataFrame], Any]) -> None:
    """The frame after a change; what `change` returns in its place, if anything."""
    frame = pd.read_pickle(labels(root))
    changed = change(frame)
    (frame if changed is None else changed).to_pickle(labels(root), protocol=4)


def test_labels_are_the_truth_before_the_camera(root: Path, people: People) -> None:
    reader = read(root, everyone=True)
    assert READERS.get("agora") is AgoraReader
    index = reader.index.validate()
    crowd = agora.Crowd(people)
    stems = [name.format(split="validation").removesuffix(".png") for name in agora.NAMES]
    rows = [(k, p) for k in range(3) for p in range(3)]
    assert list(index.ids) == [f"agora/{stems[k]}/{p}" for k, p in rows]
    columns = {name: np.array(column) for name, column in index.extras.items()}
    for i, (k, p) in enumerate(rows):
        joints = crowd.all_joints(k, p)
        np.testing.assert_allclose(columns["native3d"][i, :, :3], joints[:55], atol=1e-5)
        np.testing.assert_allclose(index.joints3d[i, :22, :3], people.joints(0, p)[k, :22], atol=1e-5)
        seen = crowd.seen(k)
        pixels = seen.project(0, joints)
        np.testing.assert_allclose(columns["native2d"][i, :, :2], pixels[:55], atol=2e-4)
        np.testing.assert_allclose(index.bbox_xyxy[i], [*pixels.min(0), *pixels.max(0)], atol=2e-4)
        np.testing.assert_allclose(index.intrinsics[i], seen.intrinsics[0], rtol=1e-6)
        facts = {name: int(columns[name][i]) for name in ("gender", "kid", "valid", "person", "group")}
        assert facts == {"gender": (1, 2, 1)[p], "kid": p == 1, "valid": p < 2, "person": p, "group": k != 1}
        assert columns["occlusion"][i] == (0, 10, 95)[p]
        if p == 1:  # a child
            assert np.isnan(columns["betas"][i]).all()
            assert np.isnan(columns["transl"][i]).all()
            np.testing.assert_allclose(columns["pose"][i, 0], people.camera_orient(0, p)[k], atol=1e-5)
            continue
        np.testing.assert_allclose(columns["transl"][i], people.camera_transl(0, p)[k], atol=1e-5)
        betas, pose, transl = (torch.from_numpy(columns[n][i : i + 1]).double() for n in ("betas", "pose", "transl"))
        posed = people.body(p)(betas, pose[:, 1:], pose[:, 0], transl).joints[0, :22].numpy()
        np.testing.assert_allclose(posed, columns["native3d"][i, :22, :3], atol=1e-5)
        if i % 4 == 0:
            np.testing.assert_array_equal(reader.read_image(i), seen.picture(0, k))
    assert (index.people == 3).all()


def test_only_valid_persons_unless_everyone_is_asked_for(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        reader = read(root)
    assert len(reader.index) == 6
    assert (reader.index.people == 3).all()
    assert "left out 3 persons who are not valid" in caplog.text
    assert reader.index.extras["valid"].all()


def test_the_index_is_reused_and_follows_the_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(root)
    scanned: list[str] = []
    scan = AgoraReader.scan
    monkeypatch.setattr(AgoraReader, "scan", lambda self, path: scanned.append(path.stem) or scan(self, path))
    assert len(read(root).index) == 6
    assert scanned == []
    rewrite(root, lambda frame: frame.iloc[1:])
    assert len(read(root).index) == 4
    assert scanned == ["validation_0_withjv"]


def test_large_pictures_and_small_frames(root: Path) -> None:
    small = read(root)
    shutil.copytree(root / "validation", root / "3840x2160" / "validation")
    large = read(root, size="3840x2160")
    np.testing.assert_allclose(large.index.joints2d[..., :2], 3 * small.index.joints2d[..., :2], rtol=1e-5)
    np.testing.assert_allclose(large.index.intrinsics[:, 0], 3 * small.index.intrinsics[:, 0], rtol=1e-6)
    assert large.pictures[0] == "3840x2160/validation/" + agora.NAMES[0].format(split="validation")

    def shrink(frame: pd.DataFrame) -> None:
        """What agora_evaluation's README makes for 1280x720."""
        frame["gt_joints_2d"] = pd.Series([[j / 3 for j in row] for row in frame["gt_joints_2d"]], dtype=object)
        frame["imgPath"] = pd.Series([n.replace(".png", "_1280x720.png") for n in frame["imgPath"]], dtype=object)

    rewrite(root, shrink)
    again = read(root)
    np.testing.assert_allclose(again.index.joints2d, small.index.joints2d, atol=1e-3)
    assert list(again.index.ids) == list(small.index.ids)
    with pytest.raises(PosesynError, match="agora has no pictures of '640x360'; known: 1280x720, 3840x2160"):
        read(root, size="640x360")


def test_without_the_scans_there_are_joints_alone(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(root / "smplx_gt")
    with caplog.at_level(logging.WARNING):
        reader = read(root)
    assert caplog.text.count("no parameters of bodies, only joints") == 1
    assert "pose" not in reader.index.extras
    assert (reader.index.joints3d[:, :22, 3] == 1).all()


def test_a_scan_that_is_missing_is_told(root: Path) -> None:
    file = next((root / "smplx_gt").glob("*/rp_1_0_*.pkl"))
    file.unlink()
    reader = read(root)
    assert np.isnan(reader.index.extras["pose"]).any((1, 2)).tolist() == [False, False, True, False, False, False]
    assert any("1 scans without a fit" in line for line in reader.skipped.lines())


def test_pictures_without_persons(root: Path) -> None:
    lists = ["X", "Y", "Z", "Yaw", "gender", "kid", "occlusion", "isValid", "gt_path_smplx", "gt_joints_2d",
             "gt_joints_3d"]  # fmt: skip

    def nobody(frame: pd.DataFrame) -> None:
        for name in lists:
            frame[name] = pd.Series([[], *frame[name][1:]], dtype=object)

    rewrite(root, nobody)
    assert len(read(root).index) == 4


def test_folders_that_are_missing(root: Path) -> None:
    shutil.move(root / "validation_SMPLX" / "SMPLX", root / "SMPLX")
    assert len(read(root).index) == 6
    with pytest.raises(PosesynError, match=r"no labels of agora \(train\) below .*agora\.is\.tue\.mpg\.de"):
        read(root, "train")
    shutil.rmtree(root / "validation")
    with pytest.raises(PosesynError, match=r"no pictures of validation_0_withjv\.pkl in .*validation"):
        read(root)
    with pytest.raises(PosesynError, match=r"no folder .*nowhere for agora"):
        read(root / "nowhere")


def drop_column(frame: pd.DataFrame) -> Any:
    return frame.drop(columns="gt_joints_3d")


def smpl_joints(frame: pd.DataFrame) -> None:
    for name in ("gt_joints_2d", "gt_joints_3d"):
        frame[name] = pd.Series([[j[:45] for j in row] for row in frame[name]], dtype=object)


def too_few(frame: pd.DataFrame) -> None:
    frame["Yaw"] = pd.Series([row[:1] for row in frame["Yaw"]], dtype=object)


def outside(frame: pd.DataFrame) -> None:
    frame["imgPath"] = pd.Series(["../../x.png"] * 3, dtype=object)


def outside_scan(frame: pd.DataFrame) -> None:
    frame["gt_path_smplx"] = pd.Series([["../../x.obj"] * 3] * 3, dtype=object)


def words(frame: pd.DataFrame) -> None:
    frame["gt_joints_2d"] = pd.Series([[np.full((127, 2), "x")] * 3] * 3, dtype=object)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (drop_column, "has no 'gt_joints_3d'"),
        (smpl_joints, "45 joints, SMPL-X has 55"),
        (too_few, "Yaw has 1 persons, isValid 3"),
        (outside, "not below the data set's root"),
        (outside_scan, "not below the data set's root"),
        (words, "gt_joints_2d does not hold numbers"),
    ],
)
def test_wrong_frames_are_told(root: Path, change: Callable[[pd.DataFrame], Any], told: str) -> None:
    rewrite(root, change)
    with pytest.raises(PosesynError, match=told):
        read(root)


class Hostile:
    def __reduce__(self) -> tuple[Any, Any]:
        return print, ("it ran",)


def test_damaged_and_hostile_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = next((root / "smplx_gt").glob("*/*.pkl"))
    whole = fit.read_bytes()
    fit.write_bytes(pickle.dumps({"betas": Hostile()}))
    with pytest.raises(PosesynError, match=r"wants to run builtins\.print"):
        read(root)
    fit.write_bytes(whole)
    frame = labels(root).read_bytes()
    labels(root).write_bytes(pickle.dumps([Hostile()]))
    with pytest.raises(PosesynError, match=r"wants to run builtins\.print"):
        read(root)
    assert "it ran" not in capsys.readouterr().out
    labels(root).write_bytes(frame[: len(frame) // 2])
    with pytest.raises(PosesynError, match="damaged or no pickle"):
        read(root)
