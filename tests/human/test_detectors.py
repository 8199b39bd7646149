"""Person detectors: what each promises, and that the real one finds real people."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import get_model

from human.assets import locate
from human.blazepose import PersonProposals, anchors, invert_affine
from human.crop import crop_affine, transform_points
from human.detectors import DETECTORS, BlazePoseDetector, Detections, PersonDetector, make_detector
from human.errors import PosesynError

MODEL = "ssdlite320_mobilenet_v3_large"
needs_blazepose = pytest.mark.skipif(locate("mediapipe_pose") is None, reason="posesyn assets fetch mediapipe_pose")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Arguments for every registered detector."""
    folder = tmp_path_factory.mktemp("detectors")
    torch.manual_seed(0)
    torch.save(get_model(MODEL, weights=None, weights_backbone=None, num_classes=3).state_dict(), folder / "w.pth")
    (folder / "boxes.csv").write_text("file,x1,y1,x2,y2,score\na.png,10,20,30,60,0.9\na.png,-5,0,50,99,0.4\n")
    return {
        "blazepose": {},
        "torchvision": {"weights": str(folder / "w.pth"), "model": MODEL, "classes": 3, "threshold": 0.0},
        "boxes": {"path": str(folder / "boxes.csv")},
        "whole": {},
    }


def make(name: str, options: dict[str, dict[str, Any]]) -> PersonDetector:
    if name == "blazepose":
        pytest.importorskip("ai_edge_litert")
        if locate("mediapipe_pose") is None:
            pytest.skip("posesyn assets fetch mediapipe_pose")
    return make_detector(name, options[name])


@pytest.mark.parametrize("name", DETECTORS.names())
def test_boxes_lie_in_the_picture_and_come_again(name: str, options: dict[str, dict[str, Any]]) -> None:
    detector = make(name, options)
    image = np.random.default_rng(0).integers(0, 256, (80, 48, 3), dtype=np.uint8)
    found = detector(image, "a.png")
    assert (found.boxes[:, :2] >= -0.5).all()
    assert (found.boxes[:, 2:] <= [47.5, 79.5]).all()
    area = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(1)
    assert (np.diff(area) <= 0).all()
    again = pickle.loads(pickle.dumps(detector))  # as a loader's process gets it
    np.testing.assert_array_equal(again(image, "a.png").boxes, found.boxes)
    assert again.describe() == detector.describe()
    if name != "blazepose":
        assert len(found)


@pytest.mark.parametrize("name", DETECTORS.names())
def test_wrong_options_are_one_sentence(name: str) -> None:
    with pytest.raises(PosesynError, match=f"options of the detector '{name}'"):
        make_detector(name, {"nonsense": 1})


