"""HMR 2.0 against 4D-Humans' own code (reference: scripts/tpe_reference/hmr2.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from human.batch import PoseBatch
from human.body_folders import VARIABLE
from human.errors import PosesynError
from human.rotations import matrix_to_rotvec
from lightning_modules.hmr2 import HMR2, columns_of, middle_columns, sixd_by_columns
from lightning_modules.hmr2_losses import HMR2LossWeights, hmr2_losses
from lightning_modules.smpl_decoder import DecoderConfig, SMPLDecoder
from lightning_modules.upright import upright_rotations, upright_sixd
from lightning_modules.vit import ViT, ViTConfig
from tests.licensed_files import body_arrays, official_smpl
from tests.lightning_modules.learning import learns_by_heart
from tests.lightning_modules.seeded import (
    Reference,
    assert_parity,
    load_reference,
    seeded_images,
    seeded_tensor,
)
from tests.lightning_modules.tiny_estimators import make

SMALL = ViTConfig(width=64, depth=3, heads=4, drop_path=0.1)
DECODER = DecoderConfig(width=48, depth=2, heads=3, head_width=16, mlp_width=40)
#: Of 4D-Humans' first 25 joints (OpenPose's) those that are SMPL's own, and which of SMPL's they are.
OPENPOSE = {1: 12, 2: 17, 3: 19, 4: 21, 5: 16, 6: 18, 7: 20, 8: 0, 9: 2, 10: 5, 11: 8, 12: 1, 13: 4, 14: 7}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("hmr2")


def upstream_state(reference: Reference) -> dict[str, Tensor]:
    starts = {k: v for k, v in reference.arrays.items() if k.startswith("smpl_head.init_")}
    return {**reference.state, **starts}


def save_upstream(path: Path, state: dict[str, Tensor]) -> str:
    beside = {"discriminator.D_conv1.weight": torch.zeros(2), "initialized": torch.tensor(False)}
    beside["smpl.v_template"] = torch.from_numpy(body_arrays("smpl")["v_template"])
    torch.save({"state_dict": {**state, **beside}, "epoch": 35, "hyper_parameters": {}}, path)
    return str(path)


@pytest.fixture(scope="module")
def estimator(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> HMR2:
    """At the reference's size with the reference's weights, on SMPL."""
    folder = tmp_path_factory.mktemp("hmr2")
    official_smpl(folder / "smpl" / "SMPL_NEUTRAL.pkl")
    checkpoint = save_upstream(folder / "upstream.ckpt", upstream_state(reference))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(folder))
        return HMR2(SMALL, DECODER, body="smpl", checkpoint=checkpoint).eval()


@pytest.fixture(scope="module")
def pictures(reference: Reference) -> PoseBatch:
    return PoseBatch.blank(2, 256).replace(image=seeded_images(2, 256, reference.seed))


# -- parity ----------------------------------------------------------------------------------------------------------
def test_parameters_are_those_of_4d_humans(estimator: HMR2, pictures: PoseBatch, reference: Reference) -> None:
    with torch.inference_mode():
        said = estimator.regress(pictures)
    for name, ours in {"rotations": said.rotations, "betas": said.betas, "cam": said.weak}.items():
        assert_parity(ours, reference.arrays[name], name)


def test_camera_and_joints_are_those_of_4d_humans(estimator: HMR2, pictures: PoseBatch, reference: Reference) -> None:
    with torch.inference_mode():
        out = estimator.solve(pictures)
    theirs, own = list(OPENPOSE), list(OPENPOSE.values())
    in_camera = reference.arrays["keypoints3d"] + reference.arrays["cam_t"][:, None]
    assert_parity((out.joints3d + out.transl[:, None])[:, own], in_camera[:, theirs], "joints in the camera's frame")
    # Fractions of the crop about its middle, which 4D-Humans' warp puts on pixel 128.
    pixels = reference.arrays["keypoints2d"] * 256 + 128
    assert_parity(out.joints2d[:, own], pixels[:, theirs], "pixels")
    assert out.intrinsics[0].tolist() == [[5000, 0, 128], [0, 5000, 128], [0, 0, 1]]


def test_gradients_are_those_of_4d_humans(estimator: HMR2, pictures: PoseBatch, reference: Reference) -> None:
    estimator.zero_grad()
    rotations = estimator.regress(pictures).rotations
    (rotations * seeded_tensor(rotations.shape, reference.seed, "upstream gradient")).sum().backward()
    names = {f"grad {n}": n for n in reference.state if f"grad {n}" in reference.arrays}
    assert len(names) == 5
    for stored, name in names.items():
        ours = HMR2.from_upstream({name: reference.state[name], "smpl_head.x": torch.zeros(())})
        assert ours is not None
        assert_parity(estimator.get_parameter(next(iter(ours))).grad, reference.arrays[stored], name, 1e-3)  # type: ignore[arg-type]


def test_mean_token_and_two_steps_are_those_of_4d_humans() -> None:
    """TRANSFORMER_INPUT mean_shape and IEF_ITERS 2, as HaMeR has them."""
    reference = load_reference("hmr2_mean_token")
    state = {f"smpl_head.{k}": v for k, v in {**reference.state, **reference.arrays}.items() if k in reference.state}
    ours = HMR2.from_upstream(state)
    assert ours is not None
    config = DecoderConfig(48, 2, 3, 16, 40, token="mean", steps=2)
    head = SMPLDecoder(config, 64, torch.zeros(24, 6), torch.zeros(10), torch.zeros(3)).eval()
    head.load_state_dict({k.removeprefix("head."): v for k, v in ours.items()})
    with torch.inference_mode():
        said = head(seeded_tensor([2, 64, 4, 3], reference.seed, "features"))
    assert_parity(sixd_by_columns(said.sixd), reference.arrays["rotations"], "rotations")
    assert_parity(said.betas, reference.arrays["betas"], "betas")
    assert_parity(said.weak, reference.arrays["cam"], "camera")


def test_losses_are_those_of_4d_humans(reference: Reference) -> None:
    def drawn(*shape: int, key: str) -> Tensor:
        return seeded_tensor([2, *shape], reference.seed, key)

    conf = drawn(32, 1, key="conf").abs().clamp_max(1.0)[..., 0]
    label3d = drawn(32, 3, key="label3d")
    batch = PoseBatch.blank(2, 256).replace(
        joints2d=drawn(32, 2, key="label2d") * 0.2 * 256, joints2d_conf=conf, joints3d=label3d - label3d[:, :1],
        joints3d_conf=conf, betas=drawn(10, key="label betas"), has_betas=torch.tensor([True, False]),
    )  # fmt: skip
    terms = hmr2_losses(
        batch, joints2d_BJ2=drawn(32, 2, key="points2d") * 0.2 * 256, joints3d_BJ3=drawn(32, 3, key="points3d"),
        rotations_BK33=torch.eye(3).expand(2, 24, 3, 3), betas_B10=drawn(10, key="betas"),
        weights=HMR2LossWeights(joints2d=1, joints3d=1, betas=1),
    )  # fmt: skip
    for name, stored in {"joints2d": "loss2d", "joints3d": "loss3d", "betas": "loss_betas"}.items():
        assert_parity(2 * terms[name], reference.arrays[stored], name)  # theirs is the sum over the batch


def test_pose_loss_is_the_squared_distance_of_the_matrices() -> None:
    turned = upright_rotations()[None]
    batch = PoseBatch.blank(1, 64).replace(has_pose=torch.tensor([True]))
    rotvec = matrix_to_rotvec(turned)

    def pose(batch: PoseBatch) -> float:
        return hmr2_losses(
            batch, joints2d_BJ2=torch.zeros(1, 32, 2), joints3d_BJ3=torch.zeros(1, 32, 3), rotations_BK33=turned,
            betas_B10=torch.zeros(1, 10), weights=HMR2LossWeights(pose=1),
        )["pose"].item()  # fmt: skip

    expected = (turned - torch.eye(3)).square().sum().item()
    assert pose(batch) == pytest.approx(expected, rel=1e-5)
    assert pose(batch.replace(global_orient=rotvec[:, 0], body_pose=rotvec[:, 1:])) == pytest.approx(0, abs=1e-9)


# -- conventions -----------------------------------------------------------------------------------------------------
def test_the_network_sees_the_middle_three_quarters() -> None:
    picture = torch.arange(256.0).expand(1, 3, 2, 256)
    assert middle_columns(picture)[0, 0, 0].tolist() == list(range(32, 224))
    estimator = make("hmr2").eval()
    blank = PoseBatch.blank(1, 64)
    edges, inside = blank.image.clone(), blank.image.clone()
    edges[..., :8] = edges[..., -8:] = inside[..., 8] = 255
    with torch.inference_mode():
        said = [estimator.predict(blank.replace(image=i)).betas for i in (blank.image, edges, inside)]
    assert torch.equal(said[0], said[1])
    assert not torch.equal(said[0], said[2])


def test_both_layouts_of_mean_rotations_are_read() -> None:
    beside = upright_sixd()
    apart = upright_rotations()[..., :2].mT.reshape(24, 6)
    assert not torch.equal(beside, apart)
    for pose in (beside, apart):
        assert torch.equal(columns_of(pose.flatten()), apart)
        torch.testing.assert_close(sixd_by_columns(columns_of(pose.flatten())), upright_rotations())


def test_mean_parameters_of_a_file(tmp_path: Path) -> None:
    pose = upright_sixd().flatten().numpy()
    np.savez(tmp_path / "mean.npz", pose=pose, shape=np.full(10, 0.5), cam=[0.8, 0.1, 0.2])
    estimator = make("hmr2", mean_params=str(tmp_path / "mean.npz"))
    said = estimator.regress(PoseBatch.blank(1, 64))
    torch.testing.assert_close(said.rotations[0], upright_rotations(), rtol=0, atol=0.05)
    torch.testing.assert_close(said.betas[0], torch.full((10,), 0.5), rtol=0, atol=0.1)
    torch.testing.assert_close(said.weak[0], torch.tensor([0.8, 0.1, 0.2]), rtol=0, atol=0.1)


# -- the network -----------------------------------------------------------------------------------------------------
def test_drop_path_skips_samples_in_training_only() -> None:
    torch.manual_seed(0)
    vit = ViT(ViTConfig(32, 4, 2, drop_path=0.5), 64, 48)
    picture = torch.randn(1, 3, 64, 48).repeat(6, 1, 1, 1)
    vit.train()
    with torch.no_grad():
        trained = vit(picture)
        assert not torch.equal(trained[0], trained[1])
        torch.manual_seed(3)
        first = vit(picture)
        torch.manual_seed(3)
        assert torch.equal(vit(picture), first)
        still = vit.eval()(picture)
    torch.testing.assert_close(still[0], still[5])
    assert make("hmr2", drop_path=0.25).backbone.blocks[-1].drop_path1.drop_prob == 0.25


def test_layers_rise_from_the_patches_to_the_head() -> None:
    estimator = make("hmr2")
    layers = {n: estimator.layer_of(n) for n, p in estimator.named_parameters() if p.requires_grad}
    assert {layers["backbone.pos_embed"], layers["backbone.patch_embed.proj.weight"]} == {0}
    assert [layers[f"backbone.blocks.{k}.attn.qkv.weight"] for k in range(3)] == [1, 2, 3]
    assert {v for k, v in layers.items() if k.startswith(("head.", "backbone.last_norm."))} == {4}


@pytest.mark.parametrize(
    "changes", [{"compile": {"backend": "eager", "fullgraph": True}}, {"gradient_checkpointing": True}]
)
def test_compiled_and_recomputed_networks_say_the_same(changes: dict[str, Any]) -> None:
    batch = PoseBatch.blank(2, 64).replace(image=seeded_images(2, 64, 1), joints2d_conf=torch.ones(2, 32))
    plain, other = make("hmr2", drop_path=0.0), make("hmr2", drop_path=0.0, **changes)
    assert plain.weights_hash() == other.weights_hash()
    losses = [estimator.training_step(batch, 0) for estimator in (plain, other)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[1], losses[0])
    for (name, p), q in zip(plain.named_parameters(), other.parameters(), strict=True):
        if p.requires_grad:
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_one_batch_can_be_learnt_by_heart() -> None:
    size, decoder = ViTConfig(64, 3, 2, drop_path=0.0), DecoderConfig(64, 2, 2, 16, 64)
    learns_by_heart(make("hmr2", backbone=size, decoder=decoder), steps=120, lr=2e-3)


# -- weights ---------------------------------------------------------------------------------------------------------
def vitpose(reference: Reference) -> dict[str, Tensor]:
    return {k: v for k, v in reference.state.items() if k.startswith("backbone.")}


@pytest.mark.parametrize("whole", [False, True], ids=["backbone", "with heat-map head"])
def test_backbone_of_vitpose(reference: Reference, tmp_path: Path, whole: bool) -> None:
    state = vitpose(reference)
    if whole:
        state["keypoint_head.final_layer.weight"] = torch.zeros(17, 256, 1, 1)
    else:
        state = {k.removeprefix("backbone."): v for k, v in state.items()}
    torch.save({"state_dict": state}, tmp_path / "vitpose.pth")
    estimator = HMR2(SMALL, DECODER, backbone_checkpoint=str(tmp_path / "vitpose.pth"))
    for name, value in vitpose(reference).items():
        assert torch.equal(estimator.state_dict()[name], value), name


def test_a_backbone_alone_is_no_checkpoint_of_the_whole(reference: Reference, tmp_path: Path) -> None:
    torch.save({"state_dict": vitpose(reference)}, tmp_path / "vitpose.pth")
    with pytest.raises(PosesynError, match="backbone_checkpoint"):
        HMR2(SMALL, DECODER, checkpoint=str(tmp_path / "vitpose.pth"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"backbone": ViTConfig(64, 2, 4)}, r"unknown \['backbone.blocks.2."),
        ({"backbone": ViTConfig(64, 4, 4)}, r"missing \['backbone.blocks.3."),
        ({"backbone": ViTConfig(32, 3, 4)}, r"backbone.blocks.0.attn.proj.bias \(64,\) != \(32,\)"),
        ({"image_size": 128}, r"backbone.pos_embed \(1, 193, 64\) != \(1, 49, 64\)"),
        ({"decoder": DecoderConfig(48, 3, 3, 16, 40)}, r"missing \['head.layers.2."),
    ],
)
def test_a_checkpoint_of_another_size_lists_what_differs(
    reference: Reference, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    path = save_upstream(tmp_path / "upstream.ckpt", upstream_state(reference))
    with pytest.raises(PosesynError, match=says) as caught:
        HMR2(**{"backbone": SMALL, "decoder": DECODER, "checkpoint": path, **changes})
    assert "upstream.ckpt" in str(caught.value)


def test_a_backbone_of_another_network(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(PosesynError, match=r"resnet.pth is no ViTPose checkpoint.*conv1.weight"):
        HMR2(SMALL, DECODER, backbone_checkpoint=str(tmp_path / "resnet.pth"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: HMR2("giant"), "small, base, large, huge"),
        (lambda: HMR2(SMALL, image_size=100), "multiples of 16"),
        (lambda: ViTConfig(width=30, heads=4), "divide the width"),
        (lambda: ViTConfig(drop_path=1.0), "drop_path"),
        (lambda: ViTConfig(patch=4), "larger than 4"),
        (lambda: DecoderConfig(token="one"), "zero, mean"),
        (lambda: DecoderConfig(depth=0), "positive"),
    ],
)
def test_settings_that_are_mistyped(wrong: Callable[[], Any], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        wrong()


# -- full size -------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_full_size() -> None:
    """`python -m scripts.tpe_reference.hmr2 CHECKOUT --count` counts 4D-Humans' own modules."""
    estimator = HMR2().eval()
    counts = {name: sum(p.numel() for p in estimator.get_submodule(name).parameters()) for name in ("backbone", "head")}
    assert counts == {"backbone": 630_912_000, "head": 39_547_037}
    with torch.inference_mode():
        said = estimator.predict(PoseBatch.blank(1, 256).replace(image=seeded_images(1, 256, 1)))
    assert said.finite.all()
