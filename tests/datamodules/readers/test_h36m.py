"""Human3.6M: the release's layout and 3DMPPE's, read back to the truth they were written from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datamodules.readers.base import make_reader
from datamodules.readers.h36m import H36mReader
from datamodules.readers.h36m_cameras import CAMERAS, read_cameras
from human.errors import PosesynError
from human.safe_pickle import ArrayFile
from tests.datasets import h36m
from tests.datasets.people import People, make_people
from tests.datasets.regressed import h36m_joints

pytestmark = pytest.mark.usefixtures("body_files")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("neutral", "neutral"), frames=2, cameras=2, size=(160, 128))


@pytest.fixture(scope="module")
def written(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("h36m")
    h36m.write(root, people)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(written, tmp_path / "h36m"))


def open_it(root: Path, tmp_path: Path, **options: Any) -> H36mReader:
    reader = make_reader("h36m", {"root": root, "cache": tmp_path / "cache", "split": "test", **options})
    assert isinstance(reader, H36mReader)
    return reader


def test_the_release_reads_back_to_the_truth(written: Path, people: People, tmp_path: Path) -> None:
    reader = open_it(written, tmp_path)
    index = reader.index
    assert len(index) == 2 * 2 * 2  # subjects, cameras, frames 0 and 5 of 10
    assert index.ids[0] == "h36m/S9/Directions_1/54138969/000000"
    for i, name in enumerate(index.ids):
        _, subject, _, camera, frame = name.split("/")
        k, c, f = (9, 11).index(int(subject[1:])), CAMERAS.index(camera), int(frame) // 5
        truth = people.to_camera(c, h36m_joints(people, k))[f]
        assert np.abs(index.extras["native3d"][i, :, :3] - truth).max() < 1e-5
        pixels = h36m.cameras(people)[c].project(truth)
        assert np.abs(index.extras["native2d"][i, :, :2] - pixels).max() < 1e-4
        assert np.abs(pixels - people.project(c, truth)).max() > 0.05  # the lens matters
        assert np.abs(index.intrinsics[i] - people.intrinsics[c]).max() < 1e-4
        assert np.abs(index.extras["camera"][i] - people.world_to_camera[c, 0]).max() < 1e-6
        assert index.extras["sequence"][i] == 10000 * int(subject[1:]) + 200 + 60 + c + 1
        assert (index.extras["frame"][i], index.extras["group"][i]) == (int(frame), 2)
        picture = reader.read_image(i).astype(int)
        assert np.abs(picture - people.picture(c, f)).mean() < 8  # as good as the codec
    assert (index.extras["native3d"][..., 3] == 1).all()
    assert len(H36mReader.list_labels(written, "test")) == 4  # nothing is read for that


def test_labels_in_the_picture_are_used_before_the_lens(people: People, tmp_path: Path) -> None:
    h36m.write(tmp_path / "flat", people, calibration="", flat=True)
    h36m.write(tmp_path / "json", people, calibration="camera-parameters.json", pictures=False)
    shutil.copytree(tmp_path / "flat" / "S9" / "Videos", tmp_path / "json" / "S9" / "Videos")
    flat = open_it(tmp_path / "flat", tmp_path, subjects=[9])
    lens = open_it(tmp_path / "json", tmp_path, subjects=[9])
    assert np.isnan(flat.index.intrinsics).all()
    assert np.abs(flat.index.extras["native2d"] - lens.index.extras["native2d"]).max() < 1e-4
    assert np.isfinite(lens.index.intrinsics).all()


def test_frames_are_chosen(written: Path, tmp_path: Path) -> None:
    assert len(open_it(written, tmp_path, every=1).index) == 2 * 2 * 10
    assert len(open_it(written, tmp_path, every=1, subjects=[9]).index) == 2 * 10
    assert set(open_it(written, tmp_path, every=3).index.extras["frame"]) == {0, 3, 6, 9}
    with pytest.raises(PosesynError, match="every=0"):
        open_it(written, tmp_path, every=0)
    with pytest.raises(PosesynError, match="no subject 1"):
        open_it(written, tmp_path, subjects=[1])


@pytest.mark.parametrize("layout", ["spin", "mmhuman3d", "posepile"])
def test_cut_pictures_come_before_the_video(root: Path, people: People, tmp_path: Path, layout: str) -> None:
    for c, camera in enumerate(CAMERAS[:2]):
        name = f"S9_Directions_1.{camera}"
        path = {
            "spin": root / "images" / f"{name}_000006.jpg",
            "mmhuman3d": root / "S9" / "images" / name / f"{name}_000006.jpg",
            "posepile": root / "S9" / "Images" / f"Directions 1.{camera}" / "frame_000005.jpg",
        }[layout]
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), people.picture(c, 1)[..., ::-1])
    reader = open_it(root, tmp_path, subjects=[9])
    assert list(reader.index.extras["frame"]) == [5, 5]  # only what was cut
    assert reader.pictures[0].endswith(".jpg")
    assert np.abs(reader.read_image(0).astype(int) - people.picture(0, 1)).mean() < 6


def test_3dmppe_reads_back_to_the_truth(people: People, tmp_path: Path) -> None:
    h36m.write_json(tmp_path / "root", people, hold=64)
    reader = open_it(tmp_path / "root", tmp_path)
    assert len(reader.index) == 8
    for i, name in enumerate(reader.index.ids):
        _, subject, _, camera, frame = name.split("/")
        k, c, f = (9, 11).index(int(subject[1:])), int(camera[3:]) - 1, int(frame) // 64
        truth = people.to_camera(c, h36m_joints(people, k))[f]
        assert np.abs(reader.index.extras["native3d"][i, :, :3] - truth).max() < 1e-5
        assert np.abs(reader.index.extras["native2d"][i, :, :2] - people.project(c, truth)).max() < 1e-4
        assert reader.index.extras["sequence"][i] == 10000 * int(subject[1:]) + 200 + 10 + c + 1
        assert np.abs(reader.read_image(i).astype(int) - people.picture(c, f)).mean() < 6


def test_fits_are_turned_into_the_cameras_frame(people: People, tmp_path: Path) -> None:
    root = tmp_path / "root"
    h36m.write_json(root, people)
    reader = open_it(root, tmp_path, fits=True)
    assert reader.body == "smpl"
    for i, name in enumerate(reader.index.ids):
        _, subject, _, camera, frame = name.split("/")
        k, c, f = (9, 11).index(int(subject[1:])), int(camera[3:]) - 1, int(frame) // 5
        extras = reader.index.extras
        assert np.abs(extras["pose"][i, 0] - people.camera_orient(c, k)[f]).max() < 1e-5
        assert np.abs(extras["pose"][i, 1:] - people.body_pose[k, f]).max() < 1e-6
        assert np.abs(extras["transl"][i] - people.camera_transl(c, k)[f]).max() < 1e-5
        assert np.abs(extras["betas"][i] - people.betas[k]).max() < 1e-6
    file = root / "annotations" / "Human36M_subject9_smpl_param.json"
    fits = json.loads(file.read_text())
    del fits["2"]["1"]["5"]
    file.write_text(json.dumps(fits))
    without = open_it(root, tmp_path, fits=True)
    assert len(without.index) == len(reader.index) - 2  # a frame before two cameras
    assert len(open_it(root, tmp_path).index) == len(reader.index)
    file.unlink()
    with pytest.raises(PosesynError, match=r"Human36M_subject9_smpl_param.json"):
        open_it(root, tmp_path, fits=True)


def test_the_release_has_no_fits(written: Path, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="fits are 3DMPPE's"):
        open_it(written, tmp_path, fits=True)


def test_the_index_is_made_once_and_again_when_labels_change(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_it(root, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(H36mReader, "scan", lambda *_: pytest.fail("scanned again"))
        again = open_it(root, tmp_path)
        assert np.array_equal(again.index.joints3d, first.index.joints3d)
        assert isinstance(again.index.joints3d.base, np.memmap)
    shutil.copy(
        root / "S9/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf",
        root / "S11/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf",
    )
    changed = open_it(root, tmp_path)
    assert changed.folder != first.folder
    assert not np.array_equal(changed.index.joints3d, first.index.joints3d)
    (root / "metadata.xml").write_text((root / "metadata.xml").read_text() + "\n")
    assert open_it(root, tmp_path).folder != changed.folder  # the cameras are part of it


def test_what_is_missing_or_damaged_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match=r"no \*.cdf in .*S1.*vision.imar.ro"):
        open_it(root, tmp_path, split="train")
    with pytest.raises(PosesynError, match=r"no folder .*nowhere"):
        open_it(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PosesynError, match="S9"):
        open_it(tmp_path / "empty", tmp_path)
    labels = root / "S9/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf"
    content = labels.read_bytes()
    for cut in (0, 100, len(content) // 2):
        labels.write_bytes(content[:cut])
        with pytest.raises(PosesynError, match=r"Directions 1.54138969.cdf is (empty|damaged)"):
            open_it(root, tmp_path)
    h36m.write_cdf(labels, np.zeros((3, 51)))
    with pytest.raises(PosesynError, match=r"not \(1, F, 96\)"):
        open_it(root, tmp_path)
    labels.write_bytes(content)
    labels.rename(labels.with_name("Dancing.54138969.cdf"))
    with pytest.raises(PosesynError, match=r"Dancing.54138969.cdf is no file of Human3.6M"):
        open_it(root, tmp_path)


def test_half_a_download_is_named(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "S11" / "Videos")
    with pytest.raises(PosesynError, match=r"S11/Videos/Directions 1.54138969.mp4 is missing"):
        open_it(root, tmp_path)
    (root / "metadata.xml").unlink()
    with pytest.raises(PosesynError, match=r"no calibration below .*metadata.xml"):
        open_it(root, tmp_path)
    (root / "metadata.xml").write_text("<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a><w0>[&b;]</w0></a>")
    with pytest.raises(PosesynError, match="DOCTYPE"):
        open_it(root, tmp_path)
    (root / "metadata.xml").write_text("<a><w0>[1 2 3]</w0></a>")
    with pytest.raises(PosesynError, match="camera list"):
        open_it(root, tmp_path)


def test_hostile_and_damaged_json(people: People, tmp_path: Path) -> None:
    root = tmp_path / "root"
    h36m.write_json(root, people)
    data = root / "annotations" / "Human36M_subject9_data.json"
    content = json.loads(data.read_text())
    content["images"][0]["file_name"] = "../../secret.jpg"
    data.write_text(json.dumps(content))
    with pytest.raises(PosesynError, match=r"secret.jpg', which is not below"):
        open_it(root, tmp_path)
    del content["images"][0]["file_name"]
    data.write_text(json.dumps(content))
    with pytest.raises(PosesynError, match="not as 3DMPPE writes it"):
        open_it(root, tmp_path)
    data.write_text(data.read_text()[:500])
    with pytest.raises(PosesynError, match=r"Human36M_subject9_data.json is damaged"):
        open_it(root, tmp_path)
    (root / "annotations" / "Human36M_subject11_camera.json").unlink()
    with pytest.raises(PosesynError, match=r"Human36M_subject11_camera.json"):
        open_it(root, tmp_path, subjects=[11])


def test_the_lens_meets_real_labels(shared_data: Path) -> None:
    """Labels of four real pictures are projections by the release's cameras, its lens included."""
    samples = shared_data / "samples"
    cameras = read_cameras(samples / "h36m_cameras" / "camera-parameters.json")
    assert len(cameras) == 44
    labels = ArrayFile(samples / "h36m" / "test_h36m_body3d.npz")
    for name, points, pixels in zip(labels["imgname"], labels["S"], labels["part"], strict=True):
        subject, folder, _ = str(name).split("/")
        camera = cameras[int(subject[1:]), folder.split(".")[1]]
        assert np.abs(camera.project(points[:, :3]) - pixels[:, :2]).max() < 1e-4
        straight = points[:, :3] @ camera.intrinsics.T
        assert np.abs(straight[:, :2] / straight[:, 2:] - pixels[:, :2]).max() > 1


def test_the_release_and_its_copy_have_the_same_cameras(people: People, tmp_path: Path) -> None:
    views = h36m.cameras(people)
    h36m.write_metadata(tmp_path / "metadata.xml", views)
    h36m.write_parameters(tmp_path / "camera-parameters.json", views)
    one, other = read_cameras(tmp_path / "metadata.xml"), read_cameras(tmp_path / "camera-parameters.json")
    assert one.keys() == other.keys()
    for key, camera in one.items():
        for name in ("matrix", "intrinsics", "lens"):
            assert np.abs(getattr(camera, name) - getattr(other[key], name)).max() < 1e-9
