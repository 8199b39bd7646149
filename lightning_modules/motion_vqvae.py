"""Training the motion VQ-VAE (T2M-GPT §3.1; Mael-zys/T2M-GPT:train_vq.py, utils/losses.py)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from human.errors import PosesynError
from human.motion_features import features_to_joints
from lightning_modules.codebook_watch import CodebookWatch, codebook_use
from lightning_modules.motion_trainer import MotionTrainer, adam, read_note, restored
from lightning_modules.optimisation import Optimisation
from metrics.functional import mpjpe, pa_mpjpe
from synth.msm.pair import MotionPair
from synth.msm.vqvae import MotionVQVAE, VQVAEConfig

NOTE = "motion_vqvae"
RECONSTRUCTION = {"smooth_l1": F.smooth_l1_loss, "l1": F.l1_loss, "l2": F.mse_loss}
FIGURES = ("mpjpe", "pa_mpjpe", "world_mpjpe")


class MotionVQVAETrainer(MotionTrainer):
    """The motion VQ-VAE on windows of motion.

    Validation reconstructs whole held-out motions and tells, in mm: ``mpjpe`` about the pelvis (the heading
    accumulates), ``pa_mpjpe`` after Procrustes of each frame, ``world_mpjpe`` on the path, whose error grows with time.

    Args:
        vqvae: sizes; default: T2M-GPT's.
        layout: "humanml3d" or "kit".
        reconstruction: "smooth_l1" (T2M-GPT's trained one), "l1" or "l2".
        commit, positions: weights of the commitment loss and of the second loss on the joints' positions alone, which
            upstream calls the velocity loss though it looks at columns 4 to 66, the positions.
        lr, weight_decay, warmup_steps, final_lr_fraction, optimisation: default: T2M-GPT's, for 301,000 steps.
        checkpoint: a trained VQ-VAE of these sizes to start from (:func:`read_vqvae`); its normalisation stays.
        watch_steps, collapse_below: the codebook is judged over so many steps; less than this share of its codes in
            use is a collapse, which is warned of once.
    """

    def __init__(
        self,
        vqvae: VQVAEConfig | None = None,
        layout: str = "humanml3d",
        reconstruction: str = "smooth_l1",
        commit: float = 0.02,
        positions: float = 0.5,
        lr: float = 2e-4,
        weight_decay: float = 0.0,
        warmup_steps: int = 1000,
        final_lr_fraction: float = 0.05,
        optimisation: Optimisation | None = None,
        checkpoint: str | None = None,
        watch_steps: int = 200,
        collapse_below: float = 0.1,
    ) -> None:
        super().__init__(
            layout,
            lr,
            weight_decay,
            warmup_steps,
            final_lr_fraction,
            optimisation or adam((0.9, 0.99), (201 / 301,)),
            FIGURES,
        )
        if reconstruction not in RECONSTRUCTION:
            raise PosesynError(f"reconstruction={reconstruction!r} is none of {', '.join(RECONSTRUCTION)}")
        config = vqvae or VQVAEConfig(features=self.layout.size)
        if config.features != self.layout.size:
            raise PosesynError(
                f"model.vqvae.features={config.features}, but {self.layout.name} has {self.layout.size} per frame"
            )
        self.vqvae = MotionVQVAE(config)
        self.reconstruction, self.commit, self.positions = reconstruction, commit, positions
        self.watch = CodebookWatch(config.codes, watch_steps, collapse_below)
        self.held_out_counts: Tensor | None = None
        self.started = checkpoint is not None
        if checkpoint is not None:
            network, mean_F, std_F, _ = read_vqvae(checkpoint)
            if network.config != config:
                raise PosesynError(f"model.checkpoint={checkpoint}: it is of {network.config}, the model of {config}")
            self.vqvae.load_state_dict(network.state_dict())
            self.set_normalisation(mean_F, std_F)

    def trained(self) -> MotionVQVAE:
        return self.vqvae

    def setup(self, stage: str) -> None:
        if stage == "fit" and not self.started:
            self.set_normalisation(*self.data.normalisation)

    def losses(self, features_BTF: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The weighted terms, the codes (B, S) and the batch's perplexity, of features that are not normalised."""
        target = self.normalised(features_BTF)
        out = self.vqvae(target)
        loss = RECONSTRUCTION[self.reconstruction]
        where = self.layout.slices["positions"]
        terms = {
            "reconstruction": loss(out.recon_BTF, target),
            "positions": self.positions * loss(out.recon_BTF[..., where], target[..., where]),
            "commit": self.commit * out.commit_loss,
        }
        return terms, out.codes_BS, out.perplexity

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (features_BTF,) = batch
        terms, codes_BS, perplexity = self.losses(features_BTF)
        total = torch.stack(list(terms.values())).sum()
        size = len(features_BTF)
        self.log_dict({f"loss/{name}": term.detach() for name, term in terms.items()}, batch_size=size)
        self.log("loss/total", total.detach(), prog_bar=True, batch_size=size)
        self.log("codes/perplexity", perplexity, prog_bar=True, batch_size=size)
        if use := self.watch.update(codes_BS, self.global_step + 1):
            window = {"used": float(use.used), "dead_share": use.dead_share, "window_perplexity": use.perplexity}
            self.log_dict({f"codes/{name}": value for name, value in window.items()}, batch_size=size)
        return total

    @torch.no_grad()
    def reconstruct(self, features_BTF: Tensor) -> tuple[Tensor, Tensor]:
        """Features through the codes and back, neither normalised, and the codes (B, S); T a multiple of 4."""
        codes_BS = self.vqvae.encode(self.normalised(features_BTF))
        return self.vqvae.decode(codes_BS) * self.std_F + self.mean_F, codes_BS

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        (features_BTF,) = batch
        recon_BTF, codes_BS = self.reconstruct(features_BTF)
        for name, value in reconstruction_errors(recon_BTF, features_BTF, self).items():
            self.figure(name).update(value)
        counts = torch.bincount(codes_BS.flatten().cpu(), minlength=self.vqvae.config.codes)
        self.held_out_counts = counts if self.held_out_counts is None else self.held_out_counts + counts

    def on_validation_epoch_start(self) -> None:
        self.held_out_counts = None

    def on_validation_epoch_end(self) -> None:
        for name in self.figures:
            self.log(f"val/{name}_mm", self.figure(name), prog_bar=name == "mpjpe")
        if self.held_out_counts is not None:
            use = codebook_use(self.held_out_counts)
            self.log("val/codes_used", float(use.used), sync_dist=True)
            self.log("val/perplexity", use.perplexity, sync_dist=True)

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def on_train_end(self) -> None:
        report = self.watch.report()
        self.print(report)
        if self.trainer.is_global_zero:
            use, collapsed = self.watch.latest, self.watch.collapsed_at
            self.run_dir.mkdir(parents=True, exist_ok=True)
            content = {
                **(use._asdict() if use else {}),
                "codes": self.vqvae.config.codes,
                "collapsed_at_step": collapsed,
            }
            (self.run_dir / "codebook.json").write_text(json.dumps(content, indent=1))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[NOTE] = {"config": asdict(self.vqvae.config), "layout": self.layout.name}


@torch.no_grad()
def reconstruction_errors(recon_BTF: Tensor, truth_BTF: Tensor, trainer: MotionTrainer) -> dict[str, Tensor]:
    """(B*T,) mm of each frame by name; the features are not normalised."""
    recon, truth = (features_to_joints(f.float(), trainer.layout).flatten(0, 1) for f in (recon_BTF, truth_BTF))
    return {
        "mpjpe": mpjpe(recon - recon[:, :1], truth - truth[:, :1]),
        "pa_mpjpe": pa_mpjpe(recon, truth),
        "world_mpjpe": 1000 * (recon - truth).norm(dim=-1).mean(-1),
    }


def read_vqvae(path: str | Path) -> tuple[MotionVQVAE, Tensor, Tensor, str]:
    """A trained VQ-VAE, its mean and std, and the name of its feature layout.

    Args:
        path: a Lightning checkpoint of :class:`MotionVQVAETrainer`, a run folder (its newest checkpoint), or a motion
            pair: "packaged:NAME", its file or folder.
    """
    file = Path(path).expanduser()
    if file.is_dir() and (found := sorted(file.rglob("*.ckpt"), key=lambda p: p.stat().st_mtime)):
        last = [p for p in found if p.name == "last.ckpt"]
        file = (last or found)[-1]
    if file.suffix != ".ckpt":
        pair = MotionPair.load(path)
        return pair.vqvae, pair.mean_F, pair.std_F, pair.layout
    file, note, state = read_note(file, NOTE, "motion VQ-VAE", "configs/msm/vqvae.yaml")
    network = restored(MotionVQVAE(VQVAEConfig(**note["config"])), state, "vqvae", file)
    return network, state["mean_F"], state["std_F"], note["layout"]
