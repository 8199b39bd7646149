"""Fits in the loop of SPIN: errors and translations as the original's (scripts/tpe_reference/spin.py), what is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.sources import RealSource
from human.batch import PoseBatch
from human.body import BodyModel, load_body
from human.camera import focal_spin, make_intrinsics, project
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.rotations import geodesic_degrees, matrix_to_rotvec, rotation_about, rotvec_to_matrix
from human.skeleton import POSE32
from lightning_modules.spin import SPIN
from lightning_modules.spin_fits import (
    NOT_COMPARED,
    WIDTH,
    BestFits,
    Bodies,
    FitsInTheLoop,
    ModelFitting,
    carried,
    joint_error,
    translation_seen,
)
from tests.lightning_modules.seeded import Reference, assert_parity, load_reference, seeded_images, seeded_tensor
from tests.lightning_modules.tiny_estimators import make
from tests.tiny import tiny_data, tiny_trainer

SIZE = 224
FLIP = list(POSE32.flip_permutation)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("spin")


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("free")


def people(body: BodyModel, count: int) -> tuple[PoseBatch, Bodies]:
    """Poses of the motion bank, facing anywhere, before SPIN's camera: labels in 2D alone, and the truth."""
    bank = load_motion_bank("free")
    rows = torch.arange(count) * (len(bank) // count)
    pose = torch.from_numpy(bank.poses[rows.numpy()].copy())
    turn = rotation_about("x", torch.full((count,), math.pi)) @ rotation_about("y", torch.arange(count) * 1.3)
    truth = Bodies(torch.cat([matrix_to_rotvec(turn)[:, None], pose], 1), 0.5 * seeded_tensor([count, 10], 3, "betas"))
    joints = body.joints(truth.betas, truth.pose[:, 1:], truth.pose[:, 0], None)
    joints = joints - joints[:, :1] + torch.tensor([0.02, 0.0, 2 * 5000 / (SIZE * 0.9)])
    key = torch.stack([torch.zeros(count), torch.zeros(count), torch.arange(count), torch.arange(count)], 1).long()
    batch = PoseBatch.blank(count, SIZE).replace(
        joints2d=project(joints, camera(count)), joints2d_conf=torch.ones(count, 32), key=key
    )
    return batch, truth


def camera(count: int) -> Tensor:
    return make_intrinsics(torch.full((count,), focal_spin(SIZE)), SIZE)


def nearby(truth: Bodies, degrees: float) -> tuple[Bodies, Tensor]:
    """As a network would say: the truth with noise."""
    noise = math.radians(degrees) * seeded_tensor(truth.pose.shape, 5, "noise")
    transl = torch.tensor([0.0, 0.0, 2 * 5000 / (SIZE * 0.8)]).expand(len(truth.betas), 3)
    return Bodies(truth.pose + noise, torch.zeros_like(truth.betas)), transl


def degrees_off(batch: PoseBatch, truth: Bodies) -> Tensor:
    pose = torch.cat([batch.global_orient[:, None], batch.body_pose], 1)
    return geodesic_degrees(rotvec_to_matrix(pose), rotvec_to_matrix(truth.pose)).mean(1)


# -- as the original -------------------------------------------------------------------------------------------------
def test_error_and_translation_are_those_of_spin(reference: Reference) -> None:
    a = {k.removeprefix("fit_"): v for k, v in reference.arrays.items() if k.startswith("fit_")}
    slots = [j for j in range(32) if j not in NOT_COMPARED][:24]

    def spread(values: Tensor) -> Tensor:
        out = torch.zeros(3, 32, *values.shape[2:])
        out[:, slots] = values
        return out

    points, label, conf = spread(a["points"]), spread(a["label"]), spread(a["conf"])
    intrinsics = torch.tensor([[5000.0, 0, SIZE / 2], [0, 5000, SIZE / 2], [0, 0, 1]]).expand(3, 3, 3)
    seen = project(points + a["transl"][:, None], intrinsics)
    assert_parity(joint_error(seen, label, conf, SIZE), a["error"], "error")
    assert_parity(translation_seen(points, label, conf, intrinsics), a["found"], "translation")


def test_error_counts_in_pixels_of_a_crop_of_224_and_not_by_hips_and_neck() -> None:
    seen, label, conf = torch.zeros(1, 32, 2), torch.full((1, 32, 2), 3.0), torch.ones(1, 32)
    small = joint_error(seen, label / 2, conf, SIZE // 2)
    torch.testing.assert_close(small, joint_error(seen, label, conf, SIZE))
    label[:, NOT_COMPARED] = 1e6
    torch.testing.assert_close(joint_error(seen, label, conf, SIZE), small)
    assert joint_error(seen * torch.nan, label, conf, SIZE).item() == math.inf


def test_nothing_seen_gives_numbers() -> None:
    found = translation_seen(torch.rand(2, 32, 3), torch.zeros(2, 32, 2), torch.zeros(2, 32), camera(2))
    assert found.isfinite().all()


# -- from crop to crop -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mirror", [False, True])
def test_a_fit_goes_with_the_crop(body: BodyModel, mirror: bool) -> None:
    batch, truth = people(body, 6)
    values = torch.cat([truth.pose.flatten(1), truth.betas, batch.joints2d.flatten(1)], 1)
    conf = (seeded_tensor([6, 32], 2, "conf") > -0.5).float()
    conf = torch.maximum(conf, conf[:, FLIP])
    angle = torch.linspace(-3, 3, 6)
    turn = rotation_about("z", angle)[:, :2, :2]
    points = (batch.joints2d - 100) * (torch.tensor([-1.0, 1.0]) if mirror else 1.0)
    now = 0.7 * torch.einsum("bij,bkj->bki", turn, points[:, FLIP] if mirror else points) + 80
    there = carried(values, now, conf)
    torch.testing.assert_close(there.betas, truth.betas)
    joints = body.joints(there.betas, there.pose[:, 1:], there.pose[:, 0], None)
    seen = project(joints + translation_seen(joints, now, conf, camera(6))[:, None], camera(6))
    assert ((seen - now).norm(dim=-1) * conf).max() < 1.5  # what perspective does to a person at another place
    if not mirror:
        back = rotvec_to_matrix(there.pose[:, 0]).mT @ rotation_about("z", angle) @ rotvec_to_matrix(truth.pose[:, 0])
        torch.testing.assert_close(back, torch.eye(3).expand(6, 3, 3), rtol=0, atol=1e-3)


# -- what is kept ----------------------------------------------------------------------------------------------------
def test_fits_become_labels_and_only_better_ones_are_kept(body: BodyModel) -> None:
    batch, truth = people(body, 6)
    has = torch.tensor([False] * 4 + [True, False])
    few = batch.joints2d_conf.clone()
    few[5, 2:] = 0
    batch = batch.replace(has_pose=has, joints2d_conf=few)
    fits = FitsInTheLoop(ModelFitting(starts=0), body)
    said, transl = nearby(truth, 15.0)
    before = geodesic_degrees(rotvec_to_matrix(said.pose), rotvec_to_matrix(truth.pose)).mean(1)
    first, used = fits.improve(batch, said, transl, camera(6), torch.Tensor.clone)
    assert used.tolist() == [True] * 4 + [False] * 2  # one has a pose, one has hardly a label
    assert len(fits.best) == 4
    assert first.has_pose.tolist() == [True] * 5 + [False]
    assert torch.equal(first.body_pose[4:], batch.body_pose[4:])
    assert (degrees_off(first, truth)[:4] < before[:4]).all()
    assert first.betas.abs().max() <= 3
    kept = fits.best.state_dict()["values"].clone()
    # A network that says nonsense later does not cost what is kept; the labels stay those fits.
    nonsense = Bodies(3 * seeded_tensor([6, 24, 3], 8, "nonsense"), torch.full((6, 10), 2.0))
    second, used = fits.improve(batch, nonsense, transl, camera(6), torch.Tensor.clone)
    assert used[:4].all()
    better = (fits.best.state_dict()["values"] != kept).any(1)
    assert not better.all()
    torch.testing.assert_close(second.body_pose[:4][~better], first.body_pose[:4][~better], rtol=0, atol=1e-4)
    # Numbers that are none are not trained on.
    broken = Bodies(said.pose * torch.nan, said.betas)
    empty = FitsInTheLoop(ModelFitting(starts=0), body)
    third, used = empty.improve(batch, broken, transl, camera(6), torch.Tensor.clone)
    assert not used.any()
    assert len(empty.best) == 0
    assert third.body_pose.isfinite().all()


def test_a_person_met_first_is_fitted_from_the_bank(body: BodyModel) -> None:
    batch, truth = people(body, 3)
    lost = Bodies(torch.zeros_like(truth.pose), torch.zeros_like(truth.betas))  # upside down
    transl = torch.tensor([0.0, 0.0, 50.0]).expand(3, 3)
    fits = FitsInTheLoop(ModelFitting(starts=4), body)
    found, used = fits.improve(batch, lost, transl, camera(3), torch.Tensor.clone)
    assert used.all()
    joints = body.joints(found.betas, found.body_pose, found.global_orient, None)
    seen = project(
        joints + translation_seen(joints, batch.joints2d, batch.joints2d_conf, camera(3))[:, None], camera(3)
    )
    assert joint_error(seen, batch.joints2d, batch.joints2d_conf, SIZE).max() < 10


def test_bad_fits_are_not_trained_on(body: BodyModel) -> None:
    batch, truth = people(body, 3)
    scrambled = batch.replace(
        joints2d=batch.joints2d[:, torch.randperm(32, generator=torch.Generator().manual_seed(0))]
    )
    fits = FitsInTheLoop(ModelFitting(starts=0, threshold=30.0), body)
    said, transl = nearby(truth, 10.0)
    found, used = fits.improve(scrambled, said, transl, camera(3), torch.Tensor.clone)
    assert not used.any()
    assert not found.has_pose.any()


def test_ranks_keep_each_others_fits(body: BodyModel) -> None:
    batch, truth = people(body, 4)
    said, transl = nearby(truth, 10.0)
    alone = FitsInTheLoop(ModelFitting(starts=0), body)
    alone.improve(batch, said, transl, camera(4), torch.Tensor.clone)
    sent: list[Tensor] = []
    halves = [FitsInTheLoop(ModelFitting(starts=0), body) for _ in range(2)]
    rows = [slice(0, 2), slice(2, 4)]

    def record(value: Tensor) -> Tensor:
        sent.append(value.clone())
        return value

    for half, part in zip(halves, rows, strict=True):
        half.improve(batch[part], Bodies(said.pose[part], said.betas[part]), transl[part], camera(2), record)
    first, second = sent[:3], sent[3:]
    for part, rank in zip(rows, (0, 1), strict=True):
        together = iter([torch.stack(pair) for pair in zip(first, second, strict=True)])
        again = FitsInTheLoop(ModelFitting(starts=0), body)
        own = Bodies(said.pose[part], said.betas[part])
        again.improve(batch[part], own, transl[part], camera(2), lambda value, each=together: next(each))
        state, whole = again.best.state_dict(), alone.best.state_dict()
        assert torch.equal(state["keys"], whole["keys"]), rank
        torch.testing.assert_close(state["values"], whole["values"], rtol=1e-3, atol=1e-3)


def test_many_persons_are_kept_and_come_back() -> None:
    best, keys = BestFits(), torch.stack([torch.arange(3000) % 3, torch.arange(3000), torch.arange(3000)], 1)
    values = seeded_tensor([3000, WIDTH], 1, "values")
    for rows in torch.arange(3000).split(700):
        best.put(keys[rows], values[rows])
    best.put(keys[:1], values[1:2])
    again = BestFits()
    again.load_state_dict(best.state_dict())
    found, there = again.get(torch.cat([keys[1:], torch.full((1, 3), 9999)]))
    assert there.tolist() == [True] * 2999 + [False]
    assert torch.equal(found[:-1], values[1:])
    assert torch.equal(again.get(keys[:1])[0], values[1:2])
    assert len(again) == 3000
    with pytest.raises(PosesynError, match=r"fits have shapes \(3000, 3\) and \(3000, 5\)"):
        again.load_state_dict({"keys": keys, "values": values[:, :5]})


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"threshold": 0.0}, {"threshold": math.nan}, {"starts": 3}])
def test_settings_that_are_mistyped(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match="fitting needs"):
        ModelFitting(**wrong)


