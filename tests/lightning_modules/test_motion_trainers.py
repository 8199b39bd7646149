"""Training of the motion networks at tiny size: T2M-GPT's losses, exact resume, the codebook's watch, the pair."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F

from cli.commands import names_own_data
from cli.lightning import main
from datamodules.motion import MotionDataModule
from human.errors import PosesynError
from lightning_modules.codebook_watch import CodebookWatch, codebook_use
from lightning_modules.motion_transformer import TextToMotionTrainer, read_pair
from lightning_modules.motion_vqvae import MotionVQVAETrainer, read_vqvae
from synth.captions import TEXT_ENCODERS
from synth.msm.pair import MotionPair
from synth.msm.transformer import TransformerConfig
from synth.msm.vqvae import VQVAEConfig
from tests.datamodules.motion_folders import write_humanml3d

ROOT = Path(__file__).resolve().parents[2]
SIZES = VQVAEConfig(codes=16, code_dim=8, width=16, depth=1)
TRANSFORMER = TransformerConfig(width=16, heads=2, layers=1, block_size=51)


class Letters:
    """How often each letter of the alphabet occurs: a text encoder that needs no files."""

    name, dim = "letters", 26

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[float(t.lower().count(chr(97 + i))) for i in range(26)] for t in texts])


@pytest.fixture(scope="module", autouse=True)
def letters() -> None:
    if "letters" not in TEXT_ENCODERS.names():
        TEXT_ENCODERS.register("letters")(Letters)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_humanml3d(tmp_path_factory.mktemp("h") / "HumanML3D", broken=False)


def data(root: Path, **changes: Any) -> MotionDataModule:
    return MotionDataModule(root=str(root), **{"batch_size": 4, "steps_per_epoch": 3, **changes})


def vqvae_trainer(**changes: Any) -> MotionVQVAETrainer:
    torch.manual_seed(0)
    return MotionVQVAETrainer(SIZES, **{"lr": 1e-3, "warmup_steps": 2, "watch_steps": 2, **changes})


def fit(
    model: L.LightningModule, module: MotionDataModule, out: Path, ckpt: Path | None = None, **options: Any
) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=out, num_sanity_val_steps=0, **{"max_steps": 6, **options},
    )  # fmt: skip
    trainer.fit(model, module, ckpt_path=ckpt, weights_only=True if ckpt else None)
    return trainer


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a VQ-VAE."""
    out = tmp_path_factory.mktemp("vq")
    fit(vqvae_trainer(), data(root), out).save_checkpoint(out / "last.ckpt")
    return out / "last.ckpt"


def test_the_losses_are_t2m_gpts() -> None:
    """utils/losses.py: smooth L1 on all features, the same again on columns 4 to 66, and the commitment."""
    model = vqvae_trainer()
    model.set_normalisation(np.full(263, 0.5), np.full(263, 2.0))
    x = torch.randn(3, 16, 263)
    model.vqvae.train()
    terms, codes, _ = model.losses(x)
    model = vqvae_trainer()
    out = model.vqvae.train()((x - 0.5) / 2)
    target = (x - 0.5) / 2
    assert torch.equal(codes, out.codes_BS)
    assert terms["reconstruction"] == F.smooth_l1_loss(out.recon_BTF, target)
    assert terms["positions"] == 0.5 * F.smooth_l1_loss(out.recon_BTF[..., 4:67], target[..., 4:67])
    assert terms["commit"] == 0.02 * out.commit_loss


