"""The recipe: keys from a counter, shares that follow weights and schedules."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from datamodules.recipe import Recipe, as_schedule
from human.errors import PosesynError

REAL, RENDERED, POOL = 50, 0, -1  # sizes


def recipe(*weights: Any, sizes: tuple[int, ...] = (REAL, RENDERED, POOL), **changes: Any) -> Recipe:
    options = {"seed": 3, "generations": ((2, 10), (5, 30))} | changes
    return Recipe(schedules=tuple(as_schedule(w) for w in weights), sizes=sizes, **options)


def many_keys(r: Recipe, steps: int = 100, batch: int = 64, first: int = 0) -> np.ndarray:
    return np.concatenate([r.keys(first + s, batch) for s in range(steps)])


def test_keys_are_a_function_of_recipe_and_step() -> None:
    a, b = recipe(1, 2, 3), recipe(1, 2, 3)
    later = a.keys(1_000_000, 16)
    for step in (0, 1, 1_000_000):
        keys = a.keys(step, 16)
        assert keys.shape == (16, 4)
        assert keys.dtype == np.int64
        np.testing.assert_array_equal(keys, b.keys(step, 16))
    np.testing.assert_array_equal(later, a.keys(1_000_000, 16))  # asked before or after others
    assert not np.array_equal(a.keys(0, 16), a.keys(1, 16))
    assert not np.array_equal(a.keys(0, 16), recipe(1, 2, 3, seed=4).keys(0, 16))


def test_global_batches_tile_the_same_stream() -> None:
    """Sample n of the run is the same whatever the batch size, so long as weights are constant."""
    r = recipe(1, 2, 3)
    np.testing.assert_array_equal(np.concatenate([r.keys(0, 8), r.keys(1, 8)]), r.keys(0, 16))


@pytest.mark.parametrize("weights", [(1, 1, 1), (0.7, 0.2, 0.1), (5, 0, 15), (0, 0, 1)])
def test_shares_follow_the_weights(weights: tuple[float, ...]) -> None:
    source = many_keys(recipe(*weights))[:, 0]
    expected = np.array(weights) / sum(weights) * len(source)
    counts = np.bincount(source, minlength=3)
    assert (counts[expected == 0] == 0).all()
    some = expected > 0
    if some.sum() > 1:
        assert stats.chisquare(counts[some], expected[some]).pvalue > 1e-3


def test_a_schedule_is_linear_between_and_constant_outside() -> None:
    r = recipe([[100, 0], [300, 3]], 1, 0)
    for step, share in ((0, 0), (100, 0), (200, 1.5 / 2.5), (300, 0.75), (10**9, 0.75)):
        np.testing.assert_allclose(r.weights(step), [share, 1 - share, 0])
    for first, share in ((0, 0), (200, 1.5 / 2.5), (400, 0.75)):
        keys = np.concatenate([r.keys(first, 4096)])
        assert abs((keys[:, 0] == 0).mean() - share) < 0.03
    jump = recipe([[0, 1], [10, 1], [10, 0]], 1, 0)
    assert [jump.weights(s)[0] for s in (9, 11)] == [0.5, 0]


def test_an_empty_pool_gives_its_share_to_the_others() -> None:
    for empty in ((), ((0, 0),), ((0, 0), (1, 0))):
        r = recipe(1, 3, 6, generations=empty)
        np.testing.assert_allclose(r.weights(0), [0.25, 0.75, 0])
        assert set(many_keys(r, 20)[:, 0]) == {0, 1}
    np.testing.assert_allclose(recipe(1, 3, 6).weights(0), [0.1, 0.3, 0.6])


@pytest.mark.parametrize(
    ("r", "step"),
    [
        (recipe(0, 0, 0), 0),
        (recipe(0, 0, 1, generations=()), 0),
        (recipe([[0, 1], [10, 0]], 0, 0), 10),
    ],
)
def test_no_weight_at_all_is_an_error_that_names_the_step(r: Recipe, step: int) -> None:
    with pytest.raises(PosesynError, match=f"no source has a positive weight at step {step}"):
        r.keys(step, 4)


def test_every_index_is_in_range_and_none_is_missed() -> None:
    generations = ((2, 10), (3, 0), (5, 30), (9, 1))
    keys = many_keys(recipe(1, 1, 1, generations=generations))
    real, rendered, pool = (keys[keys[:, 0] == s] for s in range(3))
    assert set(real[:, 2]) == set(range(REAL))
    assert (rendered[:, 1:3] == -1).all()
    assert (real[:, 1] == -1).all()
    for number, count in generations:
        assert set(pool[pool[:, 1] == number][:, 2]) == set(range(count))
    assert set(pool[:, 1]) == {2, 5, 9}
    # All samples alike, whatever their generation's size.
    samples = np.unique(pool[:, 1:3], axis=0, return_counts=True)[1]
    assert stats.chisquare(samples).pvalue > 1e-3


def test_seeds_differ_and_fit_a_float() -> None:
    seeds = many_keys(recipe(1, 1, 1))[:, 3]
    assert len(np.unique(seeds)) == len(seeds)
    assert seeds.min() >= 0
    assert seeds.max() < 2**53


def test_a_new_generation_changes_only_pool_samples() -> None:
    before = recipe(1, 1, 1)
    after = before.with_generations([*before.generations, (7, 100)])
    assert before.generations == ((2, 10), (5, 30))
    a, b = many_keys(before), many_keys(after)
    np.testing.assert_array_equal(a[:, [0, 3]], b[:, [0, 3]])
    others = a[:, 0] != 2
    np.testing.assert_array_equal(a[others], b[others])
    assert 7 in b[:, 1]


def test_keys_are_those_of_earlier_versions() -> None:
    """A checkpoint of an earlier version goes on with the batches that it would have had."""
    r = recipe(0.3, [[0, 0.4], [50, 1.0]], 0.3, sizes=(50, -1, 0))
    stored = {"seed", "schedules", "sizes", "generations"}
    assert set(r.state()) == set(r.with_generations(r.generations, [None, None]).state()) == stored
    everything = [np.arange(10), np.arange(30)]
    for same in (r, Recipe.from_state(r.state()), r.with_generations(r.generations, everything)):
        keys = np.ascontiguousarray(many_keys(same), "<i8")
        assert hashlib.sha256(keys.tobytes()).hexdigest().startswith("6a5cad5f52c059bf")


def test_only_chosen_rows_are_drawn_all_alike() -> None:
    before = recipe(1, 1, 1)
    chosen = [np.array([1, 2, 3, 7]), None, np.array([0, 29])]
    after = before.with_generations([(2, 4), (3, 3), (5, 2)], chosen)
    assert after.rows == ((1, 3, 7, 1), (), (0, 1, 29, 1))
    keys = many_keys(after)
    pool = keys[keys[:, 0] == 2]
    drawn, counts = np.unique(pool[:, 1:3], axis=0, return_counts=True)
    expected = [(2, 1), (2, 2), (2, 3), (2, 7), (3, 0), (3, 1), (3, 2), (5, 0), (5, 29)]
    assert [tuple(d) for d in drawn.tolist()] == expected
    assert stats.chisquare(counts).pvalue > 1e-3
    others = keys[:, 0] != 2
    np.testing.assert_array_equal(keys[others], many_keys(before)[others])
    for generation, rows in zip((2, 3, 5), (chosen[0], np.arange(3), chosen[2]), strict=True):
        np.testing.assert_array_equal(after.rows_of(generation), rows)
    assert len(after.rows_of(4)) == 0
    again = Recipe.from_state(json.loads(json.dumps(after.state())))
    assert again == after
    np.testing.assert_array_equal(again.keys(17, 32), after.keys(17, 32))


@given(st.sets(st.integers(0, 60), min_size=1))
def test_rows_come_back_from_their_runs(rows: set[int]) -> None:
    chosen = np.array(sorted(rows))
    np.testing.assert_array_equal(recipe(1, 1, 1).with_generations([(4, len(chosen))], [chosen]).rows_of(4), chosen)


@pytest.mark.parametrize("wrong", [[3, 2], [2, 2], [-1, 2], [1, 2, 3]])
def test_rows_that_cannot_be(wrong: list[int]) -> None:
    with pytest.raises(ValueError, match="generation 4"):
        recipe(1, 1, 1).with_generations([(4, 2)], [np.array(wrong)])


def test_factors_multiply_the_schedules() -> None:
    r = recipe([[0, 1], [100, 3]], 1, 2).with_factors([2, 0.5, 1])
    np.testing.assert_allclose(r.weights(0), np.array([2, 0.5, 2]) / 4.5)
    np.testing.assert_allclose(r.weights(100), np.array([6, 0.5, 2]) / 8.5)
    assert Recipe.from_state(json.loads(json.dumps(r.state()))) == r
    assert r.with_generations([(9, 1)]).factors == (2.0, 0.5, 1.0)


def test_state_travels_in_a_checkpoint(tmp_path: Path) -> None:
    r = recipe(0.5, [[0, 1], [100, 2.5]], 1).with_generations([(np.int64(3), np.int64(4))])
    torch.save({"recipe": r.state()}, tmp_path / "c.ckpt")
    again = Recipe.from_state(torch.load(tmp_path / "c.ckpt", weights_only=True)["recipe"])
    assert again == r
    np.testing.assert_array_equal(again.keys(17, 32), r.keys(17, 32))


@pytest.mark.parametrize(
    "bad",
    [
        -1,
        float("nan"),
        float("inf"),
        [],
        [[0, -1]],
        [[10, 1], [5, 1]],
        [[0, float("nan")]],
        [[float("nan"), 1]],
        [[0, 1, 2]],
        [[0]],
        [1, 2],
        "often",
        [["a", "b"]],
        None,
    ],
)
def test_bad_weights_are_refused(bad: Any) -> None:
    with pytest.raises(PosesynError, match=r"number >= 0 or a list of \[step, weight\]"):
        as_schedule(bad)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1000)), max_size=5, unique_by=lambda g: g[0]),
    st.integers(-(2**40), 2**40),
    st.integers(0, 10**9),
    st.data(),
)
def test_any_recipe_gives_keys_of_sources_with_weight(
    weights: list[float], generations: list[tuple[int, int]], seed: int, step: int, data: st.DataObject
) -> None:
    size = st.sampled_from([-1, 0, 1, 7, 10**6])
    sizes = tuple(data.draw(st.lists(size, min_size=len(weights), max_size=len(weights))))
    r = recipe(*weights, sizes=sizes, seed=seed, generations=tuple(generations))
    filled = dict(generations)
    usable = {
        i for i, (w, n) in enumerate(zip(weights, sizes, strict=True)) if w > 0 and (n >= 0 or any(filled.values()))
    }
    if not usable:
        with pytest.raises(PosesynError, match="positive weight"):
            r.keys(step, 8)
        return
    for source, generation, index, _ in r.keys(step, 8):
        assert source in usable
        if sizes[source] > 0:
            assert 0 <= index < sizes[source]
        if sizes[source] < 0:
            assert 0 <= index < filled[generation]