# -- whole runs ------------------------------------------------------------------------------------------------------
def test_only_training_fits() -> None:
    model = make("spin", fitting=ModelFitting(starts=0))
    assert isinstance(model, SPIN)
    assert model.fits is not None
    conf = torch.ones(2, 32)
    batch = PoseBatch.blank(2, 64).replace(
        image=seeded_images(2, 64, 1), joints2d_conf=conf, joints2d=torch.rand(2, 32, 2)
    )
    model.eval().losses(model.solve(batch), batch)
    assert len(model.fits.best) == 0


def fit(data: Path, run: Path, resume: Path | None = None) -> SPIN:
    trainer = tiny_trainer(run, num_sanity_val_steps=0, limit_val_batches=0, precision="bf16-mixed")
    trainer.callbacks = [c for c in trainer.callbacks if type(c).__name__ not in ("Gallery", "EpochTable")]
    model = make("spin", fitting=ModelFitting(iterations=4, starts=1, threshold=1e6))
    assert isinstance(model, SPIN)
    sources = [RealSource("lspet", {"root": str(data / "train")}, name="real", use_3d=False)]
    found = tiny_data(data, run, sources=sources, mine=[], validate=[], batch_size=4, steps_per_epoch=3)
    trainer.fit(model, datamodule=found, ckpt_path=resume, weights_only=True)
    return model


def test_a_run_and_its_resumption(lspet_parts: Path, tmp_path: Path) -> None:
    whole = fit(lspet_parts, tmp_path / "whole")
    again = fit(lspet_parts, tmp_path / "from4", tmp_path / "whole/steps/4.ckpt")
    assert whole.fits is not None
    assert again.fits is not None
    assert len(whole.fits.best) >= 10
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    for name, value in whole.fits.best.state_dict().items():
        assert torch.equal(again.fits.best.state_dict()[name], value), name
    saved = torch.load(tmp_path / "whole/steps/4.ckpt", weights_only=True)["spin_fits"]
    assert 0 < len(saved["keys"]) <= len(whole.fits.best)
