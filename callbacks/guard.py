"""A step whose gradients are not finite, or far out of line, is skipped, counted and told; too many end the run.

Nothing of such a step stays: neither in the weights, nor in the optimiser's moments, nor in the running statistics of
normalisation layers, which one NaN would spoil for ever.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from callbacks.full_disk import missed
from human.errors import PosesynError

log = logging.getLogger(__name__)
_KEYS_TOLD = 32


class Guard(Callback):
    """Skips bad steps. Gradients are looked at after they were averaged over the ranks, so all ranks agree.

    Args:
        explode: a gradient norm so many times the median of the last ``window`` is bad too; None: only what is not
            finite.
        window: steps that the median is of; before it is full nothing counts as exploding.
        most: so many bad steps in a row end the run with an error that names the samples.
        most_in_all: so many bad steps of the whole run do.

    Every bad step is written to ``guard.jsonl`` in the run folder: step, norm, and the keys (source, generation, index,
    seed) of this rank's samples.
    """

    def __init__(
        self, explode: float | None = 100.0, window: int = 50, most: int = 10, most_in_all: int = 1000
    ) -> None:
        if (explode is not None and explode <= 1) or window < 2 or most < 1 or most_in_all < 1:
            raise PosesynError(
                "the guard needs explode > 1 or null, window >= 2, most >= 1 and most_in_all >= 1, got "
                f"{explode}, {window}, {most} and {most_in_all}"
            )
        self.explode, self.window, self.most, self.most_in_all = explode, window, most, most_in_all
        self.skipped = 0  # in all
        self.in_a_row = 0
        self._norms: deque[float] = deque(maxlen=window)
        self._statistics: list[Tensor] = []
        self._before: list[Tensor] = []
        self._keys: list[list[int]] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        key = getattr(batch, "key", None)
        self._keys = [] if key is None else key.tolist()
        # Looked up every time: averaging weights and sharding swap tensors.
        self._statistics = [
            buffer
            for module in pl_module.modules()
            if module.training and getattr(module, "running_mean", None) is not None
            for buffer in module.buffers(recurse=False)
        ]
        if len(self._before) != len(self._statistics):
            self._before = [torch.empty_like(b) for b in self._statistics]
        for kept, buffer in zip(self._before, self._statistics, strict=True):
            kept.copy_(buffer)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        weights = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not weights:
            return
        norm = _norm(weights)
        if not self._bad(norm):
            self._norms.append(norm)
            self.in_a_row = 0
            return
        for weight in weights:
            weight.grad = None  # optimisers pass over these: no moment, no decay
        with torch.no_grad():
            for kept, buffer in zip(self._before, self._statistics, strict=True):
                buffer.copy_(kept)
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        self._tell(trainer, norm)
        if self.in_a_row >= self.most or self.skipped >= self.most_in_all:
            raise PosesynError(
                f"{self.in_a_row} bad steps in a row, {self.skipped} in all, the last at step {trainer.global_step} "
                f"with a gradient norm of {norm:g}: the run stops. Samples of that batch (source, generation, index, "
                f"seed): {self._keys[:8]}{' ...' if len(self._keys) > 8 else ''}. guard.jsonl in the run folder lists "
                "all; lower the learning rate, clip gradients, or leave those samples out"
            )

    def _bad(self, norm: float) -> bool:
        if norm != norm or norm == float("inf"):
            return True
        full = self.explode is not None and len(self._norms) == self.window
        return full and norm > self.explode * median(self._norms)  # type: ignore[operator]

    def _tell(self, trainer: L.Trainer, norm: float) -> None:
        log.warning("step %d skipped: gradient norm %g (%d so far)", trainer.global_step, norm, self.skipped)
        folder = Path(getattr(trainer.datamodule, "run_dir", None) or trainer.default_root_dir)  # type: ignore[attr-defined]
        entry = {
            "step": trainer.global_step,
            "rank": trainer.global_rank,
            "norm": norm if abs(norm) < float("inf") else str(norm),
            "keys": self._keys[:_KEYS_TOLD],
        }
        with missed("guard.jsonl"):
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "guard.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")

    # -- the checkpoint ----------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "norms": list(self._norms)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]
        self._norms = deque(state_dict["norms"], maxlen=self.window)


def _norm(weights: list[torch.nn.Parameter]) -> float:
    """Of all gradients together, of all shards where they are sharded."""
    total = torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
    whole = total.full_tensor() if hasattr(total, "full_tensor") else total
    return float(whole)
