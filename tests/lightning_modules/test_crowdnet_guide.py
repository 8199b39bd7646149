"""Whom 3DCrowdNet looks at: the guiding 2D pose, of another estimator, or of labels, with a detector's errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from human.batch import PoseBatch
from human.errors import PosesynError
from lightning_modules.crowdnet_conventions import JOINTS30, coco_joints, guiding_joints
from lightning_modules.hmr import HMR
from lightning_modules.losses import LossWeights
from lightning_modules.pose_guide import PoseGuide
from tests.lightning_modules.learning import learns_by_heart
from tests.lightning_modules.tiny_estimators import crowd
from tests.tiny import SIZE, rendered_people, tiny_hmr


def test_detectors_joints() -> None:
    batch = rendered_people(range(3))
    joints, seen = guiding_joints(*coco_joints(batch.joints2d, torch.ones(3, 32, dtype=torch.bool)))
    hips, shoulders = batch.joints2d[:, [1, 2]].mean(1), batch.joints2d[:, [16, 17]].mean(1)
    torch.testing.assert_close(joints[:, JOINTS30.index("pelvis")], hips)
    torch.testing.assert_close(joints[:, JOINTS30.index("neck")], shoulders)
    unseen = {"spine1", "spine2", "spine3", "head", "head_top"} | {
        f"{side}_{part}" for side in ("left", "right") for part in ("foot", "collar", "hand")
    }
    assert {JOINTS30[j] for j in range(30) if not seen[0, j]} == unseen
    assert seen.sum() == 3 * 19
    for j in range(24, 29):
        assert torch.equal(joints[:, j], batch.joints2d[:, j])


def blank_labels(batch: PoseBatch) -> PoseBatch:
    return PoseBatch.blank(len(batch), batch.size).replace(
        image=batch.image, intrinsics=batch.intrinsics, key=batch.key
    )


def test_predictions_never_look_at_labels_unless_asked_to() -> None:
    people = rendered_people(range(4))
    model = crowd().eval()
    with torch.no_grad():
        next(model.backbone.pose2feat.parameters()).normal_()  # one that answers to its guide
        assert torch.equal(model.predict(people).joints2d, model.predict(blank_labels(people)).joints2d)
        asked = crowd(pose2d="labels").eval()
        asked.load_state_dict(model.state_dict())
        with_labels, without = asked.predict(people), asked.predict(blank_labels(people))
    assert not torch.equal(with_labels.joints3d, without.joints3d)


def test_the_guide_is_another_estimator_at_its_own_size(tmp_path: Path) -> None:
    people = rendered_people(range(3), 128)
    small = people.image.float().view(3, 3, 64, 2, 64, 2).mean((3, 5)).round().to(torch.uint8)
    hmr = tiny_hmr().eval()
    hmr.save_weights(tmp_path / "hmr.safetensors")
    other = tiny_hmr(checkpoint=str(tmp_path / "hmr.safetensors"))
    model = crowd(image_size=128, pose2d=other).eval()
    assert model.guide is not None
    joints, _ = model.guide(people)
    with torch.no_grad():
        expected = hmr.predict(PoseBatch.blank(3, 64).replace(image=small)).joints2d
    # Antialiased by a triangle rather than a box: a pixel apart at most.
    assert ((expected + 0.5) * 2 - 0.5 - joints).abs().max() < 1.0
    assert not any(n.startswith("guide.") for n in [*model.state_dict(), *dict(model.named_parameters())])
    model.train()
    assert not any(m.training for m in model.guide.modules())


def test_the_packaged_guide_finds_people() -> None:
    people = rendered_people(range(12), 128)
    guide = PoseGuide(HMR(checkpoint="packaged:hmr_free_128"))
    joints, seen = guide(people)
    off = (joints - people.joints2d).norm(dim=-1)[people.joints2d_conf > 0]
    middle = (people.joints2d - 63.5).norm(dim=-1)[people.joints2d_conf > 0]
    assert seen.all()
    assert off.median() < 0.35 * middle.median()


def test_the_hash_names_the_guide(tmp_path: Path) -> None:
    hashes = set()
    for value in (0.0, 0.1):
        source = tiny_hmr()
        with torch.no_grad():
            source.head.delta.weight.fill_(value)
        source.save_weights(tmp_path / f"{value}.safetensors")
        hashes.add(crowd(pose2d=tiny_hmr(checkpoint=str(tmp_path / f"{value}.safetensors"))).weights_hash())
    assert len(hashes) == 2


def test_training_is_guided_by_labels_with_errors() -> None:
    people = rendered_people(range(6))
    model = crowd()
    clean, _ = guiding_joints(*coco_joints(people.joints2d, people.joints2d_conf > 0))
    model._training_pose = True
    torch.manual_seed(3)
    first, seen = model.guiding_pose(people)
    torch.manual_seed(3)
    again, _ = model.guiding_pose(people)
    torch.manual_seed(4)
    other, _ = model.guiding_pose(people)
    assert torch.equal(first, again)
    moved = (first - clean).norm(dim=-1)[seen]
    assert 0 < moved.median() < 0.1 * SIZE
    assert moved.max() > 0.05 * SIZE
    assert not torch.equal(first, other)
    model.errors = False
    assert torch.equal(model.guiding_pose(people)[0], clean)


@pytest.mark.slow
def test_one_batch_can_be_learnt_by_heart() -> None:
    """Labels, crops, heat maps and cameras agree, where the guide makes no errors."""
    no_prior = LossWeights(1.0, 1.0, 0.0, 1.0, 1.0, 1.0, limits=0.0, shape_prior=0.0)
    learns_by_heart(crowd(pose2d="labels", errors=False, width=32, loss=no_prior), steps=150, lr=1e-2)


def test_neighbours_of_the_batch_bring_swaps() -> None:
    people = rendered_people(range(6))
    model = crowd(neighbours=True)
    joints, seen = coco_joints(people.joints2d, people.joints2d_conf > 0)
    torch.manual_seed(0)
    near = 0
    for _ in range(20):
        found, _ = model._with_errors(joints, seen)
        off = (found - joints).norm(dim=-1)
        to_next = (found - joints.roll(1, 0)).norm(dim=-1)
        near += int(((to_next < 2) & (off > 6) & seen).sum())
    assert near > 20


def test_a_guide_without_weights_is_refused() -> None:
    with pytest.raises(PosesynError, match="HMR that finds the joints has no weights"):
        crowd(pose2d=tiny_hmr())
