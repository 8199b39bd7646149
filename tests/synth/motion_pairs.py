"""A motion pair of real networks at tiny size with random weights, and a text encoder that needs no files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from human.body import load_body
from human.motion import load_motion_bank
from human.motion_features import joints_to_features
from human.motion_joints import bank_to_joints
from synth.captions.base import CAPTIONERS, CaptionRequest
from synth.captions.text_encoders import TEXT_ENCODERS
from synth.msm.pair import MotionPair
from synth.msm.transformer import TextToMotion, TransformerConfig
from synth.msm.vqvae import MotionVQVAE, VQVAEConfig


class Letters:
    """Texts as counts of letters."""

    name, dim = "letters32", 32

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        counts = [np.bincount([ord(c) % 32 for c in t] or [0], minlength=32) for t in texts]
        return torch.tensor(np.array(counts), dtype=torch.float32)


class Mute:
    """Says nothing of every second person."""

    name, replaced = "mute", 0

    def caption(self, request: CaptionRequest) -> list[str]:
        return ["a person waves" if i % 2 == 0 else "  " for i in range(len(request))]

    def config_hash(self) -> str:
        return "mute"


if "letters32" not in TEXT_ENCODERS.names():
    TEXT_ENCODERS.register("letters32")(Letters)
    CAPTIONERS.register("mute")(Mute)


@cache
def statistics() -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of some free motion's features: what random weights decode is then near a person."""
    bank, body = load_motion_bank(), load_body()
    clips = [joints_to_features(bank_to_joints(bank, body, c)[None], uniform=True)[0] for c in ("walk", "spinkick")]
    return torch.cat(clips).mean(0), torch.cat(clips).std(0).clamp_min(1e-3)


def tiny_pair(ends_at_once: bool = False) -> MotionPair:
    torch.manual_seed(0)
    vqvae = MotionVQVAE(VQVAEConfig(codes=32, code_dim=16, width=16, depth=1))
    vqvae.quantizer.set_codebook(torch.randn(32, 16))
    # Of every code the same: random codes would make a trembling that no check lets pass.
    with torch.no_grad():
        vqvae.decoder.last.weight.mul_(0.3)
    transformer = TextToMotion(TransformerConfig(codes=32, text_dim=32, width=16, heads=2, layers=2, block_size=13))
    with torch.no_grad():
        transformer.head.weight[transformer.config.end] = 0
        transformer.norm.bias[0], transformer.norm.weight[0] = 1, 0
        transformer.head.weight[:, 0] = 0
        transformer.head.weight[transformer.config.end, 0] = 50 if ends_at_once else -2
    return MotionPair(vqvae.eval(), transformer.eval(), "letters32", *statistics())


def save_pair(folder: Path, ends_at_once: bool = False) -> str:
    return str(tiny_pair(ends_at_once).save(folder / "tiny.safetensors"))
