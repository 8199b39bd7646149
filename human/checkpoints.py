"""Files of weights: reading them without running anything, and saying what does not fit."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from human.errors import PosesynError
from human.inert_checkpoint import read_inert

#: Where the codes of the papers keep the weights inside their checkpoints, outermost first.
_INSIDE = ("state_dict", "model_state_dict", "network", "model", "net", "trans")


def packaged_file(path: str | Path, folder: Path) -> Path:
    """``packaged:NAME`` is NAME.safetensors in the folder of weights that ship with a package; else the path itself."""
    if not str(path).startswith("packaged:"):
        return Path(path)
    name = str(path).removeprefix("packaged:")
    file = folder / f"{name}.safetensors"
    if file.parent != folder or not file.is_file():
        there = ", ".join(sorted(f.stem for f in folder.glob("*.safetensors"))) or "none"
        raise PosesynError(f"no weights named {name!r} ship with posesyn in {folder}; there: {there}")
    return file


def read_checkpoint(path: str | Path) -> tuple[Path, dict[str, Tensor]]:
    """The file, and its tensors by name; a ``.safetensors`` file, or one of ``torch.save`` with anything beside them.

    Raises:
        PosesynError: there is no such file, or it is damaged, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise PosesynError(f"checkpoint not found: {path.absolute()}")
    try:
        if path.suffix == ".safetensors":
            return path, load_file(path)
        return path, _read_torch(path)
    # A file can be broken, or not a checkpoint, in many ways; torch's advice on each of them is pages long.
    except (
        SafetensorError,
        UnpicklingError,
        RuntimeError,
        LookupError,
        EOFError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        raise PosesynError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): it is damaged, or neither a .safetensors "
            "nor a file of torch.save with tensors"
        ) from error


def require_plain(path: str | Path) -> None:
    """:class:`PosesynError` unless a run's checkpoint holds tensors and plain values alone, so that reading it runs
    nothing.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (UnpicklingError, RuntimeError, LookupError, EOFError, TypeError, ValueError, OSError) as error:
        raise PosesynError(
            f"the checkpoint {path} cannot be resumed from ({type(error).__name__}): it is damaged, or holds objects "
            "that could run something; take another one, or its weights alone with --model.checkpoint"
        ) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        # Mapped, what is beside the weights (an optimiser's state) costs neither time nor memory.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        tensors = {str(k): v for k, v in _state(content).items() if isinstance(v, Tensor)}
    except UnpicklingError:  # it holds other objects too: configuration, paths, numpy's numbers
        tensors = read_inert(path, _state)
    if not tensors:
        raise ValueError("no tensors")
    return tensors


def _state(content: Any) -> Mapping[str, Any]:
    """The state dict within what ``torch.save`` kept."""
    for name in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            return content[name]
    return content if isinstance(content, Mapping) else {}


def check_state(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    path: Path,
    network: str,
    advice: str = "Was it trained with another estimator, backbone, image size or body?",
) -> None:
    """:class:`PosesynError` that lists which names and shapes differ."""
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{k} {tuple(state[k].shape)} != {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if own[k].shape != state[k].shape
    ]
    if missing or unknown or shapes:
        raise PosesynError(
            f"checkpoint {path} does not fit this {network}: "
            f"missing {missing[:5] or 'none'} ({len(missing)}), "
            f"unknown {unknown[:5] or 'none'} ({len(unknown)}), "
            f"shapes {sorted(shapes)[:5] or 'none'} ({len(shapes)}). {advice}"
        )
