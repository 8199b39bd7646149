"""SSP-3D: labels become the truth; what is missing, damaged or hostile is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from datamodules.readers import READERS
from datamodules.readers.ssp3d import Ssp3dReader
from human.errors import PosesynError
from human.skeleton import COCO17, POSE32
from tests.datasets import ssp3d
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return ssp3d.before_the_camera(make_people(("male", "female", "male"), frames=1, seed=4))


@pytest.fixture(scope="module")
def written(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ssp3d.write(tmp_path_factory.mktemp("ssp") / "ssp_3d", people)


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(written, tmp_path / "ssp_3d"))


def read(root: Path) -> Ssp3dReader:
    return Ssp3dReader(root, cache=root.parent / "cache")


def change(root: Path, people: People, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = dict(ssp3d.labels(people))
    edit(content)
    np.savez(root / "labels.npz", **content)


def test_labels_are_the_truth(root: Path, people: People) -> None:
    reader = read(root)
    assert READERS.get("ssp3d") is Ssp3dReader
    index = reader.index.validate()
    assert list(index.ids) == [f"ssp3d/{p:05d}-clip_{p}" for p in range(3)]
    extras = {name: np.array(column) for name, column in index.extras.items()}
    assert extras["gender"].tolist() == [1, 2, 1]
    for p in range(3):
        pixels = people.pixels(0, p)[0]
        np.testing.assert_allclose(extras["native2d"][p, :, :2], pixels[POSE32.indices(*COCO17.joints)], atol=1e-4)
        np.testing.assert_allclose(extras["native2d"][p, :, 2], 0.95)
        betas, pose, transl = (torch.from_numpy(extras[n][p : p + 1]).double() for n in ("betas", "pose", "transl"))
        posed = people.body(p)(betas, pose[:, 1:], pose[:, 0], transl)
        np.testing.assert_allclose(posed.joints[0].numpy(), people.joints(0, p)[0], atol=1e-5)
        seen = people.project(0, posed.joints.numpy())[0]
        np.testing.assert_allclose(seen, pixels, atol=5e-3)  # 1e-6 m at focal length 5000
        centre, side = extras["crop"][p, :2], extras["crop"][p, 2]
        np.testing.assert_allclose(index.bbox_xyxy[p], [*(centre - side / 2), *(centre + side / 2)], atol=1e-3)
        inside = pixels[POSE32.indices(*COCO17.joints)]
        assert (inside >= index.bbox_xyxy[p, :2] - 1e-3).all()
        assert (inside <= index.bbox_xyxy[p, 2:] + 1e-3).all()
    assert (index.joints3d[..., 3] == 0).all()
    np.testing.assert_allclose(index.intrinsics, people.intrinsics[[0, 0, 0]])


def test_pictures_and_silhouettes(root: Path, people: People) -> None:
    reader = read(root)
    for p in range(3):
        np.testing.assert_array_equal(reader.read_image(p), people.picture(0, 0))
        mask = reader.read_silhouette(p)
        np.testing.assert_array_equal(mask, ssp3d.silhouette(people, p))
        assert mask.any()
    path = root / "silhouettes" / "00001-clip_1.png"
    path.write_bytes(b"\x89PNG")
    with pytest.raises(PosesynError, match=r"cannot read the silhouette .*00001-clip_1\.png: it is damaged"):
        read(root)
    cv2.imwrite(str(path), np.zeros((100, 200), np.uint8))
    with pytest.raises(PosesynError, match=r"00001-clip_1\.png has 200 x 100 px, not 512 x 512"):
        read(root)
    path.unlink()
    with pytest.raises(PosesynError, match=r"cannot read the silhouette .*00001-clip_1\.png: there is no such file"):
        read(root)


def test_ugly_confidences(root: Path, people: People) -> None:
    def ugly(content: dict[str, Any]) -> None:
        content["joints2D"][0, :, 2] = np.linspace(-1, 2, 17)
        content["joints2D"][0, 16, 0] = np.nan

    change(root, people, ugly)
    conf = np.array(read(root).index.extras["native2d"])[0, :, 2]
    np.testing.assert_allclose(conf[:16], np.clip(np.linspace(-1, 2, 17), 0, 1)[:16], atol=1e-6)
    assert conf[16] == 0


def test_a_person_without_a_body_is_left_out(root: Path, people: People) -> None:
    change(root, people, lambda c: c["poses"][2].fill(np.inf))
    assert list(read(root).index.ids) == ["ssp3d/00000-clip_0", "ssp3d/00001-clip_1"]


def test_a_person_without_joints_is_left_out(root: Path, people: People, caplog: Any) -> None:
    change(root, people, lambda c: c["joints2D"][1].fill(0))
    assert list(read(root).index.ids) == ["ssp3d/00000-clip_0", "ssp3d/00002-clip_2"]
    assert "1 persons with fewer than 2 labelled joints" in caplog.text


def test_the_index_is_used_again_until_the_labels_change(
    root: Path, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(root)
    with monkeypatch.context() as patch:
        patch.setattr(Ssp3dReader, "scan", lambda *_: pytest.fail("scanned again"))
        assert read(root).folder == first.folder
    change(root, people, lambda c: c["shapes"].fill(0.5))
    assert np.unique(read(root).index.extras["betas"]).tolist() == [0.5]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("poses"), "has no 'poses'"),
        (lambda c: c.update(joints2D=np.zeros((3, 17, 2))), r"joints2D has the shape \(3, 17, 2\)"),
        (lambda c: c.update(shapes=np.zeros((2, 10))), r"shapes has the shape \(2, 10\)"),
        (lambda c: c.update(genders=np.array(["m", "x", "f"])), r"genders \['f', 'm', 'x'\] of 3 persons"),
        (lambda c: c.update(fnames=np.array(["a", "../../b", "c"])), r"names the file '\.\./\.\./b'"),
        (lambda c: c.update(fnames=c["fnames"][[0, 0, 1]]), "names the person 'ssp3d/00000-clip_0' twice"),
    ],
)
def test_contradictions_are_named(root: Path, people: People, edit: Callable[..., None], message: str) -> None:
    change(root, people, edit)
    with pytest.raises(PosesynError, match=message):
        read(root)


def test_what_is_missing_damaged_or_hostile_is_told(root: Path, people: People, tmp_path: Path) -> None:
    path = root / "labels.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PosesynError, match=r"labels\.npz"):
        read(root)

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    change(root, people, lambda c: c.update(genders=np.array([Bomb()] * 3, object)))
    with pytest.raises(PosesynError, match=r"labels\.npz .*wants to run"):
        read(root)
    assert not (tmp_path / "ran").exists()
    change(root, people, lambda c: c.update({key: value[:0] for key, value in c.items()}))
    with pytest.raises(PosesynError, match="has no usable person"):
        read(root)
    path.unlink()
    with pytest.raises(PosesynError, match=r"no label file .*labels\.npz"):
        read(root)
    shutil.rmtree(root / "silhouettes")
    with pytest.raises(PosesynError, match=r"no folder .*silhouettes of ssp3d: unpack ssp_3d\.zip"):
        read(root)
