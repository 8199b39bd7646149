"""Counter-based randomness: every random number in synthesis is a function of integers that name it.

A sample must be the same in any process, order and batch (DESIGN §6), so no generator is ever carried along:
it is made anew from the key of what is being drawn.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.random.bit_generator import ISeedSequence

_MASK32 = np.uint64(0xFFFFFFFF)
# Philox-4x32 constants, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, §3.3.
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


def key_hash(*key: int | str) -> int:
    """128-bit hash of a tuple of integers and strings; the same on every machine."""
    text = "\x1f".join([f"s{part}" if isinstance(part, str) else f"i{int(part)}" for part in key])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def derive_seed(*key: int | str) -> int:
    """A 63-bit seed that names ``key`` (fits int64)."""
    return key_hash(*key) >> 65


class _Key(ISeedSequence):
    """A ready key. (``Philox(key=...)`` has the same stream, but asks the system for entropy first: twice the time.)"""

    def __init__(self, value: int) -> None:
        self._words = np.array([value & 0xFFFFFFFFFFFFFFFF, value >> 64], np.uint64)

    def generate_state(self, n_words: int, dtype: object = np.uint64) -> np.ndarray:
        return self._words


def generator(*key: int | str) -> np.random.Generator:
    """A numpy generator whose whole stream is a function of ``key``."""
    return np.random.Generator(np.random.Philox(_Key(key_hash(*key))))  # type: ignore[arg-type]  # the stubs know one kind


def philox_4x32(seed: int, counter_N: np.ndarray) -> np.ndarray:
    """Four 32-bit words for each counter: Philox-4x32-10, vectorised.

    Args:
        seed: 64-bit key.
        counter_N: uint64 counters; one call per element, independent of all others.

    Returns:
        (N, 4) uint64 holding 32-bit words.
    """
    counter = np.asarray(counter_N, dtype=np.uint64)
    x0, x1 = counter & _MASK32, counter >> np.uint64(32)
    x2, x3 = np.zeros_like(counter), np.zeros_like(counter)
    k0, k1 = np.uint64(seed & 0xFFFFFFFF), np.uint64((seed >> 32) & 0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = _M0 * x0, _M1 * x2
        x0, x1, x2, x3 = (p1 >> np.uint64(32)) ^ x1 ^ k0, p1 & _MASK32, (p0 >> np.uint64(32)) ^ x3 ^ k1, p0 & _MASK32
        k0, k1 = (k0 + _W0) & _MASK32, (k1 + _W1) & _MASK32
    return np.stack([x0, x1, x2, x3], axis=-1)


def philox_uniform(seed: int, counter_N: np.ndarray) -> np.ndarray:
    """(N, 2) float64 uniforms in [0, 1), 53 bits each, one row per counter."""
    words = philox_4x32(seed, counter_N)
    high, low = words[:, [0, 2]], words[:, [1, 3]]
    return ((high >> np.uint64(5)) * 67108864.0 + (low >> np.uint64(6))) / 9007199254740992.0
