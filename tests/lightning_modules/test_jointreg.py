"""Chen et al.'s joint regressor: its skeleton, its scale, torchvision's layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from human.batch import PoseBatch
from human.errors import PosesynError
from human.skeleton import POSE32
from lightning_modules.jointreg import BONES15, IN_POSE32, JOINTS15, JointRegressor, bone_lengths, sum_of_bones
from tests.lightning_modules.tiny_estimators import make
from tests.tiny import SIZE, rendered_people


@pytest.fixture(scope="module")
def people() -> PoseBatch:
    return rendered_people(range(4))


def test_the_skeleton_is_a_tree_of_15_joints_that_mirrors_onto_itself() -> None:
    assert len(JOINTS15) == len(set(JOINTS15)) == 15
    assert sorted(child for child, _ in BONES15) == list(range(1, 15))
    swap = {j: j.replace("left", "x").replace("right", "left").replace("x", "right") for j in JOINTS15}
    bones = {(JOINTS15[c], JOINTS15[p]) for c, p in BONES15}
    assert {(swap[c], swap[p]) for c, p in bones} == bones


def test_the_sum_of_bones_of_a_doll() -> None:
    doll = torch.zeros(2, 15, 3)
    for child, parent in BONES15:  # parents come before their children
        doll[:, child] = doll[:, parent] + torch.tensor([0.0, 0.0, 0.5])
    doll[1] *= 2
    reference = torch.full((14,), 0.5)
    assert bone_lengths(doll)[0].tolist() == [0.5] * 14
    assert sum_of_bones(doll, torch.ones(2, 15), reference).tolist() == [7.0, 14.0]
    # A wrist without a label: its forearm counts as long as the others make likely.
    conf = torch.ones(2, 15)
    conf[:, JOINTS15.index("left_wrist")] = 0
    doll[:, JOINTS15.index("left_wrist")] = torch.nan
    assert sum_of_bones(doll, conf, reference).tolist() == pytest.approx([7.0, 14.0])
    assert sum_of_bones(doll, torch.zeros(2, 15), reference).tolist() == [0, 0]


def test_size_is_not_learnt_and_position_is(people: PoseBatch) -> None:
    """The loss on joints sees proportions: the same person twice as tall is the same target."""
    model = make("jointreg", dropout=0.0).eval()
    tall = people.replace(joints3d=2 * people.joints3d)
    with torch.no_grad():
        out = model.solve(people)
        once, twice = (model.losses(out, b)["joints3d"] for b in (people, tall))
        bent = people.replace(joints3d=-people.joints3d)
        assert model.losses(out, bent)["joints3d"] != pytest.approx(once.item(), rel=1e-3)
    assert once.item() == pytest.approx(twice.item(), rel=1e-5)


def test_the_true_joints_have_no_loss(people: PoseBatch) -> None:
    model = make("jointreg").eval()
    target = people.joints3d[:, IN_POSE32]
    with torch.no_grad():
        out = model.solve(people)
        total = bone_lengths(target).sum(1)[:, None, None]
        said = out.said._replace(extras={"normalised": target / total})
        terms = model.losses(out._replace(said=said, joints2d=people.joints2d), people)
    assert terms["joints3d"].item() < 1e-10
    assert terms["joints2d"].item() == 0


@pytest.mark.parametrize("backbone", ["alexnet", pytest.param("vgg16", marks=pytest.mark.slow)])
def test_outputs_equal_torchvisions(backbone: str, people: PoseBatch, tmp_path: Path) -> None:
    """The original code's network is ImageNet's with another last layer: so is torchvision's, with its own weights."""
    torch.manual_seed(3)
    theirs = torchvision.models.get_model(backbone, weights=None, num_classes=48).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = JointRegressor(backbone, image_size=SIZE, checkpoint=str(tmp_path / "w.pth")).eval()
    assert sum(p.numel() for p in ours.trained_state().values()) == sum(p.numel() for p in theirs.parameters())
    transform = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        expected = theirs(transform(people.image / 255))
        said = ours.regress(people)
    got = torch.cat([said.extras["normalised"].flatten(1), said.weak], 1)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_imagenet_weights_leave_the_last_layer(tmp_path: Path) -> None:
    imagenet = torchvision.models.alexnet(weights=None)
    torch.save(imagenet.state_dict(), tmp_path / "alexnet.pth")
    model = JointRegressor("alexnet", image_size=SIZE, backbone_checkpoint=str(tmp_path / "alexnet.pth"))
    assert torch.equal(model.hidden[1].weight, imagenet.classifier[1].weight)
    assert model.head.out_features == 48
    with pytest.raises(PosesynError, match=r"alexnet\.pth does not fit"):
        JointRegressor("vgg11", hidden=32, image_size=SIZE, backbone_checkpoint=str(tmp_path / "alexnet.pth"))
    with pytest.raises(PosesynError, match=r"is not one of torchvision's alexnet, vgg11"):
        JointRegressor("resnet50")


def test_joints_that_are_not_regressed_come_from_the_fitted_body(people: PoseBatch) -> None:
    model = make("jointreg").eval()
    with torch.inference_mode():
        out, said = model.solve(people), model.predict(people)
    assert torch.equal(said.joints3d[:, IN_POSE32], out.joints3d[:, IN_POSE32])
    others = [j for j in range(len(POSE32)) if j not in IN_POSE32]
    spine = said.joints3d[:, POSE32.index("spine2")]
    assert (said.joints3d[:, others].norm(dim=-1) > 0.02).all()
    assert (spine[:, 1] < -0.1).all()  # above the pelvis of a person who stands


def test_a_network_that_says_nan_is_not_finite(people: PoseBatch) -> None:
    model = make("jointreg").eval()
    with torch.no_grad():
        model.head.bias[7] = torch.nan
        assert not model.predict(people).finite.any()


def test_one_batch_can_be_learnt_by_heart(people: PoseBatch) -> None:
    model = make("jointreg", dropout=0.0, hidden=128)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = model.training_step(people, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["alexnet", "vgg16"])
def test_full_size(backbone: str) -> None:
    model = JointRegressor(backbone).eval()
    expected = torchvision.models.get_model(backbone, weights=None, num_classes=48)
    assert sum(p.numel() for p in model.trained_state().values()) == sum(p.numel() for p in expected.parameters())
    with torch.inference_mode():
        assert model.predict(PoseBatch.blank(1, 224)).finite.all()
