"""Pictures without labels: who is found there, what is kept of it, and what is left out."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datamodules.crops import CropSet
from datamodules.pose import ReaderConfig
from datamodules.readers import make_reader
from datamodules.readers.label_cache import LabelCache
from datamodules.readers.unlabelled import UnlabelledReader, read_frame
from human.blazepose import Picture
from human.errors import PosesynError
from human.labellers import LABELLERS, Labeller, Labels, make_labeller
from human.skeleton import COCO17, POSE32
from lightning_modules.labeller import EstimatorLabeller
from tests.datasets import unlabelled
from tests.datasets.people import make_people
from tests.need import need
from tests.tiny import tiny_data, tiny_hmr, tiny_refresh, tiny_trainer, write_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, body_files: Path) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    unlabelled.write(root, make_people(("neutral", "neutral"), 3, kind="free"))
    return root


def told(root: Path, cache: Path, **options: Any) -> UnlabelledReader:
    more = {"labeller": "coco", "labeller_options": {"path": str(root / "labels.json")}, "cache": cache}
    return make_reader("unlabelled", {"root": root, **more, **options})  # type: ignore[return-value]


def rewrite(root: Path, change: Any) -> None:
    content = json.loads((root / "labels.json").read_text())
    change(content)
    (root / "labels.json").write_text(json.dumps(content))


class Counting(Labeller):
    """Somebody in the middle of every picture that is not black; ``calls`` counts across copies in this process."""

    name = "counting"
    calls = 0

    def __init__(self, confidence: float = 0.9) -> None:
        self.confidence = confidence

    def __call__(self, image_HWC: Picture, file: str) -> Labels:
        type(self).calls += 1
        height, width = image_HWC.shape[:2]
        if image_HWC.max() < 8:
            return Labels.of([], [], 17, height, width)
        points = np.random.default_rng(0).uniform(0.2, 0.8, (1, 17, 2)) * [width, height]
        return Labels.of(np.concatenate([points, np.full((1, 17, 1), self.confidence)], -1), [1.0], 17, height, width)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[Counting]:
    monkeypatch.setitem(LABELLERS._items, "counting", Counting)
    monkeypatch.setattr(Counting, "calls", 0)
    return Counting


def noise(path: Path, seed: int, size: tuple[int, int] = (40, 60)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_labels_are_the_labellers_with_their_confidences(folder: Path, tmp_path: Path) -> None:
    reader = told(folder, tmp_path)
    truth = json.loads((folder / "labels.json").read_text())["annotations"]
    assert len(reader.index) == len(truth) == 6
    columns = POSE32.indices(*COCO17.joints)
    for row, wanted in enumerate(truth):
        points = np.array(wanted["keypoints"]).reshape(17, 3)
        np.testing.assert_allclose(reader.index.joints2d[row][columns], points, atol=1e-3)
    assert (reader.index.people == 2).all()  # the EEM takes pictures of one person
    np.testing.assert_allclose(reader.index.extras["score"], 0.8)
    assert len(set(reader.index.ids)) == 6
    assert np.isnan(reader.index.intrinsics).all()


def test_joints_below_the_threshold_are_not_labelled(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(folder, root)

    def doubt(content: dict[str, Any]) -> None:
        for person in content["annotations"]:
            person["keypoints"][3 * 9 + 2] = 0.3  # left wrist
            person["keypoints"][3 * 10 : 3 * 11] = [float("nan"), 5.0, 0.9]  # right wrist: no number
            person["keypoints"][3 * 15 : 3 * 16] = [-400.0, 5.0, 0.9]  # left ankle: not in the picture

    rewrite(root, doubt)
    reader = told(root, tmp_path / "cache", min_confidence=0.5)
    labelled = reader.index.joints2d[..., 2] > 0
    for joint in ("left_wrist", "right_wrist", "left_ankle"):
        assert not labelled[:, POSE32.index(joint)].any()
    assert labelled[:, POSE32.index("left_elbow")].all()
    # What is not labelled does not widen boxes, and the crops' labels carry the confidence into the EEM.
    assert (reader.index.bbox_xyxy >= 0).all()
    crops = CropSet(reader, 64, cache=tmp_path / "crops").crops(np.arange(2))
    assert (crops.joints2d_conf[:, POSE32.index("left_wrist")] == 0).all()
    np.testing.assert_allclose(crops.joints2d_conf[:, POSE32.index("left_elbow")], 0.9, atol=1e-6)
    lower = told(root, tmp_path / "cache", min_confidence=0.2)
    assert (lower.index.joints2d[:, POSE32.index("left_wrist"), 2] > 0).all()


def test_pictures_are_labelled_once_by_what_is_in_them(tmp_path: Path, counting: type[Counting]) -> None:
    for k in range(3):
        noise(tmp_path / "a" / f"{k}.png", k)
    options = {"labeller": "counting", "cache": tmp_path / "cache"}
    first = make_reader("unlabelled", {"root": tmp_path / "a", **options})
    assert counting.calls == 3
    make_reader("unlabelled", {"root": tmp_path / "a", **options})
    make_reader("unlabelled", {"root": tmp_path / "a", **options, "min_confidence": 0.7})  # another index
    (tmp_path / "a").rename(tmp_path / "b")
    noise(tmp_path / "b" / "new.png", 7)
    moved = make_reader("unlabelled", {"root": tmp_path / "b", **options})
    assert counting.calls == 4
    assert len(moved.index) == 4
    np.testing.assert_array_equal(moved.index.joints2d[0], first.index.joints2d[0])
    make_reader("unlabelled", {"root": tmp_path / "b", **options, "labeller_options": {"confidence": 0.8}})
    assert counting.calls == 8  # another labeller


def test_a_damaged_label_is_made_again_and_no_part_stays(tmp_path: Path, counting: type[Counting]) -> None:
    for k in range(2):
        noise(tmp_path / "a" / f"{k}.png", k)
    options = {"root": tmp_path / "a", "labeller": "counting", "cache": tmp_path / "cache"}
    wanted = np.array(make_reader("unlabelled", options).index.joints2d)
    kept = sorted((tmp_path / "cache" / "labels").rglob("*.npz"))
    assert len(kept) == 2
    assert not list((tmp_path / "cache").rglob("*.part"))
    kept[0].write_bytes(kept[0].read_bytes()[:50])
    found = make_reader("unlabelled", {**options, "min_score": 0.1})
    assert counting.calls == 3
    np.testing.assert_array_equal(found.index.joints2d, wanted)


def test_ugly_pictures_are_counted_and_left_out(
    tmp_path: Path, counting: type[Counting], caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "photos"
    noise(root / "good.jpg", 0)
    noise(root / "deep" / "er" / "UPPER.JPG", 1)
    whole = (root / "good.jpg").read_bytes()
    (root / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "empty.png").write_bytes(b"")
    (root / "page.jpg").write_bytes(b"<html>not found</html>")
    (root / "bad.mp4").write_bytes(b"no video")
    (root / "notes.txt").write_text("not looked at")
    (root / "._good.jpg").write_bytes(b"\0 what another system leaves behind")
    cv2.imwrite(str(root / "black.png"), np.zeros((30, 30, 3), np.uint8))
    with caplog.at_level(logging.WARNING):
        reader = make_reader("unlabelled", {"root": root, "labeller": "counting", "cache": tmp_path / "cache"})
    assert [i.split("/", 1)[1] for i in reader.index.ids] == ["deep/er/UPPER.JPG:0", "good.jpg:0"]
    assert "3 pictures that cannot be read" in caplog.text
    assert "1 videos that cannot be read" in caplog.text
    assert "1 pictures with nobody in them" in caplog.text


def test_nothing_to_look_at_is_one_error(tmp_path: Path, counting: type[Counting]) -> None:
    options = {"labeller": "counting", "cache": tmp_path / "cache"}
    with pytest.raises(PosesynError, match="no folder"):
        make_reader("unlabelled", {"root": tmp_path / "nowhere", **options})
    (tmp_path / "empty").mkdir()
    with pytest.raises(PosesynError, match="no pictures or videos"):
        make_reader("unlabelled", {"root": tmp_path / "empty", **options})
    cv2.imwrite(str(tmp_path / "empty" / "black.png"), np.zeros((30, 30, 3), np.uint8))
    with pytest.raises(PosesynError, match="1 pictures with nobody in them"):
        make_reader("unlabelled", {"root": tmp_path / "empty", **options})
    for wrong in ({"min_confidence": 1.5}, {"stride": 0}, {"labeller": "nobody"}, {"labeller_options": {"size": 3}}):
        with pytest.raises(PosesynError):
            make_reader("unlabelled", {"root": tmp_path / "empty", **options, **wrong})


def write_video(path: Path, frames: int, size: tuple[int, int] = (96, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, size)
    for k in range(frames):
        picture = np.full((size[1], size[0], 3), 40 + 8 * k, np.uint8)
        picture[: size[1] // 4] = (0, 0, 255)  # red above
        video.write(picture)
    video.release()


def test_a_video_is_a_row_of_pictures(tmp_path: Path, counting: type[Counting]) -> None:
    write_video(tmp_path / "film.mp4", 7)
    options = {"labeller": "counting", "cache": tmp_path / "cache", "stride": 3}
    reader = make_reader("unlabelled", {"root": tmp_path / "film.mp4", **options})
    assert [i.split("/", 1)[1] for i in reader.index.ids] == ["film.mp4#0:0", "film.mp4#3:0", "film.mp4#6:0"]
    assert reader.read_image(2).shape == (64, 96, 3)
    assert reader.read_image(2)[40, 40].mean() > reader.read_image(0)[40, 40].mean() + 30
    noise(tmp_path / "picture.png", 0)
    assert len(make_reader("unlabelled", {"root": tmp_path, **options}).index) == 4


def test_a_turned_film_is_shown_upright(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", 2)
    coded = bytearray((tmp_path / "film.mp4").read_bytes())
    at = coded.find(b"tkhd") + 4 + 40  # version 0: the matrix comes after 40 bytes
    one = (1 << 16).to_bytes(4, "big")
    minus = ((1 << 32) - (1 << 16)).to_bytes(4, "big")
    zero = bytes(4)
    coded[at : at + 20] = zero + one + zero + minus + zero  # a quarter turn clockwise
    (tmp_path / "turned.mp4").write_bytes(coded)
    player = cv2.VideoCapture(str(tmp_path / "turned.mp4"), cv2.CAP_FFMPEG)  # which turns by itself
    good, bgr = player.read()
    assert good
    assert bgr.shape == (96, 64, 3)
    np.testing.assert_array_equal(read_frame(tmp_path, "turned.mp4", 0), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    assert read_frame(tmp_path, "film.mp4", 0).shape == (64, 96, 3)


def test_turned_photographs_are_labelled_as_one_sees_them(tmp_path: Path, counting: type[Counting]) -> None:
    from PIL import Image

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    image.save(tmp_path / "turned.jpg", exif=exif)
    reader = make_reader("unlabelled", {"root": tmp_path, "labeller": "counting", "cache": tmp_path / "c"})
    assert reader.read_image(0).shape == (80, 40, 3)
    assert reader.index.joints2d[0, :, 1].max() > 40


def test_a_loaders_process_reads_what_was_labelled(folder: Path, tmp_path: Path) -> None:
    reader = told(folder, tmp_path)
    again = pickle.loads(pickle.dumps(reader))
    assert not hasattr(again, "made_by")
    np.testing.assert_array_equal(again.index.joints2d, reader.index.joints2d)
    np.testing.assert_array_equal(again.read_image(3), reader.read_image(3))


def test_labels_of_several_processes_are_the_same(tmp_path: Path) -> None:
    """With the real labeller on noise, where it finds nobody or somebody, but always the same."""
    need("mediapipe_pose")
    for k in range(3):
        noise(tmp_path / "a" / f"{k}.png", k, (60, 60))
    for workers in (0, 2):
        with pytest.raises(PosesynError, match="3 pictures with nobody"):
            make_reader("unlabelled", {"root": tmp_path / "a", "cache": tmp_path / f"c{workers}", "workers": workers})
    kept = [sorted(p.name for p in (tmp_path / f"c{w}").rglob("*.npz")) for w in (0, 2)]
    assert len(kept[0]) == 3
    assert kept[0] == kept[1]


def test_the_label_cache_takes_no_other_skeleton(tmp_path: Path) -> None:
    LabelCache(tmp_path, 17).put("ab", Labels(np.zeros((1, 17, 3)), np.ones(1)))
    assert LabelCache(tmp_path, 17).get("ab") is not None
    assert LabelCache(tmp_path, 32).get("ab") is None
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PosesynError, match="cannot keep labels"):
        LabelCache(tmp_path / "file", 17).put("ab", Labels(np.zeros((1, 17, 3)), np.ones(1)))


# -- labellers ---------------------------------------------------------------------------------------------------------


def test_blazepose_labels_real_people(shared_data: Path) -> None:
    """Ten people of LSPET: whoever is found has shoulders and hips near the labelled ones."""
    need("mediapipe_pose")
    reader = make_reader("lspet", {"root": shared_data / "lspet", "split": "val"})
    labeller, distances = make_labeller("blazepose", {"levels": 1}), []
    trunk = POSE32.indices("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    for i in range(10):
        labels = labeller(reader.read_image(i), "")
        if not len(labels):
            continue
        assert ((labels.joints[..., 2] >= 0) & (labels.joints[..., 2] <= 1)).all()
        found = labels.joints[0][[5, 6, 11, 12], :2]
        box = reader.index.bbox_xyxy[i]
        side = (box[2:] - box[:2]).max()
        distances.append(np.linalg.norm(found - reader.index.joints2d[i][trunk, :2], axis=1).mean() / side)
    assert len(distances) >= 7
    assert np.median(distances) < 0.08


def test_any_keypoint_detector_labels(shared_data: Path) -> None:
    """BlazePose behind the other contract says the same of the same picture, by itself and of a given box."""
    need("mediapipe_pose")
    reader = make_reader("lspet", {"root": shared_data / "lspet", "split": "val"})
    image = reader.read_image(0)
    own = make_labeller("blazepose", {"levels": 1})(image, "")
    alike = make_labeller("keypoints", {"keypoints_options": {"levels": 1}})
    found = alike(image, "")
    assert len(own) == len(found) == 1
    np.testing.assert_allclose(found.joints[..., :2], own.joints[..., :2], atol=1e-6)
    np.testing.assert_allclose(found.joints[..., 2], own.joints[..., 2] * own.score, atol=1e-6)
    boxed = make_labeller("keypoints", {"detector": "whole"})
    near = boxed(image, "").joints[0, [5, 6, 11, 12], :2] - own.joints[0, [5, 6, 11, 12], :2]
    assert np.abs(near).mean() < 0.1 * max(image.shape)
    assert boxed.describe() != alike.describe()
    with pytest.raises(PosesynError, match="keypoint detector"):
        make_labeller("keypoints", {"keypoints": "nobody"})


PICTURE = '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "keypoints": [1, 2, 3]}]}'
STRANGER = json.dumps({"images": [], "annotations": [{"image_id": 5, "keypoints": [1.0] * 51}]})


@pytest.mark.parametrize("content", ["", "[]", '{"images": []}', PICTURE, STRANGER])
def test_a_file_of_labels_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(PosesynError, match=r"labels\.json"):
        make_labeller("coco", {"path": str(tmp_path / "labels.json")})
    with pytest.raises(PosesynError, match="no file"):
        make_labeller("coco", {"path": str(tmp_path / "none.json")})


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's config and weights."""
    folder = tmp_path_factory.mktemp("run")
    model = tiny_hmr()
    model.save_weights(folder / "weights.safetensors")
    arguments = "{backbone: test_efficientnet, hidden: 32, channels: 8}"
    (folder / "config.yaml").write_text(
        f"model:\n  class_path: lightning_modules.HMR\n  init_args: {arguments}\ndata: {{image_size: 64}}\n"
    )
    return folder


