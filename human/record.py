"""Batches as records: frozen dataclasses of tensors (or of further records) that share their first dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Self

import torch
from torch import Tensor


class Record:
    """Mix-in for a frozen dataclass whose fields are tensors with B rows, records of B rows, or None."""

    def __len__(self) -> int:
        return len(next(v for v in self.values() if v is not None))

    def values(self) -> list[Any]:
        return [getattr(self, f.name) for f in fields(self)]  # type: ignore[arg-type]

    def __getitem__(self, index: slice | Tensor | list[int]) -> Self:
        return type(self)(*(None if v is None else v[index] for v in self.values()))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Moved to a device; dtypes are kept."""
        return type(self)(*(None if v is None else v.to(*args, **kwargs) for v in self.values()))

    def pin_memory(self) -> Self:
        return type(self)(*(None if v is None else v.pin_memory() for v in self.values()))

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """All parts' rows, in order; a field is None in all parts or in none."""
        columns = zip(*(p.values() for p in parts), strict=True)
        return cls(*(_cat(column) for column in columns))


def _cat(column: Sequence[Any]) -> Any:
    if column[0] is None:
        return None
    return torch.cat(list(column)) if isinstance(column[0], Tensor) else type(column[0]).cat(column)
