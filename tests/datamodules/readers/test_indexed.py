"""What all readers of official layouts share, on a data set of the tests' own."""

from __future__ import annotations

import json
import logging
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.readers.indexed import Persons
from human.batch import PELVIS
from human.errors import PosesynError
from human.skeleton import COCO17, POSE32
from tests.datamodules.readers.listed import ListedReader, person, two_sequences, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "listed", two_sequences())


def read(root: Path, **options: Any) -> ListedReader:
    return ListedReader(root, cache=root.parent / "cache", **options)


def test_it_is_scanned_once_and_again_when_a_label_file_changes(root: Path) -> None:
    ListedReader.scans = 0
    first = read(root)
    assert ListedReader.scans == 2
    again = read(root)
    assert ListedReader.scans == 2
    assert list(again.index.ids) == list(first.index.ids) == ["a/0", "a/1", "a/2", "b/0", "b/1"]
    np.testing.assert_array_equal(again.index.joints2d, first.index.joints2d)

    file = root / "labels" / "train" / "b.json"
    status = file.stat()
    file.write_text(file.read_text().replace("b/1", "b/9"))  # as long as it was
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 10**6))
    assert read(root).index.ids[-1] == "b/9"
    assert ListedReader.scans == 4
    file.write_text(json.dumps([person("b/10", "images/2.jpg")]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 10**6))  # at the same time
    assert read(root).index.ids[-1] == "b/10"
    (root / "labels" / "train" / "c.json").write_text(json.dumps([person("c/0", "images/2.jpg")]))
    assert read(root).index.ids[-1] == "c/0"
    write(root, {"v": [person("v/0", "images/9.png")]}, "val")
    assert list(read(root, split="val").index.ids) == ["v/0"]


def test_labels_pictures_and_people(root: Path) -> None:
    reader = read(root)
    index = reader.index.validate()
    assert index.image.tolist() == [0, 1, 1, 0, 2]
    assert index.people.tolist() == [2, 2, 2, 2, 1]  # also where they lie in two files
    wanted = np.array(two_sequences()["b"][0]["joints"])
    np.testing.assert_allclose(index.extras["native2d"][3], wanted, atol=1e-5)
    for j, name in enumerate(COCO17.joints):
        np.testing.assert_allclose(index.joints2d[3, POSE32.index(name)], wanted[j], atol=1e-5)
    np.testing.assert_allclose(index.bbox_xyxy[3], [*wanted[:, :2].min(0), *wanted[:, :2].max(0)], atol=1e-5)
    assert index.joints3d[..., 3].sum() == 0
    assert np.isnan(index.intrinsics).all()
    assert reader.read_image(4).shape == (60, 60, 3)
    assert type(index.joints2d) is np.ndarray
    part = index.subset(np.array([3, 0]))
    assert part.ids == ["b/0", "a/0"]


def test_who_cannot_be_used_is_counted_and_told_at_every_opening(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def spoilt(name: str, value: Any) -> dict[str, Any]:
        wrong = person(name, "images/0.png")
        wrong["joints"] = np.full((17, 3), value).tolist()
        return wrong

    one_joint = person("one", "images/0.png")
    one_joint["joints"] = [[3.0, 4.0, float(j == 5)] for j in range(17)]
    line = person("line", "images/1.png")
    line["joints"] = [[3.0, float(j), 1.0] for j in range(17)]  # a box without width
    some_nan = person("some", "images/1.png")
    some_nan["joints"][3] = [float("nan"), 5.0, 1.0]
    people = [spoilt("nan", float("nan")), spoilt("none", 0.0), one_joint, line, some_nan, spoilt("nan2", np.nan)]
    root = write(tmp_path / "listed", {"a": people})
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            reader = read(root)
        assert reader.index.ids == ["some"]
        assert reader.index.people.tolist() == [2]  # who is left out is in the picture all the same
        told = [r.getMessage() for r in caplog.records]
        assert told == [
            "listed (train): left out 4 persons with fewer than 2 labelled joints (as nan, none, one)",
            "listed (train): left out 1 persons without a box (as line)",
        ]
    assert reader.index.joints2d[0, POSE32.index(COCO17.joints[3])].tolist() == [0, 0, 0]


def test_a_body_that_is_not_there_is_nan_and_a_broken_one_is_left_out(tmp_path: Path) -> None:
    betas = {"a": [0.5] * 10, "b": [float("nan")] * 10, "c": [0.1] * 9 + [float("inf")]}
    root = write(tmp_path / "listed", {"s": [person(n, "images/0.png", betas=b) for n, b in betas.items()]})
    reader = read(root)
    assert list(reader.index.ids) == ["a"]
    assert reader.skipped.lines() == ["2 persons whose betas is not finite (as b, c)"]

    class Partial(ListedReader):
        name, may_lack = "partial", ("betas",)

    partial = Partial(root, cache=tmp_path / "cache")
    assert list(partial.index.ids) == ["a", "b"]
    assert np.isnan(partial.index.extras["betas"][1]).all()
    assert partial.skipped.lines() == ["1 persons whose betas is not finite (as c)"]


def test_joints_in_3d_are_projected_and_behind_the_camera_is_told(tmp_path: Path) -> None:
    class Solid(ListedReader):
        name, skeleton = "solid", "smpl24"

        def scan(self, path: Path) -> Persons:
            joints = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 24, 4))
            joints[..., 2:] = [3.0, 1.0]
            joints[1, 4, 2] = -0.1
            joints[2, :, 2] = -1
            k = np.tile(np.array([[100.0, 0, 50], [0, 110, 60], [0, 0, 1]]), (3, 1, 1))
            k[2] = np.nan  # relative to a root: negative depths mean nothing
            flat = np.r_[np.zeros((2, 24, 3)), np.random.default_rng(1).uniform(1, 9, (1, 24, 3))]
            flat[2, :, 2] = 1
            more = {"camera": np.tile(np.eye(4), (3, 1, 1))}
            if path.stem == "a":
                return Persons(["0", "1"], ["p", "p"], None, joints[:2], k[:2], more={"camera": more["camera"][:2]})
            return Persons(["2"], ["q"], flat[2:], joints[2:], k[2:], more={"camera": more["camera"][2:]})

    root = write(tmp_path / "solid", {"a": [], "b": []})
    reader = Solid(root, cache=tmp_path / "cache")
    assert list(reader.index.ids) == ["0", "2"]
    assert reader.skipped.lines() == ["1 persons behind the camera (as 1)"]
    solid = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 24, 4))[0, :, :2]
    np.testing.assert_allclose(reader.index.extras["native2d"][0, :, :2], solid * [100, 110] / 3 + [50, 60], rtol=1e-5)
    np.testing.assert_allclose(
        reader.index.joints2d[0, PELVIS], [*(solid[0] * [100, 110] / 3 + [50, 60]), 1], rtol=1e-5
    )
    assert np.isnan(reader.index.intrinsics[1]).all()


