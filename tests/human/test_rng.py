"""Counter-based randomness: the published Philox, and streams that never change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from human.rng import derive_seed, generator, philox_4x32, philox_uniform

ROOT = Path(__file__).resolve().parents[2]
DERIVED = 6318299959384915047
DRAWN = [3970756481, 3345407431, 3872329325]


def test_philox_known_answer() -> None:
    """Random123's kat_vectors, philox4x32 10 rounds, counter 0 and key 0."""
    words = philox_4x32(0, np.zeros(1, np.uint64))[0]
    assert [f"{w:08x}" for w in words] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_philox_agrees_with_plain_integers_and_each_counter_is_alone(seed: int, counters: list[int]) -> None:
    together = philox_4x32(seed, np.array(counters, np.uint64))
    for row, counter in zip(together, counters, strict=True):
        x = [counter & 0xFFFFFFFF, counter >> 32, 0, 0]
        k = [seed & 0xFFFFFFFF, seed >> 32]
        for _ in range(10):
            p, q = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
            x = [(q >> 32) ^ x[1] ^ k[0], q & 0xFFFFFFFF, (p >> 32) ^ x[3] ^ k[1], p & 0xFFFFFFFF]
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        assert row.tolist() == x


def test_philox_uniform_is_uniform_and_its_columns_are_independent() -> None:
    u = philox_uniform(derive_seed(3), np.arange(20_000, dtype=np.uint64))
    assert u.min() >= 0
    assert u.max() < 1
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(u.T)[0, 1]) < 0.03
    other = philox_uniform(derive_seed(4), np.arange(20_000, dtype=np.uint64))
    assert abs(np.corrcoef(u[:, 0], other[:, 0])[0, 1]) < 0.03


def test_streams_are_the_same_for_ever() -> None:
    """Written down once: a change here would silently change every run and every pool."""
    assert derive_seed(0, "mixture") == DERIVED
    assert generator(7, "augment").integers(0, 2**32, 3).tolist() == DRAWN


def test_streams_are_the_same_in_another_process() -> None:
    code = "from human.rng import *; print(derive_seed(0, 'mixture'), *generator(7, 'augment').integers(0, 2**32, 3))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [int(v) for v in out.split()] == [DERIVED, *DRAWN]


@pytest.mark.parametrize(
    ("a", "b"),
    [((1, 2), (12,)), ((1,), ("1",)), ((1, 2), (2, 1)), ((-1,), (1,)), ((0,), ()), (("ab",), ("a", "b"))],
)
def test_keys_that_look_alike_are_told_apart(a: tuple[int | str, ...], b: tuple[int | str, ...]) -> None:
    assert derive_seed(*a) != derive_seed(*b)
    assert generator(*a).random() != generator(*b).random()


@given(st.integers(-(2**63), 2**63 - 1))
def test_numpy_integers_are_integers_and_seeds_fit_int64(key: int) -> None:
    seed = derive_seed(np.int64(key), "x")
    assert seed == derive_seed(key, "x")
    assert 0 <= seed < 2**63
