"""EMDB: labels become the camera-frame truth; what is missing, damaged or hostile is told."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.readers import READERS
from datamodules.readers.emdb import EmdbReader
from human.body_folders import VARIABLE
from human.errors import PosesynError
from tests.datasets import emdb
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")
NAME = "P0_00_mvs_a"


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(("male", "female"), moving_camera=True, seed=2)


@pytest.fixture(scope="module")
def written(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = emdb.write(tmp_path_factory.mktemp("emdb"), people, NAME)
    return emdb.write(root, people, "P1_15_outdoor_climb", emdb1=False, emdb2=True, person=1)


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(written, tmp_path / "emdb"))


def read(root: Path, split: str = "emdb1") -> EmdbReader:
    return EmdbReader(root, split, cache=root.parent / "cache")


def change(root: Path, people: People, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = emdb.labels(people, NAME)
    edit(content)
    emdb.write_labels(root, content)


@pytest.mark.parametrize(
    ("split", "person", "folder"), [("emdb1", 0, "P0/00_mvs_a"), ("emdb2", 1, "P1/15_outdoor_climb")]
)
def test_labels_are_the_truth_before_the_camera(
    root: Path, people: People, split: str, person: int, folder: str
) -> None:
    assert READERS.get("emdb") is EmdbReader
    index = read(root, split).index.validate()
    assert list(index.ids) == [f"emdb/{folder}/{f:05d}" for f in range(3)]
    truth, pixels = people.joints(0, person)[:, :24], people.pixels(0, person)[:, :24]
    np.testing.assert_allclose(index.extras["native3d"][..., :3], truth, atol=1e-5)
    np.testing.assert_allclose(index.joints3d[:, :24, :3], truth, atol=1e-5)
    np.testing.assert_allclose(index.joints2d[:, :24, :2], pixels, atol=1e-4)
    np.testing.assert_allclose(index.bbox_xyxy, np.concatenate([pixels.min(1) - 4, pixels.max(1) + 4], 1), atol=1e-4)
    np.testing.assert_allclose(index.intrinsics, people.intrinsics[[0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(index.extras["camera"], people.world_to_camera[0], atol=1e-6)
    assert (index.joints3d[..., 3] == (np.arange(32) < 24)).all()
    assert index.extras["gender"].tolist() == [person + 1] * 3
    assert index.extras["frame"].tolist() == [0, 1, 2]
    assert index.extras["group"].tolist() == [person + 1] * 3
    np.testing.assert_allclose(index.extras["pose"][:, 0], people.camera_orient(0, person), atol=1e-5)
    np.testing.assert_allclose(index.extras["transl"], people.camera_transl(0, person), atol=1e-5)
    body = people.body(person)
    betas, pose, transl = (torch.from_numpy(np.array(index.extras[n])).double() for n in ("betas", "pose", "transl"))
    np.testing.assert_allclose(body(betas, pose[:, 1:], pose[:, 0], transl).joints[:, :24], truth, atol=1e-5)


def test_both_parts_together(root: Path) -> None:
    index = read(root, "all").index
    assert len(index) == 6
    assert np.unique(index.extras["sequence"]).tolist() == [0, 1]


def test_pictures_are_those_of_the_frames(root: Path, people: People) -> None:
    reader = read(root)
    for i in range(3):
        assert np.abs(reader.read_image(i).astype(int) - people.picture(0, i)).mean() < 3  # JPEG
    (root / "P0" / "00_mvs_a" / "images" / "00001.jpg").unlink()
    with pytest.raises(PosesynError, match=r"00001\.jpg: there is no such file"):
        reader.read_image(1)


def test_bad_frames_are_left_out(root: Path, people: People, caplog: Any) -> None:
    change(root, people, lambda c: c["good_frames_mask"].__setitem__(1, False))
    index = read(root).index
    assert list(index.ids) == ["emdb/P0/00_mvs_a/00000", "emdb/P0/00_mvs_a/00002"]
    np.testing.assert_allclose(index.joints3d[1, :24, :3], people.joints(0, 0)[2, :24], atol=1e-5)
    assert "1 frames that EMDB calls bad (as emdb/P0/00_mvs_a/00001)" in caplog.text


def test_an_invalid_box_becomes_that_of_the_joints(root: Path, people: People) -> None:
    def invalid(content: dict[str, Any]) -> None:
        content["bboxes"]["invalid_idxs"] = np.array([1])
        content["bboxes"]["bboxes"][2] = 5.0

    change(root, people, invalid)
    pixels, boxes = people.pixels(0, 0)[:, :24], read(root).index.bbox_xyxy
    np.testing.assert_allclose(boxes[1:], np.concatenate([pixels.min(1), pixels.max(1)], 1)[1:], atol=1e-4)
    np.testing.assert_allclose(boxes[0, :2], pixels[0].min(0) - 4, atol=1e-4)


def test_the_index_is_used_again_until_labels_or_bodies_change(
    root: Path, people: People, body_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(root)
    with monkeypatch.context() as patch:
        patch.setattr(EmdbReader, "scan", lambda *_: pytest.fail("scanned again"))
        assert read(root).folder == first.folder
    change(root, people, lambda c: c["good_frames_mask"].__setitem__(0, False))
    assert len(read(root).index) == 2
    # the male body's file is another one: the joints follow
    (tmp_path / "bodies" / "smpl").mkdir(parents=True)
    shutil.copy(body_files / "smpl" / "SMPL_FEMALE.pkl", tmp_path / "bodies" / "smpl" / "SMPL_MALE.pkl")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bodies"))
    other = read(root).index.joints3d[:, 20, :3]
    assert np.linalg.norm(other - people.joints(0, 0)[1:, 20], axis=-1).min() > 1e-3


def test_without_body_files_the_error_says_where_to_get_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(PosesynError, match=r"'smpl_male' needs the file SMPL_MALE\.pkl"):
        read(root)


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(PosesynError, match=r"no labels of emdb \(emdb1\) below .*P0 to P9"):
        read(root / "P0")
    shutil.rmtree(root / "P0" / "00_mvs_a" / "images")
    with pytest.raises(PosesynError, match=r"no pictures of .*_data\.pkl in .*images: unpack"):
        read(root)
    assert len(read(root, "emdb2").index) == 3  # the other part is whole


def test_a_set_without_the_part_that_is_asked_for(root: Path) -> None:
    shutil.rmtree(root / "P1")
    with pytest.raises(PosesynError, match=r"emdb \(emdb2\) has no usable person"):
        read(root, "emdb2")


def test_damaged_and_hostile_label_files_are_refused(root: Path, tmp_path: Path) -> None:
    path = root / "P0" / "00_mvs_a" / f"{NAME}_data.pkl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PosesynError, match=rf"{NAME}_data\.pkl is damaged"):
        read(root)

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path.write_bytes(pickle.dumps({"smpl": Bomb()}))
    with pytest.raises(PosesynError, match=rf"{NAME}_data\.pkl wants to run"):
        read(root)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("kp2d"), "has no 'kp2d'"),
        (lambda c: c["smpl"].pop("trans"), r"has no 'smpl\.trans'"),
        (lambda c: c.update(camera=None), r"has no 'camera\.extrinsics'"),
        (lambda c: c["smpl"].update(betas=np.zeros(11)), r"smpl\.betas has the shape \(11,\)"),
        (lambda c: c.update(good_frames_mask=np.ones(7, bool)), r"camera\.extrinsics has the shape \(3, 4, 4\)"),
        (lambda c: c.update(gender="m"), "has the gender 'm'"),
        (lambda c: c.update(gender=["male"]), r"does not hold what emdb should have there \(TypeError"),
        (lambda c: c.update(emdb1=np.ones(3, bool)), r"does not hold what emdb should have there \(ValueError"),
        (lambda c: c["bboxes"].update(invalid_idxs=None), "invalid_idxs has the shape"),
    ],
)
def test_contradictions_are_named(root: Path, people: People, edit: Callable[..., None], message: str) -> None:
    change(root, people, edit)
    with pytest.raises(PosesynError, match=rf"{NAME}_data\.pkl.*{message}"):
        read(root)


def test_nan_parameters_are_left_out(root: Path, people: People, caplog: Any) -> None:
    change(root, people, lambda c: c["smpl"]["trans"].__setitem__(1, np.nan))
    assert list(read(root).index.ids) == ["emdb/P0/00_mvs_a/00000", "emdb/P0/00_mvs_a/00002"]
    assert "1 persons whose body parameters are no numbers (as emdb/P0/00_mvs_a/00001)" in caplog.text
