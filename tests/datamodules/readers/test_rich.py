"""RICH: labels become the truth before each camera; what is missing, damaged or hostile is told."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from datamodules.readers import READERS
from datamodules.readers.rich import FEMALE, RichReader
from human.body_folders import VARIABLE
from human.errors import PosesynError
from tests.datasets import rich
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")
SEQUENCE = "Gym_002_012_lunge1"


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(("male", "female"), frames=2, cameras=2, kind="smplx", seed=3)


@pytest.fixture(scope="module")
def written(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rich")
    assert rich.write(root, people) == SEQUENCE
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(written, tmp_path / "rich"))


def read(root: Path, split: str = "test") -> RichReader:
    return RichReader(root, split, cache=root.parent / "cache")


def body_file(root: Path, frame: int = 1, subject: int = 2) -> Path:
    return root / "bodies" / "test" / SEQUENCE / f"{frame:05d}" / f"{subject:03d}.pkl"


def test_labels_are_the_truth_before_each_camera(root: Path, people: People) -> None:
    reader = read(root)
    assert READERS.get("rich") is RichReader
    index = reader.index.validate()
    rows = [(c, f, p) for c in range(2) for f in range(2) for p in range(2)]
    assert list(index.ids) == [f"rich/{SEQUENCE}/cam_{c:02d}/{f + 1:05d}/{(2, 12)[p]:03d}" for c, f, p in rows]
    columns = {name: np.array(column) for name, column in index.extras.items()}
    for i, (c, f, p) in enumerate(rows):
        truth = people.joints(c, p)[f, :22]
        np.testing.assert_allclose(index.joints3d[i, :22, :3], truth, atol=1e-5)
        np.testing.assert_allclose(index.joints2d[i, :22, :2], people.pixels(c, p)[f, :22], atol=2e-4)
        np.testing.assert_allclose(index.intrinsics[i], people.intrinsics[c], rtol=1e-6)
        np.testing.assert_allclose(columns["transl"][i], people.camera_transl(c, p)[f], atol=1e-5)
        facts = {name: int(columns[name][i]) for name in ("gender", "group", "frame", "person", "sequence")}
        assert facts == {"gender": p + 1, "group": c, "frame": f + 1, "person": (2, 12)[p], "sequence": c}
        betas, pose, transl = (torch.from_numpy(columns[n][i : i + 1]).double() for n in ("betas", "pose", "transl"))
        joints = people.body(p)(betas, pose[:, 1:], pose[:, 0], transl).joints[0, :24].numpy()
        np.testing.assert_allclose(joints, columns["native3d"][i, :, :3], atol=1e-5)
        picture = reader.read_image(i)
        np.testing.assert_array_equal(picture, people.picture(c, f))
    assert (index.people == 2).all()


def test_subjects_have_the_genders_of_the_published_table(shared_data: Path) -> None:
    table = json.loads((shared_data / "samples" / "rich_meta" / "gender.json").read_text())
    assert {int(n) for n, gender in table.items() if gender == "female"} == FEMALE
    assert len(table) == 22


def test_sequence_names_of_the_published_table_have_a_scene(shared_data: Path) -> None:
    """The scene and the subjects that the reader and the protocols take from a sequence's name."""
    meta = shared_data / "samples" / "rich_meta" / "meta"
    count = 0
    for split in RichReader.splits:
        for line in (meta / f"{split}.txt").read_text().splitlines()[1:]:
            name, scene, _, subject, _, gender, *_ = line.split()
            assert name.split("_")[0] == scene
            assert subject.split(",")[0].split("_")[0] in name.split("_")[1:-1]
            assert (int(subject.split(",")[0].split("_")[0]) in FEMALE) == (gender.split(",")[0] == "female")
            count += 1
    assert count == 53 + 28 + 64


@pytest.mark.parametrize("extension", ["png", "jpeg"])
def test_other_kinds_of_pictures(people: People, tmp_path: Path, extension: str) -> None:
    rich.write(tmp_path / "rich", people, "val", "LectureHall", extension=extension)
    reader = read(tmp_path / "rich", "val")
    assert reader.pictures[0].endswith(f"cam_00/00001_00.{extension}")
    assert reader.read_image(0).shape == (240, 320, 3)


def test_moving_cameras_have_no_labels(root: Path, caplog: Any) -> None:
    shutil.copytree(root / "images" / "test" / SEQUENCE / "cam_01", root / "images" / "test" / SEQUENCE / "cam_07")
    assert len(read(root).index) == 8
    assert "2 pictures of moving cameras, which have no calibration" in caplog.text


def test_persons_outside_the_picture_are_left_out(root: Path, people: People, caplog: Any) -> None:
    path = body_file(root, 2, 12)
    labels = pickle.loads(path.read_bytes())
    labels["transl"] = labels["transl"] + np.float32([[40, 0, 0]])
    path.write_bytes(pickle.dumps(labels))
    ids = list(read(root).index.ids)
    assert len(ids) == 6
    assert not any(name.endswith("00002/012") for name in ids)
    assert "2 persons outside the picture" in caplog.text


