"""The codebook: it follows its vectors, sets unused codes anew, and continues exactly from a checkpoint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from synth.msm.quantizer import Quantizer
from tests.lightning_modules.seeded import seeded_tensor


def vectors(step: int, count: int = 96, dim: int = 6) -> Tensor:
    """About five centres, so that more codes than that are in danger of being unused."""
    near = seeded_tensor([5, dim], "centres")[torch.arange(count) % 5]
    return 4 * near + 0.3 * seeded_tensor([count, dim], "vectors", step)


def trained(steps: range, quantizer: Quantizer | None = None, count: int = 96) -> Quantizer:
    quantizer = (quantizer or Quantizer(16, 6)).train()
    for step in steps:
        quantizer(vectors(step, count))
    return quantizer


def test_codes_are_the_nearest() -> None:
    quantizer, x = trained(range(3)).eval(), vectors(9)
    codes = quantizer(x).codes_N
    assert torch.equal(codes, torch.cdist(x, quantizer.codebook).argmin(1))
    assert torch.equal(codes, quantizer.quantize(x))
    assert torch.equal(quantizer.dequantize(codes), quantizer.codebook[codes])


def test_the_error_falls_and_codes_come_into_use() -> None:
    quantizer, x = Quantizer(16, 6), vectors(0)
    quantizer.set_codebook(20 + seeded_tensor([16, 6], "far away"))
    first = quantizer.train()(x)
    assert first.perplexity < 3
    assert quantizer.dead > 10
    trained(range(1, 60), quantizer)
    last = quantizer.eval()(vectors(99))
    assert last.commit_loss < 0.01 * first.commit_loss
    assert last.perplexity > 8
    assert quantizer.dead < 6


def test_gradients_pass_straight_through() -> None:
    quantizer, x = trained(range(3)).eval(), vectors(4).requires_grad_()
    output = quantizer(x)
    weight = seeded_tensor(x.shape, "weight")
    (output.vectors_ND * weight).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, weight)
    torch.testing.assert_close(output.vectors_ND, quantizer.dequantize(output.codes_N))


def test_nothing_changes_in_eval_mode() -> None:
    quantizer = trained(range(2)).eval()
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    quantizer(vectors(7))
    assert all(torch.equal(v, before[k]) for k, v in quantizer.state_dict().items())


def test_a_checkpoint_continues_exactly(tmp_path: Path) -> None:
    whole = trained(range(12), count=20)
    assert whole.dead  # codes are still being set anew, by draws that go on as well
    torch.save(trained(range(5), count=20).state_dict(), tmp_path / "q.pt")
    resumed = Quantizer(16, 6)
    resumed.load_state_dict(torch.load(tmp_path / "q.pt", weights_only=True))
    resumed = trained(range(5, 12), resumed, count=20)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    other = trained(range(12), Quantizer(16, 6, seed=1), count=20)
    assert not torch.equal(other.codebook, whole.codebook)


def test_no_global_randomness() -> None:
    torch.manual_seed(0)
    first = trained(range(3))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(trained(range(3)).codebook, first.codebook)
    assert torch.equal(torch.get_rng_state(), state)


def test_fewer_vectors_than_codes() -> None:
    quantizer = Quantizer(16, 6).train()
    quantizer(vectors(0, count=3))
    assert quantizer.codebook.isfinite().all()
    assert len(quantizer.codebook.unique(dim=0)) == 16
    assert torch.cdist(quantizer.codebook, vectors(0, count=3)).amin(1).max() < 0.1


def test_vectors_that_are_not_finite_move_nothing() -> None:
    clean, stained = trained(range(2)), trained(range(2))
    x = vectors(5)
    bad = torch.cat([x, torch.full((2, 6), torch.nan), torch.full((1, 6), torch.inf)])
    clean.code_count.fill_(9)  # no code is set anew: the draws depend on the number of vectors
    stained.code_count.fill_(9)
    clean(x)
    stained(bad)
    for name in ("codebook", "code_sum", "code_count"):
        torch.testing.assert_close(getattr(stained, name), getattr(clean, name))
    stained(torch.full((20, 6), torch.nan))
    assert stained.codebook.isfinite().all()


def test_long_unused_codes_stay_finite() -> None:
    """Upstream divides by a count that ends at zero."""
    quantizer = trained(range(1))
    quantizer.code_count.fill_(0)
    quantizer.code_sum.fill_(0)
    trained(range(1, 3), quantizer)
    assert quantizer.codebook.isfinite().all()


def test_float32_inside() -> None:
    plain, mixed = trained(range(2)), trained(range(2))
    with torch.autocast("cpu", torch.bfloat16):
        output = mixed(vectors(2))
    plain(vectors(2))
    assert output.commit_loss.dtype == torch.float32
    assert torch.equal(mixed.codebook, plain.codebook)
    half = trained(range(2)).bfloat16()
    output = half(vectors(2).bfloat16())
    assert output.vectors_ND.dtype == torch.bfloat16
    assert {half.codebook.dtype, half.code_sum.dtype, half.code_count.dtype} == {torch.float32}
    torch.testing.assert_close(half.code_count, plain.code_count, atol=0.05, rtol=0)
    assert half.double().codebook.dtype == torch.float32


@pytest.mark.parametrize("ranks", [2])
def test_processes_agree(tmp_path: Path, ranks: int) -> None:
    """Each with its share of the vectors: counts and sums of all, one codebook."""
    code = """
import sys, torch, torch.distributed as dist
from tests.synth.test_quantizer import vectors
from synth.msm.quantizer import Quantizer
rank, ranks, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
quantizer = Quantizer(16, 6).train()
said = [quantizer(vectors(step)[rank::ranks]).perplexity for step in range(4)]
book = quantizer.codebook.clone()
quantizer.code_count.fill_(9)
quantizer(vectors(9)[rank::ranks])
state = {**quantizer.state_dict(), "book": book, "said": torch.stack(said)}
torch.save(state, f"{folder}/rank_{rank}.pt")
dist.barrier(); dist.destroy_process_group()
"""
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen([*command, str(rank), str(ranks), str(tmp_path)]) for rank in range(ranks)]
    assert [process.wait(120) for process in started] == [0] * ranks
    first, second = (torch.load(tmp_path / f"rank_{rank}.pt", weights_only=True) for rank in range(ranks))
    assert all(torch.equal(first[k], second[k]) for k in first)
    alone = Quantizer(16, 6).train()
    alone.load_state_dict({k: first[k] for k in alone.state_dict()})
    # The last update, of all vectors together in one process.
    alone.codebook.copy_(first["book"])
    count, total = 9 * torch.ones(16), (first["code_sum"] - 0.01 * _sums(alone, vectors(9))) / 0.99
    alone.code_count.copy_(count)
    alone.code_sum.copy_(total)
    alone(vectors(9))
    torch.testing.assert_close(alone.code_count, first["code_count"])
    torch.testing.assert_close(alone.codebook, first["codebook"], atol=1e-5, rtol=1e-5)


def _sums(quantizer: Quantizer, x: Tensor) -> Tensor:
    return torch.zeros(16, 6).index_add(0, quantizer.quantize(x), x)
