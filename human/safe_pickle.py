"""Pickles of arrays read without running anything: nothing of numpy, scipy or chumpy is called while unpickling.

Every global a pickle may name is an inert stand-in that only records its arguments; any other global is refused.
:func:`resolve` then builds plain numpy arrays from the records. numpy's own `dtype.__setstate__` is not used either: a
forged state makes numpy take bytes for pointers.

chumpy need not be installed: of its objects `Ch` (an array), `Select`, `Reshape` and `transpose` are evaluated, which
is all that SMPL's, SMPL-H's, SMPL-X's and MANO's files need; others resolve to :class:`Unreadable`.
"""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from human.errors import PosesynError

_KINDS = "biufcSUO"  # of dtype: plain numbers, strings, and lists of objects


class _Sealed(type):
    """Stand-in classes cannot be changed from within a pickle."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"{cls.__name__}.{name} is not to be set")


class _Record(metaclass=_Sealed):
    """What a pickle said about an object: constructor arguments and state."""

    __slots__ = ("args", "state")
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> _Record:
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _DType(_Record):
    __slots__ = ()


class _Array(_Record):
    __slots__ = ()


class _Buffer(_Record):  # numpy.core.numeric._frombuffer, protocol 5
    __slots__ = ()


class _Scalar(_Record):
    __slots__ = ()


class _Sparse(_Record):
    __slots__ = ()
    layout = ""  # csc, csr or coo, in a subclass per file


class _Chumpy(_Record):
    __slots__ = ()
    name = ""  # module and class, in a subclass per file


class _NewArray(metaclass=_Sealed):  # numpy.core.multiarray._reconstruct
    def __new__(cls, *args: Any) -> Any:
        return _Array()


class _NoBytes(metaclass=_Sealed):  # builtins.bytes: how Python 3 writes b"" with protocols 0 to 2
    def __new__(cls) -> Any:
        return b""


class _Encode(metaclass=_Sealed):  # _codecs.encode: how Python 3 writes bytes with protocol 2
    def __new__(cls, text: Any, encoding: Any = "latin1") -> Any:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("bytes in an unknown encoding")
        return text.encode("latin1")


class _Reconstructor(metaclass=_Sealed):  # copy_reg._reconstructor: objects of protocols 0 and 1
    def __new__(cls, kind: Any, base: Any = None, state: Any = None) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, _Record)):
            raise pickle.UnpicklingError("an object of an unknown class")
        return kind()


class _Object(metaclass=_Sealed):  # builtins.object, as `base` above
    pass


_NUMPY = {"ndarray": _Array, "dtype": _DType, "_reconstruct": _NewArray, "scalar": _Scalar, "_frombuffer": _Buffer}
_NUMPY_MODULES = (
    "numpy",
    "numpy.core.multiarray",
    "numpy._core.multiarray",
    "numpy.core.numeric",
    "numpy._core.numeric",
)
_PLAIN = {
    "bytes": _NoBytes,
    "set": set,
    "frozenset": frozenset,
    "list": list,
    "dict": dict,
    "tuple": tuple,
    "object": _Object,
}
_OTHER = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _Encode,
    ("copy_reg", "_reconstructor"): _Reconstructor,
    ("copyreg", "_reconstructor"): _Reconstructor,
}


class Unreadable:
    """An object whose value is not known, with the class it had."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], where: str) -> None:
        super().__init__(file, encoding="latin1")  # Python 2's strings, and array bytes inside them
        self.where = where

    def find_class(self, module: str, name: str) -> Any:
        if module in _NUMPY_MODULES and name in _NUMPY:
            return _NUMPY[name]
        if module in ("builtins", "__builtin__") and name in _PLAIN:
            return _PLAIN[name]
        if (module, name) in _OTHER:
            return _OTHER[module, name]
        layout, _, rest = name.partition("_")
        if module.startswith("scipy.sparse") and layout in ("csc", "csr", "coo") and rest in ("matrix", "array"):
            return _Sealed("_Sparse", (_Sparse,), {"__slots__": (), "layout": layout})
        if module.startswith("chumpy."):
            return _Sealed("_Chumpy", (_Chumpy,), {"__slots__": (), "name": f"{module}.{name}"})
        raise PosesynError(
            f"{self.where} wants to run {module}.{name}, which no data file needs: it was not loaded; "
            "get the file again from its official source"
        )

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("a reference to something outside the file")


def unpickle(file: IO[bytes], where: str) -> Any:
    """The records in a pickle, for :func:`resolve`.

    Args:
        where: names the file in errors.

    Raises:
        PosesynError: a global that is not on the list, or not a whole pickle.
    """
    try:
        return _Unpickler(file, where).load()
    except PosesynError:
        raise
    except Exception as error:  # a damaged stream fails anywhere, in any way
        raise PosesynError(
            f"{where} is damaged or no pickle ({type(error).__name__}: {error}): get it again"
        ) from error


