"""Keypoint detectors: what each promises, and what the real networks see in pictures of which the truth is known."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from human.body import load_body
from human.errors import PosesynError
from human.keypoints import KEYPOINT_DETECTORS, KeypointDetector, People, make_keypoint_detector
from human.skeleton import BODY25, COCO17
from synth.scene import SceneSpec
from tests.human.keypoints.tiny import save_rtmpose, save_vitpose
from tests.need import need


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Arguments for every registered detector."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("keypoints")
    return {
        "blazepose": {},
        "vitpose": {"checkpoint": str(save_vitpose(folder / "vitpose")), "device": "cpu", "batch_size": 2},
        "rtmpose": {"weights": str(save_rtmpose(folder / "tiny.onnx"))},
    }


def make(name: str, options: dict[str, dict[str, Any]]) -> KeypointDetector:
    if name in ("blazepose", "rtmpose"):
        if name == "rtmpose":
            pytest.importorskip("rtmlib", reason="rtmlib, without its opencv packages: docs/checks.md")
        need("mediapipe_pose")
    return make_keypoint_detector(name, options[name])


@pytest.mark.parametrize("name", KEYPOINT_DETECTORS.names())
def test_a_row_for_each_box_and_the_same_again(name: str, options: dict[str, dict[str, Any]]) -> None:
    detector = make(name, options)
    images = torch.randint(0, 256, (3, 3, 80, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = [np.array([[5, 5, 40, 70], [20, 10, 59, 79]]), np.zeros((0, 4)), np.array([[np.nan, 0, 9, 9]])]
    found = detector.detect(images, boxes)
    assert [len(p) for p in found] == [2, 0, 1]
    for people in found:
        assert people.points.shape == (len(people), 17, 2)
        assert np.isfinite(people.points).all()
        assert (people.conf >= 0).all()
        assert (people.conf <= 1).all()
        assert people.score.shape == (len(people),)
    again = pickle.loads(pickle.dumps(make(name, options))).detect(images[:1], boxes[:1])
    np.testing.assert_allclose(again[0].points, found[0].points, atol=1e-3)  # other batches, other rounding
    assert detector.config()["name"] == name
    with pytest.raises(PosesynError, match="uint8"):
        detector.detect(images.float(), boxes)
    with pytest.raises(PosesynError, match="lists of boxes"):
        detector.detect(images, boxes[:2])
    with pytest.raises(PosesynError, match="hints need a row"):
        detector.detect(images, boxes, [np.zeros((1, 17, 2))] * 3)


def test_other_joint_orders_go_by_name() -> None:
    points = np.stack([np.arange(25.0), np.arange(25.0)], -1)[None]
    points[0, 0] = np.nan  # the nose
    people = People.named(points, np.full((1, 25), 2.0), [0.5], BODY25.joints)
    assert people.conf[0].tolist() == [0.0] + [1.0] * 16
    for place, joint in enumerate(COCO17.joints[1:], 1):
        assert people.points[0, place, 0] == BODY25.joints.index(joint)
    few = People.named(np.ones((1, 1, 2)), np.ones((1, 1)), [1.0], ["left_hip"])
    assert few.conf[0].nonzero()[0].tolist() == [COCO17.index("left_hip")]


def test_rtmpose_says_where_in_the_picture(options: dict[str, dict[str, Any]]) -> None:
    pytest.importorskip("rtmlib")
    detector = make_keypoint_detector("rtmpose", options["rtmpose"])
    image = torch.zeros(1, 3, 300, 400, dtype=torch.uint8)
    image[0, 0, 118:123, 198:203] = 255  # red: the first channel, as the network expects it
    image[0, 2, 60:64, 60:64] = 255
    (people,) = detector.detect(image, [np.array([[150, 70, 246, 190]])])
    np.testing.assert_allclose(people.points[0], np.full((17, 2), [200, 120]), atol=2.5)


def test_vitpose_is_what_transformers_makes_of_it(options: dict[str, dict[str, Any]]) -> None:
    import transformers as t

    folder = options["vitpose"]["checkpoint"]
    image = torch.randint(0, 256, (1, 3, 90, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    (people,) = make_keypoint_detector("vitpose", options["vitpose"]).detect(image, [[[10, 5, 60, 80]]])
    processor = t.VitPoseImageProcessor.from_pretrained(folder)
    inputs = processor(image[0].permute(1, 2, 0).numpy(), boxes=[[[10.0, 5.0, 50.0, 75.0]]], return_tensors="pt")
    with torch.inference_mode():
        told = t.VitPoseForPoseEstimation.from_pretrained(folder).eval()(**inputs)
    (wanted,) = processor.post_process_pose_estimation(told, boxes=[[[10.0, 5.0, 50.0, 75.0]]])
    np.testing.assert_allclose(people.points[0], wanted[0]["keypoints"].numpy(), atol=1e-3)


def test_vitpose_plus_asks_one_expert(tmp_path: Path) -> None:
    folder = str(save_vitpose(tmp_path / "plus", experts=2))
    image = torch.randint(0, 256, (1, 3, 64, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    first, second = (
        make_keypoint_detector("vitpose", {"checkpoint": folder, "expert": e, "device": "cpu"}).detect(
            image, [[[4, 4, 40, 60]]]
        )
        for e in (0, 1)
    )
    assert not np.array_equal(first[0].points, second[0].points)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    image, box = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [[[0, 0, 7, 7]]]
    with pytest.raises(PosesynError, match="hf download usyd-community/vitpose-base-simple"):
        make_keypoint_detector("vitpose", {"checkpoint": str(tmp_path)}).detect(image, box)
    with pytest.raises(PosesynError, match="it takes"):
        make_keypoint_detector("vitpose", {"chekpoint": "x"})
    with pytest.raises(PosesynError, match="has 3 points"):
        make_keypoint_detector("vitpose", {"checkpoint": str(save_vitpose(tmp_path / "v", points=3))}).detect(
            image, box
        )
    pytest.importorskip("rtmlib")
    with pytest.raises(PosesynError, match="there is no file"):
        make_keypoint_detector("rtmpose", {"weights": str(tmp_path / "no.onnx")}).detect(image, box)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(PosesynError, match="cannot be run"):
        make_keypoint_detector("rtmpose", {"weights": str(tmp_path / "bad.onnx")}).detect(image, box)


@pytest.fixture(scope="module")
def person() -> tuple[torch.Tensor, np.ndarray]:
    """A picture of one whole person who stands, and COCO's points."""
    from benchmarks.checks import ALONE, render, scenes
    from synth.checks.seen import label_points

    scene = scenes("plain", 256, range(12))
    batch = render(scene[upright(scene)[:1]], 256, ALONE, "procedural")
    return batch.image, label_points(batch)[0][0]


def upright(scene: SceneSpec) -> list[int]:
    """Scenes of people who stand, the straightest first."""
    joints = load_body("free").joints(scene.betas, scene.body_pose, scene.global_orient, scene.transl)
    height = joints[:, [7, 8], 1].mean(1) - joints[:, 15, 1]  # y is down
    return torch.argsort(-height).tolist()


def test_blazepose_finds_a_rendered_person_with_and_without_being_told(person: Any) -> None:
    image, truth = person
    detector = make("blazepose", {"blazepose": {}})
    side = float((truth.max(0) - truth.min(0)).max())
    box = np.concatenate([truth.min(0), truth.max(0)])
    turned, turned_box = torch.rot90(image, 2, (2, 3)), 255 - box[[2, 3, 0, 1]]
    looks = (
        (truth, detector.detect(image)),
        (truth, detector.detect(image, [box[None]])),
        (truth, detector.detect(image, [box[None]], [truth[None]])),
        (255 - truth, detector.detect(turned, [turned_box[None]], [255 - truth[None]])),
    )
    for wanted, (people,) in looks:
        assert len(people) == 1
        assert people.score[0] > 0.9
        assert np.linalg.norm(people.points[0] - wanted, axis=-1).mean() < 0.06 * side
