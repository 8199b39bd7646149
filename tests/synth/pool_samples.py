"""Small samples, and what the tests of pools ask of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from human.batch import PoseBatch
from human.rng import generator
from synth.pool import Pool, Sample, encode_image
from synth.sample import LABEL_SHAPES

SIZE = 16


def make_sample(seed: int, passed: bool = True, size: int = SIZE, **changes: Any) -> Sample:
    rng = generator(seed)
    fields: dict[str, Any] = {name: rng.normal(size=shape).astype(np.float32) for name, shape in LABEL_SHAPES.items()}
    fields |= {"engine": "rendered", "challenge_id": f"c{seed}", "challenge_error": seed / 2, "err3d": 50.0 + seed}
    fields["image"] = encode_image(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), "png")
    return Sample(seed=seed, passed=passed, **(fields | changes))


def make_samples(n: int, first: int = 0) -> list[Sample]:
    """Every third one is filtered out."""
    return [make_sample(first + i, passed=i % 3 != 2) for i in range(n)]


def same(a: PoseBatch, b: PoseBatch) -> bool:
    return all(torch.equal(x, b.as_dict()[name]) for name, x in a.as_dict().items())


def data_files(pool: Pool) -> list[Path]:
    return sorted(pool.path.glob("data/*"))
