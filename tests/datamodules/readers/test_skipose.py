"""Ski-Pose PTZ: read back to the truth it was written from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datamodules.readers.base import decoded, make_reader
from datamodules.readers.skipose import SkiPoseReader
from human.errors import PosesynError
from tests.datasets import skipose
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("neutral", "neutral"), frames=2, cameras=2, size=(256, 256), moving_camera=True)


@pytest.fixture(scope="module")
def written(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("skipose")
    skipose.write(root, people)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(written, tmp_path / "skipose"))


def open_it(root: Path, tmp_path: Path, **options: Any) -> SkiPoseReader:
    reader = make_reader("skipose", {"root": root, "cache": tmp_path / "cache", "split": "test", **options})
    assert isinstance(reader, SkiPoseReader)
    return reader


def test_it_reads_back_to_the_truth(written: Path, people: People, tmp_path: Path) -> None:
    reader = open_it(written, tmp_path)
    index = reader.index
    assert len(index) == 8
    assert index.ids[3] == "skipose/test/seq_000/cam_01/000001"
    assert decoded(index.extras["activity"]) == ["skiing"] * 8
    for i, (p, c, f) in enumerate(skipose.rows(people)):
        truth = skipose.joints(people, c, p)[f]
        solid = index.extras["native3d"][i, :, :3]
        assert np.abs((solid - solid[0]) - (truth - truth[0])).max() < 1e-5
        assert np.abs(solid - truth).max() < 1e-5  # where the skier is, was solved for
        assert np.abs(index.extras["native2d"][i, :, :2] - people.project(c, truth[None])[0]).max() < 1e-4
        assert np.abs(index.intrinsics[i] - people.intrinsics[c]).max() < 1e-4
        assert np.abs(index.extras["camera"][i] - people.world_to_camera[c, f]).max() < 1e-6
        extras = index.extras
        assert (extras["sequence"][i], extras["frame"][i], extras["person"][i]) == (100 * p + c, f, p + 1)
        assert np.array_equal(reader.read_image(i), people.picture(c, f))  # png
    assert len(open_it(written, tmp_path, first=3).index) == 3


def test_without_cameras_the_joints_stay_relative(people: People, tmp_path: Path) -> None:
    skipose.write(tmp_path / "root", people, cameras=False)
    index = open_it(tmp_path / "root", tmp_path).index
    assert np.isnan(index.intrinsics).all()
    assert np.abs(index.extras["native3d"][:, 0, :3]).max() == 0


def test_a_camera_that_does_not_fit_is_not_believed(root: Path, tmp_path: Path) -> None:
    with h5py.File(root / "test" / "labels.h5", "r+") as file:
        file["3D"][1] = file["3D"][1][::-1]  # not where the picture shows it
    index = open_it(root, tmp_path).index
    assert np.isnan(index.intrinsics[1]).all()
    assert np.isfinite(index.intrinsics[[0, 2, 3]]).all()
    assert np.abs(index.extras["native3d"][1, :, 2]).max() < 2


def test_the_index_is_made_once_and_again_when_labels_change(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_it(root, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(SkiPoseReader, "scan", lambda *_: pytest.fail("scanned again"))
        assert np.array_equal(open_it(root, tmp_path).index.joints3d, first.index.joints3d)
    with h5py.File(root / "test" / "labels.h5", "r+") as file:
        file["subj"][:] = 5
    assert set(open_it(root, tmp_path).index.extras["person"]) == {5}


def test_what_is_missing_or_damaged_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match=r"no label file .*train/labels.h5"):
        open_it(root, tmp_path, split="train")
    with pytest.raises(PosesynError, match="first=0"):
        open_it(root, tmp_path, first=0)
    with pytest.raises(PosesynError, match="no folder"):
        open_it(tmp_path / "nowhere", tmp_path)
    labels = root / "test" / "labels.h5"
    content = labels.read_bytes()
    for cut in (0, 100, len(content) // 2):
        labels.write_bytes(content[:cut])
        with pytest.raises(PosesynError, match=r"test/labels.h5 is (empty|damaged)"):
            open_it(root, tmp_path)
    labels.write_bytes(content)
    with h5py.File(labels, "r+") as file:
        del file["3D"]
        file["3D"] = np.zeros((8, 50))
    with pytest.raises(PosesynError, match=r"3D has the shape \(8, 50\)"):
        open_it(root, tmp_path)
    with h5py.File(labels, "r+") as file:
        del file["3D"]
    with pytest.raises(PosesynError, match="has no '3D'"):
        open_it(root, tmp_path)
    labels.write_bytes(content)
    shutil.rmtree(root / "test" / "seq_001" / "cam_01")
    with pytest.raises(PosesynError, match=r"no pictures at .*test/seq_001/cam_01.*epfl"):
        open_it(root, tmp_path)


def test_a_skier_without_numbers_is_left_out(root: Path, tmp_path: Path) -> None:
    with h5py.File(root / "test" / "labels.h5", "r+") as file:
        file["2D"][2] = np.nan
    reader = open_it(root, tmp_path)
    assert len(reader.index) == 7
    assert "skipose/test/seq_000/cam_01/000000" not in list(reader.index.ids)
