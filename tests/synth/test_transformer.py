"""The text-to-motion transformer: cached as uncached, every row by its own seed, prefix, end, sampling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from human.errors import PosesynError
from synth.msm.sampling import Sampling, code_draws, row_groups
from synth.msm.transformer import TextToMotion, TransformerConfig
from tests.lightning_modules.seeded import seeded_tensor

SMALL = TransformerConfig(codes=30, text_dim=12, width=32, heads=4, layers=3, block_size=21)


@pytest.fixture(scope="module")
def network() -> TextToMotion:
    """Its motions end in between, and depend on text and codes."""
    torch.manual_seed(0)
    network = TextToMotion(SMALL)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(9 if weight.ndim == 2 else 1)
        network.head.weight.mul_(1.5)
    return network.eval()


def texts(batch: int, *key: int) -> Tensor:
    return seeded_tensor([batch, 12], 7, *key)


def prefixes(batch: int, size: int) -> Tensor:
    return (seeded_tensor([batch, size], 9).abs() * 1e4).long() % 30


SAMPLINGS = {
    "greedy": {"temperature": 0},
    "plain": {},
    "hot": {"temperature": 1.7},
    "top_k": {"top_k": 5},
    "nucleus": {"top_p": 0.9, "temperature": 1.2},
    "all": {"top_k": 9, "top_p": 0.8, "temperature": 0.9},
}


# -- logits ----------------------------------------------------------------------------------------------------------
def test_a_place_sees_only_what_is_before_it(network: TextToMotion) -> None:
    codes, text = prefixes(2, 8), texts(2)
    logits = network(codes, text)
    assert logits.shape == (2, 9, 31)
    changed = codes.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 30
    after = network(changed, text)
    torch.testing.assert_close(after[:, :6], logits[:, :6])
    assert (after[:, 6:] - logits[:, 6:]).abs().amax((1, 2)).min() > 1e-3
    assert (network(codes, texts(2, 1)) - logits).abs().amax(2).min() > 1e-2  # the text reaches every place
    torch.testing.assert_close(network(codes[:, :0], text), logits[:, :1])


def test_padding_is_not_seen(network: TextToMotion) -> None:
    codes, text, lengths = prefixes(3, 8), texts(3), [8, 5, 0]
    mask = torch.arange(8) < torch.tensor(lengths)[:, None]
    logits = network(codes.masked_fill(~mask, -1), text, mask)
    for i, length in enumerate(lengths):
        torch.testing.assert_close(logits[i, : length + 1], network(codes[i : i + 1, :length], text[i : i + 1])[0])
    assert logits.isfinite().all()
    holes = mask.clone()
    holes[0, 3] = False  # in front of codes as well
    other = codes.clone()
    other[0, 3] = 0
    torch.testing.assert_close(network(other, text, holes), network(codes, text, holes))


def test_training(network: TextToMotion) -> None:
    """It learns which code follows a text."""
    torch.manual_seed(3)
    network, text, codes = TextToMotion(SMALL), texts(8), prefixes(8, 6)
    target = torch.cat([codes, torch.full((8, 1), SMALL.end)], 1)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(network(codes, text).flatten(0, 1), target.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.3
    made, lengths = network.generate(text, seeds=range(8), temperature=0)
    assert network.training
    assert (made[:, :6] == codes).float().mean() > 0.95
    assert (lengths == 6).float().mean() > 0.8


def test_gradient_checkpointing_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = TextToMotion(SMALL).train()
    again = TextToMotion(SMALL, gradient_checkpointing=True).train()
    again.load_state_dict(plain.state_dict())
    for network in (plain, again):
        torch.manual_seed(5)  # dropout, once more in the backward pass
        network(prefixes(4, 7), texts(4), torch.arange(7).expand(4, 7) < 6).square().mean().backward()
    for (name, one), other in zip(plain.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=name)


def test_bfloat16(network: TextToMotion) -> None:
    exact = network(prefixes(4, 7), texts(4))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(prefixes(4, 7), texts(4))
        codes, _ = network.generate(texts(4), seeds=range(4))
    assert mixed.dtype == torch.float32
    assert (mixed - exact).abs().mean() < 0.1 * exact.abs().mean()
    assert (codes >= 0).any()
    half = TextToMotion(SMALL).bfloat16()
    codes, lengths = half.generate(texts(4), prefixes(4, 2), seeds=range(4))
    assert (lengths >= 2).all()
    half(prefixes(4, 7), texts(4)).mean().backward()


# -- generation ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("prefix", [0, 4])
@pytest.mark.parametrize("how", list(SAMPLINGS))
def test_cached_as_uncached(network: TextToMotion, how: str, prefix: int) -> None:
    given, seeds = prefixes(20, prefix), range(100, 120)
    codes, lengths = network.generate(texts(20), given, seeds=seeds, **SAMPLINGS[how])  # type: ignore[arg-type]
    other = network.generate(texts(20), given, seeds=seeds, cached=False, **SAMPLINGS[how])  # type: ignore[arg-type]
    assert torch.equal(codes, other[0])
    assert torch.equal(lengths, other[1])
    assert torch.equal(codes[:, :prefix], given)
    assert ((codes >= 0).sum(1) == lengths).all()
    assert codes.max() < SMALL.codes
    assert len(codes.unique(dim=0)) > 10
    assert how == "greedy" or len(lengths.unique()) > 3  # ends come at their own time


def test_a_row_alone_is_the_row_in_any_batch(network: TextToMotion) -> None:
    text, seeds = texts(37), [3 * i + 2**60 for i in range(37)]
    given = prefixes(37, 5)
    given[torch.arange(5) >= torch.arange(37)[:, None] % 6] = -1  # prefixes of 0 to 5 codes
    codes, lengths = network.generate(text, given, seeds=seeds, top_p=0.95)
    for i in (0, 1, 16, 17, 30, 36):
        alone, length = network.generate(text[i : i + 1], given[i : i + 1], seeds=seeds[i : i + 1], top_p=0.95)
        assert torch.equal(alone[0], codes[i])
        assert length[0] == lengths[i]
    order = torch.randperm(37, generator=torch.Generator().manual_seed(0))
    mixed, _ = network.generate(text[order], given[order], seeds=[seeds[i] for i in order.tolist()], top_p=0.95)
    assert torch.equal(mixed, codes[order])
    ends = (given >= 0).sum(1)
    assert all(torch.equal(codes[i, :end], given[i, :end]) for i, end in enumerate(ends.tolist()))


def test_logits_are_the_same_to_the_bit(network: TextToMotion) -> None:
    """What row_groups is for."""
    rows = torch.arange(37)
    text, known = texts(37), {}
    for some, count in row_groups(rows):
        logits = network(prefixes(37, 4)[some], text[some])
        known |= {int(row): logits[i] for i, row in enumerate(some[:count])}
    assert sorted(known) == rows.tolist()
    for row in (3, 20, 36):
        (some, count) = next(iter(row_groups(torch.tensor([row]))))
        assert (len(some), count) == (16, 1)
        assert torch.equal(network(prefixes(37, 4)[some], text[some])[0], known[row])


def test_seeds_and_nothing_else_decide(network: TextToMotion) -> None:
    text = texts(1).expand(6, 12)
    torch.manual_seed(0)
    codes, _ = network.generate(text, seeds=range(6))
    state = torch.get_rng_state()
    again, _ = network.generate(text, seeds=range(6))
    assert torch.equal(codes, again)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(codes.unique(dim=0)) == 6
    assert len(network.generate(text, seeds=[4] * 6)[0].unique(dim=0)) == 1


def test_generation_goes_on_from_its_own_codes(network: TextToMotion) -> None:
    """A prefix counts as generated: the same draws follow it."""
    codes, lengths = network.generate(texts(12), seeds=range(12), min_codes=6)
    again, _ = network.generate(texts(12), codes[:, :4], seeds=range(12), min_codes=6)
    assert torch.equal(again, codes)
    assert (lengths >= 6).all()


def test_lengths(network: TextToMotion) -> None:
    codes, lengths = network.generate(texts(5), prefixes(5, 3), 3, seeds=range(5))
    assert torch.equal(codes, prefixes(5, 3))
    assert lengths.tolist() == [3] * 5
    codes, lengths = network.generate(texts(5), max_codes=20, min_codes=20, seeds=range(5))
    assert lengths.tolist() == [20] * 5
    codes, lengths = network.generate(texts(5)[:0], seeds=[])
    assert (codes.shape, lengths.shape) == ((0, 20), (0,))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_codes": 21}, r"21 codes.*room for 20.*block_size=21"),
        ({"max_codes": 0}, "at least one"),
        ({"seeds": [1]}, "2 texts, 2 prefixes and 1 seeds"),
        ({"prefix_BP": torch.zeros(3, 2, dtype=torch.long)}, "2 texts, 3 prefixes and 2 seeds"),
        ({"prefix_BP": torch.zeros(2, 21, dtype=torch.long)}, "prefix of 21 codes"),
        ({"prefix_BP": torch.tensor([[1, 30], [1, 2]])}, "outside 0 to 29"),
        ({"prefix_BP": torch.tensor([[-1, 3], [1, 2]])}, "before a code"),
        ({"text_BC": torch.full((2, 12), torch.nan)}, "not finite"),
        ({"text_BC": torch.zeros(2, 13)}, "13 numbers.*takes 12"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 0.0}, "top_p=0.0"),
    ],
)
def test_what_cannot_be(network: TextToMotion, change: dict[str, object], says: str) -> None:
    asked = {"text_BC": texts(2), "prefix_BP": prefixes(2, 3), "seeds": [1, 2]} | change
    with pytest.raises(PosesynError, match=says):
        network.generate(**asked)  # type: ignore[arg-type]


def test_too_many_codes_for_the_block(network: TextToMotion) -> None:
    with pytest.raises(PosesynError, match=r"21 codes.*room for 20"):
        network(prefixes(1, 21), texts(1))


def test_impossible_sizes() -> None:
    with pytest.raises(PosesynError, match="width=30"):
        TransformerConfig(width=30, heads=4)
    with pytest.raises(PosesynError, match="layers=1000"):
        TransformerConfig(layers=1000)
    with pytest.raises(PosesynError, match="dropout"):
        TransformerConfig(dropout=1.0)


# -- sampling --------------------------------------------------------------------------------------------------------
LOGITS = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log()


def shares(sampling: Sampling, count: int = 4000) -> Tensor:
    places = torch.arange(count) / count
    return torch.bincount(sampling.draw(LOGITS.expand(count, 5), places), minlength=5) / count


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.5, 0.2, 0.15, 0.1, 0.05]),
        (Sampling(temperature=0), [1, 0, 0, 0, 0]),
        (Sampling(temperature=1e-30), [1, 0, 0, 0, 0]),
        (Sampling(temperature=0.5), [0.25 / 0.325, 0.04 / 0.325, 0.0225 / 0.325, 0.01 / 0.325, 0.0025 / 0.325]),
        (Sampling(top_k=2), [5 / 7, 2 / 7, 0, 0, 0]),
        (Sampling(top_k=9), [0.5, 0.2, 0.15, 0.1, 0.05]),
        (Sampling(top_p=0.4), [1, 0, 0, 0, 0]),
        (Sampling(top_p=0.6), [5 / 7, 2 / 7, 0, 0, 0]),
        (Sampling(top_p=1), [0.5, 0.2, 0.15, 0.1, 0.05]),
        (Sampling(top_k=3, top_p=0.75), [5 / 7, 2 / 7, 0, 0, 0]),  # of what top_k leaves, 0.82 lies in the first two
    ],
)
def test_shares(sampling: Sampling, expected: list[float]) -> None:
    torch.testing.assert_close(shares(sampling), torch.tensor(expected).float(), atol=1e-3, rtol=0)


def test_the_ends_of_a_draw() -> None:
    """Never a code without a share, at 0 or at the last number below 1 (or 1, by rounding)."""
    logits = torch.tensor([-torch.inf, 0.0, 3.0, -torch.inf]).expand(3, 4)
    assert Sampling().draw(logits, torch.tensor([0, 1 - 2**-24, 1.0])).tolist() == [1, 2, 2]
    many = seeded_tensor([200, 513], 1)
    assert Sampling(top_p=0.9).draw(many, torch.ones(200)).max() < 513


def test_draws() -> None:
    draws = code_draws([5, 6, 5], 200)
    assert torch.equal(draws[0], draws[2])
    assert torch.equal(draws[:, :50], code_draws([5, 6, 5], 50))
    assert abs(float(code_draws(range(50), 100).mean()) - 0.5) < 0.02
    assert abs(float(torch.corrcoef(draws[:2])[0, 1])) < 0.2
    assert code_draws([], 7).shape == (0, 7)
