"""Batches as records: frozen dataclasses of tensors (or of further records) that share their first dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from multiprocessing.reduction import ForkingPickler
from typing import Any, Self

import torch
from torch import Tensor

#: Where tensors begin in a parcel, bytes: as far apart as a cache line.
_ALIGNED = 64


class Record:
    """Mix-in for a frozen dataclass whose fields are tensors with B rows, records of B rows, or None.

    Between processes (a loader's workers and its owner) a record on the CPU travels as one block of shared memory:
    each tensor by itself costs a file, a connection and an authentication, longer than making some samples takes.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ForkingPickler.register(cls, _parcel)

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


def _parcel(record: Record) -> tuple[Callable[..., Record], tuple[Any, ...]]:
    """How :mod:`multiprocessing` sends a record: its tensors' bytes in a row, and where each lies."""
    tensors = _leaves(record)
    sizes = [t.numel() * t.element_size() for t in tensors]
    starts = [0]
    for size in sizes:
        starts.append(-(-(starts[-1] + size) // _ALIGNED) * _ALIGNED)
    plain = all(t.device.type == "cpu" and t.layout is torch.strided and not t.requires_grad for t in tensors)
    if not plain or starts[-1] == 0:
        return type(record), tuple(record.values())
    block = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(starts[-1]))
    for tensor, start, size in zip(tensors, starts, sizes, strict=False):
        block[start : start + size].view(tensor.dtype).view(tensor.shape).copy_(tensor)
    places = iter([(s, n, t.dtype, t.shape) for s, n, t in zip(starts, sizes, tensors, strict=False)])
    return _opened, (block, _plan(record, places))


def _leaves(record: Record) -> list[Tensor]:
    """The tensors of a record and of the records in it, in order."""
    out: list[Tensor] = []
    for value in record.values():
        out += _leaves(value) if isinstance(value, Record) else [value] if isinstance(value, Tensor) else []
    return out


def _plan(record: Record, places: Any) -> tuple[type[Record], list[tuple[str, Any]]]:
    """The record's class, and for each field a tensor's place, a record's plan or the value itself."""
    rows: list[tuple[str, Any]] = []
    for value in record.values():
        if isinstance(value, Record):
            rows.append(("record", _plan(value, places)))
        else:
            rows.append(("tensor", next(places)) if isinstance(value, Tensor) else ("value", value))
    return type(record), rows


def _opened(block: Tensor, plan: tuple[type[Record], list[tuple[str, Any]]]) -> Record:
    values: list[Any] = []
    for kind, value in plan[1]:
        if kind == "tensor":
            start, size, dtype, shape = value
            value = block[start : start + size].view(dtype).view(shape)
        values.append(_opened(block, value) if kind == "record" else value)
    return plan[0](*values)
