"""SPIN: equal to the original on the same weights, its losses, where it starts, and what it can be built from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from human.batch import HIPS, PoseBatch
from human.body import load_body
from human.camera import focal_spin, make_intrinsics, project, weak_to_translation
from human.errors import PosesynError
from human.rotations import rotvec_to_matrix
from lightning_modules.encoders import encoder_width, pooled_encoder
from lightning_modules.mean_parameters import FILE, load_mean_parameters
from lightning_modules.spin import SPIN
from lightning_modules.spin_losses import SpinLossWeights, spin_losses
from tests.lightning_modules.learning import learns_by_heart
from tests.lightning_modules.seeded import Reference, assert_parity, load_reference, seeded_images
from tests.lightning_modules.tiny_estimators import make
from tests.tiny import SIZE, rendered_people

# python -m scripts.tpe_reference.spin CHECKOUT prints it for the original's class
PARAMETERS = 26_977_501


def upstream_state(reference: Reference) -> dict[str, Tensor]:
    return {**reference.state, **{k: v for k, v in reference.arrays.items() if k.startswith("init_")}}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("spin")


@pytest.fixture(scope="module")
def official(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> SPIN:
    """At full size, from a checkpoint as SPIN's trainer writes it."""
    path = tmp_path_factory.mktemp("spin") / "model_checkpoint.pt"
    torch.save({"model": upstream_state(reference), "epoch": 3}, path)
    model = SPIN(checkpoint=str(path), other_body=True).eval()
    path.unlink()
    return model


# -- equal to the original -------------------------------------------------------------------------------------------
def test_the_network_says_what_the_original_says(official: SPIN, reference: Reference) -> None:
    batch = PoseBatch.blank(3, 224).replace(image=seeded_images(3, 224, reference.seed))
    with torch.inference_mode():
        said = official.regress(batch)
    for ours, name in ((said.rotations, "rotations"), (said.betas, "betas"), (said.weak, "camera")):
        assert_parity(ours, reference.arrays[name], name)
    assert said.features is not None
    assert said.features.shape == (3, 2048)


def test_as_many_parameters_as_the_original(official: SPIN) -> None:
    assert sum(p.numel() for n, p in official.named_parameters() if not n.startswith("body.")) == PARAMETERS


def test_the_camera_of_the_original(reference: Reference) -> None:
    a = reference.arrays
    focal = torch.full((3,), focal_spin(224))
    transl = weak_to_translation(a["weak"], focal, 224)
    assert_parity(transl, a["transl"], "translation")
    ours = project(a["points"] + transl[:, None], make_intrinsics(focal, 224))
    # The original has -1 .. 1 over the crop, its middle at 112; ours has pixel centres at integers.
    assert_parity((ours + 0.5) / 112 - 1, a["projected"], "projected")


def original_losses(reference: Reference) -> dict[str, Tensor]:
    """Our loss on what the original's was computed on: its 24 joints are 24 of POSE32, hips where it has them."""
    a = {k.removeprefix("loss_"): v for k, v in reference.arrays.items() if k.startswith("loss_")}
    batch, size = PoseBatch.blank(3, 224), 224
    right_left = [HIPS[1], HIPS[0]]
    slots = [j for j in range(32) if j not in right_left][:22]
    slots = slots[:2] + right_left + slots[2:]

    def spread(values: Tensor) -> Tensor:
        out = torch.zeros(3, 32, *values.shape[2:])
        out[:, slots] = values
        return out

    has = a["has"].bool()
    batch = batch.replace(
        joints2d=(spread(a["label2d"]) + 1) * (size / 2), joints2d_conf=spread(a["conf2d"]),
        joints3d=spread(a["label3d"]), joints3d_conf=spread(a["conf3d"]) * has[:, None],
        global_orient=a["label_pose"][:, :3], body_pose=a["label_pose"][:, 3:].view(3, 23, 3),
        betas=a["label_betas"], has_pose=has, has_betas=has,
    )  # fmt: skip
    return spin_losses(
        batch, joints2d_BJ2=(spread(a["joints2d"]) + 1) * (size / 2), joints3d_BJ3=spread(a["joints3d"]),
        rotations_BK33=a["rotations"], betas_B10=a["betas"], scale_B=a["scale"],
        weights=SpinLossWeights(joints2d=1, joints3d=1, pose=1, betas=1, camera=1),
    )  # fmt: skip


