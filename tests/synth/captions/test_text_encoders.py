"""Text encoders: the packaged one against stored numbers, CLIP's real class at a tiny size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from human.errors import PosesynError
from synth.captions.text_encoders import TEXT_ENCODERS, ClipText, MiniLM, load_text_encoder

# By sentence-transformers 6.2.0 (SentenceTransformer(folder).encode) on the packaged weights: the first eight of 384,
# and the sum of all.
SENTENCE_TRANSFORMERS = {
    "a person walks forward": (
        [-0.018115, -0.0089201, -0.0150661, -0.0206507, 0.0694649, 0.0534195, 0.112741, 0.0119388],
        0.2099,
    ),
    "": ([-0.1188383, 0.0482987, -0.0025481, -0.0110112, 0.0519508, 0.0102917, 0.1154332, 0.0007008], 0.629072),
    "a person is doing a handstand with the legs split wide and the left knee bent": (
        [-0.0826892, 0.0445488, 0.0093885, -0.0667596, -0.0653412, 0.001844, 0.0089809, 0.1330129],
        0.010246,
    ),
}
REFERENCE = Path(__file__).parent / "reference" / "clip_text_tiny.npz"


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    encoder = load_text_encoder("minilm")
    assert isinstance(encoder, MiniLM)
    return encoder


def test_minilm_is_of_length_one_and_knows_meanings(minilm: MiniLM) -> None:
    walk, stroll, flip = minilm.encode(
        ["a person walks forward", "someone is walking ahead", "a person does a backflip"]
    )
    assert walk.shape == (384,)
    assert walk.dtype == torch.float32
    torch.testing.assert_close(walk.norm(), torch.tensor(1.0))
    assert walk @ stroll > walk @ flip + 0.2


def test_minilm_gives_a_text_the_same_numbers_in_any_company(minilm: MiniLM) -> None:
    texts = ["a person walks", "", "a person is lying on the back with both knees pulled up to the chest " * 30, " "]
    together = minilm.encode(texts)
    assert together.isfinite().all()
    assert torch.equal(together[1], together[3])
    fresh = load_text_encoder("minilm", batch_size=1)
    torch.testing.assert_close(fresh.encode(texts[::-1]).flip(0), together, atol=2e-6, rtol=0)
    assert minilm.encode([]).shape == (0, 384)


def test_minilm_equals_sentence_transformers(minilm: MiniLM) -> None:
    vectors = minilm.encode(list(SENTENCE_TRANSFORMERS))
    for vector, (first, total) in zip(vectors, SENTENCE_TRANSFORMERS.values(), strict=True):
        torch.testing.assert_close(vector[:8], torch.tensor(first), atol=2e-6, rtol=0)
        assert float(vector.sum()) == pytest.approx(total, abs=2e-5)


def test_a_text_is_encoded_once(minilm: MiniLM) -> None:
    asked: list[int] = []
    hook = minilm.model.register_forward_hook(lambda _m, _args, out: asked.append(len(out.last_hidden_state)))
    try:
        first = minilm.encode(["a new text", "a new  text ", "another new text"])
        again = minilm.encode(["another new text", "a new text"])
    finally:
        hook.remove()
    assert asked == [2]
    assert torch.equal(again, first[[2, 0]])


def openai_to_transformers(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """OpenAI's names of CLIP's text weights as transformers has them."""
    out = {
        "text_model.embeddings.token_embedding.weight": weights["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": weights["positional_embedding"],
        "text_projection.weight": weights["text_projection"].T.contiguous(),
    }
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
             "attn.out_proj": "self_attn.out_proj"}  # fmt: skip
    for kind in ("weight", "bias"):
        out[f"text_model.final_layer_norm.{kind}"] = weights[f"ln_final.{kind}"]
        for layer in range(2):
            there, here = f"transformer.resblocks.{layer}", f"text_model.encoder.layers.{layer}"
            for old, new in names.items():
                out[f"{here}.{new}.{kind}"] = weights[f"{there}.{old}.{kind}"]
            for part, value in zip("qkv", weights[f"{there}.attn.in_proj_{kind}"].chunk(3), strict=True):
                out[f"{here}.self_attn.{part}_proj.{kind}"] = value
    return out


def tiny_clip() -> tuple[object, torch.Tensor, torch.Tensor]:
    """transformers' class with upstream's weights; upstream's tokens and ``encode_text``."""
    import transformers as t

    stored = {name: torch.from_numpy(value) for name, value in np.load(REFERENCE).items()}
    tokens, output = stored.pop("tokens"), stored.pop("output")
    config = t.CLIPTextConfig(
        vocab_size=100, hidden_size=16, intermediate_size=64, projection_dim=8, num_hidden_layers=2,
        num_attention_heads=2, bos_token_id=98, eos_token_id=99, pad_token_id=0,
    )  # fmt: skip
    model = t.CLIPTextModelWithProjection(config)
    model.load_state_dict(openai_to_transformers(stored))
    return model, tokens, output


def test_clip_equals_openai_s_encode_text(tmp_path: Path) -> None:
    """From texts to numbers, against clip/model.py of openai/CLIP on the same weights."""
    model, tokens, output = tiny_clip()
    model.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    words = clip_words()
    words.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    encoder = load_text_encoder("clip-vit-b32", checkpoint=str(tmp_path))
    assert isinstance(encoder, ClipText)
    assert encoder.dim == 8
    texts = [" ".join(f"w{int(i)}" for i in row[1:] if int(i) not in (0, 99)) for row in tokens]
    torch.testing.assert_close(encoder.encode(texts), output, atol=1e-5, rtol=1e-5)
    # Longer than 77 tokens is cut as clip.tokenize(truncate=True) cuts: the last token is the end's.
    cut = encoder.encode([texts[2] + " w5" * 200])
    torch.testing.assert_close(cut[0], output[2], atol=1e-5, rtol=1e-5)


def clip_words() -> object:
    """w1 ... w97 and CLIP's start and end around them."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"w{i}": i for i in range(98)} | {"<start>": 98, "<end>": 99}
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="w0"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    own.post_processor = tokenizers.processors.TemplateProcessing(
        "<start> $A <end>", None, [("<start>", 98), ("<end>", 99)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=own, unk_token="w0", pad_token="<end>", eos_token="<end>", bos_token="<start>"
    )


def test_missing_files_say_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match=r"hf download openai/clip-vit-base-patch32"):
        load_text_encoder("clip-vit-b32", checkpoint=str(tmp_path))
    with pytest.raises(PosesynError, match=r"known: clip-vit-b32, .*minilm"):
        load_text_encoder("t5")
    assert [TEXT_ENCODERS.get(name).dim for name in ("minilm", "clip-vit-b32")] == [384, 512]  # type: ignore[attr-defined]
