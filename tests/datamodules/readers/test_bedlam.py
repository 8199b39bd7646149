"""BEDLAM: labels become the truth before the camera, close-ups are turned; what is missing or damaged is told."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.readers import READERS
from datamodules.readers.base import make_reader
from datamodules.readers.bedlam import BedlamReader
from human.body_folders import VARIABLE
from human.errors import PosesynError
from tests.datasets import bedlam
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")


@pytest.fixture(scope="module")
def scenes(body_files: Path) -> dict[str, People]:
    return {
        bedlam.SCENE: make_people(("neutral",) * 2, 5, kind="smplx", seed=1),
        bedlam.CLOSEUP: make_people(("neutral",), 5, size=(180, 320), kind="smplx", seed=2),
    }


@pytest.fixture(scope="module")
def written(scenes: dict[str, People], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bedlam")
    for scene, people in scenes.items():
        bedlam.write(root, people, scene)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(written, tmp_path / "bedlam"))


def read(root: Path, split: str = "all", **options: Any) -> BedlamReader:
    return BedlamReader(root, split, cache=root.parent / "cache", **options)


def labels(root: Path, scene: str = bedlam.SCENE) -> Path:
    return root / "training_labels" / "all_npz_12_training" / f"{scene}.npz"


def rewrite(path: Path, **changes: Any) -> None:
    with np.load(path) as held:
        content = {key: held[key] for key in held.files}
    content |= changes
    np.savez(path, **{k: v for k, v in content.items() if v is not None})


def test_labels_are_the_truth_before_the_camera(root: Path, scenes: dict[str, People]) -> None:
    reader = read(root)
    assert READERS.get("bedlam") is BedlamReader
    index = reader.index.validate()
    rows = [(s, p, f) for s in sorted(scenes) for p in range(len(scenes[s].genders)) for f in range(5)]
    assert list(index.ids) == [f"bedlam/{s}/seq_000004/{5 * f:04d}/{p}" for s, p, f in rows]
    for i, (scene, p, f) in enumerate(rows):
        people = scenes[scene]
        np.testing.assert_allclose(index.joints3d[i, :24, :3], people.joints(0, p)[f, :24], atol=1e-5)
        np.testing.assert_allclose(index.joints2d[i, :24, :2], people.pixels(0, p)[f, :24], atol=1e-4)
        assert (index.joints2d[i, :24, 2] == 1).all()
        np.testing.assert_allclose(index.intrinsics[i], people.intrinsics[0], rtol=1e-6)
        columns = {name: np.array(column[i : i + 1]) for name, column in index.extras.items()}
        np.testing.assert_allclose(columns["transl"][0], people.camera_transl(0, p)[f], atol=1e-5)
        assert (columns["sequence"], columns["frame"], columns["person"]) == (sorted(scenes).index(scene), 5 * f, p)
        betas, pose, transl = (torch.from_numpy(columns[n]).double() for n in ("betas", "pose", "transl"))
        joints = people.body(p)(betas[:, :10], pose[:, 1:], pose[:, 0], transl).joints[0, :24].numpy()
        np.testing.assert_allclose(joints, columns["native3d"][0, :, :3], atol=1e-5)
        tight = people.pixels(0, p)[f, :22]
        side = np.ptp(tight, axis=0).max()
        np.testing.assert_allclose(index.bbox_xyxy[i, 2:] - index.bbox_xyxy[i, :2], side, rtol=1e-4)
        np.testing.assert_allclose(columns["crop"][0, 2], 1.2 * side, rtol=1e-4)
        np.testing.assert_array_equal(reader.read_image(i), people.picture(0, f))  # close-ups are turned upright
    assert index.people.tolist() == [2] * 10 + [1] * 5
    assert not index.extras["gender"].any()  # shapes are the neutral body's, whatever the subject


def test_splits(root: Path) -> None:
    parts = {split: list(read(root, split).index.ids) for split in ("all", "train", "validation")}
    assert (len(parts["train"]), len(parts["validation"])) == (8 + 4, 2 + 1)
    assert sorted(parts["train"] + parts["validation"]) == sorted(parts["all"])
    assert parts["validation"][0].endswith("suburb_d_6fps/seq_000004/0015/1")  # the end of the file


def test_the_index_is_reused_and_follows_the_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(root)
    scanned: list[str] = []
    scan = BedlamReader.scan
    monkeypatch.setattr(BedlamReader, "scan", lambda self, path: scanned.append(path.stem) or scan(self, path))
    assert len(read(root).index) == 15
    assert scanned == []
    rewrite(labels(root), sub=np.array(["one"] * 5 + ["other"] * 5))
    assert len(read(root).index) == 15
    assert scanned == [bedlam.SCENE, bedlam.CLOSEUP]


def test_one_subject_twice_in_a_picture_is_two_persons(root: Path) -> None:
    rewrite(labels(root), sub=np.array(["same"] * 10))
    names = read(root, scenes=[bedlam.SCENE]).index.ids
    assert [n.rpartition("/")[2] for n in names] == ["0"] * 5 + ["1"] * 5


def test_scenes_without_pictures_are_left_out_and_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(root / "training_images" / bedlam.CLOSEUP)
    with caplog.at_level(logging.WARNING):
        reader = read(root)
    assert len(reader.index) == 10
    assert f"left out 1 scenes whose pictures are not there (as {bedlam.CLOSEUP})" in caplog.text
    with pytest.raises(PosesynError, match=rf"no pictures of {bedlam.CLOSEUP} in .*fetch_training_data"):
        read(root, scenes=[bedlam.CLOSEUP])
    shutil.rmtree(root / "training_images")
    with pytest.raises(PosesynError, match=r"no labels of bedlam \(all\) below .*fetch_training_data"):
        read(root)
    assert BedlamReader.list_labels(root, "all") == []


def test_chosen_scenes(root: Path) -> None:
    shutil.copy(labels(root), labels(root, "agora-bfh"))
    (root / "training_images" / "agora-bfh" / "png").mkdir(parents=True)
    made = make_reader("bedlam", {"root": root, "split": "all", "cache": root / "c", "scenes": [bedlam.CLOSEUP]})
    assert len(made.index) == 5
    assert len(read(root).index) == 15  # without AGORA
    (root / "training_images" / "x" / "png").mkdir(parents=True)
    with pytest.raises(PosesynError, match=r"no label file .*x\.npz"):
        read(root, scenes=["x"])
    with pytest.raises(PosesynError, match="not below the data set's root"):
        read(root, scenes=["../../x"])


def test_without_smplx_there_are_2d_joints_and_parameters(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_body = read(root)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "empty"))
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "none"))
    with caplog.at_level(logging.WARNING):
        reader = read(root)
    assert caplog.text.count("no 3D joints, only parameters") == 1
    assert reader.folder != with_body.folder
    assert (reader.index.joints3d[..., 3] == 0).all()
    np.testing.assert_array_equal(reader.index.joints2d, with_body.index.joints2d)
    np.testing.assert_array_equal(reader.index.extras["pose"], with_body.index.extras["pose"])


def test_persons_without_labels_are_left_out(root: Path) -> None:
    with np.load(labels(root)) as held:
        keypoints, scale, pose = held["gtkps"].copy(), held["scale"].copy(), held["pose_cam"].copy()
    keypoints[0] = np.nan
    keypoints[1, 3] = np.nan
    scale[2] = -1 / 200
    pose[4, 7] = np.nan
    rewrite(labels(root), gtkps=keypoints, scale=scale, pose_cam=pose)
    reader = read(root, scenes=[bedlam.SCENE])
    assert [n.split("/")[3:] for n in reader.index.ids[:2]] == [["0005", "0"], ["0015", "0"]]
    assert len(reader.index) == 7
    assert reader.index.joints2d[0, 3].tolist() == [0, 0, 0]
    assert sum("persons" in line for line in reader.skipped.lines()) == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cam_ext": None}, "has no 'cam_ext'"),
        ({"pose_cam": np.zeros((10, 66))}, r"pose_cam has the shape \(10, 66\)"),
        ({"gtkps": np.zeros((10, 24, 3))}, r"gtkps has the shape \(10, 24, 3\)"),
        ({"shape": np.zeros((10, 16))}, "shape has 16 numbers"),
        ({"hand_det_conf": np.ones((10, 2))}, "is BEDLAM2's"),
        ({"imgname": np.array(["../../secret_0001.png"] * 10)}, "not below the data set's root"),
        ({"imgname": np.array(["seq_000004/other.png"] * 10)}, "names the picture 'seq_000004/other.png'"),
    ],
)
def test_wrong_files_are_told(root: Path, changes: dict[str, Any], told: str) -> None:
    rewrite(labels(root), **changes)
    with pytest.raises(PosesynError, match=told):
        read(root, scenes=[bedlam.SCENE])


class Hostile:
    def __reduce__(self) -> tuple[Any, Any]:
        return print, ("it ran",)


def test_damaged_and_hostile_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(labels(root), sub=np.array([Hostile()] * 10, object))
    with pytest.raises(PosesynError, match=r"wants to run builtins\.print"):
        read(root)
    assert "it ran" not in capsys.readouterr().out
    whole = labels(root).read_bytes()
    labels(root).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PosesynError, match=rf"{bedlam.SCENE}\.npz"):
        read(root)
    labels(root).write_bytes(b"")
    with pytest.raises(PosesynError, match="is empty"):
        read(root)
    with pytest.raises(PosesynError, match=r"no folder .*nowhere for bedlam"):
        read(root / "nowhere")
