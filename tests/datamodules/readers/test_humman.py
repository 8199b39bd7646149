"""HuMMan: both subsets, read back to the truth they were written from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.readers.base import make_reader
from datamodules.readers.humman import HummanReader
from human.body import load_body
from human.errors import PosesynError
from tests.datasets import humman
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("neutral", "neutral"), frames=2, cameras=2, size=(160, 128))


@pytest.fixture(scope="module")
def written(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("humman")
    humman.write(root, people)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(written, tmp_path / "humman"))


def open_it(root: Path, tmp_path: Path, **options: Any) -> HummanReader:
    options = {"root": root, "cache": tmp_path / "cache", "split": "test", "cameras": [0, 1], **options}
    reader = make_reader("humman", options)
    assert isinstance(reader, HummanReader)
    return reader


def check(reader: HummanReader, people: People, tolerance: float) -> None:
    index = reader.index
    assert len(index) == 2 * 2 * 2
    body = load_body("smpl").double()
    for i, name in enumerate(index.ids):
        _, sequence, camera, frame = name.split("/")
        p, c, f = int(sequence[1:7]) - 455, int(camera[-3:]), int(frame) // 6
        truth = people.joints(c, p)[f, :24]
        extras = index.extras
        assert np.abs(extras["native3d"][i, :, :3] - truth).max() < 1e-5
        assert np.abs(extras["native2d"][i, :, :2] - people.pixels(c, p)[f, :24]).max() < 1e-3
        assert np.abs(index.intrinsics[i] - people.intrinsics[c]).max() < 1e-4
        # The body stands where the joints are: rotation about the pelvis and translation are the camera's.
        pose = torch.from_numpy(extras["pose"][i].astype(np.float64))[None]
        betas, transl = (torch.from_numpy(extras[k][i].astype(np.float64))[None] for k in ("betas", "transl"))
        stood = body(betas, pose[:, 1:], pose[:, 0], transl).joints[0, :24].numpy()
        assert np.abs(stood - truth).max() < 1e-5
        assert np.abs(extras["transl"][i] - people.camera_transl(c, p)[f]).max() < 1e-5
        assert np.abs(extras["camera"][i] - people.world_to_camera[c, 0]).max() < 1e-6
        assert (extras["frame"][i], extras["group"][i], extras["gender"][i]) == (6 * f, c, 0)
        assert np.abs(reader.read_image(i).astype(int) - people.picture(c, f)).mean() < tolerance


def test_recon_reads_back_to_the_truth(written: Path, people: People, tmp_path: Path) -> None:
    check(open_it(written, tmp_path), people, 1e-9)
    assert [len(HummanReader.list_labels(written, split)) for split in HummanReader.splits] == [1, 2, 2]
    assert len(open_it(written, tmp_path, split="train").index) == 4
    assert len(open_it(written, tmp_path, split="all", cameras=[1]).index) == 4


def test_point_reads_back_to_the_truth(people: People, tmp_path: Path) -> None:
    humman.write(tmp_path / "root", people, "point", lists=False)
    check(open_it(tmp_path / "root", tmp_path, split="all"), people, 8)
    assert len(open_it(tmp_path / "root", tmp_path, split="all", every=4).index) == 2 * 2 * 3


def test_the_index_is_made_once_and_again_when_labels_change(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_it(root, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(HummanReader, "scan", lambda *_: pytest.fail("scanned again"))
        assert np.array_equal(open_it(root, tmp_path).index.joints3d, first.index.joints3d)
    folder = root / humman.sequence(0) / "smpl_params"
    shutil.copy(folder / "000006.npz", folder / "000000.npz")
    assert not np.array_equal(open_it(root, tmp_path).index.joints3d, first.index.joints3d)


def test_what_is_missing_damaged_or_hostile_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="no camera 10"):
        open_it(root, tmp_path, cameras=[10])
    with pytest.raises(PosesynError, match="has no camera kinect_color_002"):
        open_it(root, tmp_path, cameras=[2])
    folder = root / humman.sequence(0)
    file = folder / "smpl_params" / "000000.npz"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(PosesynError, match=r"000000.npz"):
        open_it(root, tmp_path)
    np.savez(file, betas=np.zeros(10))
    with pytest.raises(PosesynError, match=r"000000.npz has no 'global_orient'"):
        open_it(root, tmp_path)
    np.savez(file, betas=np.zeros(9), body_pose=np.zeros(69), global_orient=np.zeros(3), transl=np.zeros(3))
    with pytest.raises(PosesynError, match=r"betas has the shape \(9,\)"):
        open_it(root, tmp_path)
    file.write_bytes(content)
    (root / "test.txt").write_text("../../etc\n")
    with pytest.raises(PosesynError, match=r"test.txt names the sequence"):
        open_it(root, tmp_path)
    (root / "test.txt").write_text("p000001_a000001\n")
    with pytest.raises(PosesynError, match=r"no label file .*p000001_a000001/cameras.json"):
        open_it(root, tmp_path)
    (root / "test.txt").unlink()
    with pytest.raises(PosesynError, match=r"no label file .*test.txt"):
        open_it(root, tmp_path)
    shutil.rmtree(folder / "kinect_color" / "kinect_001")
    with pytest.raises(PosesynError, match=r"neither pictures in .*kinect_001 nor"):
        open_it(root, tmp_path, split="train")
    shutil.rmtree(folder / "smpl_params")
    with pytest.raises(PosesynError, match=r"no bodies in .*smpl_params"):
        open_it(root, tmp_path, split="train")
    (folder / "cameras.json").write_text("{")
    with pytest.raises(PosesynError, match=r"cameras.json is damaged"):
        open_it(root, tmp_path, split="train")


def test_a_person_without_numbers_is_left_out(root: Path, tmp_path: Path) -> None:
    file = root / humman.sequence(1) / "smpl_params" / "000006.npz"
    row = dict(np.load(file).items())
    np.savez(file, **{**row, "transl": np.full(3, np.nan, np.float32)})
    assert len(open_it(root, tmp_path).index) == 6
