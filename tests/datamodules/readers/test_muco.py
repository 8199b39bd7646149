"""MuCo-3DHP: read back to the truth it was written from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.readers.base import make_reader
from datamodules.readers.muco import MucoReader
from human.errors import PosesynError
from tests.datasets import muco
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("neutral", "neutral"), frames=2, size=(160, 128))


@pytest.fixture(scope="module")
def written(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("muco")
    muco.write(root, people)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(written, tmp_path / "muco"))


def open_it(root: Path, tmp_path: Path, **options: Any) -> MucoReader:
    reader = make_reader("muco", {"root": root, "cache": tmp_path / "cache", **options})
    assert isinstance(reader, MucoReader)
    return reader


def test_it_reads_back_to_the_truth(written: Path, people: People, tmp_path: Path) -> None:
    reader = open_it(written, tmp_path)
    index = reader.index
    assert list(index.ids) == [
        "muco/unaugmented_set/000001/0",
        "muco/unaugmented_set/000001/1",
        "muco/augmented_set/000002/0",
        "muco/augmented_set/000002/1",
    ]
    for i in range(4):
        f, p = divmod(i, 2)
        truth = muco.joints(people, p)[f]
        flat = people.project(0, truth[None])[0]
        assert np.abs(index.extras["native3d"][i, :, :3] - truth).max() < 1e-5
        seen = index.extras["native2d"][i, :, 2] > 0
        assert (seen == ((flat >= 0) & (flat < people.size)).all(1)).all()
        assert np.abs(index.extras["native2d"][i, seen, :2] - flat[seen]).max() < 1e-4
        assert np.abs(index.intrinsics[i] - people.intrinsics[0]).max() < 1e-4
        assert np.abs(index.bbox_xyxy[i] - [*flat.min(0), *flat.max(0)]).max() < 1e-4
        assert np.abs(reader.read_image(i).astype(int) - people.picture(0, f)).mean() < 6
    assert list(index.extras["person"]) == [0, 1, 0, 1]
    assert (index.people == 2).all()
    assert len(open_it(written, tmp_path, split="augmented").index) == 2


def test_fits(root: Path, people: People, tmp_path: Path) -> None:
    reader = open_it(root, tmp_path, fits=True)
    extras = reader.index.extras
    assert len(reader.index) == 4
    for i in range(4):
        f, p = divmod(i, 2)
        assert np.abs(extras["pose"][i, 0] - people.camera_orient(0, p)[f]).max() < 1e-5
        assert np.abs(extras["pose"][i, 1:] - people.body_pose[p, f]).max() < 1e-6
        assert np.abs(extras["transl"][i] - people.camera_transl(0, p)[f]).max() < 1e-5
        assert np.abs(extras["betas"][i] - people.betas[p]).max() < 1e-6
    fits = json.loads((root / "smpl_param.json").read_text())
    del fits["1"]
    (root / "smpl_param.json").write_text(json.dumps(fits))
    fewer = open_it(root, tmp_path, fits=True)
    assert len(fewer.index) == 3
    assert list(fewer.index.people) == [2, 2, 2]  # the one without a fit is still in the picture
    (root / "smpl_param.json").unlink()
    with pytest.raises(PosesynError, match=r"smpl_param.json"):
        open_it(root, tmp_path, fits=True)


def test_the_index_is_made_once_and_again_when_labels_change(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_it(root, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(MucoReader, "scan", lambda *_: pytest.fail("scanned again"))
        assert np.array_equal(open_it(root, tmp_path).index.joints3d, first.index.joints3d)
    labels = json.loads((root / "MuCo-3DHP.json").read_text())
    labels["annotations"].pop()
    (root / "MuCo-3DHP.json").write_text(json.dumps(labels))
    assert len(open_it(root, tmp_path).index) == 3


def test_what_is_missing_damaged_or_hostile_is_named(root: Path, tmp_path: Path) -> None:
    file = root / "MuCo-3DHP.json"
    content = file.read_text()
    labels = json.loads(content)
    file.write_text(content[:400])
    with pytest.raises(PosesynError, match=r"MuCo-3DHP.json is damaged"):
        open_it(root, tmp_path)
    file.write_text("[1, 2]")
    with pytest.raises(PosesynError, match=r"is no MuCo-3DHP.json"):
        open_it(root, tmp_path)
    labels["images"][0]["file_name"] = "/etc/passwd"
    file.write_text(json.dumps(labels))
    with pytest.raises(PosesynError, match="not below"):
        open_it(root, tmp_path)
    labels = json.loads(content)
    del labels["annotations"][1]["keypoints_cam"]
    file.write_text(json.dumps(labels))
    with pytest.raises(PosesynError, match="keypoints_cam"):
        open_it(root, tmp_path)
    labels = json.loads(content)
    labels["annotations"][1]["keypoints_img"].pop()
    file.write_text(json.dumps(labels))
    with pytest.raises(PosesynError, match="keypoints_img"):
        open_it(root, tmp_path)
    file.write_text(content)
    shutil.rmtree(root / "augmented_set")
    with pytest.raises(PosesynError, match=r"no pictures at .*augmented_set"):
        open_it(root, tmp_path)
    assert len(open_it(root, tmp_path, split="unaugmented").index) == 2
    file.unlink()
    with pytest.raises(PosesynError, match=r"no label file .*MuCo-3DHP.json"):
        open_it(root, tmp_path)