def test_torchvision_gives_what_torchvision_finds(options: dict[str, dict[str, Any]]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    network = get_model(MODEL, weights=None, weights_backbone=None, num_classes=3)
    network.load_state_dict(torch.load(options["torchvision"]["weights"], weights_only=True))
    with torch.inference_mode():
        out = network.eval()([torch.from_numpy(image).permute(2, 0, 1) / 255])[0]
    people = out["labels"] == 1
    found = make_detector("torchvision", options["torchvision"])(image, "")
    wanted = Detections.of(out["boxes"][people].numpy() - 0.5, out["scores"][people].numpy(), 64, 96)
    assert len(found) == len(wanted) > 0
    for got, expected in ((found.boxes, wanted.boxes), (found.score, wanted.score)):
        np.testing.assert_allclose(np.sort(got, 0), np.sort(expected, 0), atol=1e-3)


def test_torchvision_names_weights_that_do_not_fit(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(PosesynError, match="does not hold weights of"):
        make_detector("torchvision", {"weights": str(tmp_path / "w.pth"), "model": MODEL})
    with pytest.raises(PosesynError, match="torchvision has no detector 'yolo'"):
        make_detector("torchvision", {"weights": str(tmp_path / "w.pth"), "model": "yolo"})


def test_boxes_of_a_csv_and_of_coco_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("file,x1,y1,x2,y2\nsub/a.png,9.5,19.5,29.5,59.5\n")
    coco = {
        "images": [{"id": 7, "file_name": "sub/a.png"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [10, 20, 20, 40]},
            {"image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5]},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
    }
    (tmp_path / "b.json").write_text(json.dumps(coco))
    image = np.zeros((100, 100, 3), np.uint8)
    for name in ("b.csv", "b.json"):
        found = make_detector("boxes", {"path": str(tmp_path / name)})(image, "sub/a.png")
        np.testing.assert_allclose(found.boxes, [[9.5, 19.5, 29.5, 59.5]])
        assert len(make_detector("boxes", {"path": str(tmp_path / name)})(image, "other.png")) == 0


@pytest.mark.parametrize("content", ["file,x1\na,1\n", "file,x1,y1,x2,y2\na,1,2,3,four\n"])
def test_a_file_of_boxes_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "b.csv").write_text(content)
    with pytest.raises(PosesynError, match="cannot be read"):
        make_detector("boxes", {"path": str(tmp_path / "b.csv")})
    with pytest.raises(PosesynError, match="there is no file"):
        make_detector("boxes", {"path": str(tmp_path / "nowhere.csv")})


def test_boxes_without_area_are_dropped() -> None:
    found = Detections.of([[0, 0, 10, 10], [90, 90, 99, 99], [5, 5, 5, 20], [0, 0, np.nan, 4]], [1, 1, 1, 1], 50, 50)
    np.testing.assert_allclose(found.boxes, [[0, 0, 10, 10]])


def test_tiles_cover_the_picture_and_overlap_by_half() -> None:
    tiles = BlazePoseDetector.tiles
    detector = BlazePoseDetector.__new__(BlazePoseDetector)
    detector.levels = 3
    for height, width in ((300, 500), (480, 200), (256, 256)):
        squares = tiles(detector, np.zeros((height, width, 3), np.uint8))
        for side in {s for *_, s in squares}:
            xs, ys = (sorted({t[k] for t in squares if t[2] == side}) for k in (0, 1))
            for centres, length in ((xs, width), (ys, height)):
                assert centres[0] - side / 2 <= 0
                assert centres[-1] + side / 2 >= length - 1
                assert all(b - a <= side / 2 + 1e-6 for a, b in pairwise(centres))


def test_the_anchors_are_the_networks() -> None:
    table = anchors()
    assert table.shape == (2254, 2)  # what pose_detection.tflite puts out
    np.testing.assert_allclose(table[[0, 2, -1]], [[0.5 / 28, 0.5 / 28], [1.5 / 28, 0.5 / 28], [6.5 / 7, 6.5 / 7]])


def test_an_affine_map_and_back() -> None:
    affine = crop_affine((30, 40), 50, 64, 25.0)
    points = np.random.default_rng(0).normal(size=(5, 2)) * 50
    np.testing.assert_allclose(transform_points(invert_affine(affine), transform_points(affine, points)), points)


@needs_blazepose
def test_blazepose_finds_the_people_of_a_real_video() -> None:
    """Two people, wherever the picture is cut; nobody on gravel."""
    pytest.importorskip("ai_edge_litert")
    video = locate("pose2sim_multi")
    if video is None:
        pytest.skip("posesyn assets fetch pose2sim_multi")
    ok, bgr = cv2.VideoCapture(str(video / "videos" / "cam02.mp4")).read()
    assert ok
    small = cv2.resize(bgr[..., ::-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    detector = make_detector("blazepose")
    found = detector(small, "")
    # Read off the picture (1088 x 1920): the athlete in the middle, and who stands on the left.
    wanted = np.array([[412, 395, 745, 1115], [65, 630, 350, 1458]]) / 2
    assert len(found) == 2
    for box in wanted:
        assert max(_overlap(box, other) for other in found.boxes) > 0.8
    moved = detector(np.ascontiguousarray(small[100:, 20:]), "")
    assert len(moved) == 2
    for box in wanted - [20, 100, 20, 100]:
        assert max(_overlap(box, other) for other in moved.boxes) > 0.8
    gravel = np.random.default_rng(0).integers(60, 180, (200, 200, 3), dtype=np.uint8)
    assert len(detector(gravel, "")) == 0


@needs_blazepose
def test_a_proposal_does_not_depend_on_where_the_square_is() -> None:
    """The same pixels elsewhere in a larger picture: the same place in it."""
    pytest.importorskip("ai_edge_litert")
    video = locate("pose2sim_single")
    if video is None:
        pytest.skip("posesyn assets fetch pose2sim_single")
    ok, bgr = cv2.VideoCapture(str(video / "videos" / "cam01.mp4")).read()
    assert ok
    image = cv2.resize(bgr[..., ::-1], None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    side = float(max(height, width))
    propose = PersonProposals(0.3)
    here = propose(image, ((width - 1) / 2, (height - 1) / 2), side)
    padded = np.pad(image, ((40, 10), (70, 30), (0, 0)))
    there = propose(padded, ((width - 1) / 2 + 70, (height - 1) / 2 + 40), side)
    assert len(here) > 0
    assert len(there) > 0
    # OpenCV warps to 1/32 of a pixel: the two crops are not the same to the bit.
    best, other = here.score.argmax(), there.score.argmax()
    np.testing.assert_allclose(there.hips[other] - [70, 40], here.hips[best], atol=2)
    np.testing.assert_allclose(there.score[other], here.score[best], atol=0.02)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    inner = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(inner / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner))
