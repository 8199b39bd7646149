"""The real classes of Wan-Animate and AnimateDiff at tiny random size, saved to folders as a hub's checkpoints are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.synth.diffusion import tiny

FACE = 16  # pixels of Wan's face video
_WIDE = 24  # of the transformer: 2 heads of 12


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Biases, which :func:`tiny.seeded` leaves as torch draws them, are a function of the seed too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


# ------------------------------------------------------------------------------------------------------------- Wan
def wan_vae(seed: int = 30) -> Any:
    """Wan's autoencoder: latents of 16 channels, an eighth of the side, a quarter of the frames."""
    from diffusers import AutoencoderKLWan

    network = AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    return tiny.seeded(network, seed)


def wan_transformer(seed: int = 31) -> Any:
    from diffusers import WanAnimateTransformer3DModel

    network = WanAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=_WIDE // 2,
        text_dim=tiny.TEXT_DIM,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        image_dim=tiny.TEXT_DIM,
        rope_max_seq_len=64,
        motion_encoder_channel_sizes={"4": 8, "8": 8, "16": 8},
        motion_encoder_size=FACE,
        motion_style_dim=16,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    tiny.seeded(network, seed, spread=0.3)
    with torch.no_grad():  # its layers divide by their width themselves: smaller weights would show nothing of a face
        for weight in network.motion_encoder.parameters():
            if weight.ndim > 1:
                weight *= weight[0].numel() ** 0.5
    return network


def umt5(seed: int = 32) -> Any:
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=300, d_model=tiny.TEXT_DIM, d_kv=8, d_ff=37, num_layers=2, num_heads=4, pad_token_id=0,
        eos_token_id=1, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return tiny.seeded(UMT5EncoderModel(config), seed)


def byte_tokenizer() -> Any:
    """Any text as bytes and an end, as UMT5's tokenizer gives pieces and an end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *letters])}
    backend = Tokenizer(models.BPE(vocab=words, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def clip_vision(seed: int = 33) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=tiny.TEXT_DIM, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, image_size=32,
        patch_size=8,
    )  # fmt: skip
    return tiny.seeded(CLIPVisionModel(config), seed)


@drawn_from(0)
def save_wan_animate(folder: Path, seed: int = 0) -> Path:
    """Wan2.2-Animate, as ``Wan-AI/Wan2.2-Animate-14B-Diffusers`` is laid out."""
    from diffusers import UniPCMultistepScheduler, WanAnimatePipeline
    from transformers import CLIPImageProcessor

    WanAnimatePipeline(
        tokenizer=byte_tokenizer(),
        text_encoder=umt5(seed + 32),
        vae=wan_vae(seed + 30),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0),
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        image_encoder=clip_vision(seed + 33),
        transformer=wan_transformer(seed + 31),
    ).save_pretrained(folder, safe_serialization=True)
    return folder


# ----------------------------------------------------------------------------------------------------- AnimateDiff
def motion_adapter(seed: int = 40) -> Any:
    """Motion modules for the UNet of :func:`tests.synth.diffusion.tiny.unet`, whose effect is not zero."""
    from diffusers import MotionAdapter

    network = MotionAdapter(
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_max_seq_length=32,
        use_motion_mid_block=False,
    )
    return tiny.seeded(network, seed, spread=0.3)


def save_ip_adapter(folder: Path, seed: int = 41) -> Path:
    """An IP-Adapter for that UNet and its image encoder, as ``h94/IP-Adapter`` is laid out."""
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    rng = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    unet = tiny.unet()
    number = 1
    for name in unet.attn_processors:
        if name.endswith("attn1.processor"):
            continue
        block = name.split(".")[:-1]
        width = unet.get_submodule(".".join(block)).to_q.in_features
        part = IPAdapterAttnProcessor2_0(hidden_size=width, cross_attention_dim=tiny.TEXT_DIM, scale=1.0)
        for kind in ("k", "v"):
            like = part.state_dict()[f"to_{kind}_ip.0.weight"]
            weights[f"ip_adapter.{number}.to_{kind}_ip.weight"] = torch.randn(like.shape, generator=rng) * 0.3
        number += 2
    weights["image_proj.proj.weight"] = torch.randn(4 * tiny.TEXT_DIM, tiny.TEXT_DIM, generator=rng) * 0.2
    weights["image_proj.proj.bias"] = torch.zeros(4 * tiny.TEXT_DIM)
    weights["image_proj.norm.weight"] = torch.ones(tiny.TEXT_DIM)
    weights["image_proj.norm.bias"] = torch.zeros(tiny.TEXT_DIM)
    (folder / "models").mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "models" / "ip-adapter_sd15.safetensors")
    tiny.save(tiny.image_encoder(seed + 1), folder / "models" / "image_encoder")
    return folder


@drawn_from(0)
def save_animatediff(folder: Path) -> dict[str, Any]:
    """Stable Diffusion, motion adapter, two ControlNets and an IP-Adapter; the engine's options that name them."""
    network = tiny.unet()
    return {
        "model": str(tiny.save_sd(folder / "sd")),
        "motion_adapter": str(tiny.save(motion_adapter(), folder / "motion")),
        "controls": {
            "pose": str(tiny.save(tiny.controlnet(network, 6), folder / "pose")),
            "depth": str(tiny.save(tiny.controlnet(network, 7), folder / "depth")),
        },
        "ip_adapter": str(save_ip_adapter(folder / "ip")),
    }