def test_nobody(tmp_path: Path) -> None:
    root = write(tmp_path / "listed", {"a": [], "b": []})
    for _ in range(2):
        with pytest.raises(PosesynError, match=r"listed \(train\) has no usable person below .*: the label files name"):
            read(root)
    with pytest.raises(PosesynError, match=r"no labels of listed \(val\) below .*: it is written by the tests"):
        read(root, split="val")
    with pytest.raises(PosesynError, match=r"no folder .*nowhere for listed: it is written by the tests"):
        read(root / "nowhere")
    with pytest.raises(PosesynError, match=r"listed has no split 'dev'; known: train, val"):
        read(root, split="dev")


def test_a_damaged_label_file_leaves_no_index(root: Path) -> None:
    file = root / "labels" / "train" / "b.json"
    whole = file.read_text()
    file.write_text(whole[:-40])
    with pytest.raises(PosesynError, match=r"b\.json is damaged or no JSON"):
        read(root)
    file.write_text(whole.replace("b/1", "a/2"))
    with pytest.raises(PosesynError, match="name the person 'a/2' twice"):
        read(root)
    file.write_text(whole)
    assert len(read(root).index) == 5
    file.unlink()
    (root / "labels" / "train" / "b.json").mkdir()
    with pytest.raises(PosesynError, match=r"b\.json cannot be read"):
        read(root)


def test_a_label_that_leads_out_of_the_folder_is_refused_when_it_is_read(tmp_path: Path) -> None:
    people = [person("a", "../secret.png"), person("b", "/etc/hostname"), person("c", "images/0.png")]
    root = write(tmp_path / "listed", {"a": people})
    (tmp_path / "secret.png").write_bytes((root / "images" / "0.png").read_bytes())
    reader = read(root)
    for row in (0, 1):
        with pytest.raises(PosesynError, match="is not below the data set's root"):
            reader.read_image(row)
    assert reader.read_image(2).shape == (60, 60, 3)


def test_a_reader_travels_without_its_labels(root: Path) -> None:
    reader = read(root)
    sent = pickle.dumps(reader)
    assert len(sent) < 2000
    there = pickle.loads(sent)
    np.testing.assert_array_equal(there.index.joints2d, reader.index.joints2d)
    assert list(there.index.ids) == list(reader.index.ids)
    np.testing.assert_array_equal(there.read_image(0), reader.read_image(0))
    for file in reader.folder.iterdir():
        file.unlink()
    with pytest.raises(PosesynError, match="is gone: start again"):
        pickle.loads(sent)


def test_opening_a_large_index_takes_no_time(tmp_path: Path) -> None:
    class Many(ListedReader):
        name = "many"

        def scan(self, path: Path) -> Persons:
            count = 20_000
            joints = np.ones((count, 17, 3))
            joints[..., :2] = np.random.default_rng(0).uniform(0, 99, (count, 17, 2))
            return Persons([f"{path.stem}/{i}" for i in range(count)], [f"{i // 2}.jpg" for i in range(count)], joints)

    root = write(tmp_path / "many", {"a": [], "b": [], "c": []})
    Many(root, cache=tmp_path / "cache")
    start = time.process_time()
    reader = Many(root, cache=tmp_path / "cache")
    assert len(reader.index) == 60_000
    assert time.process_time() - start < 0.5
    assert sum(map(len, reader.index.ids)) > 60_000
    assert time.process_time() - start < 2
