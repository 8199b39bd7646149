"""Distances between sets of pictures and poses against closed forms and slow readings."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from scipy.linalg import sqrtm
from torch import Tensor

from human.errors import PosesynError
from metrics.distribution import fid, kid
from metrics.features import FeatureNetwork, make_features
from metrics.functional.diversity import average_pairwise_distance, density_and_coverage


def gaussian(count: int, mean: Tensor, std: Tensor, seed: int) -> Tensor:
    """(count,F) whose own mean and covariance are exactly ``mean`` and diag(std^2)."""
    x = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(seed)).double()
    x = x - x.mean(0)
    white = torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T)))
    return x @ white.T * std + mean


def test_fid_of_gaussians_is_the_closed_form() -> None:
    """|m - n|^2 + sum (s - t)^2 for diagonal covariances (Dowson & Landau 1982)."""
    m, n = torch.zeros(6).double(), torch.linspace(-1, 2, 6).double()
    s, t = torch.linspace(0.5, 3, 6).double(), torch.linspace(2, 0.1, 6).double()
    want = float((m - n).square().sum() + (s - t).square().sum())
    assert fid(gaussian(50, m, s, 0), gaussian(80, n, t, 1)) == pytest.approx(want, rel=1e-6)
    assert fid(gaussian(50, m, s, 0), gaussian(50, m, s, 2)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("count", "width"), [(40, 5), (12, 60)])  # the second: fewer pictures than features
def test_fid_is_the_slow_one(count: int, width: int) -> None:
    rng = np.random.default_rng(width)
    a, b = rng.normal(size=(count, width)), rng.normal(0.3, 1.4, (count + 7, width)) @ rng.normal(size=(width, width))
    root = sqrtm(np.cov(a.T) @ np.cov(b.T))
    want = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root.real)
    assert fid(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(want, rel=1e-4)


def slow_kid(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared MMD of k(x, y) = (x.y / F + 1)^3, pair by pair (Binkowski et al., equation 4)."""

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n, m = len(a), len(b)
    aa = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    bb = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return aa + bb - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


def test_kid_is_the_slow_one() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 9)), rng.normal(0.5, 1, (30, 9))
    mean, std = kid(torch.from_numpy(a), torch.from_numpy(b))
    assert mean == pytest.approx(slow_kid(a, b), rel=1e-9)
    assert np.isnan(std)  # all pictures at once: nothing was drawn
    mean, std = kid(torch.from_numpy(a), torch.from_numpy(b), subsets=200, subset_size=20)
    assert mean == pytest.approx(slow_kid(a, b), abs=4 * std / np.sqrt(200) + 0.02)
    assert std > 0


def test_kid_draws_the_same_and_leaves_other_generators_alone() -> None:
    a, b = torch.randn(25, 4), torch.randn(30, 4)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = kid(a, b, subset_size=10)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert kid(a, b, subset_size=10) == first
    assert kid(a, b, subset_size=10, seed=1) != first


@pytest.mark.parametrize("few", [0, 1])
def test_too_few_samples_are_no_figure(few: int) -> None:
    many = torch.randn(20, 4)
    for a, b in ((many, many[:few]), (many[:few], many)):
        assert np.isnan(fid(a, b))
        assert np.isnan(kid(a, b)).all()


def test_features_that_are_not_finite_are_left_out() -> None:
    a, b = torch.randn(20, 4), torch.randn(22, 4)
    bad = b.clone()
    bad[3], bad[7, 1] = torch.nan, torch.inf
    kept = torch.cat([b[:3], b[4:7], b[8:]])
    assert fid(a, bad) == pytest.approx(fid(a, kept))
    assert kid(a, bad, subset_size=10)[0] == kid(a, kept, subset_size=10)[0]
    assert np.isnan(fid(a, torch.full((5, 4), torch.nan)))


# -- diversity ---------------------------------------------------------------------------------------------------------


