"""Synthetic errors of a 2D pose detector against PoseFix's own code, as 3DCrowdNet has it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_modules.pose_errors import Neighbours, detector_errors, error_probabilities, oks_distance
from tests.lightning_modules.seeded import load_reference

SAMPLES = 1500
LEVELS = torch.linspace(0.05, 0.95, 19)
MIRROR = [0, *(k + (1 if k % 2 else -1) for k in range(1, 17))]


@pytest.mark.parametrize("case", ["alone", "few labelled", "beside another"])
def test_errors_are_spread_as_the_originals(case: str) -> None:
    """Distances from the joint, its mirror image and the neighbour's, by joint: the original's 5 %, 10 % .. quantiles
    have those shares of ours below them. With 3000 draws there and 1500 here 0.07 is 4.4 standard deviations.
    """
    held = load_reference("crowdnet3d").arrays
    number = ["alone", "few labelled", "beside another"].index(case)
    own, seen = held["error_pose"][:, :2].float(), torch.ones(17, dtype=torch.bool)
    if number == 1:
        seen[8:] = False
    beside = held["error_beside"][:, :2].float()
    near = None
    if number == 2:
        near = Neighbours(
            beside.expand(SAMPLES, 1, 17, 2),
            torch.ones(SAMPLES, 1, 17, dtype=torch.bool),
            torch.full((SAMPLES,), 3),
        )
    found, ok = detector_errors(
        own.expand(SAMPLES, 17, 2),
        seen.expand(SAMPLES, 17),
        held["error_area"].float().expand(SAMPLES),
        near,
        torch.Generator().manual_seed(1),
    )
    assert ok.all()
    places = torch.stack([own, own[MIRROR], beside], 1)
    distance = (found[:, :, None] - places).norm(dim=-1)  # (samples, 17, 3)
    quantiles = held["error_quantiles"][number].float()  # (17, 3, 19)
    share = (distance[..., None] < quantiles).float().mean(0)
    assert (share - LEVELS).abs().max() < 0.07


def test_probabilities() -> None:
    """The table of the original: an ankle of someone of whom 5, 10 and 17 joints are labelled, alone and in a crowd."""
    labelled, overlapping = torch.tensor([5, 10, 17, 10, 15, 17]), torch.tensor([0, 0, 0, 1, 3, 3])
    ankle = error_probabilities(labelled, overlapping)[:, 16]
    expected = torch.tensor([
        [0.15, 0.20, 0.06, 0.03], [0.15, 0.13, 0.06, 0.03], [0.10, 0.05, 0.06, 0.03],
        [0.15, 0.13, 0.06, 0.10], [0.10, 0.05, 0.06, 0.10], [0.10, 0.05, 0.06, 0.03],
    ])  # fmt: skip
    torch.testing.assert_close(ankle[:, :4], expected)
    torch.testing.assert_close(ankle.sum(-1), torch.ones(6))
    wrist = error_probabilities(torch.tensor([12]), torch.tensor([0]))[0, 9]
    torch.testing.assert_close(wrist, torch.tensor([0.15, 0.10, 0.03, 0.06, 0.66]))


def test_distance_is_that_of_the_similarity() -> None:
    distance, sigma = oks_distance(0.5, torch.tensor([900.0])), 0.026
    similarity = torch.exp(-distance[0, 0].square() / (2 * 900.0 * (2 * sigma) ** 2))
    assert similarity.item() == pytest.approx(0.5, rel=1e-5)


def person() -> tuple[Tensor, Tensor, Tensor]:
    joints = 50 * torch.rand(4, 17, 2, generator=torch.Generator().manual_seed(0))
    return joints, torch.ones(4, 17, dtype=torch.bool), torch.full((4,), 2500.0)


def test_the_same_seed_makes_the_same_errors() -> None:
    args = person()
    first, again, other = (detector_errors(*args, None, torch.Generator().manual_seed(s))[0] for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nobody_of_whom_nothing_is_labelled() -> None:
    joints, _, _ = person()
    none = torch.zeros(4, 17, dtype=torch.bool)
    found, _ = detector_errors(torch.zeros_like(joints), none, torch.zeros(4))
    assert found.isfinite().all()
