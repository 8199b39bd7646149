"""What T2M-GPT's own code says: ``python -m scripts.msm_reference.t2m_gpt CHECKOUT [--full]``.

CHECKOUT holds https://github.com/Mael-zys/T2M-GPT. Runs its classes (``models.vqvae.HumanVQVAE``,
``models.quantize_cnn.QuantizeEMAReset``, ``models.t2m_trans.Text2Motion_Transformer``) on seeded weights and inputs, on
the CPU (``cuda()`` does nothing), and writes tests/synth/reference/t2m_gpt_{vqvae,transformer}.npz at reduced size;
``--full`` writes the ``_full`` ones at the sizes of the official checkpoints, with the numbers of parameters. Needs
posesyn's packages only.

The codebook is spread like the encoder's outputs, so that many codes are used: their mean and deviation are kept, as is
the table of position embeddings. The attention masks are the ones that upstream makes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.lightning_modules.seeded import save_reference, seeded_state, seeded_tensor, shapes_of

FOLDER = Path(__file__).parents[2] / "tests/synth/reference"
SEED, END = 6, 2.5
#: T2M-GPT's commit, for the notes.
COMMIT = "b1446f1"
VQVAE_SMALL = {"nb_code": 40, "code_dim": 24, "output_emb_width": 24, "down_t": 2, "width": 32, "depth": 3}
VQVAE_FULL = {"nb_code": 512, "code_dim": 512, "output_emb_width": 512, "down_t": 2, "width": 512, "depth": 3}
TRANSFORMER_SMALL = {"num_vq": 40, "embed_dim": 48, "clip_dim": 20, "block_size": 51, "num_layers": 2, "n_head": 4}
TRANSFORMER_FULL = {"num_vq": 512, "embed_dim": 1024, "clip_dim": 512, "block_size": 51, "num_layers": 9, "n_head": 16}
GRADIENTS = {
    "vqvae": ("encoder.model.0.bias", "encoder.model.3.1.model.1.conv1.bias", "decoder.model.2.0.model.0.conv2.bias"),
    "transformer": ("trans_base.cond_emb.bias", "trans_base.blocks.1.attn.key.weight", "trans_head.ln_f.weight"),
}


def parameters(model: nn.Module) -> Tensor:
    """How many in all, and how many of those are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return torch.tensor([sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)])


def vqvae(name: str, sizes: dict[str, int], batch: int) -> None:
    from models.vqvae import HumanVQVAE

    args = SimpleNamespace(quantizer="ema_reset", dataname="t2m", mu=0.99)
    model = HumanVQVAE(args, **sizes, dilation_growth_rate=3, activation="relu", norm=None)
    shapes = shapes_of(model.state_dict())
    model.load_state_dict(seeded_state(shapes, SEED))
    motion = seeded_tensor([batch, 32, 263], SEED, "motion")
    said: dict[str, Any] = {"parameters": parameters(model)}
    inner = model.vqvae
    with torch.no_grad():
        latent = inner.encoder(inner.preprocess(seeded_tensor([64, 32, 263], SEED, "spread")))
        noise = seeded_tensor(inner.quantizer.codebook.shape, SEED, "codebook")
        said |= {"latent_mean": latent.mean((0, 2)), "latent_std": latent.std((0, 2))}
        inner.quantizer.codebook = said["latent_mean"] + said["latent_std"] * noise
        model.eval()
        recon, commit, perplexity = model(motion)
        said |= {"codes": model.encode(motion), "recon": recon, "commit": commit, "perplexity": perplexity}
        said |= {"odd_codes": model.encode(motion[:, :30]), "decoded": model.forward_decoder(said["codes"][:1, :3])}
    if name == "t2m_gpt_vqvae":
        said |= updates(inner, motion)
    print(name, {k: tuple(v.shape) for k, v in said.items()}, "codes used:", len(said["codes"].unique()))
    about = f"T2M-GPT {COMMIT}, HumanVQVAE {sizes}, torch {torch.__version__}"
    print(save_reference(name, shapes, SEED, about, FOLDER, **said), said["parameters"])