def resolve(value: Any) -> Any:
    """Plain Python and numpy (scipy CSR for sparse matrices) from what :func:`unpickle` recorded.

    Raises:
        ValueError, TypeError, RecursionError: records that contradict themselves.
    """
    match value:
        case _Array() | _Buffer() | _Scalar():
            return _array(value)
        case _DType():
            return _dtype(value)
        case _Sparse():
            return _sparse(value)
        case _Chumpy():
            return _chumpy(value)
        case dict():
            return {resolve(k): resolve(v) for k, v in value.items()}
        case list() | set() | frozenset():
            return type(value)(resolve(v) for v in value)
        case tuple():
            return tuple(resolve(v) for v in value)
        case str() | bytes() | int() | float() | complex() | None | np.ndarray():
            return value
    return Unreadable(type(value).__name__)


def _dtype(record: _DType) -> np.dtype[Any]:
    if not (isinstance(record, _DType) and record.args and isinstance(record.args[0], str)):
        raise ValueError("an array without a type")
    spec, state = record.args[0], record.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">") else ""
    plain = np.dtype(order + spec.lstrip("<>|="))
    if plain.kind not in _KINDS or plain.fields or plain.subdtype:
        raise ValueError(f"an array of type {spec!r}")
    return plain


def _array(record: _Record) -> Any:
    if isinstance(record, _Scalar):
        dtype, data = _dtype(record.args[0]), record.args[1]
        shape, fortran = (), False
    elif isinstance(record, _Buffer):
        data, kind, shape, order = record.args[:4]
        dtype, fortran = _dtype(kind), order == "F"
    else:
        if not isinstance(record.state, tuple):
            raise ValueError("an array without data")
        shape, kind, fortran, data = record.state[-4:]
        dtype = _dtype(kind)
    if dtype.hasobject:
        objects: NDArray[Any] = np.empty(len(data), object)
        objects[:] = [resolve(item) for item in data]
        array = objects
    else:
        array = np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype)
    array = array.reshape(shape, order="F" if fortran else "C")
    return array[()] if isinstance(record, _Scalar) else array


def _sparse(record: _Sparse) -> Any:
    state = resolve(record.state)
    shape = state["_shape"] if "_shape" in state else state["shape"]
    if record.layout == "coo":
        row, col = state["coords"] if "coords" in state else (state["row"], state["col"])
        matrix = scipy.sparse.coo_matrix((state["data"], (row, col)), shape=shape)
    else:
        build = scipy.sparse.csc_matrix if record.layout == "csc" else scipy.sparse.csr_matrix
        matrix = build((state["data"], state["indices"], state["indptr"]), shape=shape)
        matrix.check_format(full_check=True)  # indices out of range would read foreign memory
    return matrix.tocsr()


def _chumpy(record: _Chumpy) -> Any:
    state = record.state if isinstance(record.state, dict) else {}
    name = record.name.split(".")[-1]
    if name == "Ch" and "x" in state:
        return resolve(state["x"])
    source = resolve(state.get("a"))
    if isinstance(source, np.ndarray):
        if name == "Select":
            return source.ravel()[resolve(state["idxs"])].reshape(resolve(state["preferred_shape"]))
        if name == "Reshape":
            return source.reshape(resolve(state["newshape"]))
        if name == "transpose":
            return np.transpose(source, resolve(state.get("axes")))
    return Unreadable(record.name)


class ArrayFile:
    """A pickled dict or an .npz, told apart by content; values are built when asked for.

    Raises:
        PosesynError: not there, damaged, something else, or a pickle that names what it must not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                head = file.read(64)
                file.seek(0)
                if head.startswith(b"PK"):
                    with zipfile.ZipFile(file) as archive:
                        self._keys = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
                    self._records: dict[str, Any] | None = None
                    return
                if not head:
                    raise PosesynError(f"{path} is empty: get it again")
                if head.lstrip()[:1] == b"<" or head.startswith(b"version https://git-lfs"):
                    raise PosesynError(
                        f"{path} is a web page or a placeholder, not the file itself: download it again, logged in"
                    )
                records = unpickle(file, str(path))
        except OSError as error:
            raise PosesynError(f"{path} cannot be read ({error}): check the path and its permissions") from error
        except zipfile.BadZipFile as error:
            raise PosesynError(f"{path} is a damaged .npz ({error}): get it again") from error
        if not isinstance(records, dict):
            raise PosesynError(f"{path} holds no dictionary of arrays: it is another kind of pickle")
        self._records = records
        self._keys = [str(key) for key in records]

    def keys(self) -> list[str]:
        return list(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __getitem__(self, key: str) -> Any:
        """Array, sparse matrix or plain value; :class:`PosesynError` names the key where it cannot be built."""
        if key not in self._keys:
            raise PosesynError(f"{self.path} has no {key!r}; it has {', '.join(sorted(self._keys)) or 'nothing'}")
        try:
            return resolve(self._member(key) if self._records is None else self._records[key])
        except PosesynError:
            raise
        except Exception as error:
            raise PosesynError(
                f"{self.path}: {key!r} is damaged ({type(error).__name__}: {error}): get the file again"
            ) from error

    def _member(self, key: str) -> Any:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{key}.npy") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(file)
                if dtype.hasobject:
                    objects = resolve(unpickle(file, f"{self.path} ({key})"))
                    return objects.item() if isinstance(objects, np.ndarray) and objects.shape == () else objects
                data = file.read()
        except zlib.error as error:
            raise ValueError(error) from error
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
