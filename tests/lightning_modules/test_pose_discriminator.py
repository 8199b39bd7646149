"""The adversary of HMR 2.0: equal to 4D-Humans' (scripts/tpe_reference/hmr2.py), its real poses, whole runs with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.sources import RealSource
from human.batch import PoseBatch
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.rotations import rotvec_to_matrix
from lightning_modules.hmr2 import HMR2
from lightning_modules.hmr2_losses import HMR2LossWeights
from lightning_modules.optimisation import Optimisation
from lightning_modules.pose_discriminator import PoseDiscriminator, draw_people, real_people
from tests.lightning_modules.seeded import (
    Reference,
    assert_parity,
    load_reference,
    seeded_images,
    seeded_tensor,
)
from tests.lightning_modules.test_hmr2 import DECODER, SMALL, upstream_state
from tests.lightning_modules.tiny_estimators import make
from tests.tiny import tiny_data, tiny_trainer

AGAINST = HMR2LossWeights(adversary=1e-3, limits=0.0, shape_prior=0.0)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("hmr2_discriminator")


def adversary(reference: Reference) -> PoseDiscriminator:
    model = PoseDiscriminator()
    ours = PoseDiscriminator.from_upstream(reference.state)
    assert ours is not None
    model.load_state_dict(ours)
    return model


def fighting(**changes: Any) -> HMR2:
    model = make("hmr2", **{"loss": AGAINST, **changes})
    assert isinstance(model, HMR2)
    assert model.adversary is not None
    return model


# -- parity ----------------------------------------------------------------------------------------------------------
def test_scores_losses_and_gradients_are_those_of_4d_humans(reference: Reference) -> None:
    model, arrays = adversary(reference), reference.arrays
    pose, real = (seeded_tensor([4, 23, 3, 3], reference.seed, name) for name in ("fake pose", "real pose"))
    betas, real_betas = (seeded_tensor([4, 10], reference.seed, name) for name in ("fake betas", "real betas"))
    pose.requires_grad_(), betas.requires_grad_()
    assert_parity(model(pose, betas), arrays["scores"], "scores")
    regressor, own = model.terms(pose, betas, (real, real_betas), torch.ones(4))
    assert_parity(regressor, arrays["loss_gen"], "loss_gen")
    assert_parity(own, arrays["loss_disc"], "loss_disc")
    (regressor + own).backward()
    assert pose.grad is not None
    assert betas.grad is not None
    assert_parity(pose.grad, arrays["grad_pose"], "gradient on the pose")
    assert_parity(betas.grad, arrays["grad_betas"], "gradient on the shape")
    grads: dict[str, Any] = {name: p.grad for name, p in model.named_parameters()}
    assert_parity(grads["conv1.weight"], arrays["grad D_conv1.weight"].flatten(1), "conv1")
    assert_parity(grads["joint_weight"][7:8], arrays["grad pose_out.7.weight"], "joint 7")
    assert_parity(grads["shape_fc1.weight"], arrays["grad betas_fc1.weight"], "shape")
    assert_parity(grads["all_out.weight"], arrays["grad D_alljoints_out.weight"], "all joints")


def test_each_side_moves_its_own_weights_alone(reference: Reference) -> None:
    model = adversary(reference)
    pose = seeded_tensor([2, 23, 3, 3], 1, "pose").requires_grad_()
    real = (seeded_tensor([2, 23, 3, 3], 1, "real"), torch.zeros(2, 10))
    regressor, own = model.terms(pose, torch.zeros(2, 10), real, torch.tensor([1.0, 0.0]))
    (grad,) = torch.autograd.grad(regressor, pose, retain_graph=True)
    assert grad[0].abs().max() > 0
    assert not grad[1].any()  # a picture that could not be read
    assert torch.autograd.grad(own, pose, allow_unused=True) == (None,)
    assert all(g is None for g in torch.autograd.grad(regressor, [*model.parameters()], allow_unused=True))


# -- real poses ------------------------------------------------------------------------------------------------------
def test_packaged_poses_with_drawn_shapes() -> None:
    rotations, betas = draw_people(["free"], 500, torch.device("cpu"), 0, 7)
    again = draw_people(["free"], 500, torch.device("cpu"), 0, 7)
    other = draw_people(["free"], 500, torch.device("cpu"), 0, 8)
    assert torch.equal(rotations, again[0])
    assert torch.equal(betas, again[1])
    assert not torch.equal(rotations, other[0])
    assert betas.std().item() == pytest.approx(1, abs=0.05)
    known = rotvec_to_matrix(torch.from_numpy(load_motion_bank("free").poses.copy()))
    assert (known - rotations[0]).abs().amax((1, 2, 3)).min() < 1e-5


def test_files_of_4d_humans(tmp_path: Path) -> None:
    pose = np.arange(3 * 72, dtype=np.float64).reshape(3, 72) / 300
    betas = np.tile(np.arange(3.0)[:, None], (1, 10))
    np.savez(tmp_path / "mocap.npz", body_pose=pose, betas=betas)
    found = real_people((str(tmp_path / "mocap.npz"),))
    np.testing.assert_allclose(found.pose.reshape(3, 69), pose[:, 3:], rtol=1e-6)
    rotations, shapes = draw_people([str(tmp_path / "mocap.npz")], 20, torch.device("cpu"), 1)
    assert set(shapes[:, 0].tolist()) == {0.0, 1.0, 2.0}
    wanted = rotvec_to_matrix(torch.from_numpy(found.pose))[shapes[:, 0].long()]
    torch.testing.assert_close(rotations, wanted)  # a pose keeps its shape


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"body_pose": np.zeros((3, 66)), "betas": np.zeros((3, 10))}, r"body_pose must be .*\(3, 66\)"),
        ({"body_pose": np.zeros((3, 72)), "betas": np.zeros((2, 10))}, r"betas .*\(2, 10\)"),
        ({"body_pose": np.full((3, 72), np.nan), "betas": np.zeros((3, 10))}, "not finite"),
        ({"body_pose": np.zeros((0, 72)), "betas": np.zeros((0, 10))}, "names no poses"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(PosesynError, match=says):
        make("hmr2", loss=AGAINST, mocap=[str(tmp_path / "wrong.npz")])


def test_sources_that_are_missing_or_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="there is no motion at"):
        make("hmr2", loss=AGAINST, mocap=[str(tmp_path / "none.npz")])
    np.savez(tmp_path / "mocap.npz", body_pose=np.zeros((3, 72)), betas=np.zeros((3, 10)))
    with pytest.raises(PosesynError, match="some have none"):
        make("hmr2", loss=AGAINST, mocap=[str(tmp_path / "mocap.npz"), "free"])
    with pytest.raises(PosesynError, match="names no poses"):
        make("hmr2", loss=AGAINST, mocap=[])


# -- within the estimator --------------------------------------------------------------------------------------------
def test_weight_0_trains_without_one_and_reads_no_poses() -> None:
    plain = make("hmr2", mocap=["nowhere/at/all.npz"])
    assert not any("adversary" in name for name in plain.state_dict())
    batch = PoseBatch.blank(2, 64).replace(image=seeded_images(2, 64, 1), joints2d_conf=torch.ones(2, 32))
    assert not {"adversary", "discriminator"} & plain.losses(plain.solve(batch), batch).keys()
    with pytest.raises(PosesynError, match="adversary=-1"):
        make("hmr2", loss=HMR2LossWeights(adversary=-1))


def test_what_predicts_is_the_same_with_it() -> None:
    plain, model = make("hmr2"), fighting()
    assert model.weights_hash() == plain.weights_hash()
    assert len(model.opponent()) == 18
    batch = PoseBatch.blank(2, 64).replace(image=seeded_images(2, 64, 1), joints2d_conf=torch.ones(2, 32))
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.losses(model.solve(batch), batch)
    assert {"adversary", "discriminator"} <= terms.keys()
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.opponent())
    assert terms["discriminator"].dtype == torch.float32


def test_it_starts_from_the_checkpoint_of_4d_humans_or_ours(reference: Reference, tmp_path: Path) -> None:
    theirs = upstream_state(load_reference("hmr2")) | {f"discriminator.{k}": v for k, v in reference.state.items()}
    torch.save({"state_dict": theirs}, tmp_path / "theirs.ckpt")
    size: dict[str, Any] = {"backbone": SMALL, "decoder": DECODER, "image_size": 256, "other_body": True}
    first = fighting(checkpoint=str(tmp_path / "theirs.ckpt"), **size)
    assert first.adversary is not None
    torch.save({"state_dict": first.state_dict()}, tmp_path / "ours.ckpt")
    again = fighting(checkpoint=str(tmp_path / "ours.ckpt"), **size)
    assert again.adversary is not None
    for model in (first.adversary, again.adversary):
        assert torch.equal(model.joint_weight[3], reference.state["pose_out.3.weight"][0])
    make("hmr2", checkpoint=str(tmp_path / "ours.ckpt"), **size)  # and one without it does
    broken = {k: v for k, v in theirs.items() if k != "discriminator.D_conv2.bias"}
    torch.save({"state_dict": broken}, tmp_path / "broken.ckpt")
    with pytest.raises(PosesynError, match=r"missing \['conv2.bias'\]"):
        fighting(checkpoint=str(tmp_path / "broken.ckpt"), **size)


# -- whole runs ------------------------------------------------------------------------------------------------------
def fit(data: Path, run: Path, resume: Path | None = None, model: HMR2 | None = None, **options: Any) -> HMR2:
    trainer = tiny_trainer(run, **{"num_sanity_val_steps": 0, "limit_val_batches": 0, **options})
    trainer.callbacks = [c for c in trainer.callbacks if type(c).__name__ not in ("Gallery", "EpochTable")]
    model = model or fighting()
    sources = [RealSource("lspet", {"root": str(data / "train")}, name="real", use_3d=False)]
    found = tiny_data(data, run, sources=sources, mine=[], validate=[], batch_size=4, steps_per_epoch=3)
    trainer.fit(model, datamodule=found, ckpt_path=resume, weights_only=True)
    return model


def test_a_run_and_its_resumption(lspet_parts: Path, tmp_path: Path) -> None:
    start: dict[str, Tensor] = {k: v.clone() for k, v in fighting().state_dict().items()}
    whole = fit(lspet_parts, tmp_path / "whole", precision="bf16-mixed")
    assert all(v.isfinite().all() for v in whole.state_dict().values() if v.is_floating_point())
    for part in ("adversary.", "backbone.", "head."):
        assert any(not torch.equal(v, start[k]) for k, v in whole.state_dict().items() if k.startswith(part)), part
    again = fit(lspet_parts, tmp_path / "from2", tmp_path / "whole/steps/2.ckpt", precision="bf16-mixed")
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_clipping_is_for_the_estimator(lspet_parts: Path, tmp_path: Path) -> None:
    still = fighting(optimisation=Optimisation(optimizer="sgd", schedule="constant"), lr=1.0, weight_decay=0.0)
    start = {k: v.clone() for k, v in still.state_dict().items()}
    fit(lspet_parts, tmp_path, model=still, gradient_clip_val=1e-9, max_steps=2)
    moved = {k: (v - start[k]).abs().max().item() for k, v in still.named_parameters() if v.requires_grad}
    assert max(v for k, v in moved.items() if k.startswith("adversary.")) > 1e-6
    assert max(v for k, v in moved.items() if not k.startswith("adversary.")) < 1e-7
