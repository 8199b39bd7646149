"""Readers: every registered one gives valid labels that lie on its pictures; broken input is refused by name."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from datamodules.readers import READERS, PoseReader, pose2sim, sports2d
from datamodules.readers.base import build_index
from datamodules.readers.lspet import LspetReader
from datamodules.readers.video_cache import FrameCrop, VideoCache, person_crop
from human.assets import locate
from human.errors import PosesynError
from human.skeleton import COCO17, LSP14, POSE32
from tests.datasets.instances import INSTANCES
from tests.datasets.people import make_people


def video_root(asset: str) -> Path:
    root = locate(asset)
    if root is None:
        pytest.skip(f"asset {asset!r} is not fetched (posesyn assets)")
    return root


#: Of readers whose labels come with real pictures: (shared data, scratch folder) -> arguments.
REAL: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "lspet": lambda shared, tmp: {"root": shared / "lspet", "split": "val"},
    "pose2sim": lambda shared, tmp: {
        "split": "eval",
        "stride": 5,
        "root": video_root("pose2sim_single"),
        "cache": tmp,
    },
    "sports2d": lambda shared, tmp: {"stride": 20, "root": video_root("sports2d_demo"), "cache": tmp},
}
#: Labels come from bodies or other detections: joints may lie beyond the picture's border or the set's own box.
BEYOND = ("3dpw", "agora", "bedlam", "ssp3d")


@pytest.fixture(params=list(READERS))
def reader(request: pytest.FixtureRequest, shared_data: Path, body_files: Path, tmp_path: Path) -> PoseReader:
    name = str(request.param)
    if name in REAL:
        return READERS.get(name)(**REAL[name](shared_data, tmp_path))
    return READERS.get(name)(**INSTANCES[name].write(tmp_path / "root", make_people, 6, tmp_path / "cache"))


def test_every_reader_is_valid_and_its_labels_lie_on_its_pictures(reader: PoseReader) -> None:
    index = reader.index.validate()
    assert len(index) > 5
    assert reader.name in reader.describe()
    assert reader.licence in reader.describe()
    for i in range(0, len(index), max(1, len(index) // 8)):
        image = reader.read_image(i)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.std() > 5  # a picture, not a blank
        height, width = image.shape[:2]
        points = index.joints2d[i][index.joints2d[i, :, 2] > 0, :2]
        enough = np.any if reader.name in BEYOND else np.all
        assert enough(((points > -1) & (points < [width, height])).all(1))
        box = index.bbox_xyxy[i]
        assert enough(((points >= box[:2] - 1e-3) & (points <= box[2:] + 1e-3)).all(1))


def test_subset_keeps_rows_together(reader: PoseReader) -> None:
    index = reader.index
    mask = np.arange(len(index)) % 3 == 1
    part = index.subset(mask).validate()
    assert part.ids == [i for i, m in zip(index.ids, mask, strict=True) if m]
    np.testing.assert_array_equal(part.joints2d, index.joints2d[mask])
    np.testing.assert_array_equal(part.bbox_xyxy, index.bbox_xyxy[mask])
    assert len(index.subset(np.zeros(len(index), bool)).validate()) == 0


# ---------------------------------------------------------------------------------------------------------- LSPET


def test_lspet_protocol_counts(shared_data: Path) -> None:
    """Counted once from joints.mat itself: persons with >= 12 labelled joints in pictures 1-5000 and 5001-6000."""
    train, val = (LspetReader(shared_data / "lspet", split=s) for s in ("train", "val"))
    assert (len(train.index), len(val.index)) == (3546, 698)
    assert not set(train.numbers) & set(val.numbers)
    assert ((train.index.joints2d[..., 2] > 0).sum(1) >= 12).all()


def lspet_folder(tmp_path: Path, joints: np.ndarray) -> Path:
    (tmp_path / "images").mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    for number in range(1, joints.shape[-1] + 1):
        cv2.imwrite(str(tmp_path / "images" / f"im{number:05d}.jpg"), picture)
    savemat(tmp_path / "joints.mat", {"joints": joints})
    return tmp_path


def some_joints(persons: int = 3) -> np.ndarray:
    rng = np.random.default_rng(1)
    joints = np.ones((14, 3, persons))
    joints[:, :2] = rng.uniform(5, 85, (14, 2, persons))
    return joints


def test_lspet_reads_what_was_written(tmp_path: Path) -> None:
    joints = some_joints()
    joints[3] = [[-500, -500, -500], [-7, -7, -7], [0, 0, 0]]  # left hip not labelled: junk coordinates
    joints[:3, 2, 1] = 0  # person 2: 4 of 14 missing, too few
    reader = LspetReader(lspet_folder(tmp_path, joints))
    index = reader.index
    assert index.ids == ["lspet/00001", "lspet/00003"]
    for row, person in enumerate((0, 2)):
        for j, joint in enumerate(LSP14.joints):
            got = index.joints2d[row, POSE32.index(joint)]
            expected = [0, 0, 0] if j == 3 else [*joints[j, :2, person], 1]
            np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert (index.joints2d[..., 2] > 0).sum() == 2 * 13
    assert (index.bbox_xyxy >= 5).all()  # junk did not widen the boxes
    assert np.isnan(index.intrinsics).all()
    assert (index.joints3d[..., 3] == 0).all()
    assert reader.read_image(1).shape == (90, 120, 3)


def test_lspet_nan_is_unlabelled(tmp_path: Path) -> None:
    joints = some_joints(2)
    joints[5, 0, 0] = np.nan
    joints[6:9, 1, 1] = np.nan
    index = LspetReader(lspet_folder(tmp_path, joints)).index
    assert index.ids == ["lspet/00001"]
    assert index.joints2d[0, POSE32.index("left_ankle"), 2] == 0


def test_lspet_without_labels_is_empty_not_broken(tmp_path: Path) -> None:
    joints = some_joints()
    joints[:, 2] = 0
    reader = LspetReader(lspet_folder(tmp_path, joints))
    assert len(reader.index) == 0
    assert "0 persons" in reader.describe()
    assert len(LspetReader(tmp_path, split="val").index) == 0


def test_lspet_missing_or_damaged_picture_is_named(tmp_path: Path) -> None:
    reader = LspetReader(lspet_folder(tmp_path, some_joints()))
    (tmp_path / "images" / "im00002.jpg").unlink()
    (tmp_path / "images" / "im00003.jpg").write_bytes(b"\xff\xd8 not a picture")
    for i in (1, 2):
        with pytest.raises(PosesynError, match=f"im0000{i + 1}.jpg"):
            reader.read_image(i)


def test_lspet_refuses_unusable_folders(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="images"):
        LspetReader(tmp_path / "nowhere")
    with pytest.raises(PosesynError, match="images"):
        LspetReader(tmp_path)
    root = lspet_folder(tmp_path, some_joints())
    with pytest.raises(PosesynError, match="test"):
        LspetReader(root, split="test")
    whole = (root / "joints.mat").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"hello"):
        (root / "joints.mat").write_bytes(damaged)
        with pytest.raises(PosesynError, match=r"joints\.mat"):
            LspetReader(root)
    (root / "joints.mat").unlink()
    with pytest.raises(PosesynError, match=r"joints\.mat"):
        LspetReader(root)


@pytest.mark.parametrize(("shape", "word"), [((3, 14, 5), "LSP"), ((14, 3), "shape"), ((16, 3, 5), "shape")])
def test_lspet_refuses_other_layouts(tmp_path: Path, shape: tuple[int, ...], word: str) -> None:
    root = lspet_folder(tmp_path, some_joints())
    savemat(root / "joints.mat", {"joints": np.ones(shape)})
    with pytest.raises(PosesynError, match=word):
        LspetReader(root)
    savemat(root / "joints.mat", {"something": np.ones((14, 3, 5))})
    with pytest.raises(PosesynError, match="joints"):
        LspetReader(root)


# ------------------------------------------------------------------------------------------------- video readers


@pytest.mark.parametrize("split", list(pose2sim.SPLITS))
def test_pose2sim_3d_projects_onto_2d(split: str) -> None:
    index, crops = pose2sim.labelled_crops(split, stride=3)
    kept = index.joints3d[..., 3] > 0
    image = np.einsum("nij,nkj->nki", index.intrinsics.astype(float), index.joints3d[..., :3].astype(float))
    uv = image[..., :2] / np.where(kept, image[..., 2], 1)[..., None]
    assert np.abs(uv - index.joints2d[..., :2])[kept].max() < 0.05
    assert kept[:, POSE32.indices(*COCO17.joints)].mean() > 0.95
    depth = index.joints3d[..., 2][kept]
    assert 2 < depth.min() < depth.max() < 7  # a laboratory: metres, not millimetres
    assert all(crop.size <= 384 for crop in crops)


@pytest.mark.parametrize("split", list(pose2sim.SPLITS))
def test_pose2sim_is_an_upright_person_of_human_size(split: str) -> None:
    index, _ = pose2sim.labelled_crops(split)
    at = {joint: index.joints3d[:, POSE32.index(joint)] for joint in COCO17.joints}
    for a, b, low, high in (("hip", "knee", 0.35, 0.48), ("knee", "ankle", 0.33, 0.46), ("elbow", "wrist", 0.2, 0.3)):
        for side in ("left", "right"):
            first, second = at[f"{side}_{a}"], at[f"{side}_{b}"]
            kept = (first[:, 3] > 0) & (second[:, 3] > 0)
            length = np.linalg.norm(first - second, axis=1)[kept]
            assert low < np.median(length) < high
    assert (at["left_shoulder"][:, 1] < at["left_hip"][:, 1]).all()  # y points down


def test_pose2sim_front_and_back_are_told_apart() -> None:
    """Cameras 1, 2 face the athlete (his left is at the right of the picture), cameras 3, 4 stand behind him."""
    for split in ("train", "eval"):
        index, _ = pose2sim.labelled_crops(split)
        left, right = (index.joints2d[:, POSE32.index(f"{side}_shoulder"), 0] for side in ("left", "right"))
        front = np.array(["/cam01" in i or "/cam02" in i for i in index.ids])
        assert (np.sign(left - right) == np.where(front, 1, -1)).all()


def test_pose2sim_parts_share_no_camera_and_no_moment() -> None:
    (train_cameras, train_frames), (eval_cameras, eval_frames) = (pose2sim.SPLITS[s] for s in ("train", "eval"))
    assert not set(train_cameras) & set(eval_cameras)
    assert not set(range(*train_frames)) & set(range(*eval_frames))


@pytest.mark.parametrize("bad", [{"split": "test"}, {"split": "eval", "stride": 0}])
def test_pose2sim_refuses_bad_arguments(bad: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match="pose2sim"):
        pose2sim.Pose2SimReader(**bad)


def test_sports2d_labels_are_plausible() -> None:
    index, crops = sports2d.labelled_crops()
    assert len(index) == len(crops) > 150
    assert (index.joints3d[..., 3] == 0).all()
    limbs = index.joints2d[:, POSE32.indices(*COCO17.joints[5:]), 2]
    assert (limbs.sum(1) >= 10).all()


def tiny_video(folder: Path, count: int) -> Path:
    """MJPG frames whose brightness tells their number."""
    writer = cv2.VideoWriter(str(folder / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for t in range(count):
        writer.write(np.full((48, 64, 3), 20 * t + 10, np.uint8))
    writer.release()
    return folder


def tiny_crops() -> list[FrameCrop]:
    return [person_crop("v.avi", t, f"p{t}", [20, 15, 40, 30]) for t in (7, 2, 5)]


def test_video_cache_keeps_the_right_frames_and_is_made_once(tmp_path: Path) -> None:
    tiny_video(tmp_path, 10)
    crops = tiny_crops()
    cache = VideoCache("tiny", tmp_path, crops, tmp_path / "cache")
    for i, crop in enumerate(crops):
        picture = cache.read(i)
        assert picture.shape == (32, 32, 3)
        assert abs(picture.mean() - (20 * crop.frame + 10)) < 4
    stamp = cache.folder.stat().st_mtime_ns
    again = VideoCache("tiny", tmp_path, crops, tmp_path / "cache")
    assert again.folder == cache.folder
    assert again.folder.stat().st_mtime_ns == stamp
    shutil.rmtree(cache.folder)
    with pytest.raises(PosesynError, match="delete the folder"):
        cache.read(0)


def test_video_cache_leaves_nothing_half_made(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="no video"):
        VideoCache("tiny", tmp_path, tiny_crops(), tmp_path / "cache")
    tiny_video(tmp_path, 4)
    with pytest.raises(PosesynError, match="frame 4"):
        VideoCache("tiny", tmp_path, tiny_crops(), tmp_path / "cache")
    assert [p for p in (tmp_path / "cache" / "frames").iterdir() if p.is_dir()] == []
    tiny_video(tmp_path, 10)
    assert VideoCache("tiny", tmp_path, tiny_crops(), tmp_path / "cache").read(0).shape == (32, 32, 3)


# -------------------------------------------------------------------------------------------------- PersonIndex


def test_person_index_refuses_wrong_columns() -> None:
    rng = np.random.default_rng(2)
    conf = np.ones((2, 14))
    index = build_index(["a", "b"], np.arange(2), "lsp14", rng.uniform(0, 50, (2, 14, 2)), conf)
    nan2d, outside, behind = index.joints2d.copy(), index.joints2d.copy(), index.joints3d.copy()
    nan2d[1, POSE32.index("left_knee"), 0] = np.nan
    outside[1, 0, 2] = 1.5
    behind[1, 0] = [0, 0, -1, 1]
    empty = index.bbox_xyxy.copy()
    empty[1, 2] = empty[1, 0]
    wrong: dict[str, dict[str, Any]] = {
        "not finite": {"joints2d": nan2d},
        "confidence": {"joints2d": outside},
        "behind": {"joints3d": behind, "intrinsics": np.tile(np.eye(3, dtype=np.float32), (2, 1, 1))},
        "empty": {"bbox_xyxy": empty},
        "twice": {"ids": ["b", "b"]},
        "shape": {"image": np.zeros(3, np.int32)},
        "people": {"people": np.array([1, 0], np.int16)},
    }
    for word, change in wrong.items():
        with pytest.raises(PosesynError, match=word):
            dataclasses.replace(index, **change).validate()
    dataclasses.replace(index, joints3d=behind).validate()  # without a camera: relative to some root
