"""Means with bootstrap intervals, per joint and per bin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from human.errors import PosesynError
from metrics import Summary, per_bin, per_joint, summarise
from metrics.evaluation import interval
from metrics.functional import joint_errors

RNG = np.random.default_rng(0)
VALUES = RNG.gamma(3, 20, 400)


def test_the_interval_is_that_of_the_mean() -> None:
    found = summarise(VALUES)
    standard_error = VALUES.std() / len(VALUES) ** 0.5
    assert found.mean == pytest.approx(VALUES.mean())
    assert found.low == pytest.approx(found.mean - 1.96 * standard_error, abs=0.25 * standard_error)
    assert found.high == pytest.approx(found.mean + 1.96 * standard_error, abs=0.25 * standard_error)
    narrow = summarise(VALUES, level=0.5)
    assert found.low < narrow.low < narrow.mean < narrow.high < found.high


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for i in range(200):
        found = summarise(rng.normal(5, 1, 50), seed=i, replicates=400)
        inside += found.low < 5 < found.high
    assert 0.88 <= inside / 200 <= 0.99


def test_it_is_a_function_of_its_arguments() -> None:
    assert summarise(VALUES, seed=1) == summarise(VALUES, seed=1)
    assert summarise(VALUES, seed=1).low != summarise(VALUES, seed=2).low
    assert summarise(torch.from_numpy(VALUES), seed=3) == summarise(VALUES.tolist(), seed=3)
    assert summarise(torch.from_numpy(VALUES).bfloat16()).count == 400


def test_chunks_of_replicates_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = summarise(VALUES)
    monkeypatch.setattr("metrics.functional.bootstrap._HELD", 1000)
    assert summarise(VALUES) == whole


def test_intervals_are_as_they_were() -> None:
    """Of the two ways to an interval before they shared their draws (numbers of that version)."""
    rng = np.random.default_rng(3)
    values, counted = rng.gamma(2, 30, (500, 1)), (rng.uniform(size=(500, 1)) > 0.1).astype(float)
    groups = rng.integers(0, 60, 500)
    expected = (64.86404701607024, 61.173871573221355, 68.30552528175531)
    assert interval(values * counted, counted, groups, "k") == pytest.approx(expected, rel=1e-12)
    found = summarise(values[:, 0], groups)
    expected = (63.73211123333837, 60.24945003295333, 67.56282487575754)
    assert (found.mean, found.low, found.high) == pytest.approx(expected, rel=1e-12)


def test_whole_sequences_are_drawn_where_asked() -> None:
    """Frames of one sequence that all agree are worth one frame."""
    levels = RNG.normal(50, 10, 20)
    frames = np.repeat(levels, 30)
    clustered, naive = summarise(frames, np.repeat(np.arange(20), 30)), summarise(frames)
    assert clustered.mean == pytest.approx(naive.mean)
    assert (clustered.high - clustered.low) > 4 * (naive.high - naive.low)
    assert clustered.high - clustered.low == pytest.approx(2 * 1.96 * levels.std() / 20**0.5, rel=0.25)
    names = [f"seq{i}" for i in np.repeat(np.arange(20), 30)]
    assert summarise(frames, names).mean == pytest.approx(naive.mean)


def test_persons_as_clusters_are_persons() -> None:
    assert summarise(VALUES, np.arange(400)) == summarise(VALUES)


def test_weights_make_shares_of_labels() -> None:
    share, labels = np.array([1.0, 0.5, 0.0]), np.array([1, 10, 4])
    assert summarise(share, weights_N=labels).mean == pytest.approx(6 / 15)
    assert summarise(VALUES, weights_N=np.full(400, 7.0)).low == pytest.approx(summarise(VALUES).low)
    assert summarise(share, weights_N=[0, 1, 1]).count == 2


def test_who_counts_and_who_is_invalid() -> None:
    values = [1.0, np.nan, 3.0, np.inf, np.nan]
    assert summarise(values).invalid == 3
    found = summarise(values, countable_N=[True, True, True, True, False])
    assert (found.mean, found.count, found.invalid) == (2, 2, 2)
    nobody = summarise(values, countable_N=[False] * 5)
    assert (nobody.count, nobody.invalid) == (0, 0)
    assert np.isnan([nobody.mean, nobody.low, nobody.high]).all()
    assert summarise([]).count == 0
    one = summarise([4.0])
    assert one.mean == 4
    assert np.isnan([one.low, one.high]).all()
    assert np.isnan(summarise([4.0, 5.0], clusters_N=[1, 1]).low)
    assert isinstance(one, Summary)


def test_per_joint_is_the_mean_over_persons_of_each_joint() -> None:
    target = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0))
    pred = target + 0.1 * torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(1))
    weight = torch.ones(6, 5)
    weight[:4, 1], weight[:, 2] = 0, 0
    errors = joint_errors(pred, target, weight)
    means, counts = per_joint(errors)
    assert counts.tolist() == [6, 2, 0, 6, 6]
    assert means[1] == pytest.approx(1000 * (pred - target)[4:, 1].norm(dim=-1).mean().item())
    assert np.isnan(means[2])
    assert per_joint(torch.zeros(0, 3))[1].tolist() == [0, 0, 0]


def test_bins_hold_everybody_once() -> None:
    by = RNG.integers(0, 15, 400)
    bins = per_bin(VALUES, by, [0, 5, 10, 14])
    assert sum(b.summary.count for b in bins) == 400
    assert bins[0].summary.mean == pytest.approx(VALUES[by < 5].mean())
    assert bins[2].summary == summarise(VALUES, countable_N=(by >= 10))
    quartiles = per_bin(VALUES, VALUES, 4)  # error quantiles
    assert [b.summary.count for b in quartiles] == [100] * 4
    assert sorted(b.summary.mean for b in quartiles) == [b.summary.mean for b in quartiles]
    clustered = per_bin(VALUES, by, [0, 7, 14], np.arange(400) // 50)
    assert clustered[0].summary.mean == pytest.approx(VALUES[by < 7].mean())


def test_bins_of_odd_numbers() -> None:
    by = np.array([1.0, np.nan, 3.0, 9.0, 3.0])
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0])
    bins = per_bin(values, by, [0, 2, 4])
    assert [(b.summary.count, b.summary.invalid) for b in bins] == [(1, 0), (1, 1)]
    same = per_bin(values, np.ones(5), 3)
    assert [(b.low, b.high, b.summary.count) for b in same] == [(1, 1, 4)]
    assert per_bin([], [], 3) == []
    empty = per_bin(values, by, [20, 30])
    assert empty[0].summary.count == 0


def test_user_errors() -> None:
    with pytest.raises(PosesynError, match=r"clusters must be one per person, \(3,\), got \(2,\)"):
        summarise([1.0, 2, 3], [1, 2])
    with pytest.raises(PosesynError, match="values must be one per person"):
        summarise(np.zeros((2, 2)))
    with pytest.raises(PosesynError, match="at least two rising numbers"):
        per_bin([1.0], [1.0], [3, 2])
    with pytest.raises(PosesynError, match="at least one bin"):
        per_bin([1.0], [1.0], 0)
    with pytest.raises(PosesynError, match="replicates >= 1"):
        summarise([1.0], replicates=0)
    with pytest.raises(PosesynError, match=r"joint errors must be \(B,J\)"):
        per_joint([1.0])
