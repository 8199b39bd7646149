"""JHMDB: official joints, masks and lists, and mmpose's sub-JHMDB, give the same persons, counted from 0."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from datamodules.readers.jhmdb import ACTIONS, JhmdbReader
from human.errors import PosesynError
from tests.datamodules.readers.ugly import (
    check_damage_is_named,
    check_index_is_kept,
    check_pictures,
    check_wrong_root,
)
from tests.datasets import jhmdb
from tests.datasets.people import People, make_people


@pytest.fixture(scope="module")
def people() -> People:
    return make_people(("neutral",), frames=4, cameras=3, kind="free")


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("split", ["split2_train", "split2_test", "sub3_train", "sub1_test"])
def test_labels_are_what_was_written(tmp_path: Path, people: People, split: str, masks: bool) -> None:
    truth = jhmdb.write(tmp_path, people, masks)
    reader = JhmdbReader(tmp_path, split, cache=tmp_path / "cache")
    index = reader.index
    number, part = int(split.split("_")[0][-1]), split.split("_")[1]
    clips = [c for i, c in enumerate(jhmdb.CLIPS) if (i + 1 == number) == (part == "train")]
    order = list(dict.fromkeys(i.removeprefix("jhmdb/").rsplit("/", 1)[0] for i in index.ids))
    assert sorted(order) == sorted(clips)
    assert list(index.ids) == [f"jhmdb/{clip}/{frame:05d}" for clip in order for frame in range(1, 5)]
    joints = np.concatenate([truth.joints[clip] for clip in order])
    np.testing.assert_allclose(index.extras["native2d"][..., :2], joints, atol=1e-4)
    assert (index.extras["native2d"][..., 2] == 1).all()
    if masks or split.startswith("sub"):
        boxes = np.concatenate([truth.boxes[clip] for clip in order])
    else:
        boxes = np.concatenate([joints.min(1), joints.max(1)], 1)
    np.testing.assert_allclose(index.bbox_xyxy, boxes, atol=1e-4)
    assert index.extras["frame"].tolist() == [0, 1, 2, 3] * len(clips)
    assert index.extras["sequence"].tolist() == [i for i in range(len(clips)) for _ in range(4)]
    actions = [ACTIONS[g] for g in index.extras["group"]]
    assert actions == [clip.split("/")[0] for clip in order for _ in range(4)]
    check_pictures(reader)


def test_masks_give_the_area(tmp_path: Path, people: People) -> None:
    truth = jhmdb.write(tmp_path, people)
    index = JhmdbReader(tmp_path, "split1_train", cache=tmp_path / "cache").index
    box = truth.boxes[jhmdb.CLIPS[0]]
    np.testing.assert_array_equal(index.extras["area"], (box[:, 2:] - box[:, :2] + 1).prod(1))


def test_a_frame_with_an_empty_mask_and_a_clip_of_one_frame(tmp_path: Path, people: People) -> None:
    truth = jhmdb.write(tmp_path, people)
    clip = jhmdb.CLIPS[0]
    path = tmp_path / "puppet_mask" / clip / "puppet_mask.mat"
    mask = loadmat(path)["part_mask"]
    mask[..., 1] = 0
    savemat(path, {"part_mask": mask})
    index = JhmdbReader(tmp_path, "split1_train", cache=tmp_path / "cache").index
    joints = truth.joints[clip][1]
    np.testing.assert_allclose(index.bbox_xyxy[1], [*joints.min(0), *joints.max(0)], atol=1e-4)
    savemat(path, {"part_mask": mask[..., 0]})
    with pytest.raises(PosesynError, match="has 1 frames"):
        JhmdbReader(tmp_path, "split1_train", cache=tmp_path / "cache")
    positions = tmp_path / "joint_positions" / clip / "joint_positions.mat"
    savemat(positions, {"pos_img": loadmat(positions)["pos_img"][..., 0]})  # as MATLAB writes a single frame
    assert len(JhmdbReader(tmp_path, "split1_train", cache=tmp_path / "cache").index) == 1


@pytest.mark.parametrize("split", ["split1_test", "sub1_test"])
def test_ugly_files(tmp_path: Path, people: People, split: str) -> None:
    root = tmp_path / "jhmdb"
    jhmdb.write(root, people)
    if split.startswith("sub"):
        labels = root / "annotations" / "Sub1_test.json"
    else:
        labels = root / "joint_positions" / jhmdb.CLIPS[1] / "joint_positions.mat"

    def make() -> JhmdbReader:
        return JhmdbReader(root, split, cache=tmp_path / "cache")

    check_index_is_kept(make, labels)
    check_damage_is_named(make, labels)
    check_wrong_root(JhmdbReader, tmp_path)
    if split.startswith("split"):
        mask = root / "puppet_mask" / jhmdb.CLIPS[1] / "puppet_mask.mat"
        content = mask.read_bytes()
        mask.write_bytes(content[:200])
        with pytest.raises(PosesynError, match=r"puppet_mask\.mat"):
            make()
        mask.write_bytes(content)
        shutil.rmtree(root / "Rename_Images" / jhmdb.CLIPS[1])
        with pytest.raises(PosesynError, match="no pictures of the clip"):
            JhmdbReader(root, split, cache=tmp_path / "other")
    (root / "Rename_Images").rename(root / "Images")
    with pytest.raises(PosesynError, match="no pictures of jhmdb"):
        make()


def test_lists_and_names_that_are_not_jhmdbs(tmp_path: Path, people: People) -> None:
    jhmdb.write(tmp_path, people)
    cache = tmp_path / "cache"
    path = tmp_path / "splits" / "walk_test_split1.txt"
    for text, said in (
        ("W_0.avi 2\n../../etc.avi 2\n", "not below the data set's root"),
        ("W_0 2\n", "is not '<clip>.avi 1|2'"),
        ("W_0.avi\n", "is not '<clip>.avi 1|2'"),
        ("W_9.avi 2\n", r"no label file .*W_9"),
    ):
        path.write_text(text)
        with pytest.raises(PosesynError, match=said.replace("|", r"\|")):
            JhmdbReader(tmp_path, "split1_test", cache=cache)
    path.rename(path.with_name("dance_test_split1.txt"))
    path.with_name("dance_test_split1.txt").write_text("D_0.avi 2\n")
    for folder in ("joint_positions", "Rename_Images"):
        shutil.copytree(tmp_path / folder / "walk" / "W_0", tmp_path / folder / "dance" / "D_0")
    with pytest.raises(PosesynError, match="of no action of JHMDB"):
        JhmdbReader(tmp_path, "split1_test", cache=cache)
    labels = tmp_path / "annotations" / "Sub1_test.json"
    content = json.loads(labels.read_text())
    content["images"][0]["file_name"] = "Rename_Images/walk/W_0/first.png"
    labels.write_text(json.dumps(content))
    with pytest.raises(PosesynError, match="names a picture that is no frame"):
        JhmdbReader(tmp_path, "sub1_test", cache=cache)


def test_real_clip(shared_data: Path, tmp_path: Path) -> None:
    """40 frames of a goalkeeper; the labels lie on the pictures, one px up and left of what is written."""
    sample = shared_data / "samples" / "jhmdb"
    clip = "catch/Goal_Keeping_Tips_catch_f_cm_np1_fr_med_2"
    (tmp_path / "Rename_Images" / "catch").mkdir(parents=True)
    (tmp_path / "Rename_Images" / clip).symlink_to(sample / "Goal_Keeping_Tips_catch_f_cm_np1_fr_med_2")
    (tmp_path / "joint_positions" / clip).mkdir(parents=True)
    labels = (sample / "joint_positions.mat").read_bytes()
    (tmp_path / "joint_positions" / clip / "joint_positions.mat").write_bytes(labels)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "catch_test_split1.txt").write_text(f"{clip.split('/')[1]}.avi 1\n")
    reader = JhmdbReader(tmp_path, "split1_train", cache=tmp_path / "cache")
    assert len(reader.index) == 40
    written = loadmat(sample / "joint_positions.mat")["pos_img"].transpose(2, 1, 0)
    np.testing.assert_allclose(reader.index.extras["native2d"][..., :2], written - 1, atol=1e-4)
    check_pictures(reader)
    assert reader.read_image(39).shape == (240, 320, 3)
    last = cv2.imread(str(sample / clip.split("/")[1] / "00040.png"))
    np.testing.assert_array_equal(reader.read_image(39), last[..., ::-1])