def test_pairwise_distance_is_the_slow_one() -> None:
    joints = torch.randn(23, 7, 3, dtype=torch.float64)
    slow = np.mean([float((a - b).norm(dim=-1).mean()) for a, b in combinations(joints, 2)])
    assert average_pairwise_distance(joints, chunk=5) == pytest.approx(slow, rel=1e-12)
    assert average_pairwise_distance(joints[:1].repeat(4, 1, 1)) == 0
    bad = torch.cat([joints, torch.full((1, 7, 3), torch.nan)])
    assert average_pairwise_distance(bad) == pytest.approx(slow, rel=1e-12)
    assert np.isnan(average_pairwise_distance(joints[:1]))
    assert np.isnan(average_pairwise_distance(joints[:0]))


def test_density_and_coverage_are_the_slow_ones() -> None:
    rng = np.random.default_rng(3)
    real, made, nearest = rng.normal(size=(30, 3)), rng.normal(0.4, 1, (25, 3)), 4
    inside = np.zeros((30, 25), bool)
    for i in range(30):
        radius = sorted(np.linalg.norm(real[i] - real[j]) for j in range(30) if j != i)[nearest - 1]
        for j in range(25):
            inside[i, j] = np.linalg.norm(real[i] - made[j]) <= radius
    want = inside.sum() / (nearest * 25), inside.any(1).mean()
    assert density_and_coverage(torch.from_numpy(real), torch.from_numpy(made), nearest) == pytest.approx(want)


def test_coverage_knows_poor_sets() -> None:
    real = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    alike = torch.randn(400, 2, generator=torch.Generator().manual_seed(1))
    _, whole = density_and_coverage(real, alike)
    _, one = density_and_coverage(real, real[:1].repeat(400, 1))
    density, far = density_and_coverage(real, alike + 100)
    assert whole > 0.9  # 1 - 0.5 ** 5 is expected
    assert one < 0.05
    assert (density, far) == (0, 0)
    for few in (real[:5], real[:0]):
        assert np.isnan(density_and_coverage(few, alike)).all()
    assert np.isnan(density_and_coverage(real, alike[:0])).all()


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("features") / "tiny.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), path)
    return str(path)


def test_a_network_of_timm_with_a_classifiers_weights(tiny_weights: str) -> None:
    network = make_features("test_resnet", tiny_weights)
    image = torch.randint(0, 256, (3, 3, 50, 40), dtype=torch.uint8)
    features = network(image)
    assert features.shape == (3, network.num_features)
    assert features.dtype == torch.float64
    assert not network.train().training
    torch.testing.assert_close(network(image[:1])[0], features[0])
    # As timm itself does it, at the network's own size.
    own = timm.create_model("test_resnet", num_classes=10)
    config = own.pretrained_cfg
    own.load_state_dict(load_file(tiny_weights))
    side = config["input_size"][-1]
    large = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    mean, std = (torch.tensor(config[k]).reshape(3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        want = own.eval().forward_head(own.forward_features((large / 255 - mean) / std), pre_logits=True)
    torch.testing.assert_close(network(large).float(), want, atol=1e-4, rtol=1e-4)


def test_the_default_network_tells_sharp_from_blurred() -> None:
    network = make_features()
    assert isinstance(network, FeatureNetwork)
    assert network.num_features == 1280
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.integers(0, 256, (8, 3, 8, 8), dtype=np.uint8)).float()
    smooth = torch.nn.functional.interpolate(noise, size=(96, 96), mode="bicubic").clamp(0, 255).byte()
    blocky = torch.nn.functional.interpolate(noise, size=(96, 96), mode="nearest").byte()
    assert fid(network(smooth), network(blocky)) > 3 * fid(network(smooth[:4]), network(smooth[4:]))


def test_networks_that_cannot_be_had_are_named(tiny_weights: str, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="did you mean"):
        make_features("resnet5")
    with pytest.raises(PosesynError, match="needs weights"):
        make_features("test_resnet")
    with pytest.raises(PosesynError, match="does not fit"):
        make_features("test_vit", tiny_weights)
    with pytest.raises(PosesynError, match="not found"):
        make_features("test_resnet", str(tmp_path / "none.safetensors"))
    with pytest.raises(PosesynError, match="uint8"):
        make_features("test_resnet", tiny_weights)(torch.rand(1, 3, 8, 8))
    try:
        import torch_fidelity  # noqa: F401
    except ImportError:
        with pytest.raises(PosesynError, match="torch-fidelity"):
            make_features("inception")
