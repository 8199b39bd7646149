"""MPI-INF-3DHP: training and test set, read back to the truth they were written from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from datamodules.readers.base import make_reader
from datamodules.readers.mpi_inf_3dhp import _STUDIO, MpiInf3dhpReader, read_calibration
from human.errors import PosesynError
from human.safe_pickle import ArrayFile
from tests.datasets import mpi_inf_3dhp as fixture
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("neutral", "neutral"), frames=2, cameras=2, size=(160, 128))


@pytest.fixture(scope="module")
def written(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mpi_inf_3dhp")
    fixture.write_train(root, people)
    fixture.write_test(root, people)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(written, tmp_path / "mpi_inf_3dhp"))


def open_it(root: Path, tmp_path: Path, **options: Any) -> MpiInf3dhpReader:
    reader = make_reader("mpi_inf_3dhp", {"root": root, "cache": tmp_path / "cache", **options})
    assert isinstance(reader, MpiInf3dhpReader)
    return reader


TRAIN: dict[str, Any] = {"split": "train", "subjects": [1], "cameras": [0, 1]}


def test_training_reads_back_to_the_truth(written: Path, people: People, tmp_path: Path) -> None:
    reader = open_it(written, tmp_path, **TRAIN)
    index = reader.index
    assert len(index) == 2 * 2 * 2
    assert index.ids[1] == "mpi_inf_3dhp/S1/Seq1/video_0/000005"
    for i, name in enumerate(index.ids):
        _, _, sequence, video, frame = name.split("/")
        k, c, f = int(sequence[3:]) - 1, int(video[6:]), int(frame) // 5
        truth = fixture.joints28(people, c, k)[f]
        assert np.abs(index.extras["native3d"][i, :, :3] - truth).max() < 1e-5
        assert np.abs(index.extras["native2d"][i, :, :2] - people.project(c, truth)).max() < 1e-4
        assert np.abs(index.intrinsics[i] - people.intrinsics[c]).max() < 1e-4
        assert np.abs(index.extras["camera"][i] - people.world_to_camera[c, 0]).max() < 1e-6
        assert index.extras["sequence"][i] == 1000 + 100 * (k + 1) + c
        assert np.abs(reader.read_image(i).astype(int) - people.picture(c, f)).mean() < 8
    assert len(MpiInf3dhpReader.list_labels(written, "train")) == 2
    assert len(MpiInf3dhpReader.list_labels(written, "test")) == 6
    wrist = index.joints3d[:, 20, 3]  # POSE32 has it
    assert (wrist == 1).all()
    assert len(open_it(written, tmp_path, **TRAIN, every=2).index) == 2 * 2 * 5


def test_test_set_reads_back_to_the_truth(written: Path, people: People, tmp_path: Path) -> None:
    reader = open_it(written, tmp_path, split="test")
    index = reader.index
    assert reader.skeleton == "mpi_inf_3dhp17"
    assert len(index) == 6 * 2
    for i, name in enumerate(index.ids):
        _, number, frame = name.split("/")
        k, f = (int(number[2:]) - 1) % 2, int(frame) - 1
        truth = fixture.joints17(people, 0, k)[f]
        assert np.abs(index.extras["native3d"][i, :, :3] - truth).max() < 1e-5
        assert np.abs(index.extras["universal3d"][i, :, :3] - fixture.UNIVERSAL * truth).max() < 1e-5
        assert np.abs(index.extras["native2d"][i, :, :2] - people.project(0, truth)).max() < 1e-4
        assert (index.extras["sequence"][i], index.extras["frame"][i]) == (int(number[2:]), f)
        assert index.extras["group"][i] == int(number[2:])
        assert (index.extras["distortion"][i] != 0).any() == (int(number[2:]) > 4)
        assert np.abs(reader.read_image(i).astype(int) - people.picture(0, f)).mean() < 6


def test_only_valid_frames_and_joints_in_the_picture(people: People, tmp_path: Path) -> None:
    fixture.write_test(tmp_path / "root", people, sets=(5,), valid=np.array([0, 1]))
    reader = open_it(tmp_path / "root", tmp_path, split="test", subjects=[5])
    assert list(reader.index.ids) == ["mpi_inf_3dhp/TS5/000002"]
    import h5py

    with h5py.File(tmp_path / "root/mpi_inf_3dhp_test_set/TS5/annot_data.mat", "r+") as file:
        file["annot2"][1, 0, 4] = [1950, 20]  # 2048 wide were TS1
    reader = open_it(tmp_path / "root", tmp_path, split="test", subjects=[5])
    assert reader.index.extras["native2d"][0, :, 2].sum() == 16
    assert reader.index.extras["native2d"][0, 4].tolist() == [0, 0, 0]
    assert reader.index.extras["native3d"][0, :, 3].sum() == 17


def test_cut_pictures_come_before_the_video(root: Path, people: People, tmp_path: Path) -> None:
    folder = root / "S1" / "Seq1" / "imageFrames" / "video_0"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "frame_000006.jpg"), people.picture(0, 1)[..., ::-1])
    reader = open_it(root, tmp_path, **TRAIN)
    first = [name for name in reader.index.ids if "Seq1/video_0" in name]
    assert first == ["mpi_inf_3dhp/S1/Seq1/video_0/000005"]
    assert np.abs(reader.read_image(0).astype(int) - people.picture(0, 1)).mean() < 6


def test_the_index_is_made_once_and_again_when_labels_change(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_it(root, tmp_path, **TRAIN)
    with monkeypatch.context() as patch:
        patch.setattr(MpiInf3dhpReader, "scan", lambda *_: pytest.fail("scanned again"))
        assert np.array_equal(open_it(root, tmp_path, **TRAIN).index.joints3d, first.index.joints3d)
    shutil.copy(root / "S1/Seq1/annot.mat", root / "S1/Seq2/annot.mat")
    changed = open_it(root, tmp_path, **TRAIN)
    assert not np.array_equal(changed.index.joints3d, first.index.joints3d)


def test_what_is_missing_or_damaged_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match=r"no label file .*S2/Seq1/annot.mat"):
        open_it(root, tmp_path, split="train")
    for options in ({"subjects": [9]}, {"cameras": [14]}, {"every": 0}, {"split": "val"}):
        with pytest.raises(PosesynError, match=r"no subject 9|no camera 14|every=0|no split 'val'"):
            open_it(root, tmp_path, **{**TRAIN, **options})
    labels = root / "S1" / "Seq1" / "annot.mat"
    content = labels.read_bytes()
    for cut in (0, 100, len(content) // 2):
        labels.write_bytes(content[:cut])
        with pytest.raises(PosesynError, match=r"Seq1/annot.mat (is (empty|damaged)|has no 'annot)"):
            open_it(root, tmp_path, **TRAIN)
    labels.write_bytes(content)
    shutil.move(root / "S1/Seq1/imageSequence/video_1.avi", root / "elsewhere.avi")
    with pytest.raises(PosesynError, match=r"video_1.avi is missing"):
        open_it(root, tmp_path, **TRAIN)
    shutil.move(root / "elsewhere.avi", root / "S1/Seq1/imageSequence/video_1.avi")
    (root / "S1/Seq1/camera.calibration").write_text("name 0\n  intrinsic 1 2 3\n")
    with pytest.raises(PosesynError, match=r"camera.calibration is damaged"):
        open_it(root, tmp_path, **TRAIN)
    cells = {k: v for k, v in loadmat(str(labels)).items() if k.startswith("annot")}
    savemat(labels, {**cells, "annot2": np.zeros((3, 56))})
    (root / "S1/Seq1/camera.calibration").write_text((root / "S1/Seq2/camera.calibration").read_text())
    with pytest.raises(PosesynError, match="annot2 is no list of 14 cameras"):
        open_it(root, tmp_path, **TRAIN)


def test_half_a_test_set_is_named(root: Path, tmp_path: Path) -> None:
    base = root / "mpi_inf_3dhp_test_set"
    shutil.rmtree(base / "TS3" / "imageSequence")
    with pytest.raises(PosesynError, match=r"no pictures at .*TS3/imageSequence"):
        open_it(root, tmp_path, split="test")
    labels = base / "TS1" / "annot_data.mat"
    labels.write_bytes(labels.read_bytes()[:600])
    with pytest.raises(PosesynError, match=r"TS1/annot_data.mat is damaged"):
        open_it(root, tmp_path, split="test", subjects=[1])
    (base / "TS2" / "annot_data.mat").unlink()
    with pytest.raises(PosesynError, match=r"no label file .*TS2/annot_data.mat"):
        open_it(root, tmp_path, split="test", subjects=[2])
    assert len(open_it(root, tmp_path, split="test", subjects=[4, 5]).index) == 4  # the rest is of use


def test_the_test_cameras_meet_real_labels(shared_data: Path) -> None:
    """TS1's labels in the picture are projections of those in space, but for hips and spine."""
    labels = ArrayFile(shared_data / "samples" / "mpi_inf_3dhp" / "test_3dhp_test.npz")
    points, pixels = labels["S"][0, :, :3], labels["part"][0, :, :2]
    flat = points @ _STUDIO.T
    error = np.linalg.norm(flat[:, :2] / flat[:, 2:] - pixels, axis=1)
    assert sorted(np.flatnonzero(error > 0.02)) == [8, 11, 15]
    assert error.max() < 1.5


def test_calibrations_are_read_to_the_last_digit(people: People, tmp_path: Path) -> None:
    (tmp_path / "camera.calibration").write_text(fixture.calibration(people))
    cameras = read_calibration(tmp_path / "camera.calibration")
    assert sorted(cameras) == list(range(14))
    assert np.allclose(cameras[1][0], people.intrinsics[1], atol=0)
    assert np.allclose(cameras[1][1], people.world_to_camera[1, 0], atol=1e-15)
