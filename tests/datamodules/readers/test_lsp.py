"""LSP, and LSPET whole: every joint where it was written, the third number in its set's meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from datamodules.readers.hr_lspet import HrLspetReader
from datamodules.readers.lsp import LspReader
from human.errors import PosesynError
from tests.datamodules.readers.ugly import (
    check_damage_is_named,
    check_index_is_kept,
    check_pictures,
    check_wrong_root,
)
from tests.datasets import lsp
from tests.datasets.people import People, make_people


@pytest.fixture(scope="module")
def people() -> People:
    return make_people(("neutral",), frames=3, cameras=2, kind="free")


@pytest.mark.parametrize(("split", "first"), [("train", 1), ("test", 1001)])
def test_lsp(tmp_path: Path, people: People, split: str, first: int) -> None:
    truth = lsp.write_lsp(tmp_path, people, first)
    reader = LspReader(tmp_path, split, cache=tmp_path / "cache")
    native = reader.index.extras["native2d"]
    np.testing.assert_allclose(native[..., :2], truth, atol=1e-4)
    assert (native[..., 2] == 1).all()  # occluded joints are labels
    state = np.zeros((6, 14))
    for row, joint in lsp.HIDDEN:
        state[row, joint] = 1
    np.testing.assert_array_equal(reader.index.extras["state"], state)
    assert list(reader.index.ids)[:2] == [f"lsp/{first:04d}", f"lsp/{first + 1:04d}"]
    check_pictures(reader)


def test_lsp_has_no_such_pictures_yet(tmp_path: Path, people: People) -> None:
    lsp.write_lsp(tmp_path, people)
    with pytest.raises(PosesynError, match="has no usable person"):
        LspReader(tmp_path, "test", cache=tmp_path / "cache")


@pytest.mark.parametrize("high_resolution", [True, False])
def test_lspet(tmp_path: Path, people: People, high_resolution: bool) -> None:
    truth = lsp.write_lspet(tmp_path, people, high_resolution)
    reader = HrLspetReader(tmp_path, cache=tmp_path / "cache")
    native = reader.index.extras["native2d"]
    expected = np.concatenate([truth, np.ones((6, 14, 1))], -1)
    for row, joint in lsp.HIDDEN:
        expected[row, joint] = 0
    np.testing.assert_allclose(native, expected, atol=1e-4)
    check_pictures(reader)
    junk = HrLspetReader(tmp_path, "hmr2", cache=tmp_path / "cache").index
    assert (junk.extras["native2d"][..., 2] == 1).all()
    assert junk.extras["native2d"][0, 3].tolist() == [-52, -33, 1]
    assert junk.bbox_xyxy[0, 0] == -52  # 4D-Humans' box holds the junk too


def test_a_person_of_whom_nothing_is_labelled_is_left_out(tmp_path: Path, people: People) -> None:
    lsp.write_lspet(tmp_path, people)
    joints = loadmat(tmp_path / "joints.mat")["joints"]
    joints[:, 2, 1] = 0
    joints[4, 0, 2] = np.nan
    savemat(tmp_path / "joints.mat", {"joints": joints})
    index = HrLspetReader(tmp_path, cache=tmp_path / "cache").index
    assert list(index.ids) == [f"hr_lspet/{n:05d}" for n in (1, 3, 4, 5, 6)]
    assert index.extras["native2d"][1, 4, 2] == 0


@pytest.mark.parametrize(("reader", "write"), [(LspReader, lsp.write_lsp), (HrLspetReader, lsp.write_lspet)])
def test_ugly_files(tmp_path: Path, people: People, reader: type[LspReader], write) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path / "data"
    write(root, people)

    def make() -> LspReader:
        return reader(root, cache=tmp_path / "cache")

    check_index_is_kept(make, root / "joints.mat")
    check_damage_is_named(make, root / "joints.mat")
    check_wrong_root(reader, tmp_path)
    for picture in [*root.glob("im*.png"), *root.glob("images")]:
        picture.rename(picture.with_name(f"_{picture.name}"))
    with pytest.raises(PosesynError, match=f"no pictures of {reader.name}"):
        make()


def test_one_set_is_not_taken_for_the_other(tmp_path: Path, people: People) -> None:
    lsp.write_lsp(tmp_path / "lsp", people)
    lsp.write_lspet(tmp_path / "lspet", people, high_resolution=False)
    with pytest.raises(PosesynError, match="layout of LSPET"):
        LspReader(tmp_path / "lspet", cache=tmp_path / "cache")
    with pytest.raises(PosesynError, match="layout of LSP,"):
        HrLspetReader(tmp_path / "lsp", cache=tmp_path / "cache")


def test_real_lspet(shared_data: Path, tmp_path: Path) -> None:
    """6,000 of the 10,000: labelled joints of the file, counted from it."""
    joints = loadmat(shared_data / "lspet" / "joints.mat")["joints"]
    usable = (joints[:, 2] == 1).sum(0) >= 2
    reader = HrLspetReader(shared_data / "lspet", cache=tmp_path)
    assert len(reader.index) == usable.sum() > 5900
    assert (reader.index.extras["native2d"][..., 2] > 0).sum() == (joints[:, 2] == 1)[:, usable].sum()
    picture = reader.read_image(10)
    points = reader.index.joints2d[10]
    assert (points[points[:, 2] > 0, :2] < picture.shape[1::-1]).all()
    assert len(HrLspetReader(shared_data / "lspet", "hmr2", cache=tmp_path).index) == 6000
