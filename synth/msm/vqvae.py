"""The motion VQ-VAE: motion features to a quarter as many codes, and back.

T2M-GPT's ``HumanVQVAE`` (Zhang et al., CVPR 2023, §3.1 and Figure 3; Mael-zys/T2M-GPT: models/{vqvae,encdec,resnet}.py)
with its defaults: ReLU, no normalisation layers. In a batch of motions of different length each is encoded and decoded
as if it were alone: what lies behind its end is zero before every convolution that looks there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from human.errors import PosesynError
from synth.msm.quantizer import Quantizer


@dataclass(frozen=True)
class VQVAEConfig:
    """Sizes; the defaults are those of the official HumanML3D checkpoint.

    Attributes:
        features: numbers per frame: 263 (HumanML3D) or 251 (KIT).
        codes, code_dim: of the codebook.
        width, depth, dilation: channels, residual blocks per stage, and by what each block's dilation grows.
        stages: each halves the frame rate.
        decay, seed: of the quantizer.
    """

    features: int = 263
    codes: int = 512
    code_dim: int = 512
    width: int = 512
    depth: int = 3
    dilation: int = 3
    stages: int = 2
    decay: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        check_sizes(self, {"features": 4096, "codes": 65536, "code_dim": 4096, "width": 8192})
        check_sizes(self, {"depth": 16, "dilation": 16, "stages": 6})
        if not 0 <= self.decay < 1:
            raise PosesynError(f"VQVAEConfig: decay={self.decay} is not in [0, 1)")

    @property
    def unit_length(self) -> int:
        """Frames per code."""
        return 2**self.stages


def check_sizes(config: object, limits: dict[str, int]) -> None:
    """:class:`PosesynError` unless each named size is a whole number from 1 to its limit."""
    for name, limit in limits.items():
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
            raise PosesynError(f"{type(config).__name__}: {name}={value!r} is not a whole number from 1 to {limit}")


class VQOutput(NamedTuple):
    """``recon_BTF``: the motion from its codes; ``codes_BS``; the rest: :class:`~synth.msm.quantizer.Quantized`."""

    recon_BTF: Tensor
    commit_loss: Tensor
    perplexity: Tensor
    codes_BS: Tensor


class _ResidualBlock(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(width, width, 1)

    def forward(self, x_BCT: Tensor, mask_B1T: Tensor | None) -> Tensor:
        return x_BCT + self.conv2(F.relu(self.conv1(_within(F.relu(x_BCT), mask_B1T))))


def _blocks(config: VQVAEConfig) -> nn.ModuleList:
    """The widest look first (upstream reverses the dilations in encoder and decoder)."""
    return nn.ModuleList([_ResidualBlock(config.width, config.dilation**i) for i in reversed(range(config.depth))])


class _DownStage(nn.Module):
    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.conv = nn.Conv1d(config.width, config.width, 4, stride=2, padding=1)
        self.blocks = _blocks(config)

    def forward(self, x_BCT: Tensor, mask_B1T: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = self.conv(_within(x_BCT, mask_B1T))
        if mask_B1T is not None:
            mask_B1T = mask_B1T[:, :, 1::2]
        for block in self.blocks:
            x = block(x, mask_B1T)
        return x, mask_B1T


class _UpStage(nn.Module):
    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.blocks = _blocks(config)
        self.conv = nn.Conv1d(config.width, config.width, 3, padding=1)

    def forward(self, x_BCT: Tensor, mask_B1T: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = x_BCT
        for block in self.blocks:
            x = block(x, mask_B1T)
        if mask_B1T is not None:
            mask_B1T = mask_B1T.repeat_interleave(2, -1)
        return self.conv(_within(x.repeat_interleave(2, -1), mask_B1T)), mask_B1T


class _Encoder(nn.Module):
    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.first = nn.Conv1d(config.features, config.width, 3, padding=1)
        self.stages = nn.ModuleList([_DownStage(config) for _ in range(config.stages)])
        self.last = nn.Conv1d(config.width, config.code_dim, 3, padding=1)

    def forward(self, x_BCT: Tensor, mask_B1T: Tensor | None) -> Tensor:
        x = F.relu(self.first(_within(x_BCT, mask_B1T)))
        for stage in self.stages:
            x, mask_B1T = stage(x, mask_B1T)
        return self.last(_within(x, mask_B1T))


class _Decoder(nn.Module):
    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.first = nn.Conv1d(config.code_dim, config.width, 3, padding=1)
        self.stages = nn.ModuleList([_UpStage(config) for _ in range(config.stages)])
        self.mix = nn.Conv1d(config.width, config.width, 3, padding=1)
        self.last = nn.Conv1d(config.width, config.features, 3, padding=1)

    def forward(self, x_BCT: Tensor, mask_B1T: Tensor | None) -> Tensor:
        x = F.relu(self.first(_within(x_BCT, mask_B1T)))
        for stage in self.stages:
            x, mask_B1T = stage(x, mask_B1T)
        x = F.relu(self.mix(_within(x, mask_B1T)))
        return _within(self.last(_within(x, mask_B1T)), mask_B1T)


class MotionVQVAE(nn.Module):
    """Features here are normalised: (x - mean) / std."""

    def __init__(self, config: VQVAEConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or VQVAEConfig()
        self.encoder = _Encoder(config)
        self.quantizer = Quantizer(config.codes, config.code_dim, config.decay, config.seed)
        self.decoder = _Decoder(config)

    def forward(self, features_BTF: Tensor) -> VQOutput:
        """Reconstruction of motions of one length, a multiple of ``config.unit_length``."""
        frames, unit = features_BTF.shape[1], self.config.unit_length
        if frames == 0 or frames % unit:
            raise PosesynError(f"motions of {frames} frames: train the motion VQ-VAE on a multiple of {unit} frames")
        latent_BCS = self._encode(features_BTF, None)
        batch, channels, codes = latent_BCS.shape
        quantized = self.quantizer(latent_BCS.transpose(1, 2).reshape(-1, channels))
        vectors_BCS = quantized.vectors_ND.view(batch, codes, channels).transpose(1, 2)
        recon_BTF = self.decoder(vectors_BCS, None).transpose(1, 2)
        return VQOutput(recon_BTF, quantized.commit_loss, quantized.perplexity, quantized.codes_N.view(batch, codes))

    def encode(self, features_BTF: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """(B, T // unit_length) codes.

        Args:
            lengths_B: frames of each motion, where they differ; its codes number ``lengths // unit_length``, what
                follows is -1.

        Raises:
            PosesynError: a motion is shorter than one code.
        """
        unit = self.config.unit_length
        shortest = features_BTF.shape[1] if lengths_B is None else int(lengths_B.min()) if len(lengths_B) else unit
        if shortest < unit:
            raise PosesynError(f"a motion of {shortest} frames is shorter than one code ({unit} frames)")
        mask_B1T = _mask(lengths_B, features_BTF.shape[1])
        latent_BCS = self._encode(features_BTF, mask_B1T)
        batch, channels, codes = latent_BCS.shape
        codes_BS = self.quantizer.quantize(latent_BCS.transpose(1, 2).reshape(-1, channels)).view(batch, codes)
        if lengths_B is not None:
            codes_BS = codes_BS.masked_fill(~_mask(lengths_B // unit, codes)[:, 0], -1)  # type: ignore[index]
        return codes_BS

    def decode(self, codes_BS: Tensor) -> Tensor:
        """(B, S * unit_length, F) features. Codes of -1 at a row's end are padding; zeros are in their place."""
        padded = codes_BS < 0
        mask_B1S = ~padded[:, None] if bool(padded.any()) else None
        vectors_BSC = self.quantizer.dequantize(codes_BS.clamp_min(0)).to(self.decoder.first.weight.dtype)
        return self.decoder(vectors_BSC.transpose(1, 2), mask_B1S).transpose(1, 2)

    def _encode(self, features_BTF: Tensor, mask_B1T: Tensor | None) -> Tensor:
        if features_BTF.shape[-1] != self.config.features:
            raise PosesynError(
                f"motion features of {features_BTF.shape[-1]} numbers, but this VQ-VAE is for {self.config.features}"
            )
        return self.encoder(features_BTF.to(self.encoder.first.weight.dtype).transpose(1, 2), mask_B1T)


def _mask(lengths_B: Tensor | None, size: int) -> Tensor | None:
    """(B, 1, size) whether a place lies within."""
    if lengths_B is None:
        return None
    return (torch.arange(size, device=lengths_B.device) < lengths_B[:, None])[:, None]


def _within(x_BCT: Tensor, mask_B1T: Tensor | None) -> Tensor:
    return x_BCT if mask_B1T is None else x_BCT.masked_fill(~mask_B1T, 0)
