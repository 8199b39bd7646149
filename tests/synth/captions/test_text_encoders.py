"""Text encoders: the packaged one against stored numbers, CLIP's real class at a tiny size."""

from __future__ import annotations

import pytest
import torch

from human.assets import locate
from synth.captions.text_encoders import MiniLM, load_text_encoder

pytest.importorskip("transformers")

# all-MiniLM-L6-v2 of "a person walks forward": the first eight of 384, by sentence-transformers' modules (Transformer,
# mean Pooling over the mask, Normalize) on the same weights.


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    if locate("minilm") is None:
        pytest.skip("the asset minilm is not here: posesyn assets fetch minilm")
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
