"""OCHuman: the official file and COCO's style name the same persons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.ochuman import OcHumanReader
from human.errors import PosesynError
from tests.datamodules.readers.ugly import (
    check_damage_is_named,
    check_index_is_kept,
    check_pictures,
    check_wrong_root,
)
from tests.datasets import ochuman
from tests.datasets.people import People, make_people


@pytest.fixture(scope="module")
def people() -> People:
    return make_people(("neutral", "neutral"), frames=3, kind="free")


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("form", ["coco", "mmpose", "official"])
def test_labels_are_what_was_written(tmp_path: Path, people: People, form: str, split: str) -> None:
    truth = ochuman.write(tmp_path, people, form, split)
    reader = OcHumanReader(tmp_path, split, cache=tmp_path / "cache")
    index = reader.index
    assert list(index.ids) == [f"ochuman/{n[:-4]}/{i % 2}" for i, n in enumerate(truth.names)]
    native = index.extras["native2d"]
    np.testing.assert_array_equal(native[..., 2], truth.visible > 0)
    np.testing.assert_allclose(native[..., :2], truth.joints * (truth.visible > 0)[..., None], atol=1e-4)
    np.testing.assert_array_equal(index.extras["state"], truth.visible)
    np.testing.assert_allclose(index.bbox_xyxy[:, 2:] - index.bbox_xyxy[:, :2], truth.bbox[:, 2:], atol=1e-4)
    np.testing.assert_allclose(index.extras["area"], truth.area, rtol=1e-6)
    assert (index.people == 2).all()
    check_pictures(reader)


def test_the_official_file_alone_has_no_test_split_in_its_first_2500_pictures(tmp_path: Path, people: People) -> None:
    ochuman.write(tmp_path, people, "official", "val")
    with pytest.raises(PosesynError, match="no persons of the split test"):
        OcHumanReader(tmp_path, "test", cache=tmp_path / "cache")


@pytest.mark.parametrize("form", ["coco", "official"])
def test_ugly_files(tmp_path: Path, people: People, form: str) -> None:
    root = tmp_path / "ochuman"
    ochuman.write(root, people, form)
    labels = next(root.glob("*.json"))

    def make() -> OcHumanReader:
        return OcHumanReader(root, "val", cache=tmp_path / "cache")

    check_index_is_kept(make, labels)
    check_damage_is_named(make, labels)
    check_wrong_root(OcHumanReader, tmp_path)
    (root / "images").rename(root / "pictures")
    with pytest.raises(PosesynError, match="no pictures of ochuman"):
        make()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["images"][1].update(file_name="/etc/passwd"), "not below the data set's root"),
        (lambda c: c["keypoint_names"].remove("nose"), "not laid out as OCHuman"),
        (lambda c: c["images"][1]["annotations"][1]["keypoints"].__setitem__(2, 9), "flags other than 0, 1, 2, 3"),
        (lambda c: c["images"][1]["annotations"][1]["keypoints"].pop(), "keypoints"),
        (lambda c: c.pop("images"), "not laid out as OCHuman"),
    ],
)
def test_labels_that_are_not_ochumans(tmp_path: Path, people: People, change, said: str) -> None:  # type: ignore[no-untyped-def]
    ochuman.write(tmp_path, people, "official")
    path = tmp_path / "ochuman.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(PosesynError, match=said) as caught:
        OcHumanReader(tmp_path, "val", cache=tmp_path / "cache")
    assert "ochuman.json" in str(caught.value)
