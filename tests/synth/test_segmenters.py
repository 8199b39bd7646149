"""Segmenters on tiny random networks of the real classes, and what their finds mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from human.errors import PosesynError
from synth.segmenters import SEGMENTERS, BodyMask, Instances, MaskRCNN, TransformersSegmenter, grow, make_segmenter
from tests.need import need

H, W = 48, 64


def block(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8)


def test_people_come_first_and_keep_their_pixels() -> None:
    horse, small, large = block(0, 40, 0, 40), block(0, 5, 0, 5), block(10, 30, 10, 30)
    found = Instances.of([horse, small, np.zeros((H, W), bool), large], ["horse", "person", "cup", "person"],
                         [0.9, 0.8, 0.7, 0.6], (H, W))  # fmt: skip
    assert found.labels == ("person", "person", "horse")
    assert found.people == 2
    assert np.array_equal(found.masks[0], large)
    assert np.array_equal(found.scores, [0.6, 0.8, 0.9])
    assert np.array_equal(found.person, small | large)
    assert np.array_equal(found.objects, horse & ~small & ~large)


def test_nothing_found_is_two_empty_masks() -> None:
    found = Instances.of([], [], [], (H, W))
    assert found.person.shape == found.objects.shape == (H, W)
    assert not found.person.any()
    assert not found.objects.any()
    with pytest.raises(PosesynError, match="as many masks"):
        Instances(np.zeros((2, H, W), bool), ("person",), np.ones(2))


def test_the_body_is_its_own_mask() -> None:
    body = block(10, 20, 10, 20)
    found = BodyMask(margin=0.05)(picture(), body)
    assert found.people == 1
    assert found.person[body].all()
    assert body.sum() < found.person.sum() < 3 * body.sum()
    assert not found.objects.any()
    for nobody in (None, np.zeros((H, W), bool)):
        assert not BodyMask()(picture(), nobody).person.any()
    assert grow(body, 0.4) is body


def test_every_segmenter_says_what_is_wrong_with_its_options() -> None:
    assert {"body", "blazepose", "mask_rcnn", "transformers"} <= set(SEGMENTERS.names())
    with pytest.raises(PosesynError, match="takes"):
        make_segmenter("body", {"size": 3})
    with pytest.raises(PosesynError, match="share of the picture"):
        make_segmenter("body", {"margin": 0.7})
    with pytest.raises(PosesynError, match="maskrcnn_resnet50_fpn"):
        make_segmenter("mask_rcnn", {"weights": "x.pth", "model": "resnet18"})
    with pytest.raises(PosesynError, match="between 0 and 1"):
        make_segmenter("transformers", {"threshold": 0.0})


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="177 MB"):
        MaskRCNN(str(tmp_path / "nothing.pth"))
    with pytest.raises(PosesynError, match="hf download"):
        TransformersSegmenter(str(tmp_path / "nothing"))(picture())
    junk = tmp_path / "junk.pth"
    junk.write_bytes(b"no weights")
    with pytest.raises(PosesynError, match="does not hold weights"):
        MaskRCNN(str(junk), "maskrcnn_resnet50_fpn", classes=2)(picture())


@pytest.fixture(scope="module")
def mask2former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    stages = [f"stage{i}" for i in range(1, 5)]
    swin = SwinConfig(
        image_size=64, patch_size=4, window_size=2, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, out_features=stages
    )
    config = Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, num_attention_heads=2,
        num_queries=6, encoder_layers=1, decoder_layers=2, dim_feedforward=16, encoder_feedforward_dim=16,
        id2label={0: "person", 1: "horse"}, label2id={"person": 0, "horse": 1},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("mask2former")
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    Mask2FormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def test_mask2former_runs(mask2former: Path) -> None:
    segmenter = TransformersSegmenter(str(mask2former), threshold=0.01, device="cpu")
    found = segmenter(picture())
    assert len(found.labels) > 0
    assert set(found.labels) <= {"person", "horse"}
    assert found.masks.shape[1:] == (H, W)
    again = segmenter(picture())
    assert np.array_equal(found.masks, again.masks)
    segmenter.release()
    assert np.array_equal(found.masks, segmenter(picture()).masks)
    nothing = TransformersSegmenter(str(mask2former), threshold=0.999, device="cpu")(picture())
    assert nothing.labels == ()
    assert segmenter.config()["threshold"] == 0.01


def test_mask_rcnn_runs(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from torchvision.models import get_model

    small: dict[str, Any] = {"min_size": 48, "max_size": 64, "box_detections_per_img": 3, "rpn_post_nms_top_n_test": 8}
    torch.manual_seed(0)
    network = get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, num_classes=3, **small)
    file = tmp_path / "tiny.safetensors"
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, file)
    given = {"weights": str(file), "model": "maskrcnn_resnet50_fpn", "classes": 3, "options": small, "device": "cpu"}
    segmenter = make_segmenter("mask_rcnn", {**given, "threshold": 0.06, "edge": 0.4})
    found = segmenter(picture())
    assert 1 <= len(found.labels) <= 3
    assert set(found.labels) <= {"person", "class 2"}
    assert found.masks.shape[1:] == (H, W)
    assert len(segmenter.config()["weights"]) == 64
    assert make_segmenter("mask_rcnn", {**given, "threshold": 0.99})(picture()).labels == ()


def test_the_packaged_detector_covers_the_person() -> None:
    need("mediapipe_pose")
    from tests.tiny import rendered_people

    batch = rendered_people(range(40, 43), 256)
    segmenter = make_segmenter("blazepose", {"levels": 1})
    covered = []
    for image, joints, seen in zip(batch.image, batch.joints2d, batch.joints2d_conf, strict=True):
        found = segmenter(image.permute(1, 2, 0).contiguous().numpy())
        if found.people:
            at = joints[seen > 0].round().long().clamp(0, 255)
            covered.append(float(found.person[at[:, 1], at[:, 0]].mean()))
            assert not found.objects.any()
    assert len(covered) >= 2
    assert np.median(covered) > 0.7
