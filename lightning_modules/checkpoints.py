"""Checkpoints of estimators: by path, or by the name under which they ship."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from human.checkpoints import check_state, read_weights

__all__ = ["PACKAGED_WEIGHTS", "check_state", "read_checkpoint"]

PACKAGED_WEIGHTS = Path(__file__).parent / "weights"


def read_checkpoint(path: str | Path) -> tuple[Path, dict[str, Tensor]]:
    """The file, and its tensors by name. ``packaged:NAME``: weights that ship with posesyn."""
    if str(path).startswith("packaged:"):
        path = PACKAGED_WEIGHTS / f"{str(path).removeprefix('packaged:')}.safetensors"
    return Path(path), read_weights(path)
