"""MPII: three forms of the same labels give the same persons; the published 2,958 validation persons are read."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from datamodules.crops import CropSet
from datamodules.mining import JoinedCrops
from datamodules.readers.base import coded, decoded
from datamodules.readers.mpii import MpiiReader
from human.errors import PosesynError
from human.skeleton import MPII16, POSE32
from tests.datamodules.readers.ugly import (
    check_damage_is_named,
    check_index_is_kept,
    check_pictures,
    check_wrong_root,
)
from tests.datasets import mpii
from tests.datasets.people import People, make_people

FORMS = {"mat": "trainval", "json": "val", "h5": "val"}
FILE = {"mat": "mpii_human_pose_v1_u12_1.mat", "json": "annot/valid.json", "h5": "annot/valid.h5"}


@pytest.fixture(scope="module")
def people() -> People:
    return make_people(("neutral", "neutral"), frames=3, kind="free")


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_what_was_written(tmp_path: Path, people: People, form: str) -> None:
    truth = mpii.write(tmp_path, people, form)
    reader = MpiiReader(tmp_path, FORMS[form], cache=tmp_path / "cache")
    index, n = reader.index, len(truth.names)
    assert list(index.ids)[:n] == [f"mpii/{name[:-4]}/{p}" for name, p in zip(truth.names, truth.person, strict=True)]
    native = index.extras["native2d"][:n]
    np.testing.assert_array_equal(native[..., 2] > 0, truth.labelled)
    np.testing.assert_allclose(native[..., :2], truth.joints * truth.labelled[..., None], atol=1e-4)
    for j, joint in enumerate(MPII16.joints):
        np.testing.assert_array_equal(index.joints2d[:n, POSE32.index(joint)], native[:, j])
    state = index.extras["state"][:n]
    if form != "json":
        flagged = [j for j in range(16) if j not in (8, 9)]
        np.testing.assert_array_equal(state[:, flagged], np.where(truth.labelled, truth.visible, -1)[:, flagged])
    else:
        np.testing.assert_array_equal(state, truth.labelled)
    square = np.concatenate([truth.position, 250 * truth.scale[:, None]], 1)
    square[:, 1] += 15 * truth.scale
    np.testing.assert_allclose(index.extras["crop"][:n], square, rtol=1e-5)
    if form != "h5":
        np.testing.assert_array_equal(index.extras["head_box"][:n], truth.head_box)
    diagonal = np.linalg.norm(truth.head_box[:, 2:] - truth.head_box[:, :2], axis=1)
    np.testing.assert_allclose(index.extras["head_size"][:n], 0.6 * diagonal, rtol=1e-6)
    assert (index.people == 2).all()
    assert np.isnan(index.intrinsics).all()
    check_pictures(reader)


def test_official_file_keeps_bystanders_as_people_and_test_pictures_out(tmp_path: Path, people: People) -> None:
    """The bystander without joints makes his picture one of two people; withheld and empty pictures name nobody."""
    mpii.write(tmp_path, people, "mat")
    ids = list(MpiiReader(tmp_path, "trainval", cache=tmp_path / "cache").index.ids)
    assert ids[-1] == "mpii/000009001/0"
    assert len(ids) == 7


def test_activities_are_the_pictures_own(tmp_path: Path, people: People) -> None:
    """Only the official file names them; two persons of a picture do the same, pictures without a name say nothing."""
    truth = mpii.write(tmp_path, people, "mat")
    reader = MpiiReader(tmp_path, "trainval", cache=tmp_path / "cache")
    crops = CropSet(reader, 32, cache=tmp_path / "crops")
    pictures = list(dict.fromkeys(truth.names))
    said = dict(zip(pictures, mpii.ACTIVITIES, strict=False))
    assert crops.activities == [said.get(name, "") for name in truth.names] + [""]
    assert JoinedCrops([crops]).activities == crops.activities
    mpii.write(tmp_path, people, "json")
    other = CropSet(MpiiReader(tmp_path, "val", cache=tmp_path / "cache"), 32, cache=tmp_path / "crops")
    assert other.activities == [""] * len(other)


def test_activity_lists_that_do_not_fit_say_nothing(tmp_path: Path, people: People) -> None:
    mpii.write(tmp_path, people, "mat")
    content = loadmat(tmp_path / FILE["mat"])
    release = content["RELEASE"]
    release["act"][0, 0] = release["act"][0, 0][:, :2]
    savemat(tmp_path / FILE["mat"], {"RELEASE": release})
    index = MpiiReader(tmp_path, "trainval", cache=tmp_path / "cache").index
    assert not index.extras["activity"].any()


def test_names_are_coded_whole_letters() -> None:
    names = ["", "x" * 70, "é" * 40, "tennis"]
    assert decoded(coded(names)) == ["", "x" * 64, "é" * 32, "tennis"]


def test_mmpose_layout(tmp_path: Path, people: People) -> None:
    truth = mpii.write(tmp_path, people, "json", mmpose=True)
    index = MpiiReader(tmp_path, "val", cache=tmp_path / "cache").index
    np.testing.assert_array_equal(index.extras["head_box"], truth.head_box)


def test_forms_are_chosen_by_the_user_or_found(tmp_path: Path, people: People) -> None:
    mpii.write(tmp_path, people, "h5")
    mpii.write(tmp_path, people, "json")
    cache = tmp_path / "cache"
    assert "head_box" in MpiiReader(tmp_path, "val", cache=cache).index.extras
    assert "head_box" not in MpiiReader(tmp_path, "val", labels="h5", cache=cache).index.extras
    with pytest.raises(PosesynError, match="known: mat, json, h5"):
        MpiiReader(tmp_path, "val", labels="xml")
    with pytest.raises(PosesynError, match="no labels of mpii"):
        MpiiReader(tmp_path, "val", labels="mat")  # the official file has no such split
    with pytest.raises(PosesynError, match="no split 'test'"):
        MpiiReader(tmp_path, "test")


@pytest.mark.parametrize("form", FORMS)
def test_ugly_files(tmp_path: Path, people: People, form: str) -> None:
    root = tmp_path / "mpii"
    mpii.write(root, people, form)

    def make() -> MpiiReader:
        return MpiiReader(root, FORMS[form], cache=tmp_path / "cache")

    check_index_is_kept(make, root / FILE[form])
    check_damage_is_named(make, root / FILE[form])
    check_wrong_root(MpiiReader, tmp_path)
    (root / "images").rename(root / "pictures")
    with pytest.raises(PosesynError, match="no pictures of mpii"):
        make()


def test_head_boxes_must_be_there_and_of_the_same_persons(tmp_path: Path, people: People) -> None:
    mpii.write(tmp_path, people, "json")
    heads = tmp_path / "annot" / "gt_valid.mat"
    check_damage_is_named(lambda: MpiiReader(tmp_path, "val", cache=tmp_path / "cache"), heads)
    entries = json.loads((tmp_path / "annot" / "valid.json").read_text())
    (tmp_path / "annot" / "valid.json").write_text(json.dumps(entries[1:]))
    with pytest.raises(PosesynError, match="has 6 head boxes"):
        MpiiReader(tmp_path, "val", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": "../../etc/passwd"}, "not below the data set's root"),
        ({"joints": [[1, 2]] * 15}, "does not hold numbers|shape"),
        ({"joints": "no"}, "does not hold numbers|shape"),
        ({"center": None}, "does not hold numbers|shape"),
    ],
)
def test_json_that_is_not_mpii(tmp_path: Path, people: People, change: dict[str, object], said: str) -> None:
    mpii.write(tmp_path, people, "json", "train")
    path = tmp_path / "annot" / "train.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps([*entries[:-1], {**entries[-1], **change}]))
    with pytest.raises(PosesynError, match=said):
        MpiiReader(tmp_path, "train", cache=tmp_path / "cache")
    path.write_text(json.dumps([{"image": "a.jpg"}]))
    with pytest.raises(PosesynError, match="without 'joints'"):
        MpiiReader(tmp_path, "train", cache=tmp_path / "cache")


@pytest.mark.parametrize("number", [-1, 16])
def test_a_joint_that_mpii_does_not_have(tmp_path: Path, people: People, number: int) -> None:
    """A number below 0 would have been taken for a joint from the end."""
    mpii.write(tmp_path, people, "mat")
    path = tmp_path / "mpii_human_pose_v1_u12_1.mat"
    content = loadmat(path)
    points = content["RELEASE"]["annolist"][0, 0][0]["annorect"][0]["annopoints"][0][0][0][0][0][0]
    points[0]["id"] = np.array([[float(number)]])
    savemat(path, {"RELEASE": content["RELEASE"]})
    with pytest.raises(PosesynError, match=f"not laid out as MPII's release.*a joint of number {number}"):
        MpiiReader(tmp_path, "trainval", cache=tmp_path / "cache")
    savemat(path, {"RELEASE": {"annolist": 3, "img_train": 1}})
    with pytest.raises(PosesynError, match="not laid out as MPII's release"):
        MpiiReader(tmp_path, "trainval", cache=tmp_path / "cache")


def test_names_as_numbers_of_characters(tmp_path: Path, people: People) -> None:
    """The converter of stacked hourglass networks writes them so."""
    truth = mpii.write(tmp_path, people, "h5")
    with h5py.File(tmp_path / "annot" / "valid.h5", "a") as file:
        del file["imgname"]
        file["imgname"] = np.array([[*name.encode(), 0, 0, 0] for name in truth.names], np.float64)
    index = MpiiReader(tmp_path, "val", cache=tmp_path / "cache").index
    assert next(iter(index.ids)) == "mpii/000005000/0"


def test_nobody_labelled_and_not_finite(tmp_path: Path, people: People) -> None:
    """A person with one labelled joint is left out and counted; NaN is no label."""
    mpii.write(tmp_path, people, "json", "train")
    path = tmp_path / "annot" / "train.json"
    entries = json.loads(path.read_text())
    entries[0]["joints_vis"] = [1] + [0] * 15
    entries[1]["joints"][4] = [float("nan"), 3.0]
    path.write_text(json.dumps(entries))
    index = MpiiReader(tmp_path, "train", cache=tmp_path / "cache").index
    assert next(iter(index.ids)) == "mpii/000005000/1"
    assert len(index) == 5
    assert index.extras["native2d"][0, 4].tolist() == [0, 0, 0]


def test_real_validation_persons(shared_data: Path, tmp_path: Path) -> None:
    """2,958 persons, as every paper says; the real pictures' JSON has the same joints and squares."""
    folder = shared_data / "samples" / "mpii_val"
    reader = MpiiReader(folder, "val", cache=tmp_path)
    index = reader.index
    assert len(index) == 2958
    assert index.extras["head_size"].min() > 1
    assert int((index.extras["native2d"][..., 2] > 0).sum()) == 2958 * 16 - 3089
    root = tmp_path / "mpii"
    (root / "annot").mkdir(parents=True)
    (root / "annot" / "train.json").write_bytes((shared_data / "samples" / "mpii" / "test_mpii.json").read_bytes())
    (root / "images").symlink_to(shared_data / "samples" / "mpii")
    own = MpiiReader(root, "train", cache=tmp_path)
    assert len(own.index) == 5
    check_pictures(own)
    matched = 0
    for i in range(5):
        name = own.pictures[i].rsplit("/", 1)[1]
        rows = [k for k in range(len(index)) if reader.pictures[k].endswith(name)]
        distance = np.abs(index.extras["crop"][rows] - own.index.extras["crop"][i]).max(1)
        row = rows[int(distance.argmin())]
        assert distance.min() < 1e-3
        here, there = own.index.extras["native2d"][i], index.extras["native2d"][row]
        np.testing.assert_array_equal(here[:, 2], there[:, 2])
        assert np.abs(here - there).max() < 1  # the .h5 cut the heads' fractions off
        matched += 1
    assert matched == 5


def test_fixture_is_as_scipy_reads_the_official_file(tmp_path: Path, people: People) -> None:
    """The access that stacked hourglass's converter makes (src/misc/mpii.py) works on the fixture."""
    truth = mpii.write(tmp_path, people, "mat")
    release = loadmat(tmp_path / "mpii_human_pose_v1_u12_1.mat")["RELEASE"]
    rectangles = release["annolist"][0, 0][0]["annorect"][1]
    assert str(release["annolist"][0, 0][0]["image"][1][0]["name"][0][0]) == truth.names[2]
    assert rectangles["scale"][0][1][0][0] == pytest.approx(truth.scale[3])
    points = rectangles["annopoints"][0][1][0][0][0][0]
    assert points[0]["id"][0][0] == 0
    assert points[0]["x"][0][0] == pytest.approx(truth.joints[3, 0, 0] + 1)
    assert release["img_train"][0, 0][0].tolist() == [1, 1, 1, 1, 0, 1]
