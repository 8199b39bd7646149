"""T2M-GPT's checkpoints in our networks: what upstream's own classes say on the same weights and inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from human.errors import PosesynError
from synth.msm.official import load_official_transformer, load_official_vqvae
from synth.msm.pair import MotionPair
from synth.msm.transformer import TextToMotion, TransformerConfig, sinusoids
from synth.msm.vqvae import MotionVQVAE, VQVAEConfig
from tests.lightning_modules.seeded import assert_parity, seeded_tensor
from tests.synth.t2m_gpt_reference import motion, official_files, reference, text, transformer_state, vqvae_state

#: Ours and theirs, of the weights whose gradients the references hold.
GRADIENTS = {
    "encoder.first.bias": "encoder.model.0.bias",
    "encoder.stages.1.blocks.1.conv1.bias": "encoder.model.3.1.model.1.conv1.bias",
    "decoder.stages.0.blocks.0.conv2.bias": "decoder.model.2.0.model.0.conv2.bias",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return official_files(tmp_path_factory.mktemp("t2m_gpt"))


@pytest.fixture
def vqvae(files: tuple[Path, Path]) -> MotionVQVAE:
    return load_official_vqvae(files[0])


@pytest.fixture
def transformer(files: tuple[Path, Path]) -> TextToMotion:
    return load_official_transformer(files[1], heads=4)


def check_vqvae(ours: MotionVQVAE, suffix: str = "") -> None:
    known = reference(f"vqvae{suffix}")
    said, clip = known.arrays, motion(known)
    with torch.no_grad():
        output = ours(clip)
        assert torch.equal(output.codes_BS, said["codes"])
        assert_parity(output.recon_BTF, said["recon"], "reconstruction")
        assert_parity(output.commit_loss, said["commit"], "commitment loss")
        assert_parity(output.perplexity, said["perplexity"], "perplexity")
        assert torch.equal(ours.encode(clip), said["codes"])
        assert torch.equal(ours.encode(clip[:, :30]), said["odd_codes"])
        assert_parity(ours.decode(said["codes"]), said["recon"], "decoded")
        assert_parity(ours.decode(said["codes"][:1, :3]), said["decoded"], "decoded, three codes")


def check_transformer(ours: TextToMotion, suffix: str = "") -> None:
    known = reference(f"transformer{suffix}")
    said, words = known.arrays, text(known)
    with torch.no_grad():
        assert_parity(ours(said["codes"], words), said["logits"], "logits")
        assert_parity(ours(said["codes"][:, :0], words), said["logits_of_text"], "logits of the text alone")


def test_vqvae(vqvae: MotionVQVAE) -> None:
    check_vqvae(vqvae)
    assert len(reference("vqvae").arrays["codes"].unique()) > 8  # of 16


def test_transformer(transformer: TextToMotion) -> None:
    assert (len(transformer.blocks), transformer.config.block_size) == (4, 51)
    check_transformer(transformer)


def test_positions() -> None:
    table = reference("transformer").arrays["pos_embed"]
    torch.testing.assert_close(sinusoids(*table.shape), table, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cached", [True, False])
def test_the_likeliest_codes(transformer: TextToMotion, cached: bool) -> None:
    known = reference("transformer")
    theirs = known.arrays["greedy"]
    codes, lengths = transformer.generate(text(known), seeds=range(len(theirs)), temperature=0, cached=cached)
    assert lengths.tolist() == (theirs >= 0).sum(1).tolist() == [11, 3, 0, 50, 1, 41]
    assert torch.equal(codes, theirs)


def test_training_gradients(vqvae: MotionVQVAE, transformer: TextToMotion) -> None:
    known = reference("vqvae")
    clip = motion(known)
    vqvae.train()
    vqvae.quantizer.code_count.fill_(8)
    vqvae.quantizer.code_sum.mul_(8)
    output = vqvae(clip)
    loss = F.smooth_l1_loss(output.recon_BTF, clip) + 0.02 * output.commit_loss
    loss.backward()
    assert_parity(loss, known.arrays["train_loss"], "loss")
    assert_parity(output.perplexity, known.arrays["train_perplexity"], "perplexity")
    for ours, theirs in GRADIENTS.items():
        assert_parity(vqvae.get_parameter(ours).grad, known.arrays[f"grad {theirs}"], ours)  # type: ignore[arg-type]

    known = reference("transformer")
    codes = known.arrays["codes"]
    F.cross_entropy(transformer(codes, text(known))[:, :-1].flatten(0, 1), codes.flatten()).backward()
    grads = {name: value.grad for name, value in transformer.named_parameters()}
    assert_parity(grads["text.bias"], known.arrays["grad trans_base.cond_emb.bias"], "text")  # type: ignore[arg-type]
    assert_parity(grads["norm.weight"], known.arrays["grad trans_head.ln_f.weight"], "norm")  # type: ignore[arg-type]
    key = grads["blocks.1.qkv.weight"].chunk(3)[1]  # type: ignore[union-attr]
    assert_parity(key, known.arrays["grad trans_base.blocks.1.attn.key.weight"], "keys")


def test_codebook_updates(vqvae: MotionVQVAE) -> None:
    known, quantizer = reference("vqvae").arrays, vqvae.quantizer.train()
    start, dim = quantizer.codebook.clone(), quantizer.dim
    quantizer.code_count.fill_(8)
    quantizer.code_sum.copy_(8 * start)
    for i in range(3):
        noise = seeded_tensor([8, dim, 16], reference("vqvae").seed, "update", i)
        quantizer((start.mean(0)[:, None] + start.std(0)[:, None] * noise).transpose(1, 2).reshape(-1, dim))
    assert_parity(quantizer.codebook, known["three_book"], "codebook")
    assert_parity(quantizer.code_sum, known["three_sum"], "sums")
    assert_parity(quantizer.code_count, known["three_count"], "counts")

    quantizer.set_codebook(start)
    quantizer(start.repeat_interleave(3, 0)[: 30 * 3].view(30, 3, dim).reshape(-1, dim))
    used = known["one_count"] >= 1
    assert used.sum() == 30
    assert_parity(quantizer.code_sum[used], known["one_sum"][used], "sums")
    assert_parity(quantizer.code_count, known["one_count"], "counts")
    assert_parity(quantizer.codebook[used], known["one_book"][used], "codes in use")


def test_pair(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Converted, saved and loaded: upstream's motions from upstream's files."""
    mean, std = seeded_tensor([263], 1), seeded_tensor([263], 2).exp()
    transformer = load_official_transformer(files[1], heads=4)
    pair = MotionPair(load_official_vqvae(files[0]), transformer, "clip-vit-b32", mean, std)
    pair = MotionPair.load(pair.save(tmp_path))
    check_vqvae(pair.vqvae)
    check_transformer(pair.transformer)
    known = reference("vqvae")
    clip = motion(known) * std + mean
    assert torch.equal(pair.encode(clip), known.arrays["codes"])
    assert_parity(pair.decode(known.arrays["codes"]), known.arrays["recon"] * std + mean, "features")


