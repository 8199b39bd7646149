"""The motion VQ-VAE: motions in a batch are as if alone; it learns; what is wrong is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from human.errors import PosesynError
from synth.msm.vqvae import MotionVQVAE, VQVAEConfig
from tests.lightning_modules.seeded import seeded_tensor

SMALL = VQVAEConfig(features=11, codes=24, code_dim=8, width=16)


def motions(batch: int, frames: int, *key: int) -> Tensor:
    """Slow waves."""
    time = torch.linspace(0, 3, frames)[None, :, None]
    speed, phase = seeded_tensor([batch, 1, 11], 1, *key), seeded_tensor([batch, 1, 11], 2, *key)
    return torch.sin(2 * speed * time + 6 * phase)


@pytest.fixture
def vqvae() -> MotionVQVAE:
    torch.manual_seed(0)
    network = MotionVQVAE(SMALL)
    network(motions(16, 64))
    return network.eval()


def test_shapes(vqvae: MotionVQVAE) -> None:
    x = motions(3, 24)
    output = vqvae(x)
    assert output.recon_BTF.shape == x.shape
    assert output.codes_BS.shape == (3, 6)
    assert torch.equal(vqvae.encode(x), output.codes_BS)
    torch.testing.assert_close(vqvae.decode(output.codes_BS), output.recon_BTF)
    assert vqvae.encode(x[:0]).shape == (0, 6)
    assert vqvae.decode(output.codes_BS[:0]).shape == (0, 24, 11)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_motions_in_a_batch_are_as_if_alone(stages: int) -> None:
    torch.manual_seed(1)
    config = VQVAEConfig(features=11, codes=24, code_dim=8, width=16, stages=stages)
    vqvae = MotionVQVAE(config)
    vqvae(motions(16, 64))
    vqvae.eval()
    unit = config.unit_length
    lengths = torch.tensor([40, 30, 17, 9, 8])
    x = motions(5, 40, 3)
    noise = torch.arange(40)[None, :] >= lengths[:, None]
    x[noise] = 1e3 * seeded_tensor([int(noise.sum()), 11], 5)  # whatever is behind the end
    codes = vqvae.encode(x, lengths)
    decoded = vqvae.decode(codes)
    assert (codes >= 0).sum(1).tolist() == (lengths // unit).tolist()
    for i, length in enumerate(lengths.tolist()):
        alone = vqvae.encode(x[i : i + 1, :length])
        assert torch.equal(codes[i, : length // unit], alone[0])
        assert (codes[i, length // unit :] == -1).all()
        torch.testing.assert_close(decoded[i, : length // unit * unit], vqvae.decode(alone)[0])


def test_it_learns() -> None:
    torch.manual_seed(2)
    vqvae, x = MotionVQVAE(replace(SMALL, codes=64)), motions(32, 32)
    optimiser = torch.optim.AdamW(vqvae.parameters(), 3e-3)
    errors = []
    for _ in range(250):
        output = vqvae(x)
        error = (output.recon_BTF - x).square().mean()
        optimiser.zero_grad()
        (error + 0.02 * output.commit_loss).backward()
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.35 * errors[0]
    assert output.perplexity > 8


def test_a_checkpoint_holds_everything(vqvae: MotionVQVAE) -> None:
    other = MotionVQVAE(SMALL)
    other.load_state_dict(vqvae.state_dict())
    for network in (vqvae, other):
        network.train()(motions(4, 16, 8))
    assert torch.equal(other.quantizer.codebook, vqvae.quantizer.codebook)


def test_bfloat16(vqvae: MotionVQVAE) -> None:
    x = motions(8, 32, 4)
    exact = vqvae(x)
    with torch.autocast("cpu", torch.bfloat16):
        output = vqvae(x)
    (output.recon_BTF.float().mean() + output.commit_loss).backward()
    assert (output.recon_BTF.float() - exact.recon_BTF).abs().mean() < 0.1
    half = vqvae.bfloat16()
    assert (half.encode(x) == exact.codes_BS).float().mean() > 0.7
    assert half.decode(exact.codes_BS).isfinite().all()


@pytest.mark.parametrize("frames", [0, 6])
def test_lengths_that_are_no_whole_codes(vqvae: MotionVQVAE, frames: int) -> None:
    with pytest.raises(PosesynError, match=f"{frames} frames.*multiple of 4"):
        vqvae(motions(2, frames))


def test_a_motion_shorter_than_one_code(vqvae: MotionVQVAE) -> None:
    with pytest.raises(PosesynError, match=r"3 frames is shorter than one code \(4"):
        vqvae.encode(motions(2, 3))
    with pytest.raises(PosesynError, match="2 frames is shorter"):
        vqvae.encode(motions(2, 8), torch.tensor([8, 2]))


def test_other_features(vqvae: MotionVQVAE) -> None:
    with pytest.raises(PosesynError, match=r"12 numbers.*for 11"):
        vqvae.encode(torch.zeros(1, 8, 12))


@pytest.mark.parametrize("wrong", [{"codes": 0}, {"width": 1.5}, {"stages": 99}, {"decay": 1.0}, {"codes": True}])
def test_impossible_sizes(wrong: dict[str, float]) -> None:
    with pytest.raises(PosesynError, match=next(iter(wrong))):
        VQVAEConfig(**wrong)  # type: ignore[arg-type]
