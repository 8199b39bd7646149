"""3DPW: labels become the camera-frame truth; what is missing, damaged or hostile is told."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from datamodules.readers import READERS
from datamodules.readers import indexed as indexed_module
from datamodules.readers.threedpw import ThreeDPWReader
from human.errors import PosesynError
from human.skeleton import POSE32
from tests.datasets import threedpw
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")
SEQUENCE = "downtown_arguing_00"


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(("male", "female"), moving_camera=True)


@pytest.fixture(scope="module")
def written(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return threedpw.write(tmp_path_factory.mktemp("3dpw"), people)


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(written, tmp_path / "3dpw"))


def read(root: Path, split: str = "test") -> ThreeDPWReader:
    return ThreeDPWReader(root, split, cache=root.parent / "cache")


def change(root: Path, people: People, edit: Callable[[dict[str, Any]], None]) -> None:
    content = threedpw.labels(people, SEQUENCE)
    edit(content)
    threedpw.write_labels(root, "test", content)


def test_labels_are_the_truth_before_the_camera(root: Path, people: People) -> None:
    reader = read(root)
    assert READERS.get("3dpw") is ThreeDPWReader
    index = reader.index.validate()
    assert list(index.ids) == [f"3dpw/{SEQUENCE}/{f:05d}/{p}" for p in (0, 1) for f in range(3)]
    for i, (p, f) in enumerate((p, f) for p in (0, 1) for f in range(3)):
        truth = people.joints(0, p)[f, :24]
        np.testing.assert_allclose(index.extras["native3d"][i, :, :3], truth, atol=1e-5)
        np.testing.assert_allclose(index.joints3d[i, :24, :3], truth, atol=1e-5)
        np.testing.assert_allclose(index.joints2d[i, :24, :2], people.pixels(0, p)[f, :24], atol=1e-4)
        assert (index.joints3d[i, :24, 3] == 1).all()
        assert (index.joints3d[i, 24:, 3] == 0).all()  # face points are no labels of 3DPW
        np.testing.assert_allclose(index.intrinsics[i], people.intrinsics[0], rtol=1e-6)
        found = people.pixels(0, p)[f, POSE32.indices(*threedpw.COCO18)]
        np.testing.assert_allclose(index.bbox_xyxy[i], [*found.min(0), *found.max(0)], atol=1e-4)
        for name, value in {"sequence": 0, "frame": f, "person": p, "gender": p + 1, "detected": 18}.items():
            assert index.extras[name][i] == value
        np.testing.assert_allclose(index.extras["camera"][i], people.world_to_camera[0, f], atol=1e-6)
    assert (index.people == 2).all()


def test_the_body_stands_on_the_joints(root: Path, people: People) -> None:
    extras = {name: np.array(column) for name, column in read(root).index.extras.items()}
    for i in range(6):
        body = people.body(i // 3)
        betas, pose, transl = (torch.from_numpy(extras[n][i : i + 1]).double() for n in ("betas", "pose", "transl"))
        joints = body(betas, pose[:, 1:], pose[:, 0], transl).joints[0, :24].numpy()
        np.testing.assert_allclose(joints, extras["native3d"][i, :, :3], atol=1e-5)


def test_pictures_are_those_of_the_frames(root: Path, people: People) -> None:
    reader = read(root)
    for i in range(len(reader.index)):
        picture = reader.read_image(i)
        assert picture.shape == (240, 320, 3)
        assert np.abs(picture.astype(int) - people.picture(0, i % 3)).mean() < 3  # JPEG
        height, width = picture.shape[:2]
        points = reader.index.joints2d[i, :24, :2]
        assert (points > 0).all()
        assert (points < [width, height]).all()


def test_frames_without_a_valid_camera_are_left_out(root: Path, people: People, caplog: Any) -> None:
    change(root, people, lambda c: c["campose_valid"][1].__setitem__(slice(0, 2), 0))
    reader = read(root)
    assert list(reader.index.ids)[-1] == f"3dpw/{SEQUENCE}/00002/1"
    assert len(reader.index) == 4
    assert "2 persons in frames without a valid camera pose" in caplog.text
    assert reader.index.people.tolist() == [1, 1, 2, 2]


def test_a_person_whom_no_detector_saw_gets_the_box_of_the_joints(root: Path, people: People) -> None:
    change(root, people, lambda c: c["poses2d"][0].__setitem__((slice(None), 2), 0))
    index = read(root).index
    assert index.extras["detected"].tolist() == [0, 0, 0, 18, 18, 18]
    pixels = people.pixels(0, 0)[1, :24]
    np.testing.assert_allclose(index.bbox_xyxy[1], [*pixels.min(0), *pixels.max(0)], atol=1e-4)


def test_more_betas_than_ten_are_cut(root: Path, people: People) -> None:
    change(root, people, lambda c: c.update(betas=[np.append(b, np.zeros(290)) for b in c["betas"]]))
    np.testing.assert_allclose(read(root).index.extras["betas"][0], people.betas[0], rtol=1e-6)


def test_nan_poses_are_left_out(root: Path, people: People) -> None:
    change(root, people, lambda c: c["poses"][0].__setitem__((1, 5), np.nan))
    assert f"3dpw/{SEQUENCE}/00001/0" not in list(read(root).index.ids)


@pytest.mark.parametrize("broken", [np.nan, 0.0, -1.0])
def test_a_camera_that_is_none_is_left_out(root: Path, people: People, broken: float) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["cam_poses"][1, :3, :3] = broken * np.eye(3)

    change(root, people, spoil)
    assert [i for i in read(root).index.ids if "/00001/" in i] == []


def test_the_index_is_used_again_until_a_label_file_changes(
    root: Path, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(root)
    with monkeypatch.context() as patch:
        patch.setattr(ThreeDPWReader, "scan", lambda *_: pytest.fail("scanned again"))
        second = read(root)
        assert second.folder == first.folder
        np.testing.assert_array_equal(second.index.joints3d, first.index.joints3d)
    change(root, people, lambda c: c["campose_valid"][0].__setitem__(0, 0))
    assert len(read(root).index) == len(first.index) - 1


def test_splits(root: Path, people: People) -> None:
    threedpw.write(root, make_people(("female",), seed=1), "train", "courtyard_a_00")
    assert len(read(root, "train").index) == 3
    both = read(root, "all").index
    assert len(both) == 9
    assert len(np.unique(both.extras["sequence"])) == 2
    with pytest.raises(PosesynError, match=r"no labels of 3dpw \(validation\).*sequenceFiles\.zip"):
        read(root, "validation")
    with pytest.raises(PosesynError, match="no split 'val'"):
        read(root, "val")


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(PosesynError, match=r"no pictures of 3dpw in .*imageFiles: accept the licence"):
        read(root / "sequenceFiles")
    shutil.move(root / "imageFiles" / SEQUENCE, root / "imageFiles" / "other")
    with pytest.raises(PosesynError, match=rf"no pictures of .*{SEQUENCE}\.pkl in .*unpack imageFiles\.zip"):
        read(root)
    with pytest.raises(PosesynError, match="no folder"):
        read(root / "nowhere")


def test_a_picture_that_is_missing_or_damaged_is_told_when_it_is_read(root: Path) -> None:
    reader = read(root)
    picture = root / "imageFiles" / SEQUENCE / "image_00001.jpg"
    picture.write_bytes(picture.read_bytes()[:100])
    with pytest.raises(PosesynError, match=r"image_00001\.jpg: it is damaged"):
        reader.read_image(1)
    assert reader.read_image(0).shape == (240, 320, 3)


def test_damaged_and_hostile_label_files_are_refused(root: Path, people: People, tmp_path: Path) -> None:
    path = root / "sequenceFiles" / "test" / f"{SEQUENCE}.pkl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PosesynError, match=rf"{SEQUENCE}\.pkl is damaged"):
        read(root)

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path.write_bytes(pickle.dumps({"poses": Bomb()}, 2))
    with pytest.raises(PosesynError, match=rf"{SEQUENCE}\.pkl wants to run"):
        read(root)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("trans"), "has no 'trans'"),
        (lambda c: c["poses"].pop(), "different numbers of persons"),
        (lambda c: c.update(cam_poses=np.eye(4)), r"cam_poses has the shape \(4, 4\)"),
        (lambda c: c["poses2d"].__setitem__(1, np.zeros((3, 18, 3))), "poses2d of person 1 has the shape"),
        (lambda c: c["genders"].__setitem__(0, "x"), "person 0 has 10 betas, gender 'x'"),
        (lambda c: c["betas"].__setitem__(0, np.zeros(4)), "person 0 has 4 betas"),
        (lambda c: c.update(poses=5), r"does not hold what 3dpw should have there \(TypeError"),
        (lambda c: c["genders"].__setitem__(0, ["m"]), r"does not hold what 3dpw should have there \(TypeError"),
        (lambda c: c.update(cam_poses=None), "cam_poses has the shape"),
    ],
)  # fmt: skip
def test_contradictions_are_named(root: Path, people: People, edit: Callable[..., None], message: str) -> None:
    change(root, people, edit)
    with pytest.raises(PosesynError, match=rf"{SEQUENCE}\.pkl.*{message}"):
        read(root)


def test_a_sequence_of_nobody(root: Path, people: People) -> None:
    def nobody(content: dict[str, Any]) -> None:
        content.update({key: [] for key, value in content.items() if isinstance(value, list)})

    change(root, people, nobody)
    with pytest.raises(PosesynError, match=r"3dpw \(test\) has no usable person"):
        read(root)
    change(root, people, lambda c: [valid.fill(0) for valid in c["campose_valid"]])
    with pytest.raises(PosesynError, match="6 persons in frames without a valid camera pose"):
        read(root)


def test_a_name_inside_the_file_does_not_choose_the_folder(root: Path, people: People) -> None:
    content = threedpw.labels(people, SEQUENCE)
    content["sequence"] = "../../elsewhere"
    path = root / "sequenceFiles" / "test" / f"{SEQUENCE}.pkl"
    path.write_bytes(pickle.dumps(content, 2))
    assert indexed_module.read_picture(root, read(root).pictures[0]).shape == (240, 320, 3)
    assert cv2.imread(str(root / read(root).pictures[0])) is not None