def updates(inner: nn.Module, motion: Tensor) -> dict[str, Tensor]:
    """Training: the loss, gradients, and the quantizer after three batches and after one that leaves codes unused."""
    quantizer = inner.quantizer
    count, dim = quantizer.codebook.shape
    quantizer.train()
    quantizer.init = True
    start = quantizer.codebook.clone()
    quantizer.code_count, quantizer.code_sum = torch.full((count,), 8.0), 8 * start
    recon, commit, perplexity = inner(motion)
    loss = F.smooth_l1_loss(recon, motion) + 0.02 * commit
    loss.backward()
    said = {"train_loss": loss, "train_perplexity": perplexity}
    said |= {f"grad {name}": dict(inner.named_parameters())[name].grad for name in GRADIENTS["vqvae"]}
    quantizer.codebook = start.clone()
    quantizer.code_count, quantizer.code_sum = torch.full((count,), 8.0), 8 * start
    for i in range(3):
        quantizer(start.mean(0)[:, None] + start.std(0)[:, None] * seeded_tensor([8, dim, 16], SEED, "update", i))
    said |= {"three_book": quantizer.codebook, "three_sum": quantizer.code_sum, "three_count": quantizer.code_count}
    quantizer.codebook = start.clone()
    quantizer.code_count, quantizer.code_sum = torch.ones(count), start.clone()
    quantizer(start[:, None].repeat(1, 3, 1)[:30].transpose(1, 2))  # only the first 30 codes, three times each
    return said | {"one_book": quantizer.codebook, "one_sum": quantizer.code_sum, "one_count": quantizer.code_count}


def greedy(model: nn.Module, text: Tensor) -> Tensor:
    """The likeliest codes."""
    try:
        return model.sample(text)[0]
    except UnboundLocalError:  # upstream returns what it has not made yet where the end comes first
        return torch.empty(0, dtype=torch.long)


def transformer(name: str, sizes: dict[str, int], batch: int) -> None:
    from models.t2m_trans import Text2Motion_Transformer

    model = Text2Motion_Transformer(**sizes, drop_out_rate=0.1, fc_rate=4).eval()
    made = model.state_dict()
    shapes = {k: v for k, v in shapes_of(made).items() if not k.endswith(("attn.mask", "pos_embed.embed"))}
    state = seeded_state(shapes, SEED)
    # Louder, so that the likeliest code is so by far; louder still for the end, so that it comes.
    state["trans_head.head.weight"] = 4 * state["trans_head.head.weight"]
    state["trans_head.head.weight"][-1] *= END
    model.load_state_dict({**made, **state})
    text = seeded_tensor([batch, sizes["clip_dim"]], SEED, "text")
    codes = (seeded_tensor([batch, 50], SEED, "codes").abs() * 1e4).long() % sizes["num_vq"]
    said: dict[str, Any] = {"parameters": parameters(model), "pos_embed": made["trans_base.pos_embed.embed"][:, 0]}
    length = 50 if name == "t2m_gpt_transformer" else 7
    logits = model(codes[:, :length], text)
    said |= {"codes": codes[:, :length], "logits": logits, "logits_of_text": model([], text)}
    if name == "t2m_gpt_transformer":
        F.cross_entropy(logits[:, :-1].flatten(0, 1), codes.flatten()).backward()
        said |= {f"grad {k}": dict(model.named_parameters())[k].grad for k in GRADIENTS["transformer"]}
        with torch.no_grad():
            found = [greedy(model, row[None]) for row in text]
        said["greedy"] = nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=-1)
        print("greedy lengths", [len(f) for f in found])
    else:
        said.pop("pos_embed")
    about = f"T2M-GPT {COMMIT}, Text2Motion_Transformer {sizes}, head weight times 4, the end's times {END} more"
    print(save_reference(name, shapes, SEED, about, FOLDER, **said), said["parameters"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(options.checkout))
    Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]  # the quantizer asks for a GPU
    if options.full:
        vqvae("t2m_gpt_vqvae_full", VQVAE_FULL, 1)
        transformer("t2m_gpt_transformer_full", TRANSFORMER_FULL, 1)
    else:
        vqvae("t2m_gpt_vqvae", VQVAE_SMALL, 2)
        transformer("t2m_gpt_transformer", TRANSFORMER_SMALL, 6)
