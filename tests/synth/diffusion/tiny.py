"""The real classes of diffusers and transformers at tiny random size, saved to folders as a hub's checkpoints are.

Every network is a function of its seed. Latents are an eighth of the picture's side, as in the real models, so a 64 px
picture has 8 px latents. ``save_*`` give whole pipelines; the builders of parts compose others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

TEXT_DIM = 32  # of every text encoder; SDXL joins two
SIDE = 64  # a fitting picture, pixels


def seeded(network: nn.Module, seed: int, spread: float = 0.0) -> nn.Module:
    """New weights of matrices and kernels from ``seed``; ``spread`` also fills zero-initialised ones (ControlNets')."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in sorted(network.named_parameters()):
            if weight.ndim > 1:
                fan = weight[0].numel()
                zero = not bool(weight.any())
                weight.copy_(torch.randn(weight.shape, generator=rng) * (spread if zero else fan**-0.5))
    return network.eval()


# ------------------------------------------------------------------------------------------------------------ text
def tokenizer(folder: Path) -> Any:
    """CLIP's, of single bytes: any text is encoded, nothing is unknown."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    letters = [chr(b) if b in printable else chr(next(spare)) for b in range(256)]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": 77,
                "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
            }
        )
    )
    return CLIPTokenizer.from_pretrained(folder)


def text_encoder(seed: int = 1, projected: bool = False) -> Any:
    """CLIP's text model of two layers; ``projected``: the class of SDXL's second encoder."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=514, hidden_size=TEXT_DIM, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, projection_dim=TEXT_DIM, bos_token_id=512, eos_token_id=513, pad_token_id=513,
    )  # fmt: skip
    return seeded((CLIPTextModelWithProjection if projected else CLIPTextModel)(config), seed)


def image_encoder(seed: int = 2, size: int = 32) -> Any:
    """CLIP's vision model of two layers."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=TEXT_DIM, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, image_size=size,
        patch_size=8, projection_dim=TEXT_DIM,
    )  # fmt: skip
    return seeded(CLIPVisionModelWithProjection(config), seed)


# -------------------------------------------------------------------------------------------------------- networks
def vae(seed: int = 3, scaling_factor: float = 0.18215) -> Any:
    """AutoencoderKL, latents of 4 channels at an eighth of the side; its pictures use most of the range."""
    from diffusers import AutoencoderKL

    network = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[8, 8, 8, 8],
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE,
        scaling_factor=scaling_factor,
    )
    seeded(network, seed)
    with torch.no_grad():
        network.decoder.conv_out.weight *= 0.7
    return network


_BLOCKS: dict[str, Any] = {
    "sample_size": SIDE // 8,
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
}


def unet(seed: int = 4, in_channels: int = 4, **more: Any) -> Any:
    """Stable Diffusion 1.x's; ``in_channels=5`` is SD 2 depth's, 9 an inpainting one."""
    from diffusers import UNet2DConditionModel

    given = {"cross_attention_dim": TEXT_DIM, "attention_head_dim": 4} | _BLOCKS | more
    return seeded(UNet2DConditionModel(in_channels=in_channels, out_channels=4, **given), seed)


def unet_sdxl(seed: int = 5, **more: Any) -> Any:
    """SDXL's: two text encoders, sizes and crops as further conditions."""
    return unet(
        seed,
        cross_attention_dim=2 * TEXT_DIM,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + TEXT_DIM,
        **more,
    )


def controlnet(network: Any, seed: int = 6, spread: float = 0.3) -> Any:
    """A ControlNet of a UNet above whose condition has an effect."""
    from diffusers import ControlNetModel

    return seeded(ControlNetModel.from_unet(network, load_weights_from_unet=False), seed, spread)


def controlnet_union(network: Any, seed: int = 7, spread: float = 0.3, types: int = 6) -> Any:
    """A union ControlNet of :func:`unet_sdxl`'s shape, ``types`` kinds of condition."""
    from diffusers import ControlNetUnionModel

    c = network.config
    union = ControlNetUnionModel(
        down_block_types=c.down_block_types,
        block_out_channels=c.block_out_channels,
        layers_per_block=c.layers_per_block,
        norm_num_groups=c.norm_num_groups,
        cross_attention_dim=c.cross_attention_dim,
        transformer_layers_per_block=c.transformer_layers_per_block,
        attention_head_dim=c.attention_head_dim,
        use_linear_projection=c.use_linear_projection,
        addition_embed_type=c.addition_embed_type,
        addition_time_embed_dim=c.addition_time_embed_dim,
        projection_class_embeddings_input_dim=c.projection_class_embeddings_input_dim,
        conditioning_embedding_out_channels=(8, 8, 16, 16),
        num_control_type=types,
        num_trans_channel=c.block_out_channels[0],
        num_trans_head=2,
        num_proj_channel=c.block_out_channels[0],
    )
    return seeded(union, seed, spread)


def depth_estimator(seed: int = 8) -> tuple[Any, Any]:
    """DPT of SD 2 depth and its image processor."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    config = DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=37, image_size=32, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16, 16, 32, 32], fusion_hidden_size=16, is_hybrid=False,
    )  # fmt: skip
    return seeded(DPTForDepthEstimation(config), seed), DPTImageProcessor(size={"height": 32, "width": 32})


def ddim() -> Any:
    """The schedule of Stable Diffusion, deterministic."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip


def euler() -> Any:
    """The schedule that SDXL is shipped with."""
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )


# ------------------------------------------------------------------------------------------------- whole pipelines
def save_sd(folder: Path, seed: int = 0) -> Path:
    """Stable Diffusion 1.x."""
    from diffusers import StableDiffusionPipeline

    StableDiffusionPipeline(
        vae=vae(seed + 3),
        text_encoder=text_encoder(seed + 1),
        tokenizer=tokenizer(folder / "tokenizer"),
        unet=unet(seed + 4),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def save_sd_depth(folder: Path, seed: int = 0) -> Path:
    """Stable Diffusion 2 depth-to-image."""
    from diffusers import StableDiffusionDepth2ImgPipeline

    estimator, processor = depth_estimator(seed + 8)
    StableDiffusionDepth2ImgPipeline(
        vae=vae(seed + 3),
        text_encoder=text_encoder(seed + 1),
        tokenizer=tokenizer(folder / "tokenizer"),
        unet=unet(seed + 4, in_channels=5),
        scheduler=ddim(),
        depth_estimator=estimator,
        feature_extractor=processor,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def save_sdxl(folder: Path, seed: int = 0) -> Path:
    """SDXL."""
    from diffusers import StableDiffusionXLPipeline

    StableDiffusionXLPipeline(
        vae=vae(seed + 3, scaling_factor=0.13025),
        text_encoder=text_encoder(seed + 1),
        text_encoder_2=text_encoder(seed + 2, projected=True),
        tokenizer=tokenizer(folder / "tokenizer"),
        tokenizer_2=tokenizer(folder / "tokenizer_2"),
        unet=unet_sdxl(seed + 5),
        scheduler=euler(),
        add_watermarker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def save(network: Any, folder: Path) -> Path:
    """One part (a ControlNet, a motion adapter, ...) on its own."""
    network.save_pretrained(folder, safe_serialization=True)
    return folder
