"""T2M-GPT's own files and outputs, from scripts/msm_reference/t2m_gpt.py."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from synth.msm.transformer import sinusoids
from tests.lightning_modules.seeded import Reference, load_reference, seeded_tensor

REFERENCES = Path(__file__).parent / "reference"
END = 2.5  # the script's


def reference(name: str) -> Reference:
    return load_reference(f"t2m_gpt_{name}", REFERENCES)


def vqvae_state(known: Reference) -> dict[str, Tensor]:
    """The state of ``HumanVQVAE`` that gave the reference."""
    state = dict(known.state)
    noise = seeded_tensor(state["vqvae.quantizer.codebook"].shape, known.seed, "codebook")
    state["vqvae.quantizer.codebook"] = known.arrays["latent_mean"] + known.arrays["latent_std"] * noise
    return state


def transformer_state(known: Reference) -> dict[str, Tensor]:
    """The state of ``Text2Motion_Transformer`` that gave the reference."""
    state = dict(known.state)
    state["trans_head.head.weight"] = 4 * state["trans_head.head.weight"]
    state["trans_head.head.weight"][-1] *= END
    size, width = state["trans_base.pos_embedding.weight"].shape
    table = known.arrays.get("pos_embed", sinusoids(size, width))
    state["trans_base.pos_embed.embed"] = table[:, None]
    mask = torch.ones(size, size).tril()[None, None]
    blocks = [k.removesuffix("ln1.weight") for k in state if k.endswith("ln1.weight")]
    return state | {f"{block}attn.mask": mask for block in blocks}


def official_files(folder: Path, suffix: str = "") -> tuple[Path, Path]:
    """``net_last.pth`` and ``net_best_fid.pth`` as T2M-GPT writes them."""
    vqvae, transformer = folder / "net_last.pth", folder / "net_best_fid.pth"
    torch.save({"net": vqvae_state(reference(f"vqvae{suffix}"))}, vqvae)
    torch.save({"trans": transformer_state(reference(f"transformer{suffix}"))}, transformer)
    return vqvae, transformer


def motion(known: Reference) -> Tensor:
    return seeded_tensor([len(known.arrays["codes"]), 32, 263], known.seed, "motion")


def text(known: Reference) -> Tensor:
    size = known.state["trans_base.cond_emb.weight"].shape[1]
    return seeded_tensor([len(known.arrays["codes"]), size], known.seed, "text")
