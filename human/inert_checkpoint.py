"""Tensors out of files of ``torch.save`` that hold other objects too, without running anything of theirs.

Training codes put configuration objects, numpy scalars and paths beside the weights; ``torch.load`` with
``weights_only=True`` then refuses the file. Here every class and function that a file names becomes :class:`Inert`,
which takes any argument and does nothing, except the few that tensors are made of: those become records. Tensors are
built from the records afterwards, so that what nobody asks for (the optimiser's state) is not even read.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Sealed(type):
    """Classes that cannot be changed from within a pickle."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"{cls.__name__}.{name} is not to be set")


class Inert(metaclass=_Sealed):
    """In the place of any object, class or function whose code stays unknown."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _ignore(self, *args: Any, **kwargs: Any) -> Inert:
        return self

    # What unpickling does to an object: set its state, fill it, call it.
    __setstate__ = __call__ = __setitem__ = append = extend = add = update = _ignore


class _Tensor(metaclass=_Sealed):
    """What ``torch._utils._rebuild_tensor_v2`` was told: storage, offset, size, stride."""

    __slots__ = ("args",)
    args: tuple[Any, ...]

    def __new__(cls, *args: Any) -> _Tensor:
        self = object.__new__(cls)
        self.args = args
        return self


class _Parameter(metaclass=_Sealed):
    """``torch._utils._rebuild_parameter``: the tensor it is made of."""

    __slots__ = ()

    def __new__(cls, data: Any, *args: Any) -> Any:
        return data


class _Storage(metaclass=_Sealed):
    """Where a storage lies: ``key`` in the file, its type, its number of elements."""

    __slots__ = ("dtype", "key", "numel")

    def __init__(self, dtype: torch.dtype, key: str, numel: int) -> None:
        self.dtype, self.key, self.numel = dtype, key, numel

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _Parameter,
    # A storage's type is only ever named: as a string it cannot be called.
    **{("torch", name): name for name in _DTYPES},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")  # Python 2's strings
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name), Inert)

    def persistent_load(self, pid: Any) -> Any:
        kind, storage_type, key, _, numel, *view = pid
        if kind != "storage" or storage_type not in _DTYPES or any(view) or numel < 0:
            raise pickle.UnpicklingError(f"a reference to something else than numbers: {pid!r}")
        return self.storages.setdefault(str(key), _Storage(_DTYPES[storage_type], str(key), numel))


def read_inert(path: Path, choose: Callable[[Any], Mapping[str, Any]]) -> dict[str, Tensor]:
    """The tensors of a state dict, by name.

    Args:
        path: a file of ``torch.save``: the zip archive of today or the stream of torch before 1.6.
        choose: finds the state dict in what the file holds. Objects in there are inert.

    Raises:
        ValueError: the file is damaged, or no file of ``torch.save``.
    """
    try:
        if zipfile.is_zipfile(path):
            return _read_zip(path, choose)
        with path.open("rb") as file:
            return _read_stream(file, choose)
    except Exception as error:  # a damaged stream fails anywhere, in any way
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _read_zip(path: Path, choose: Callable[[Any], Mapping[str, Any]]) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        top = next((n.removesuffix("data.pkl") for n in names if n.endswith("/data.pkl")), None)
        if top is None:
            raise ValueError("a zip archive without data.pkl")
        if f"{top}byteorder" in names and archive.read(f"{top}byteorder") != b"little":
            raise ValueError("numbers in big-endian order")
        content = _Unpickler(io.BytesIO(archive.read(f"{top}data.pkl"))).load()
        return _build(choose(content), lambda storage: archive.read(f"{top}data/{storage.key}"))


def _read_stream(file: IO[bytes], choose: Callable[[Any], Mapping[str, Any]]) -> dict[str, Tensor]:
    if _Unpickler(file).load() != _LEGACY_MAGIC or _Unpickler(file).load() != _LEGACY_PROTOCOL:
        raise ValueError("no file of torch.save")
    if not _Unpickler(file).load()["little_endian"]:
        raise ValueError("numbers in big-endian order")
    unpickler = _Unpickler(file)
    content = unpickler.load()
    # The storages follow one after another, each behind its number of elements; the pickle above knows their types.
    starts: dict[str, int] = {}
    for key in map(str, _Unpickler(file).load()):
        storage = unpickler.storages[key]
        if struct.unpack("<q", file.read(8)) != (storage.numel,):
            raise ValueError(f"storage {key} has another length than the tensors in it were told")
        starts[key] = file.tell()
        file.seek(storage.nbytes, io.SEEK_CUR)

    def read(storage: _Storage) -> bytes:
        file.seek(starts[storage.key])
        return file.read(storage.nbytes)

    return _build(choose(content), read)


def _build(records: Mapping[str, Any], read: Callable[[_Storage], bytes]) -> dict[str, Tensor]:
    """Tensors of the records among ``records``; each owns its numbers."""
    built = {}
    for name, record in records.items():
        if not isinstance(record, _Tensor):
            continue
        storage, offset, size, stride = record.args[:4]
        data = bytearray(read(storage))
        if len(data) != storage.nbytes:
            raise ValueError(f"{name}: {len(data)} bytes instead of {storage.nbytes}")
        flat = torch.frombuffer(data, dtype=storage.dtype) if data else torch.empty(0, dtype=storage.dtype)
        tensor = flat.as_strided(size, stride, offset)  # checks that it lies within the storage
        built[str(name)] = tensor if tensor.numel() == storage.numel else tensor.clone()
    return built
