"""Training the text-to-motion transformer (T2M-GPT §3.2; Mael-zys/T2M-GPT:train_t2m_trans.py)."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from human.errors import PosesynError
from human.motion_skeleton import get_layout
from lightning_modules.motion_trainer import MotionTrainer, adam, read_note, restored
from lightning_modules.motion_vqvae import read_vqvae
from lightning_modules.optimisation import Optimisation
from synth.captions import load_text_encoder
from synth.msm.pair import MotionPair
from synth.msm.transformer import TextToMotion, TransformerConfig
from synth.msm.vqvae import MotionVQVAE, VQVAEConfig

NOTE = "text_to_motion"
_ENCODED_AT_ONCE = 32


class TextToMotionTrainer(MotionTrainer):
    """The transformer on the codes of captioned motions; the VQ-VAE and the text encoder stay as they are.

    The run folder gets ``motion_pair``, both networks together, as the synthesis loads them.

    Args:
        vqvae: the VQ-VAE it is for: a checkpoint or run folder of its training, or a motion pair.
        transformer: sizes; ``codes`` and ``text_dim`` follow the VQ-VAE and the text encoder. Default: T2M-GPT's.
        text_encoder: by name (``synth.captions.TEXT_ENCODERS``): "clip-vit-b32" is T2M-GPT's, "minilm" ships with us.
        pkeep: share of the input codes that are not replaced by others drawn at random; -1: drawn anew each step.
        lr, weight_decay, warmup_steps, final_lr_fraction, optimisation: default: T2M-GPT's code's, for 300,000 steps.
        checkpoint: a trained transformer of these sizes, for this VQ-VAE, to start from: a checkpoint of this training.
        gradient_checkpointing: less memory, about a third more time.
    """

    def __init__(
        self,
        vqvae: str,
        transformer: TransformerConfig | None = None,
        text_encoder: str = "clip-vit-b32",
        pkeep: float = 0.5,
        lr: float = 1e-4,
        weight_decay: float = 1e-6,
        warmup_steps: int = 0,
        final_lr_fraction: float = 0.05,
        optimisation: Optimisation | None = None,
        checkpoint: str | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        network, mean_F, std_F, layout = read_vqvae(vqvae)
        super().__init__(
            layout,
            lr,
            weight_decay,
            warmup_steps,
            final_lr_fraction,
            optimisation or adam((0.5, 0.9), (0.5,)),
            ("loss", "accuracy"),
        )
        if pkeep != -1 and not 0 <= pkeep <= 1:
            raise PosesynError(f"model.pkeep={pkeep} must be a share, 0 to 1, or -1")
        self.vqvae, self.pkeep, self.text_encoder_name = network.requires_grad_(False).eval(), pkeep, text_encoder
        self.set_normalisation(mean_F, std_F)
        # Not a child module: it is neither trained nor saved.
        self._text = [load_text_encoder(text_encoder)]
        sizes = {"codes": network.config.codes, "text_dim": self._text[0].dim}
        self.transformer = TextToMotion(
            replace(transformer or TransformerConfig(), **sizes), gradient_checkpointing=gradient_checkpointing
        )

        if checkpoint is not None:
            self._start_from(read_pair(checkpoint), checkpoint)

    def _start_from(self, pair: MotionPair, path: str) -> None:
        if pair.transformer.config != self.transformer.config:
            raise PosesynError(
                f"model.checkpoint={path}: it is of {pair.transformer.config}, the model of {self.transformer.config}"
            )
        if not torch.equal(pair.vqvae.quantizer.codebook, self.vqvae.quantizer.codebook):
            raise PosesynError(f"model.checkpoint={path} was trained for another VQ-VAE than model.vqvae")
        self.transformer.load_state_dict(pair.transformer.state_dict())

    def trained(self) -> TextToMotion:
        return self.transformer

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.vqvae.eval()
        return self

    def setup(self, stage: str) -> None:
        longest = self.transformer.config.max_codes
        if self.data.max_codes > longest:
            raise PosesynError(
                f"data.max_codes={self.data.max_codes}, but the transformer has room for {longest} codes: lower it, or "
                "raise model.transformer.block_size"
            )
        self.data.encode = self.encode

    @torch.no_grad()
    def encode(self, motions: list[Tensor]) -> list[Tensor]:
        """Features (T, F), not normalised, to codes (T // 4,) on the CPU; each as if it were alone."""
        found: dict[int, Tensor] = {}
        order = sorted(range(len(motions)), key=lambda i: len(motions[i]))
        for start in range(0, len(order), _ENCODED_AT_ONCE):
            some = order[start : start + _ENCODED_AT_ONCE]
            padded = torch.nn.utils.rnn.pad_sequence([motions[i] for i in some], batch_first=True).to(self.device)
            lengths = torch.tensor([len(motions[i]) for i in some], device=self.device)
            for i, codes_S in zip(some, self.vqvae.encode(self.normalised(padded), lengths).cpu(), strict=True):
                found[i] = codes_S[codes_S >= 0]
        return [found[i] for i in range(len(motions))]

    def embed(self, captions: list[str]) -> Tensor:
        """(B, C) text embeddings."""
        return self._text[0].encode(captions).to(self.device)

    def corrupted(self, codes_BS: Tensor) -> Tensor:
        """Codes with some replaced: the network learns to go on from its own mistakes (T2M-GPT §3.2)."""
        keep = torch.rand(()) if self.pkeep == -1 else torch.tensor(self.pkeep)
        kept = torch.rand(codes_BS.shape, device=codes_BS.device) < keep.to(codes_BS.device)
        others = torch.randint_like(codes_BS, self.transformer.config.codes)
        return torch.where(kept | (codes_BS < 0), codes_BS, others)

    def loss(self, inputs_BS: Tensor, codes_BS: Tensor, lengths_B: Tensor, text_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy of the codes and the end after them, and the share that is predicted right; both the mean over
        each motion, then over the motions."""
        target = F.pad(codes_BS, (0, 1), value=-1)
        target[torch.arange(len(target)), lengths_B] = self.transformer.config.end
        counts = target >= 0
        logits = self.transformer(inputs_BS.clamp_min(0), text_BC, codes_BS >= 0)
        each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="none").view_as(
            target
        )
        share = counts / counts.sum(1, keepdim=True)
        right = (logits.argmax(-1) == target).to(share.dtype)
        return (each * share).sum(1).mean(), (right * share).sum(1).mean()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        codes_BS, lengths_B, captions = batch
        loss, accuracy = self.loss(self.corrupted(codes_BS), codes_BS, lengths_B, self.embed(captions))
        self.log_dict({"loss/total": loss.detach(), "accuracy": accuracy}, prog_bar=True, batch_size=len(codes_BS))
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        codes_BS, lengths_B, captions = batch
        loss, accuracy = self.loss(codes_BS, codes_BS, lengths_B, self.embed(captions))
        self.figure("loss").update(loss, weight=len(codes_BS))
        self.figure("accuracy").update(accuracy, weight=len(codes_BS))

    def on_validation_epoch_end(self) -> None:
        for name in self.figures:
            self.log(f"val/{name}", self.figure(name), prog_bar=name == "loss")

    def pair(self) -> MotionPair:
        """Both networks as they are now."""
        return MotionPair(
            self.vqvae,
            self.transformer,
            self.text_encoder_name,
            self.mean_F,
            self.std_F,
            self.layout.fps,
            self.layout.name,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[NOTE] = {
            "vqvae": asdict(self.vqvae.config),
            "transformer": asdict(self.transformer.config),
            "text_encoder": self.text_encoder_name,
            "layout": self.layout.name,
        }

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            self.pair().save(self.run_dir / "motion_pair")
            self.print(f"both networks: {self.run_dir / 'motion_pair'}")


def read_pair(path: str | Path) -> MotionPair:
    """Both networks of a checkpoint of :class:`TextToMotionTrainer`; nothing else is loaded, nor the text encoder."""
    file, note, state = read_note(path, NOTE, "text-to-motion transformer", "configs/msm/t2m.yaml")
    vqvae = restored(MotionVQVAE(VQVAEConfig(**note["vqvae"])), state, "vqvae", file)
    transformer = restored(TextToMotion(TransformerConfig(**note["transformer"])), state, "transformer", file)
    layout = get_layout(note["layout"])
    return MotionPair(
        vqvae.eval(),
        transformer.eval(),
        note["text_encoder"],
        state["mean_F"],
        state["std_F"],
        layout.fps,
        layout.name,
    )