@pytest.mark.parametrize("term", ["joints2d", "joints3d", "pose", "betas", "camera"])
def test_the_losses_of_the_original(reference: Reference, term: str) -> None:
    assert_parity(original_losses(reference)[term], reference.arrays[f"term_{term}"], term)


def test_the_camera_places_the_bodys_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the original: a body whose pelvis is not at its origin, as SMPL's, is seen with that offset."""
    model, people = make("spin").eval(), rendered_people(range(2))
    offset = torch.tensor([0.01, -0.22, 0.03])
    for name in ("v_template", "J_template", "extra_template"):
        getattr(model.body, name).add_(offset)
    with torch.inference_mode():
        said, weak = model.predict(people), model.regress(people).weak
        joints = model.body(said.betas, said.body_pose, said.global_orient).joints
        there = weak_to_translation(weak, torch.full((2,), model.focal), SIZE)
        seen = project(joints + there[:, None], said.intrinsics)
    torch.testing.assert_close(said.joints2d, seen, rtol=0, atol=2e-2)
    torch.testing.assert_close(said.transl, there + offset, rtol=0, atol=1e-3)


# -- checkpoints -----------------------------------------------------------------------------------------------------
def tiny_upstream() -> dict[str, Tensor]:
    """A tiny model's weights in the original's layout."""
    return {k.removeprefix("backbone.").removeprefix("head."): v for k, v in make("spin").trained_state().items()}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_of_many_gpus_and_of_old_torch(prefix: str, tmp_path: Path) -> None:
    expected = make("spin").weights_hash()
    state = {prefix + k: v for k, v in tiny_upstream().items() if not k.endswith("num_batches_tracked")}
    torch.save({"model": state}, tmp_path / "old.pt")
    model = make("spin", other_body=True)
    torch.nn.init.zeros_(model.head.fc1.weight)
    model.load_weights(tmp_path / "old.pt")
    assert model.weights_hash() == expected


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: s.pop("fc2.weight"), r"missing \['head.fc2.weight'\] \(1\)"),
        (lambda s: s.update({"fc3.weight": torch.zeros(1)}), r"unknown \['backbone.fc3.weight'\] \(1\)"),
        (lambda s: s.update({"fc1.weight": torch.zeros(9, 9)}), r"shapes \['head.fc1.weight \(9, 9\) != "),
        (lambda s: s.pop("conv1.weight"), r"missing \['backbone.bn1.bias'"),
    ],
)
def test_a_checkpoint_that_does_not_fit_lists_what_differs(
    spoil: Callable[[dict[str, Tensor]], object], says: str, tmp_path: Path
) -> None:
    state = tiny_upstream()
    spoil(state)
    torch.save({"model": state}, tmp_path / "other.pt")
    with pytest.raises(PosesynError, match=says):
        make("spin", checkpoint=str(tmp_path / "other.pt"))


# -- the start -------------------------------------------------------------------------------------------------------
def write_mean(path: Path, **changes: np.ndarray | None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    arrays = {"pose": rng.normal(size=144), "shape": rng.normal(size=10), "cam": np.array([0.9, 0.0, 0.1])}
    np.savez(path, **{k: v for k, v in {**arrays, **changes}.items() if v is not None})
    return path


@pytest.mark.parametrize("folder", ["", "smpl", "data"])
def test_the_licensed_mean_is_found(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_mean(tmp_path / folder / FILE)
    monkeypatch.setenv("POSESYN_BODY_MODELS", str(tmp_path))
    found, given = make("spin", mean_params="smpl"), make("spin", mean_params=str(path))
    assert torch.equal(found.head.init_pose[0], torch.from_numpy(np.load(path)["pose"]).float())
    assert torch.equal(found.head.init_cam, given.head.init_cam)
    assert found.weights_hash() == given.weights_hash() != make("spin").weights_hash()


def test_a_mean_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSESYN_BODY_MODELS", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PosesynError, match=rf"smpl_mean_params.npz.*{tmp_path / 'mine'}.*nkolot/SPIN.*POSESYN_BODY"):
        make("spin", mean_params="smpl")
    with pytest.raises(PosesynError, match=r"nowhere\.npz"):
        make("spin", mean_params="nowhere.npz")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cam": None}, "pose, shape, cam"),
        ({"pose": np.zeros(72)}, "pose must be 144 finite numbers"),
        ({"shape": np.full(10, np.nan)}, "shape must be 10 finite numbers"),
        ({"shape": np.array([{}] * 10, object)}, "cannot be read"),
    ],
)
def test_a_mean_that_is_something_else(changes: dict[str, np.ndarray | None], says: str, tmp_path: Path) -> None:
    path = write_mean(tmp_path / "mean.npz", **changes)
    with pytest.raises(PosesynError, match=says):
        load_mean_parameters(str(path), load_body())
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(PosesynError, match="cannot be read"):
        load_mean_parameters(str(path), load_body())


