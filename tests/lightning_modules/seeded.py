"""Weights, inputs and outputs of a parity test: drawn by name from a seed, so that only outputs need storing.

``scripts/tpe_reference/NAME.py`` runs the original code of a paper on :func:`seeded_state` and seeded inputs, and
:func:`save_reference` keeps what came out, with the names and shapes of the weights, in ``reference/NAME.npz``. The
test rebuilds the weights from those (:func:`load_reference`), gives them to our converter, and compares.

Only numpy and torch are imported: the scripts run in whatever environment the original code needs. Every array comes
from ``numpy.random.RandomState``, whose streams numpy keeps as they are for ever (NEP 19).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

REFERENCES = Path(__file__).parent / "reference"
#: Largest difference allowed between our float32 outputs and the original's, of the largest magnitude there.
RELATIVE_ERROR = 1e-4

Shapes = Mapping[str, Iterable[int]]


def _random(*key: int | str) -> np.random.RandomState:
    words = [k if isinstance(k, int) else crc32(k.encode()) for k in key]
    return np.random.RandomState(np.array(words, np.uint32))


def seeded_tensor(shape: Iterable[int], *key: int | str) -> Tensor:
    """float32 standard normal numbers; a function of shape and key alone."""
    return torch.from_numpy(_random(*key).standard_normal(tuple(shape)).astype(np.float32))


def seeded_images(batch: int, size: int, *key: int | str) -> Tensor:
    """(batch,3,size,size) uint8: coarse blobs of colour under fine noise, so that all frequencies are there."""
    random = _random(*key, "images")
    coarse = random.uniform(40, 215, (batch, 3, (size + 15) // 16, (size + 15) // 16))
    blobs = coarse.repeat(16, 2).repeat(16, 3)[:, :, :size, :size]
    return torch.from_numpy(np.clip(blobs + random.uniform(-40, 40, blobs.shape), 0, 255).astype(np.uint8))


def seeded_state(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    """Weights by name and shape for which a network's signal neither dies nor explodes.

    Matrices and kernels are divided by the root of their inputs, normalisation weights and running variances lie
    about 1, biases and running means about 0, counters (``num_batches_tracked``) are 0.
    """
    return {name: _weight(name, tuple(shape), seed) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    normal = seeded_tensor(shape, seed, name)
    if name.endswith("running_var"):
        return torch.exp(0.2 * normal)
    if len(shape) <= 1:
        return 1 + 0.1 * normal if name.endswith("weight") else 0.1 * normal
    if shape[0] == 1:  # tokens and position embeddings
        return 0.1 * normal
    return normal / float(np.sqrt(np.prod(shape[1:])))


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Names and shapes of a state dict."""
    return {name: list(value.shape) for name, value in state.items()}


class Reference(NamedTuple):
    """What the original code said: ``state`` in its own layout, ``arrays`` by name, ``seed`` of both and the notes."""

    state: dict[str, Tensor]
    arrays: dict[str, Tensor]
    seed: int
    about: str


def save_reference(name: str, shapes: Shapes, seed: int, about: str, folder: Path = REFERENCES, **arrays: Any) -> Path:
    """Write ``reference/NAME.npz``: ``arrays`` (tensors, numpy arrays), the weights' shapes, and one line about which
    original, at which commit and size, gave them.
    """
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.npz"
    header = {"seed": seed, "about": about, "shapes": {k: list(v) for k, v in shapes.items()}}
    values = {k: v.detach().cpu().numpy() if isinstance(v, Tensor) else np.asarray(v) for k, v in arrays.items()}
    np.savez_compressed(path, __header__=np.frombuffer(json.dumps(header).encode(), np.uint8), **values)
    return path


def load_reference(name: str, folder: Path = REFERENCES) -> Reference:
    """``reference/NAME.npz`` with its weights drawn again."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        header = json.loads(file["__header__"].tobytes())
        arrays = {k: torch.from_numpy(file[k]) for k in file.files if k != "__header__"}
    return Reference(seeded_state(header["shapes"], header["seed"]), arrays, header["seed"], header["about"])


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """max |ours - theirs| / max |theirs|; infinite where anything is not finite or all of ``theirs`` is 0."""
    if ours.shape != theirs.shape:
        raise AssertionError(f"shapes differ: {tuple(ours.shape)} and {tuple(theirs.shape)}")
    ours, theirs = ours.detach().double(), theirs.detach().double()
    largest = theirs.abs().max()
    if not (ours.isfinite().all() and theirs.isfinite().all() and largest > 0):
        return float("inf")
    return float((ours - theirs).abs().max() / largest)


def assert_parity(ours: Tensor, theirs: Tensor, what: str, limit: float = RELATIVE_ERROR) -> None:
    """Fails with the error found, by name."""
    error = relative_error(ours, theirs)
    assert error <= limit, f"{what}: relative error {error:.2e} > {limit:.0e}"