def test_an_estimator_labels_and_mirrors_with_the_picture(run_folder: Path) -> None:
    labeller = make_labeller("estimator", {"checkpoint": str(run_folder / "weights.safetensors"), "detector": "whole"})
    assert isinstance(labeller, EstimatorLabeller)
    image = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    labels = labeller(image, "a.png")
    assert labels.joints.shape == (1, 32, 3)
    mirrored = labeller(np.ascontiguousarray(image[:, ::-1]), "a.png")
    inside = (labels.joints[0, :, 2] > 0) & (mirrored.joints[0, list(POSE32.flip_permutation), 2] > 0)
    assert inside.sum() > 5
    back = mirrored.joints[0, list(POSE32.flip_permutation)]
    np.testing.assert_allclose(89 - back[inside, 0], labels.joints[0, inside, 0], atol=1e-2)
    np.testing.assert_allclose(back[inside, 1:], labels.joints[0, inside, 1:], atol=1e-2)
    again = make_labeller("estimator", {"checkpoint": str(run_folder / "weights.safetensors"), "detector": "whole"})
    assert again.describe() == labeller.describe()


def test_an_estimator_that_is_not_there_is_named(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match=r"config\.yaml"):
        make_labeller("estimator", {"checkpoint": str(tmp_path / "none.ckpt")})
    with pytest.raises(PosesynError, match=r"none\.ckpt"):
        make_labeller("estimator", {"checkpoint": str(run_folder / "none.ckpt")})


# -- the loop ----------------------------------------------------------------------------------------------------------


def test_unlabelled_pictures_are_mined_and_trained_on(
    folder: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole run: challenges and references come from pictures that somebody else's program labelled."""
    from datamodules.sources import PoolSource, RealSource

    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "alone"
    unlabelled.write(root, make_people(("neutral",), 8, kind="free"))
    options = {"root": str(root), "labeller": "coco", "labeller_options": {"path": str(root / "labels.json")}}
    data = tiny_data(
        write_data(tmp_path / "lspet"),
        tmp_path / "run",
        mine=[ReaderConfig("unlabelled", options)],
        sources=[RealSource("unlabelled", options, name="real", weight=0.5, use_3d=False), PoolSource(weight=0.5)],
    )
    refresh = tiny_refresh()
    trainer = tiny_trainer(tmp_path / "run", refresh, epochs=1)
    trainer.fit(tiny_hmr(), datamodule=data)
    provenance = data.pool.provenance(0).to_pylist()
    assert len(provenance) == 6
    assert all(row["challenge_id"].startswith("alone/") for row in provenance)