def test_the_schedule_is_t2m_gpts(root: Path) -> None:
    """Linear over 1,000 steps, then times 0.05 after 200,000 more of 301,000 (train_vq.py)."""
    model = MotionVQVAETrainer(SIZES)
    module = data(root)
    model.trainer = L.Trainer(accelerator="cpu", max_steps=301_000, max_epochs=-1, logger=False)
    model.trainer.datamodule = module  # type: ignore[attr-defined]
    made = model.configure_optimizers()
    factor = made["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert [factor(s) for s in (0, 499, 1_000, 200_998, 201_001)] == pytest.approx([0.001, 0.5, 1, 1, 0.05])
    (group,) = made["optimizer"].param_groups
    assert (group["betas"], group["weight_decay"], group["initial_lr"]) == ((0.9, 0.99), 0.0, 2e-4)


def test_the_vqvae_learns_and_reports(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, module = vqvae_trainer(lr=3e-3), data(root, batch_size=16, steps_per_epoch=60)
    trainer = fit(model, module, tmp_path, max_steps=60)
    figures = trainer.callback_metrics
    assert figures["val/mpjpe_mm"] < 400
    assert 0 < figures["val/pa_mpjpe_mm"] < figures["val/mpjpe_mm"]
    assert np.isfinite(float(figures["val/world_mpjpe_mm"]))
    features = next(iter(data(root, batch_size=16).train_dataloader())).features_BTF
    start = vqvae_trainer()
    start.set_normalisation(model.mean_F, model.std_F)
    start.train()
    with torch.no_grad():
        last, first = (m.losses(features)[0]["reconstruction"] for m in (model.eval(), start))
    assert last < 0.7 * first
    assert "codebook: " in capsys.readouterr().out
    report = json.loads((tmp_path / "codebook.json").read_text())
    assert report["codes"] == 16
    assert 0 < report["used"] <= 16


def test_a_collapse_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = CodebookWatch(codes=100, window=2, least=0.1, skip=1)
    spread, alone = torch.arange(100).reshape(4, 25), torch.full((4, 25), 7)
    with caplog.at_level(logging.WARNING):
        assert watch.update(alone, 1) is None
        assert watch.update(alone, 2) == codebook_use(torch.bincount(alone.flatten(), minlength=100))
        assert not caplog.records  # the first window is not judged
        watch.update(spread, 3)
        assert watch.update(alone, 4).used == 100  # type: ignore[union-attr]
        for step in range(5, 11):
            watch.update(alone, step)
    (record,) = caplog.records
    assert record.getMessage().startswith("step 6: the codebook has collapsed: only 1 of 100 codes")
    assert (
        watch.report() == "codebook: 1 of 100 codes in use (99 % dead), perplexity 1.0; COLLAPSED, first seen at step 6"
    )


def test_a_collapse_in_training_is_seen(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Features that are all alike have one code."""
    model, module = vqvae_trainer(collapse_below=0.6), data(root)
    for clip, _ in module.clips:
        clip.features[:] = clip.features[0]
    with caplog.at_level(logging.WARNING):
        fit(model, module, tmp_path, limit_val_batches=0)
    assert "the codebook has collapsed" in caplog.text
    assert json.loads((tmp_path / "codebook.json").read_text())["collapsed_at_step"] is not None


def test_codebook_use() -> None:
    assert codebook_use(torch.tensor([5, 5, 0, 0])) == pytest.approx((2, 0.5, 2.0))
    assert codebook_use(torch.zeros(4)) == (0, 1.0, 0.0)


@pytest.mark.parametrize("kind", ["vqvae", "transformer"])
def test_a_resumed_run_is_the_whole_run(kind: str, root: Path, trained: Path, tmp_path: Path) -> None:
    def model() -> L.LightningModule:
        if kind == "vqvae":
            return vqvae_trainer()
        torch.manual_seed(0)
        return TextToMotionTrainer(str(trained), TRANSFORMER, "letters", lr=1e-3)

    class Kept(Callback):
        """A checkpoint in the middle of an epoch."""

        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            if trainer.global_step == 4:
                trainer.save_checkpoint(tmp_path / "half.ckpt")

    whole = model()
    fit(whole, data(root), tmp_path / "a", limit_val_batches=0, callbacks=[Kept()])
    torch.manual_seed(77)
    resumed = model()
    fit(resumed, data(root), tmp_path / "b", tmp_path / "half.ckpt", limit_val_batches=0)
    expected = whole.state_dict()
    assert resumed.state_dict().keys() == expected.keys()
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert any(not torch.equal(value, expected[name]) for name, value in model().state_dict().items())


def test_the_transformers_loss_is_t2m_gpts(trained: Path) -> None:
    """train_t2m_trans.py: for each motion the mean cross entropy of its codes and the end token, then over motions."""
    model = TextToMotionTrainer(str(trained), TRANSFORMER, "letters").eval()
    codes = torch.tensor([[3, 1, 4, 1], [5, 9, -1, -1]])
    lengths, text = torch.tensor([4, 2]), model.embed(["a person walks", "someone"])
    with torch.no_grad():
        loss, accuracy = model.loss(codes, codes, lengths, text)
        expected, right = [], []
        for row in range(2):
            n = int(lengths[row])
            logits = model.transformer(codes[row : row + 1, :n], text[row : row + 1])[0]
            target = torch.cat([codes[row, :n], torch.tensor([16])])
            expected.append(F.cross_entropy(logits, target))
            right.append((logits.argmax(-1) == target).float().mean())
    assert loss == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    assert accuracy == pytest.approx(torch.stack(right).mean().item(), abs=1e-6)


def test_corruption_keeps_a_share_and_no_padding(trained: Path) -> None:
    codes = torch.full((40, 50), 3)
    codes[:, 40:] = -1
    for pkeep, low, high in ((1.0, 1, 1), (0.5, 0.48, 0.58), (0.0, 0.03, 0.1)):
        model = TextToMotionTrainer(str(trained), TRANSFORMER, "letters", pkeep=pkeep)
        torch.manual_seed(0)
        out = model.corrupted(codes)
        assert (out[:, 40:] == -1).all()
        assert low <= (out[:, :40] == 3).float().mean() <= high
        assert (out[:, :40] < 16).all()
    model.pkeep = -1
    shares = [(model.corrupted(codes)[:, :40] == 3).float().mean().item() for _ in range(20)]
    assert max(shares) - min(shares) > 0.3


def test_motions_are_encoded_as_if_alone(trained: Path) -> None:
    model = TextToMotionTrainer(str(trained), TRANSFORMER, "letters")
    motions = [torch.randn(n, 263) for n in (40, 29, 41, 8)]
    together = model.encode(motions)
    assert [len(c) for c in together] == [10, 7, 10, 2]
    for motion, codes in zip(motions, together, strict=True):
        assert torch.equal(codes, model.encode([motion])[0])


def test_only_the_transformer_is_trained_and_the_pair_is_saved(root: Path, trained: Path, tmp_path: Path) -> None:
    model = TextToMotionTrainer(str(trained), TRANSFORMER, "letters", lr=1e-3)
    before = {k: v.clone() for k, v in model.vqvae.state_dict().items()}
    trainer = fit(model, data(root), tmp_path)
    assert all(torch.equal(v, before[k]) for k, v in model.vqvae.state_dict().items())
    assert not model.train().vqvae.training
    assert np.isfinite(float(trainer.callback_metrics["val/loss"]))
    pair = MotionPair.load(tmp_path / "motion_pair")
    assert (pair.text_encoder, pair.layout, pair.fps) == ("letters", "humanml3d", 20.0)
    assert torch.equal(pair.mean_F, model.mean_F)
    features = torch.randn(1, 29, 263)
    assert torch.equal(pair.encode(features)[0], model.encode([features[0]])[0])
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = read_pair(tmp_path / "last.ckpt")
    assert again.fingerprint() == pair.fingerprint()
    with pytest.raises(PosesynError, match="is no checkpoint of a text-to-motion transformer"):
        read_pair(trained)
    onward = TextToMotionTrainer(str(trained), TRANSFORMER, "letters", checkpoint=str(tmp_path / "last.ckpt"))
    assert all(torch.equal(v, onward.state_dict()[k]) for k, v in model.state_dict().items())
    fit(vqvae_trainer(), data(root, seed=3), tmp_path / "vq").save_checkpoint(tmp_path / "vq.ckpt")
    with pytest.raises(PosesynError, match="was trained for another VQ-VAE"):
        TextToMotionTrainer(str(tmp_path / "vq.ckpt"), TRANSFORMER, "letters", checkpoint=str(tmp_path / "last.ckpt"))
    # the pair's VQ-VAE is one to train a transformer for, too
    other = TextToMotionTrainer(str(tmp_path / "motion_pair"), TRANSFORMER, "letters")
    assert torch.equal(other.vqvae.quantizer.codebook, model.vqvae.quantizer.codebook)


def test_a_vqvae_is_found_in_its_run_folder(trained: Path, tmp_path: Path) -> None:
    network, mean, _, layout = read_vqvae(trained.parent)
    assert network.config == SIZES
    assert (layout, mean.shape) == ("humanml3d", (263,))
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(PosesynError, match="is no checkpoint of a motion VQ-VAE"):
        read_vqvae(tmp_path / "other.ckpt")
    (tmp_path / "broken.ckpt").write_bytes(b"PK and nothing")
    with pytest.raises(PosesynError, match="cannot be read"):
        read_vqvae(tmp_path / "broken.ckpt")
    with pytest.raises(PosesynError, match="there is no checkpoint"):
        read_vqvae(tmp_path / "none.ckpt")


def test_a_vqvae_goes_on_from_a_checkpoint(root: Path, trained: Path, tmp_path: Path) -> None:
    model = vqvae_trainer(checkpoint=str(trained))
    content = torch.load(trained, weights_only=True)["state_dict"]
    assert all(torch.equal(v, content[k]) for k, v in model.state_dict().items())
    model.set_normalisation(np.zeros(263), np.full(263, 2.0))
    fit(model, data(root), tmp_path, max_steps=1)
    assert (model.std_F == 2).all()  # what its codes were learnt in
    with pytest.raises(PosesynError, match=r"model\.checkpoint=.* it is of VQVAEConfig"):
        MotionVQVAETrainer(VQVAEConfig(codes=8, code_dim=8, width=16, depth=1), checkpoint=str(trained))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reconstruction": "l7"}, "reconstruction='l7' is none of"),
        ({"layout": "kit"}, "has 251 per frame"),
        ({"layout": "dog"}, "no motion feature layout"),
    ],
)
def test_values_without_sense(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        MotionVQVAETrainer(SIZES, **changes)


def test_too_many_codes_for_the_transformer(root: Path, trained: Path, tmp_path: Path) -> None:
    model = TextToMotionTrainer(str(trained), TransformerConfig(width=16, heads=2, layers=1, block_size=9), "letters")
    with pytest.raises(PosesynError, match=r"data\.max_codes=49, but the transformer has room for 8"):
        fit(model, data(root), tmp_path)
    with pytest.raises(PosesynError, match="pkeep=2"):
        TextToMotionTrainer(str(trained), TRANSFORMER, "letters", pkeep=2)


def test_whose_data_a_command_names(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("data: {class_path: datamodules.motion.MotionDataModule}")
    (tmp_path / "pose.yaml").write_text("data: {image_size: 128}")
    own, pose = str(tmp_path / "own.yaml"), str(tmp_path / "pose.yaml")
    assert names_own_data(["fit", "--config", own])
    assert names_own_data(["fit", f"--config={own}", "--data.root", "x"])
    assert names_own_data(["fit", "--data", "datamodules.motion.MotionDataModule"])
    assert names_own_data(["fit", "--data.class_path=datamodules.motion.MotionDataModule"])
    assert not names_own_data(["fit", "--config", pose])
    assert not names_own_data(["fit", "--config", str(tmp_path / "none.yaml"), "--data.image_size", "64"])
    assert not names_own_data(["fit", "--config"])
    assert not names_own_data([])


@pytest.mark.usefixtures("command_process")
def test_both_stages_by_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped configs of full size with tiny networks; the second one on what the first one left."""
    common = ["--trainer.accelerator=cpu", "--trainer.max_steps=4", "--data.batch_size=4", "--data.steps_per_epoch=2",
              f"--trainer.logger.init_args.save_dir={tmp_path}", "--trainer.enable_progress_bar=false",
              "--trainer.callbacks=[{class_path: ModelCheckpoint, init_args: {save_last: true}}]",
              "--data.root", str(root)]  # fmt: skip
    main(["fit", "--config", str(ROOT / "configs/msm/vqvae.yaml"), *common,
          "--model.vqvae={codes: 16, code_dim: 8, width: 16, depth: 1}", "--model.warmup_steps=1"])  # fmt: skip
    run = tmp_path / "msm_vqvae" / "version_0"
    assert (run / "config.yaml").is_file()
    main(["fit", "--config", str(ROOT / "configs/msm/t2m.yaml"), *common, "--model.vqvae", str(run),
          "--model.text_encoder=letters", "--model.transformer={width: 16, heads: 2, layers: 1}"])  # fmt: skip
    pair = MotionPair.load(tmp_path / "msm_t2m" / "version_0" / "motion_pair")
    assert pair.transformer.config.text_dim == 26
    with pytest.raises(SystemExit) as done:
        main(
            [
                "fit",
                "--config",
                str(ROOT / "configs/msm/t2m.yaml"),
                *common,
                "--model.vqvae",
                str(tmp_path / "nowhere.ckpt"),
            ]
        )
    assert done.value.code == 2
    assert "there is no checkpoint of a motion VQ-VAE" in capsys.readouterr().err
