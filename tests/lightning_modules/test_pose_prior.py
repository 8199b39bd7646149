"""The trainer of pose priors and its poses, at tiny size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from cli.lightning import main
from datamodules.poses import PoseVectors
from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank, mirror_pose
from human.rng import generator
from human.rotations import rotvec_to_matrix
from lightning_modules.pose_prior import PosePriorTrainer
from synth.pose_prior import JOINTS, pose_hardness
from synth.pose_prior_files import load_pose_prior

TINY: dict[str, Any] = {"width": 32, "latent": 8, "dropout": 0.0, "lr": 3e-3, "kl_warmup_steps": 20}
NO_SPACE: dict[str, Any] = {"sampled": 0, "sampled_share": 0.0}


def fit(module: PosePriorTrainer, data: PoseVectors, folder: Path, epochs: int = 1, **more: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, **more,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*IterableDataset.*|.*LeafSpec.*|.*does not have many workers.*")
        trainer.fit(module, data)
    return trainer


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_it_learns_and_its_checkpoint_is_a_prior(kind: str, tmp_path: Path) -> None:
    L.seed_everything(0)
    data = PoseVectors(held_out=["walk"], batch_size=64, steps_per_epoch=60, **NO_SPACE)
    module = PosePriorTrainer(kind, **TINY, kl_weight=1e-3)
    errors = []
    for _ in range(2):
        trainer = fit(module, data, tmp_path)
        errors.append(float(trainer.callback_metrics["val/held_out/mpjpe_mm"]))
        trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert errors[1] < errors[0] < 300
    metrics = trainer.callback_metrics
    assert float(metrics["val/held_out/active_units"]) >= 4
    prior = load_pose_prior(tmp_path / "last.ckpt")
    poses = data.validation_sets["held_out"]
    assert (prior.config.kind, prior.config.width, prior.config.latent) == (kind, 32, 8)
    hardness = pose_hardness(prior, poses).mean()
    assert float(metrics["val/held_out/hardness"]) == pytest.approx(float(hardness), rel=1e-4)
    rotation, _ = prior(poses[:, :JOINTS])
    away = (module.joints(rotation) - module.joints(rotvec_to_matrix(poses[:, :JOINTS]))).norm(dim=-1).mean()
    assert 1000 * float(away) == pytest.approx(errors[1], rel=1e-3)


def test_its_joints_are_the_bodys() -> None:
    body, module = load_body(), PosePriorTrainer(**TINY)
    pose = 0.5 * torch.randn(3, 23, 3, generator=torch.Generator().manual_seed(0))
    whole = body.joints(torch.zeros(3, 10), pose, torch.zeros(3, 3))[:, : JOINTS + 1]
    assert torch.allclose(module.joints(rotvec_to_matrix(pose[:, :JOINTS])), whole, atol=1e-5)


def test_the_loss_is_finite_at_its_edges() -> None:
    """A perfect reconstruction and one that is half a turn off: angles whose derivatives run away."""
    module = PosePriorTrainer(**TINY)
    pose = torch.zeros(4, 23, 3)
    pose[2:, :, 0] = torch.pi
    with torch.no_grad():  # every code decodes to the T-pose
        module.prior.decoder_net[5].weight.zero_()
        module.prior.decoder_net[5].bias.copy_(torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat(JOINTS))
    terms = module.losses(pose, torch.zeros(4, 8))
    sum(terms.values()).backward()
    assert all(v.isfinite() for v in terms.values())
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)
    assert float(terms["rotation"].detach()) == pytest.approx(torch.pi / 2, abs=0.02)


def test_the_divergence_is_let_in_slowly() -> None:
    assert PosePriorTrainer(**TINY).kl_factor == 0
    assert PosePriorTrainer(**TINY | {"kl_warmup_steps": 0}).kl_factor == 1


def test_a_posterior_that_collapses_is_told_of_once(tmp_path: Path) -> None:
    L.seed_everything(0)
    data = PoseVectors(held_out=["walk"], batch_size=64, steps_per_epoch=40, **NO_SPACE)
    module = PosePriorTrainer(**TINY | {"kl_warmup_steps": 0}, kl_weight=50.0)
    with pytest.warns(UserWarning, match=r"collapsed: 0 of 8.*kl_weight") as caught:
        trainer = fit(module, data, tmp_path, epochs=2, num_sanity_val_steps=0)
    assert len([w for w in caught if "collapsed" in str(w.message)]) == 1
    assert float(trainer.callback_metrics["val/held_out/active_units"]) == 0


def test_batches_are_functions_of_their_key() -> None:
    data = PoseVectors(sampled=50, noise=10.0, batch_size=16)
    again = PoseVectors(sampled=50, noise=10.0, batch_size=16)
    first = data.batch(generator("poses", 0, 0, 3, 5))
    assert torch.equal(first, again.batch(generator("poses", 0, 0, 3, 5)))
    assert not torch.equal(first, data.batch(generator("poses", 0, 1, 3, 5)))
    assert first.shape == (16, 23, 3)
    assert first.isfinite().all()


def test_held_out_clips_are_not_trained_on() -> None:
    bank = load_motion_bank()
    data = PoseVectors(held_out=["kick", "turn_*"], batch_size=512, **NO_SPACE)
    held = data.validation_sets["held_out"]
    names = {"kick", "turn_left0", "turn_left1", "turn_right0", "turn_right1"}
    assert len(held) == sum(bank.clip_names[c] in names for c in bank.clip)
    seen = {row.tobytes() for row in held.numpy()} | {row.tobytes() for row in mirror_pose(held.numpy())}
    batch = np.concatenate([data.batch(generator("poses", 0, 0, 0, k)).numpy() for k in range(4)])
    assert not any(row.tobytes() in seen for row in batch)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"held_out": ["no such clip"]}, "no such clip"),
        ({"held_out": ["*"]}, "nothing to train on"),
        ({"sampled": 0}, "sampled_share"),
        ({"batch_size": 1}, "batch_size >= 2"),
        ({"noise": float("nan")}, "noise >= 0"),
        ({"motion": ["nowhere"]}, "nowhere"),
    ],
)
def test_settings_of_the_poses_that_are_mistyped(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        PoseVectors(**{"sampled": 40} | wrong).validation_sets  # noqa: B018  read lazily


def test_settings_of_the_trainer_that_are_mistyped() -> None:
    with pytest.raises(PosesynError, match="negative"):
        PosePriorTrainer(kl_weight=-1.0)
    with pytest.raises(PosesynError, match="v1 or v2"):
        PosePriorTrainer(kind="v3")
    with pytest.raises(PosesynError, match="not found"):
        PosePriorTrainer(checkpoint="nowhere.ckpt")


def test_the_config_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Path(__file__).resolve().parents[2] / "configs/msm/pose_prior.yaml"
    monkeypatch.chdir(tmp_path)  # where CMU's motions are not
    few = ["--data.motion=[free]", "--data.held_out=[walk]", "--data.sampled=64", "--data.batch_size=8"]
    short = ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", "--data.steps_per_epoch=3",
             "--trainer.accelerator=cpu"]  # fmt: skip
    main(["fit", "--config", str(config), "--trainer.enable_progress_bar=false", *few, *short])
    prior = load_pose_prior(next(tmp_path.glob("runs/pose_prior/version_0/checkpoints/last.ckpt")))
    assert (prior.config.kind, prior.config.width, prior.config.latent) == ("v2", 256, 32)
    assert "val/pose_space/mpjpe_mm" in (tmp_path / "runs/pose_prior/version_0/metrics.csv").read_text()
