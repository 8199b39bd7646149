"""COCO: persons as annotated; crowds and people without joints only in the truth; a detector's boxes without labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.coco import CocoReader
from human.errors import PosesynError
from tests.datamodules.readers.ugly import (
    check_damage_is_named,
    check_index_is_kept,
    check_pictures,
    check_wrong_root,
)
from tests.datasets import coco
from tests.datasets.people import People, make_people

DETECTIONS = "COCO_val2017_detections_AP_H_56_person.json"


@pytest.fixture(scope="module")
def people() -> People:
    return make_people(("neutral", "neutral"), frames=3, kind="free")


@pytest.mark.parametrize("split", ["train", "val"])
def test_labels_are_what_was_written(tmp_path: Path, people: People, split: str) -> None:
    truth = coco.write(tmp_path, people, split)
    reader = CocoReader(tmp_path, split, cache=tmp_path / "cache")
    index = reader.index
    assert list(index.ids) == [f"coco/{n[:-4]}/{442619 + i}" for i, n in enumerate(truth.names)]
    native = index.extras["native2d"]
    np.testing.assert_array_equal(native[..., 2], truth.visible > 0)
    np.testing.assert_allclose(native[..., :2], truth.joints * (truth.visible > 0)[..., None], atol=1e-4)
    np.testing.assert_array_equal(index.extras["state"], truth.visible)
    np.testing.assert_allclose(index.bbox_xyxy[:, 2:] - index.bbox_xyxy[:, :2], truth.bbox[:, 2:], atol=1e-4)
    np.testing.assert_allclose(index.extras["area"], truth.area, rtol=1e-6)
    assert not index.extras["crowd"].any()
    # The first picture also has somebody without joints and a crowd, which is two.
    assert index.people.tolist() == [5, 5, 2, 2, 2, 2]
    check_pictures(reader)


def test_the_truth_has_everybody(tmp_path: Path, people: People) -> None:
    coco.write(tmp_path, people)
    reader = CocoReader(tmp_path, "val", cache=tmp_path / "cache")
    truth = reader.truth()
    assert len(reader.index) == 6
    assert list(truth.ids)[:6] == list(reader.index.ids)
    assert truth["crowd"].tolist() == [0] * 6 + [1, 0]
    assert (truth["native2d"][6:, :, 2] == 0).all()
    assert len(CocoReader(tmp_path, "val", everyone=True, cache=tmp_path / "cache").index) == 8


def test_a_detectors_boxes(tmp_path: Path, people: People) -> None:
    truth = coco.write(tmp_path, people)
    reader = CocoReader(tmp_path, "val", detections=DETECTIONS, cache=tmp_path / "cache")
    index = reader.index
    assert len(index) == 7
    assert (index.joints2d[..., 2] == 0).all()
    np.testing.assert_allclose(index.extras["score"][:2], [0.99, 0.98], rtol=1e-6)
    np.testing.assert_allclose(index.bbox_xyxy[0, 2:] - index.bbox_xyxy[0, :2], truth.bbox[0, 2:], atol=1e-4)
    assert reader.pictures[6] == f"val2017/{truth.names[2]}"
    assert len(reader.truth()) == 8
    check_pictures(reader)
    (tmp_path / DETECTIONS).write_text(json.dumps([{"image_id": 3, "bbox": [0, 0, 1, 1], "score": 1}]))
    with pytest.raises(PosesynError, match="no list of detections"):
        CocoReader(tmp_path, "val", detections=DETECTIONS, cache=tmp_path / "cache")
    with pytest.raises(PosesynError, match=r"no label file .*nothing\.json"):
        CocoReader(tmp_path, "val", detections="nothing.json", cache=tmp_path / "cache")


def test_ugly_files(tmp_path: Path, people: People) -> None:
    root = tmp_path / "coco"
    coco.write(root, people)
    labels = root / "annotations" / "person_keypoints_val2017.json"

    def make() -> CocoReader:
        return CocoReader(root, "val", cache=tmp_path / "cache")

    check_index_is_kept(make, labels)
    check_damage_is_named(make, labels)
    check_wrong_root(CocoReader, tmp_path)
    (root / "val2017").rename(root / "images")
    with pytest.raises(PosesynError, match="no pictures of coco"):
        make()
    (root / "images").rename(root / "val")
    (root / "images").mkdir()
    (root / "val").rename(root / "images" / "val2017")
    assert make().read_image(0).shape == (240, 320, 3)


@pytest.mark.parametrize(
    ("where", "change", "said"),
    [
        ("annotations", {"keypoints": [1, 2, 2] * 16}, "keypoints"),
        ("annotations", {"keypoints": ["x"] * 51}, "keypoints"),
        ("annotations", {"image_id": 12345}, "not laid out as COCO"),
        ("annotations", {"bbox": None}, "bbox"),
        ("images", {"file_name": "../../../etc/passwd"}, "not below the data set's root"),
        ("images", {"id": "x"}, "not laid out as COCO"),
    ],
)
def test_labels_that_are_not_cocos(tmp_path: Path, people: People, where: str, change: dict, said: str) -> None:
    coco.write(tmp_path, people)
    path = tmp_path / "annotations" / "person_keypoints_val2017.json"
    content = json.loads(path.read_text())
    content[where][1].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(PosesynError, match=said) as caught:
        CocoReader(tmp_path, "val", cache=tmp_path / "cache")
    assert path.name in str(caught.value)


def test_real_samples(shared_data: Path, tmp_path: Path) -> None:
    """Four pictures of val2017: persons counted in the JSON by num_keypoints and iscrowd."""
    samples = shared_data / "samples" / "coco"
    (tmp_path / "annotations").mkdir()
    labels = (samples / "test_coco.json").read_bytes()
    (tmp_path / "annotations" / "person_keypoints_val2017.json").write_bytes(labels)
    (tmp_path / "val2017").symlink_to(samples)
    listed = json.loads(labels)["annotations"]
    labelled = [a for a in listed if a["num_keypoints"] > 0 and not a["iscrowd"]]
    reader = CocoReader(tmp_path, "val", cache=tmp_path / "cache")
    assert len(reader.index) == len(labelled) > 5
    joints = (reader.index.extras["native2d"][..., 2] > 0).sum(1)
    assert joints.tolist() == [a["num_keypoints"] for a in labelled]
    assert len(reader.truth()) == len(listed)
    check_pictures(reader)
    boxes = CocoReader(tmp_path, "val", detections="val2017/test_coco_det_AP_H_56.json", cache=tmp_path / "cache")
    assert len(boxes.index) == len(json.loads((samples / "test_coco_det_AP_H_56.json").read_text()))
