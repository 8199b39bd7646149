"""T2M-GPT's checkpoints for our networks.

The official files (Mael-zys/T2M-GPT: dataset/prepare/download_model.sh) are ``{"net": state}`` of ``HumanVQVAE`` and
``{"trans": state}`` of ``Text2Motion_Transformer``. Sizes are read off the weights. Nothing in the files is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from human.checkpoints import check_state, read_checkpoint
from human.errors import PosesynError
from synth.msm.transformer import TextToMotion, TransformerConfig, sinusoids
from synth.msm.vqvae import MotionVQVAE, VQVAEConfig

#: Of our quantizer, what upstream does not keep.
AVERAGES = ("quantizer.code_sum", "quantizer.code_count", "quantizer.begun", "quantizer.updates")
_ADVICE = "Is it T2M-GPT's own {}?"


def load_official_vqvae(path: str | Path) -> MotionVQVAE:
    """The motion VQ-VAE of a T2M-GPT file, in eval mode.

    Raises:
        PosesynError: the file is damaged, or holds another network: one message lists what differs.
    """
    file, theirs = read_checkpoint(path)
    config = _config(_vqvae_config, theirs, file)
    names = dict(_vqvae_names(config))
    with torch.device("meta"):
        ours = MotionVQVAE(config)
    own = ours.state_dict()
    check_state(
        theirs, {names[k]: own[k] for k in names}, file, "motion VQ-VAE", _ADVICE.format("VQ-VAE (net_last.pth)")
    )
    ours = MotionVQVAE(config)
    ours.load_state_dict({k: theirs[name].float() for k, name in names.items()}, strict=False)
    ours.quantizer.set_codebook(theirs[names["quantizer.codebook"]].float())
    return ours.eval()


def load_official_transformer(path: str | Path, heads: int = 16) -> TextToMotion:
    """The text-to-motion transformer of a T2M-GPT file, in eval mode.

    Args:
        heads: of the attention, which the weights do not tell; the official ones have 16.

    Raises:
        PosesynError: the file is damaged, or holds another network: one message lists what differs.
    """
    file, theirs = read_checkpoint(path)
    config = _config(partial(_transformer_config, heads=heads), theirs, file)
    expected = _transformer_shapes(config)
    check_state(theirs, expected, file, "text-to-motion transformer", _ADVICE.format("transformer (net_best_fid.pth)"))
    table_LC = theirs["trans_base.pos_embed.embed"][:, 0].float()
    if not torch.allclose(table_LC, sinusoids(config.block_size, config.width), atol=1e-4):
        raise PosesynError(f"checkpoint {file}: its position embeddings are not the sinusoids of T2M-GPT")
    ours = TextToMotion(config)
    ours.load_state_dict(dict(_transformer_weights(theirs, config)))
    return ours.eval()


def _config(read: Callable[[Mapping[str, Tensor]], Any], theirs: Mapping[str, Tensor], file: Path) -> Any:
    try:
        return read(theirs)
    except PosesynError as error:
        raise PosesynError(f"checkpoint {file} has weights of impossible sizes: {error}") from error


def _vqvae_names(config: VQVAEConfig) -> Iterator[tuple[str, str]]:
    """Ours and theirs."""
    places = {"encoder.first": "encoder.model.0", "encoder.last": f"encoder.model.{config.stages + 2}"}
    places |= {"decoder.first": "decoder.model.0", "decoder.mix": f"decoder.model.{config.stages + 2}"}
    places |= {"decoder.last": f"decoder.model.{config.stages + 4}"}
    for i in range(config.stages):
        places[f"encoder.stages.{i}.conv"] = f"encoder.model.{i + 2}.0"
        places[f"decoder.stages.{i}.conv"] = f"decoder.model.{i + 2}.2"
        for j in range(config.depth):
            for conv in ("conv1", "conv2"):
                places[f"encoder.stages.{i}.blocks.{j}.{conv}"] = f"encoder.model.{i + 2}.1.model.{j}.{conv}"
                places[f"decoder.stages.{i}.blocks.{j}.{conv}"] = f"decoder.model.{i + 2}.0.model.{j}.{conv}"
    for ours, theirs in places.items():
        for kind in ("weight", "bias"):
            yield f"{ours}.{kind}", f"vqvae.{theirs}.{kind}"
    yield "quantizer.codebook", "vqvae.quantizer.codebook"


def _vqvae_config(theirs: Mapping[str, Tensor]) -> VQVAEConfig:
    official = VQVAEConfig()
    width, features = _sizes(theirs, "vqvae.encoder.model.0.weight", 3, (official.width, official.features))[:2]
    codes, code_dim = _sizes(theirs, "vqvae.quantizer.codebook", 2, (official.codes, official.code_dim))
    return VQVAEConfig(
        features=features,
        codes=codes,
        code_dim=code_dim,
        width=width,
        stages=_count(theirs, r"vqvae\.encoder\.model\.(\d+)\.0\.weight", official.stages),
        depth=_count(theirs, r"vqvae\.encoder\.model\.2\.1\.model\.(\d+)\.conv1\.weight", official.depth),
    )


def _transformer_config(theirs: Mapping[str, Tensor], heads: int) -> TransformerConfig:
    official = TransformerConfig()
    tokens, width = _sizes(theirs, "trans_base.tok_emb.weight", 2, (official.codes + 2, official.width))
    hidden = _sizes(theirs, "trans_base.blocks.0.mlp.0.weight", 2, (official.mlp_ratio * width, width))[0]
    return TransformerConfig(
        codes=tokens - 2,
        text_dim=_sizes(theirs, "trans_base.cond_emb.weight", 2, (width, official.text_dim))[1],
        width=width,
        heads=heads,
        layers=2 * max(_count(theirs, rf"trans_{part}\.blocks\.(\d+)\.ln1\.weight", 9) for part in ("base", "head")),
        block_size=_sizes(theirs, "trans_base.pos_embed.embed", 3, (official.block_size, 1, width))[0],
        mlp_ratio=max(1, hidden // max(1, width)),
    )


def _sizes(theirs: Mapping[str, Tensor], name: str, dims: int, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a weight; the official one where there is none or it has another number of dimensions."""
    shape = tuple(theirs[name].shape) if name in theirs else ()
    return shape if len(shape) == dims else otherwise


