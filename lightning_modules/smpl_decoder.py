"""Transformer decoder that reads body parameters from a feature map with one query token: 4D-Humans' head.

Goel et al., "Humans in 4D: Reconstructing and Tracking Humans with Transformers", ICCV 2023, §3.2: the token attends to
all places of the map, layer after layer; linear maps of it are added to mean parameters. Layers are the pre-norm
decoder of Vaswani et al. (2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from human.errors import PosesynError

NUM_POSE, NUM_BETAS, NUM_CAMERA = 24 * 6, 10, 3
_TOKENS = ("zero", "mean")


@dataclass(frozen=True)
class DecoderConfig:
    """Size of the decoder.

    Args:
        width: numbers of the token. depth: layers. heads, head_width: of both attentions. mlp_width: hidden width.
        dropout: after attention and MLPs, and on attention weights.
        token: what the query is made of: "zero" (4D-Humans: one learnt token) or "mean", the parameters themselves,
            from the mean at first (HaMeR, Pavlakos et al., CVPR 2024).
        steps: how often the decoder is applied, each time to the parameters it gave.
    """

    width: int = 1024
    depth: int = 6
    heads: int = 8
    head_width: int = 64
    mlp_width: int = 1024
    dropout: float = 0.0
    token: str = "zero"
    steps: int = 1

    def __post_init__(self) -> None:
        if self.token not in _TOKENS:
            raise PosesynError(f"decoder: token={self.token!r}: choose one of {', '.join(_TOKENS)}")
        if min(self.width, self.depth, self.heads, self.head_width, self.mlp_width, self.steps) < 1:
            raise PosesynError(f"decoder: every size must be positive, got {self}")


class _Attention(nn.Module):
    """Multi-head attention to ``context``, or to the tokens themselves where there is none."""

    def __init__(self, config: DecoderConfig, context_width: int | None = None) -> None:
        super().__init__()
        inner = config.heads * config.head_width
        self.heads, self.dropout = config.heads, config.dropout
        if context_width is None:
            self.to_qkv = nn.Linear(config.width, 3 * inner, bias=False)
        else:
            self.to_q = nn.Linear(config.width, inner, bias=False)
            self.to_kv = nn.Linear(context_width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, config.width)
        self.out_dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor, context_BNF: Tensor | None = None) -> Tensor:
        if context_BNF is None:
            parts = self.to_qkv(x_BTC).chunk(3, -1)
        else:
            parts = (self.to_q(x_BTC), *self.to_kv(context_BNF).chunk(2, -1))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        out = scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.out_dropout(self.to_out(out.transpose(1, 2).flatten(2)))


class DecoderLayer(nn.Module):
    """Attention among the tokens, attention to the feature map, MLP; each behind a normalisation, beside a skip."""

    def __init__(self, config: DecoderConfig, context_width: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(config.width) for _ in range(3))
        self.attn = _Attention(config)
        self.cross = _Attention(config, context_width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, config.mlp_width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.mlp_width, config.width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x_BTC: Tensor, context_BNF: Tensor) -> Tensor:
        x_BTC = x_BTC + self.attn(self.norm1(x_BTC))
        x_BTC = x_BTC + self.cross(self.norm2(x_BTC), context_BNF)
        return x_BTC + self.mlp(self.norm3(x_BTC))


class BodyParameters(NamedTuple):
    """``sixd`` (B,24,6): each rotation's first column, then its second; ``betas`` (B,10); ``weak`` (B,3) camera
    (s, tx, ty); ``token`` (B,width) that they were read from."""

    sixd: Tensor
    betas: Tensor
    weak: Tensor
    token: Tensor


class SMPLDecoder(nn.Module):
    """(B,context_width,H,W) features -> :class:`BodyParameters`.

    Args:
        config: the size.
        context_width: channels of the feature map.
        mean_sixd: (24,6) rotations to start from, laid out as ``BodyParameters.sixd``.
        mean_betas, mean_weak: (10,) and (3,).

    The means are buffers of the checkpoint. Read-outs start near zero: an untrained decoder says the mean.
    """

    init_body_pose: Tensor
    init_betas: Tensor
    init_cam: Tensor

    def __init__(
        self, config: DecoderConfig, context_width: int, mean_sixd: Tensor, mean_betas: Tensor, mean_weak: Tensor
    ) -> None:
        super().__init__()
        self.steps, self.token = config.steps, config.token
        said = NUM_POSE + NUM_BETAS + NUM_CAMERA
        self.to_token_embedding = nn.Linear(1 if config.token == "zero" else said, config.width)
        self.pos_embedding = nn.Parameter(torch.randn(1, 1, config.width))
        self.layers = nn.ModuleList(DecoderLayer(config, context_width) for _ in range(config.depth))
        self.decpose = nn.Linear(config.width, NUM_POSE)
        self.decshape = nn.Linear(config.width, NUM_BETAS)
        self.deccam = nn.Linear(config.width, NUM_CAMERA)
        for read_out in (self.decpose, self.decshape, self.deccam):
            nn.init.xavier_uniform_(read_out.weight, gain=0.01)
            nn.init.zeros_(read_out.bias)
        self.register_buffer("init_body_pose", mean_sixd.reshape(1, NUM_POSE).clone())
        self.register_buffer("init_betas", mean_betas.reshape(1, NUM_BETAS).clone())
        self.register_buffer("init_cam", mean_weak.reshape(1, NUM_CAMERA).clone())

    def forward(self, features_BFHW: Tensor) -> BodyParameters:
        context = features_BFHW.flatten(2).mT
        batch = len(context)
        pose, betas, weak = (m.expand(batch, -1) for m in (self.init_body_pose, self.init_betas, self.init_cam))
        for _ in range(self.steps):
            query = pose.new_zeros(batch, 1) if self.token == "zero" else torch.cat([pose, betas, weak], 1)
            x = (self.to_token_embedding(query) + self.pos_embedding[:, 0])[:, None]
            for layer in self.layers:
                x = layer(x, context)
            token = x[:, 0]
            pose, betas, weak = pose + self.decpose(token), betas + self.decshape(token), weak + self.deccam(token)
        return BodyParameters(pose.unflatten(1, (24, 6)), betas, weak, token)
