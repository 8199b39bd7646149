"""Batches whose rendered pictures are drawn after the transfer, on the training device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from human.batch import PoseBatch
from human.record import Record


@dataclass(frozen=True)
class Staged:
    """Parts of one batch, by source: samples, or shots that their source has yet to draw.

    * ``parts``: records; ``sources``: the number of the source of each
    * ``order`` (B,): where the samples of the batch stand in the parts joined end to end; ``key`` (B,4)
    """

    parts: tuple[Record, ...]
    sources: tuple[int, ...]
    order: Tensor
    key: Tensor

    def __len__(self) -> int:
        return len(self.key)

    def to(self, *args: Any, **kwargs: Any) -> Staged:
        """Moved to a device. (Lightning moves a batch through this method.)"""
        return self._map(lambda x: x.to(*args, **kwargs))

    def pin_memory(self) -> Staged:
        return self._map(lambda x: x.pin_memory())

    def finish(self, draw: Callable[[int, Record], PoseBatch]) -> PoseBatch:
        """The batch, with ``draw(source, shot)`` making what is not drawn yet."""
        done = [p if isinstance(p, PoseBatch) else draw(n, p) for p, n in zip(self.parts, self.sources, strict=True)]
        return PoseBatch.cat(done)[self.order].replace(key=self.key)

    def _map(self, function: Callable[[Any], Any]) -> Staged:
        parts = tuple(function(p) for p in self.parts)
        return replace(self, parts=parts, order=function(self.order), key=function(self.key))


def join(parts: Sequence[Record], sources: Sequence[int], order: Tensor, key: Tensor) -> PoseBatch | Staged:
    """A finished batch if nothing is left to draw."""
    done = [p for p in parts if isinstance(p, PoseBatch)]
    if len(done) == len(parts):
        return PoseBatch.cat(done)[order].replace(key=key)
    return Staged(tuple(parts), tuple(sources), order, key)