def _count(theirs: Mapping[str, Tensor], pattern: str, otherwise: int) -> int:
    return len([name for name in theirs if re.fullmatch(pattern, name)]) or otherwise


def _places(layers: int) -> list[str]:
    """Upstream's names of the blocks: a base and a head of as many."""
    return [f"trans_{part}.blocks.{i}" for part in ("base", "head") for i in range(layers // 2)]


def _transformer_shapes(config: TransformerConfig) -> dict[str, Tensor]:
    """What a file of theirs holds, as tensors without memory."""
    c, v, size, h = config.width, config.codes, config.block_size, config.mlp_ratio * config.width
    shapes: dict[str, tuple[int, ...]] = {
        "trans_base.tok_emb.weight": (v + 2, c),
        "trans_base.cond_emb.weight": (c, config.text_dim),
        "trans_base.cond_emb.bias": (c,),
        "trans_base.pos_embedding.weight": (size, c),  # upstream makes it and never uses it
        "trans_base.pos_embed.embed": (size, 1, c),
        "trans_head.ln_f.weight": (c,),
        "trans_head.ln_f.bias": (c,),
        "trans_head.head.weight": (v + 1, c),
    }
    for place in _places(config.layers):
        shapes[f"{place}.attn.mask"] = (1, 1, size, size)
        for name in ("ln1", "ln2"):
            shapes |= {f"{place}.{name}.weight": (c,), f"{place}.{name}.bias": (c,)}
        for name in ("key", "query", "value", "proj"):
            shapes |= {f"{place}.attn.{name}.weight": (c, c), f"{place}.attn.{name}.bias": (c,)}
        shapes |= {f"{place}.mlp.0.weight": (h, c), f"{place}.mlp.0.bias": (h,)}
        shapes |= {f"{place}.mlp.2.weight": (c, h), f"{place}.mlp.2.bias": (c,)}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _transformer_weights(theirs: Mapping[str, Tensor], config: TransformerConfig) -> Iterator[tuple[str, Tensor]]:
    plain = {"code.weight": "trans_base.tok_emb.weight", "head.weight": "trans_head.head.weight"}
    for kind in ("weight", "bias"):
        plain |= {f"text.{kind}": f"trans_base.cond_emb.{kind}", f"norm.{kind}": f"trans_head.ln_f.{kind}"}
        for i, place in enumerate(_places(config.layers)):
            plain[f"blocks.{i}.norm1.{kind}"] = f"{place}.ln1.{kind}"
            plain[f"blocks.{i}.norm2.{kind}"] = f"{place}.ln2.{kind}"
            plain[f"blocks.{i}.proj.{kind}"] = f"{place}.attn.proj.{kind}"
            plain[f"blocks.{i}.fc1.{kind}"] = f"{place}.mlp.0.{kind}"
            plain[f"blocks.{i}.fc2.{kind}"] = f"{place}.mlp.2.{kind}"
            parts = [theirs[f"{place}.attn.{part}.{kind}"].float() for part in ("query", "key", "value")]
            yield f"blocks.{i}.qkv.{kind}", torch.cat(parts)
    for ours, name in plain.items():
        yield ours, theirs[name].float()