# -- the network -----------------------------------------------------------------------------------------------------
def test_one_batch_can_be_learnt_by_heart() -> None:
    learns_by_heart(make("spin", dropout=0.0, hidden=128))


@pytest.mark.parametrize("backbone", ["test_vit", "test_efficientnet", "test_resnet", "resnet18", "test_convnext"])
@pytest.mark.parametrize("size", [(64, 64), (64, 48)])
def test_any_backbone_gives_one_vector(backbone: str, size: tuple[int, int]) -> None:
    encoder = pooled_encoder(backbone, *size)
    assert encoder(torch.zeros(2, 3, *size)).shape == (2, encoder_width(encoder))


def test_imagenet_weights_of_torchvision_and_timm(tmp_path: Path) -> None:
    source = timm.create_model("resnet50", pretrained=False, layers=(1, 1, 1, 1), channels=(8, 16, 32, 64))
    state = {k: v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}  # as torchvision's
    assert "fc.weight" in state
    torch.save(state, tmp_path / "resnet.pth")
    model = make("spin", backbone_weights=str(tmp_path / "resnet.pth"))
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name
    with pytest.raises(PosesynError, match=r"resnet.pth does not fit this backbone \(EfficientNet\)"):
        make("spin", backbone="test_efficientnet", backbone_options={}, backbone_weights=str(tmp_path / "resnet.pth"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"backbone": "resnet_50"}, "resnet_50"),
        ({"backbone": "resnet5"}, "did you mean .*resnet50"),
        ({"backbone_options": {"layer": [1]}}, r"resnet50 does not take the options \['layer'\]"),
        ({"width": 65}, "width=65 must lie within the crop"),
        ({"focal": "spn"}, "spin"),
    ],
)
def test_settings_that_are_mistyped(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        make("spin", **wrong)


def test_losses_do_not_see_what_has_no_label() -> None:
    people = rendered_people(range(3))
    model = make("spin").eval()
    out = model.solve(people)
    whole = model.losses(out, people)
    spoilt = people.joints2d.clone()
    spoilt[:, 3] = torch.nan
    conf = people.joints2d_conf.clone()
    conf[:, 3] = 0
    assert model.losses(out, people.replace(joints2d=spoilt, joints2d_conf=conf))["joints2d"] < whole["joints2d"]
    # An unreadable picture weighs nothing.
    two = model.losses(model.solve(people[:2]), people[:2])
    without = model.losses(out, people.replace(weight=torch.tensor([1.0, 1.0, 0.0])))
    for name, value in two.items():
        torch.testing.assert_close(without[name], value, rtol=1e-4, atol=1e-6)
    # Labels without a hip are relative to the pelvis they came with.
    conf3d = people.joints3d_conf.clone()
    conf3d[:, HIPS[0]] = 0
    exact = spin_losses(
        people.replace(joints3d_conf=conf3d), joints2d_BJ2=people.joints2d, joints3d_BJ3=people.joints3d + 1.0,
        rotations_BK33=rotvec_to_matrix(torch.cat([people.global_orient[:, None], people.body_pose], 1)),
        betas_B10=people.betas, scale_B=torch.ones(3), weights=SpinLossWeights(),
    )  # fmt: skip
    for name in ("joints2d", "joints3d", "pose", "betas"):
        assert exact[name] < 1e-8, name