# -- other files -----------------------------------------------------------------------------------------------------
def _without(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if part not in k}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: _without(s, "decoder"), r"missing \['vqvae.decoder.model.0.bias'.*\(34\), unknown none"),
        (lambda s: s | {"more": torch.ones(2)}, r"unknown \['more'\] \(1\)"),
        (lambda s: s | {"vqvae.decoder.model.0.bias": torch.ones(7)}, r"decoder.model.0.bias \(7,\) != \(32,\)"),
        (lambda s: s | {"vqvae.encoder.model.0.weight": torch.ones(9000, 1, 1)}, r"width=9000"),
        (lambda s: {"a": torch.ones(3)}, r"missing .*\(67\), unknown \['a'\]"),
    ],
)  # fmt: skip
def test_another_vqvae(tmp_path: Path, change: object, says: str) -> None:
    file = tmp_path / "net_last.pth"
    torch.save({"net": change(vqvae_state(reference("vqvae")))}, file)  # type: ignore[operator]
    with pytest.raises(PosesynError, match=says) as caught:
        load_official_vqvae(file)
    assert "net_last.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: _without(s, "trans_head.blocks.1."), r"missing \['trans_head.blocks"),
        (lambda s: s | {"trans_base.pos_embed.embed": torch.ones(51, 1, 48)}, "not the sinusoids"),
        (lambda s: s | {"trans_base.blocks.1.attn.key.bias": torch.ones(3)}, r"key.bias \(3,\) != \(48,\)"),
    ],
)
def test_another_transformer(tmp_path: Path, change: object, says: str) -> None:
    file = tmp_path / "net_best_fid.pth"
    torch.save({"trans": change(transformer_state(reference("transformer")))}, file)  # type: ignore[operator]
    with pytest.raises(PosesynError, match=says) as caught:
        load_official_transformer(file, heads=4)
    assert "\n" not in str(caught.value)


def test_files_taken_for_each_other(files: tuple[Path, Path]) -> None:
    with pytest.raises(PosesynError, match=r"net_best_fid.pth does not fit this motion VQ-VAE: missing \['vqvae"):
        load_official_vqvae(files[1])
    with pytest.raises(PosesynError, match=r"net_last.pth does not fit this text-to-motion transformer: missing"):
        load_official_transformer(files[0])


def test_an_impossible_number_of_heads(files: tuple[Path, Path]) -> None:
    with pytest.raises(PosesynError, match="width=48"):
        load_official_transformer(files[1])


# -- the sizes of the official checkpoints -----------------------------------------------------------------------------
def _parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameters_of_the_official_sizes() -> None:
    """Upstream's classes count 19,436,807 and 228,415,488: the latter with two tables, one unused and one fixed."""
    with torch.device("meta"):
        vqvae, transformer = MotionVQVAE(VQVAEConfig()), TextToMotion(TransformerConfig())
    theirs = [reference(f"{name}_full").arrays["parameters"].tolist() for name in ("vqvae", "transformer")]
    assert theirs == [[19_436_807] * 2, [228_415_488, 228_363_264]]
    assert _parameters(vqvae) == theirs[0][0]
    table = transformer.config.block_size * transformer.config.width
    assert _parameters(transformer) + 2 * table == theirs[1][0]
    assert _parameters(transformer) + table == theirs[1][1]


@pytest.mark.slow
def test_official_sizes(tmp_path: Path) -> None:
    vqvae, transformer = official_files(tmp_path, "_full")
    mean, std = torch.zeros(263), torch.ones(263)
    pair = MotionPair.from_official(vqvae, transformer, mean.numpy(), std.numpy())
    assert (pair.vqvae.config, pair.transformer.config) == (VQVAEConfig(), TransformerConfig())
    assert (pair.text_encoder, pair.fps, pair.unit_length, pair.layout) == ("clip-vit-b32", 20, 4, "humanml3d")
    check_vqvae(pair.vqvae, "_full")
    check_transformer(pair.transformer, "_full")
