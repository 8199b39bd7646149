"""Files of weights of estimators: what :mod:`human.checkpoints` reads, and those that ship with this package."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from human import checkpoints
from human.checkpoints import check_state, packaged_file

__all__ = ["PACKAGED_WEIGHTS", "check_state", "read_checkpoint"]

PACKAGED_WEIGHTS = Path(__file__).parent / "weights"


def read_checkpoint(path: str | Path) -> tuple[Path, dict[str, Tensor]]:
    """The file, and its tensors by name. ``packaged:NAME``: weights that ship with posesyn."""
    return checkpoints.read_checkpoint(packaged_file(path, PACKAGED_WEIGHTS))