def test_frames_without_a_picture_are_counted(root: Path, caplog: Any) -> None:
    (root / "images" / "test" / SEQUENCE / "cam_01" / "00002_01.bmp").unlink()
    assert len(read(root).index) == 6
    assert "2 persons in frames without a picture (as Gym_002_012_lunge1/cam_01/00002)" in caplog.text


def test_a_damaged_picture_does_not_stop_the_index(root: Path) -> None:
    picture = root / "images" / "test" / SEQUENCE / "cam_00" / "00001_00.bmp"
    picture.write_bytes(b"BM")
    reader = read(root)
    assert len(reader.index) == 8
    with pytest.raises(PosesynError, match=r"00001_00\.bmp: it is damaged"):
        reader.read_image(0)
    for other in picture.parent.iterdir():
        other.write_bytes(b"BM")
    shutil.rmtree(root.parent / "cache")
    with pytest.raises(PosesynError, match=r"cannot read any picture in .*cam_00"):
        read(root)


def test_the_index_is_used_again_until_a_label_file_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(root)
    with monkeypatch.context() as patch:
        patch.setattr(RichReader, "scan", lambda *_: pytest.fail("scanned again"))
        assert read(root).folder == first.folder
    body_file(root, 2, 12).unlink()
    assert len(read(root).index) == 6
    calibration = root / "scan_calibration" / "Gym" / "calibration" / "000.xml"
    eye = np.eye(4)
    eye[2, 3] = 1.0
    calibration.write_text(rich.calibration_xml(eye, np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])))
    moved = read(root).index
    np.testing.assert_allclose(moved.joints3d[0, :24, 2], first.index.joints3d[0, :24, 2] + 1, atol=1e-5)


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(PosesynError, match=r"no labels of rich \(train\).*rich\.is\.tue\.mpg\.de"):
        read(root, "train")
    shutil.move(root / "images" / "test" / SEQUENCE, root / "images" / "test" / "other")
    with pytest.raises(PosesynError, match=rf"no pictures of {SEQUENCE} in .*unpack RICH's images"):
        read(root)
    shutil.rmtree(root / "scan_calibration" / "Gym")
    with pytest.raises(PosesynError, match=r"no cameras of Gym in .*calibration: unpack"):
        read(root)


def test_without_body_files_the_error_says_where_to_get_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(PosesynError, match=r"'smplx_(fe)?male' needs the file"):
        read(root)


def test_damaged_and_hostile_files_are_refused(root: Path, tmp_path: Path) -> None:
    path, calibration = body_file(root), root / "scan_calibration" / "Gym" / "calibration" / "001.xml"
    whole, camera = path.read_bytes(), calibration.read_text()

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for content, message in (
        (whole[: len(whole) // 2], r"002\.pkl is damaged"),
        (pickle.dumps({"betas": Bomb()}), r"002\.pkl wants to run"),
        (pickle.dumps({"betas": np.zeros((1, 10))}), r"002\.pkl has no 'global_orient'"),
        (pickle.dumps({k: np.zeros((1, 7)) for k in pickle.loads(whole)}), r"002\.pkl: betas has the shape"),
    ):
        path.write_bytes(content)
        with pytest.raises(PosesynError, match=message):
            read(root)
    assert not (tmp_path / "ran").exists()
    path.write_bytes(whole)
    for text, message in (
        (camera[: len(camera) // 2], r"001\.xml is damaged"),
        (camera.replace("Intrinsics", "Extrinsics"), r"001\.xml: Intrinsics does not hold 3 x 3"),
        (camera.replace("e+00", "e+00 nan", 1), r"001\.xml: CameraMatrix does not hold"),
        (camera.replace("<opencv", '<!DOCTYPE a [<!ENTITY e "1">]><opencv', 1), r"001\.xml declares a DOCTYPE"),
    ):
        calibration.write_text(text)
        with pytest.raises(PosesynError, match=message):
            read(root)


def test_the_calibration_is_what_opencv_reads(root: Path, people: People) -> None:
    path = root / "scan_calibration" / "Gym" / "calibration" / "001.xml"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    from datamodules.readers.rich import read_calibration

    camera, intrinsics = read_calibration(path)
    np.testing.assert_allclose(storage.getNode("CameraMatrix").mat(), camera[:3], atol=1e-12)
    np.testing.assert_allclose(storage.getNode("Intrinsics").mat(), intrinsics, atol=1e-12)


def test_a_file_with_another_name_is_named(root: Path) -> None:
    body_file(root).rename(body_file(root).with_name("male.pkl"))
    with pytest.raises(PosesynError, match=r"male\.pkl is not named FRAME/SUBJECT\.pkl"):
        read(root)
