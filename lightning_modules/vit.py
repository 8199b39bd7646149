"""Plain vision transformer as a pose backbone: ViTPose's.

Xu et al., "ViTPose: Simple Vision Transformer Baselines for Human Pose Estimation", NeurIPS 2022, §3.1: patches of 16
pixels, no class token, a last normalisation, feature map out. Blocks are timm's (fused attention, stochastic depth);
the stem is ViTPose's own, whose patches overlap the border by two pixels. Names of weights are those of its
checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from human.errors import PosesynError

_BORDER = 2  # pixels of zeros around the picture


@dataclass(frozen=True)
class ViTConfig:
    """Size of a vision transformer.

    Args:
        width: numbers per token. depth: blocks. heads: of the attention; they divide ``width``.
        drop_path: probability that a sample skips the last block's branches (Huang et al., ECCV 2016); it rises
            linearly from 0 at the first block.
        mlp_ratio: hidden width of the MLPs over ``width``.
        patch: side of a patch, pixels.
    """

    width: int = 1280
    depth: int = 32
    heads: int = 16
    drop_path: float = 0.55
    mlp_ratio: float = 4.0
    patch: int = 16

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads) < 1 or self.width % self.heads:
            raise PosesynError(
                f"backbone: width {self.width}, depth {self.depth} and heads {self.heads} must be positive, and the "
                "heads must divide the width"
            )
        if self.patch <= 2 * _BORDER:
            raise PosesynError(f"backbone: patch={self.patch} must be larger than {2 * _BORDER} pixels")
        if not 0 <= self.drop_path < 1:
            raise PosesynError(f"backbone: drop_path={self.drop_path} is a probability below 1")


#: ViTPose's sizes (Xu et al., §4.1; drop path as in its configuration files).
VITPOSE = {
    "small": ViTConfig(384, 12, 12, 0.1),
    "base": ViTConfig(768, 12, 12, 0.3),
    "large": ViTConfig(1024, 24, 16, 0.5),
    "huge": ViTConfig(1280, 32, 16, 0.55),
}


class PatchEmbed(nn.Module):
    """Pictures to tokens by one convolution. Weights: ``proj``."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch, padding=_BORDER)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return self.proj(image_B3HW)


class ViT(nn.Module):
    """(B,3,H,W) normalised pictures -> (B,width,H/patch,W/patch) features.

    Args:
        config: the size.
        height, width: of the pictures, pixels; multiples of the patch.

    ``pos_embed`` holds one embedding per patch and, first, one that is added to all: where the class token of the
    weights it is usually started from (MAE) had its own.
    """

    def __init__(self, config: ViTConfig, height: int, width: int) -> None:
        super().__init__()
        if height % config.patch or width % config.patch or not height or not width:
            raise PosesynError(
                f"pictures of {height} x {width} px cannot be cut into patches of {config.patch} px: "
                f"choose an image size whose sides are multiples of {config.patch}"
            )
        self.grid = (height // config.patch, width // config.patch)
        self.patch_embed = PatchEmbed(config.patch, config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1] + 1, config.width))
        norm = partial(nn.LayerNorm, eps=1e-6)
        rates = torch.linspace(0, config.drop_path, config.depth).tolist()
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio, qkv_bias=True, drop_path=rate, norm_layer=norm)  # type: ignore[arg-type]
            for rate in rates
        )
        self.last_norm = norm(config.width)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(_initialise)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        x = self.patch_embed(image_B3HW).flatten(2).mT
        x = x + self.pos_embed[:, 1:] + self.pos_embed[:, :1]
        for block in self.blocks:
            x = block(x)
        return self.last_norm(x).mT.unflatten(2, self.grid)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def vitpose_backbone(state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The weights of a :class:`ViT` from a ViTPose checkpoint: the backbone alone (as 4D-Humans passes it on), or the
    whole pose estimator, whose heat-map head is left out. None where ``state`` has another layout.
    """
    whole = any(k.startswith("backbone.patch_embed.") for k in state)
    found = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.") or not whole}
    if "patch_embed.proj.weight" not in found or "last_norm.weight" not in found:
        return None
    return found
