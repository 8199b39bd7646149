"""CMU Panoptic: read back to the truth it was written from, and two real frames."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datamodules.readers.base import make_reader
from datamodules.readers.panoptic import MULTIPERSON, PanopticReader
from human.errors import PosesynError
from human.skeleton import PANOPTIC19
from tests.datasets import panoptic
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")
NAME = "171204_pose1"


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("neutral", "neutral"), frames=2, cameras=2, size=(192, 108))


@pytest.fixture(scope="module")
def written(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("panoptic")
    panoptic.write(root, people, (NAME,))
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(written, tmp_path / "panoptic"))


def open_it(root: Path, tmp_path: Path, **options: Any) -> PanopticReader:
    reader = make_reader("panoptic", {"root": root, "cache": tmp_path / "cache", "split": "pose", **options})
    assert isinstance(reader, PanopticReader)
    return reader


def test_it_reads_back_to_the_truth(written: Path, people: People, tmp_path: Path) -> None:
    reader = open_it(written, tmp_path)
    index = reader.index
    assert len(index) == 2 * 2 * 2
    assert index.ids[0] == "panoptic/171204_pose1/00_16/00000010/3"
    faces = PANOPTIC19.indices(*panoptic.UNLABELLED)
    for i, name in enumerate(index.ids):
        _, _, camera, frame, track = name.split("/")
        c, f, p = (16, 30).index(int(camera[3:])), int(frame) // 10 - 1, int(track) - 3
        truth, flat = panoptic.joints(people, c, p)[f], panoptic.pixels(people, c, p)[f]
        labelled = index.extras["native3d"][i, :, 3] > 0
        assert (np.flatnonzero(~labelled) == sorted(faces)).all()
        assert np.abs(index.extras["native3d"][i, labelled, :3] - truth[labelled]).max() < 1e-5
        seen = index.extras["native2d"][i, :, 2] > 0
        assert (seen == (labelled & ((flat >= 0) & (flat < people.size)).all(1))).all()
        assert np.abs(index.extras["native2d"][i, seen, :2] - flat[seen]).max() < 1e-4
        assert np.abs(flat - people.project(c, truth)).max() > 0.1  # the lens matters
        assert np.abs(index.intrinsics[i] - people.intrinsics[c]).max() < 1e-4
        assert np.abs(index.extras["camera"][i] - people.world_to_camera[c, 0]).max() < 1e-6
        extras = index.extras
        assert (extras["frame"][i], extras["person"][i], extras["group"][i]) == (10 * f + 10, p + 3, 5)
        assert np.abs(reader.read_image(i).astype(int) - people.picture(c, f)).mean() < 6
    assert (index.people == 2).all()
    assert [len(PanopticReader.list_labels(written, split)) for split in PanopticReader.splits] == [0, 1, 1]
    assert len(open_it(written, tmp_path, cameras=[30]).index) == 4
    assert len(open_it(written, tmp_path, every=20).index) == 4


@pytest.mark.parametrize("layout", ["tar", "hd", "video"])
def test_other_ways_to_lie_on_disk(people: People, written: Path, tmp_path: Path, layout: str) -> None:
    root = tmp_path / "root"
    panoptic.write(root, people, (NAME,), tar=layout == "tar", video=layout == "video")
    if layout == "hd":
        folder = root / NAME / "hdPose3d_stage1_coco19"
        (folder / "hd").mkdir()
        for path in folder.glob("*.json"):
            path.rename(folder / "hd" / path.name)
    reader, plain = open_it(root, tmp_path), open_it(written, tmp_path)
    assert list(reader.index.ids) == list(plain.index.ids)
    assert np.array_equal(reader.index.extras["native3d"], plain.index.extras["native3d"])
    assert np.abs(reader.read_image(0).astype(int) - people.picture(0, 0)).mean() < 8


def test_the_multiperson_set_wants_all_four(people: People, tmp_path: Path) -> None:
    root = tmp_path / "root"
    panoptic.write(root, people, MULTIPERSON)
    reader = open_it(root, tmp_path, split="multiperson")
    assert len(reader.index) == 4 * 8
    assert set(reader.index.extras["group"]) == {1, 2, 3, 4}
    lists = tmp_path / "lists"
    lists.mkdir()
    for name in MULTIPERSON:
        (lists / f"{name}.txt").write_text("20\n")
    chosen = open_it(root, tmp_path, split="multiperson", frames=str(lists))
    assert set(chosen.index.extras["frame"]) == {20}
    (lists / f"{MULTIPERSON[0]}.txt").write_text("twenty\n")
    with pytest.raises(PosesynError, match=r"haggling1.txt must hold numbers"):
        open_it(root, tmp_path, split="multiperson", frames=str(lists))
    shutil.rmtree(root / MULTIPERSON[2])
    with pytest.raises(PosesynError, match=r"no label file .*160422_ultimatum1/calibration_160422_ultimatum1.json"):
        open_it(root, tmp_path, split="multiperson")


def test_the_index_is_made_once_and_again_when_labels_change(
    root: Path, people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_it(root, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(PanopticReader, "scan", lambda *_: pytest.fail("scanned again"))
        assert np.array_equal(open_it(root, tmp_path).index.joints3d, first.index.joints3d)
    file = root / NAME / "hdPose3d_stage1_coco19" / "body3DScene_00000010.json"
    file.write_text(json.dumps(panoptic.scene(people, 1)))
    assert not np.array_equal(open_it(root, tmp_path).index.joints3d, first.index.joints3d)


def test_people_out_of_sight_are_left_out(root: Path, people: People, tmp_path: Path) -> None:
    file = root / NAME / "hdPose3d_stage1_coco19" / "body3DScene_00000010.json"
    scene = json.loads(file.read_text())
    labels = np.array(scene["bodies"][0]["joints19"]).reshape(19, 4)
    labels[5:, 3] = 0.05  # five joints left
    scene["bodies"][0]["joints19"] = labels.ravel().tolist()
    moved = np.array(scene["bodies"][1]["joints19"]).reshape(19, 4)
    moved[:, :3] += 100 * -2 * people.world_to_camera[0, 0, :3, :3].T @ [0, 0, 3.6]  # behind camera 16
    scene["bodies"][1]["joints19"] = moved.ravel().tolist()
    file.write_text(json.dumps(scene))
    ids = list(open_it(root, tmp_path, cameras=[16]).index.ids)
    assert ids == [f"panoptic/{NAME}/00_16/00000020/3", f"panoptic/{NAME}/00_16/00000020/4"]
    file.write_text(json.dumps({"bodies": []}))  # nobody there
    assert len(open_it(root, tmp_path, cameras=[16]).index) == 2


def test_what_is_missing_or_damaged_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="no HD camera 31"):
        open_it(root, tmp_path, cameras=[31])
    with pytest.raises(PosesynError, match="no camera 00_02"):
        open_it(root, tmp_path, cameras=[2])
    (tmp_path / "empty").mkdir()
    with pytest.raises(PosesynError, match=r"no labels of panoptic \(pose\)"):
        open_it(tmp_path / "empty", tmp_path)
    file = root / NAME / "hdPose3d_stage1_coco19" / "body3DScene_00000010.json"
    content = file.read_text()
    for broken in ("", content[:300], "[]", '{"bodies": [{"id": 0, "joints19": [1, 2]}]}'):
        file.write_text(broken)
        with pytest.raises(PosesynError, match=r"body3DScene_00000010.json( is damaged|: joints19)"):
            open_it(root, tmp_path)
    file.write_text('{"bodies": [{"id": 0, "joints15": []}]}')
    with pytest.raises(PosesynError, match="has no joints19"):
        open_it(root, tmp_path)
    file.write_text(content)
    calibration = root / NAME / f"calibration_{NAME}.json"
    kept = calibration.read_text()
    calibration.write_text(kept[:100])
    with pytest.raises(PosesynError, match=r"calibration_171204_pose1.json is damaged"):
        open_it(root, tmp_path)
    calibration.write_text(kept)
    shutil.rmtree(root / NAME / "hdImgs" / "00_30")
    with pytest.raises(PosesynError, match=r"neither .*hdImgs/00_30 nor .*hd_00_30.mp4"):
        open_it(root, tmp_path)
    shutil.rmtree(root / NAME / "hdPose3d_stage1_coco19")
    with pytest.raises(PosesynError, match=r"neither .*hdPose3d_stage1_coco19 .* nor .*tar"):
        open_it(root, tmp_path)


def test_a_hostile_archive_is_refused(root: Path, tmp_path: Path) -> None:
    folder = root / NAME / "hdPose3d_stage1_coco19"
    with tarfile.open(root / NAME / "hdPose3d_stage1_coco19.tar", "w") as archive:
        archive.add(folder / "body3DScene_00000010.json", "../../../body3DScene_00000010.json")
    shutil.rmtree(folder)
    with pytest.raises(PosesynError, match="not below"):
        open_it(root, tmp_path)


def test_real_frames(shared_data: Path, tmp_path: Path) -> None:
    """Two frames of a band: where the labels project to is inside of the camera's picture."""
    name = "160906_band1"
    shutil.copytree(shared_data / "samples" / "panoptic_body3d" / name, tmp_path / "root" / name)
    for camera in (3, 16):
        folder = tmp_path / "root" / name / "hdImgs" / f"00_{camera:02d}"
        folder.mkdir(parents=True)
        for frame in (168, 169):
            blank = np.zeros((1080, 1920, 3), np.uint8)
            cv2.imwrite(str(folder / f"00_{camera:02d}_{frame:08d}.jpg"), blank)
    reader = open_it(tmp_path / "root", tmp_path, split="all", cameras=[3, 16], every=1)
    index = reader.index
    assert len(index) >= 6
    assert set(index.extras["frame"]) == {168, 169}
    neck = PANOPTIC19.index("mid_shoulders")
    knee = PANOPTIC19.index("left_knee")
    down = index.extras["native2d"][:, knee, 1] - index.extras["native2d"][:, neck, 1]
    both = (index.extras["native2d"][:, [knee, neck], 2] > 0).all(1)
    assert both.sum() >= 4
    assert (down[both] > 50).all()  # knees below necks: y points down
    shoulders = index.extras["native3d"][:, PANOPTIC19.indices("left_shoulder", "right_shoulder"), :3]
    width = np.linalg.norm(shoulders[:, 0] - shoulders[:, 1], axis=1)
    assert ((width > 0.2) & (width < 0.5)).all()  # metres
    unlabelled = index.extras["native3d"][:, PANOPTIC19.index("left_ankle"), 3] == 0
    assert unlabelled.any()  # -1 in the file
