"""Pickled pandas data frames read without pandas and without running anything (see ``human.safe_pickle``).

Read are frames of plain columns: numbers and Python objects (strings, lists of arrays), as pandas 0.25 to 3 write them.
Extension columns (categories, Arrow strings, dates with zones) are refused by the name of their class.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from human.errors import PosesynError
from human.safe_pickle import Unreadable, _Record, _Sealed, _Unpickler, resolve


class _Frame(_Record):
    __slots__ = ()


class _Manager(_Record):  # of the blocks that a frame's columns lie in
    __slots__ = ()


class _Block(_Record):
    __slots__ = ()


class _Index(_Record):
    __slots__ = ()


class _IndexKind(metaclass=_Sealed):
    pass


class _RangeKind(metaclass=_Sealed):
    pass


class _Slice(metaclass=_Sealed):  # builtins.slice: which columns a block holds
    def __new__(cls, *args: Any) -> Any:
        if not all(a is None or (isinstance(a, int) and not isinstance(a, bool)) for a in args):
            raise ValueError("a slice of something else than numbers")
        return slice(*args)


_CLASSES: dict[str, Any] = {
    "DataFrame": _Frame,
    "BlockManager": _Manager,
    "_unpickle_block": _Block,
    "_new_Index": _Index,
    "Index": _IndexKind,
    "Int64Index": _IndexKind,
    "RangeIndex": _RangeKind,
}
_MODULES = {
    "pandas",
    "pandas.core.frame",
    "pandas.core.internals",
    "pandas.core.internals.managers",
    "pandas._libs.internals",
    "pandas.core.indexes.base",
    "pandas.core.indexes.numeric",
    "pandas.core.indexes.range",
}


class _FrameUnpickler(_Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _MODULES and name in _CLASSES:
            return _CLASSES[name]
        if module in ("builtins", "__builtin__") and name == "slice":
            return _Slice
        return super().find_class(module, name)


def read_frame(path: Path) -> dict[str, npt.NDArray[Any]]:
    """A pickled data frame's columns by name, (N,) each; cells that are lists, arrays or strings in object arrays.

    Raises:
        PosesynError: not there, no pickle of a plain data frame, damaged, or one that names what it must not.
    """
    try:
        with path.open("rb") as file:
            return _columns(_records(file, path))
    except PosesynError:
        raise
    except OSError as error:
        raise PosesynError(f"{path} cannot be read ({error}): check the path and its permissions") from error
    except Exception as error:  # records that contradict themselves fail anywhere
        raise PosesynError(f"{path} is damaged ({type(error).__name__}: {error}): get it again") from error


def _records(file: IO[bytes], path: Path) -> Any:
    try:
        found = _FrameUnpickler(file, str(path)).load()
    except PosesynError:
        raise
    except Exception as error:  # a damaged stream fails anywhere, in any way
        raise PosesynError(f"{path} is damaged or no pickle ({type(error).__name__}: {error}): get it again") from error
    if not isinstance(found, _Frame) or not isinstance(found.state, dict):
        raise PosesynError(f"{path} holds no pandas data frame: it is another kind of pickle")
    return found


def _columns(frame: _Record) -> dict[str, npt.NDArray[Any]]:
    manager = frame.state["_mgr"] if "_mgr" in frame.state else frame.state["_data"]
    if not isinstance(manager, _Manager):
        raise ValueError("a frame without columns")
    if manager.args:  # pandas 1.3 and later
        blocks, axes = manager.args[:2]
        pairs = [(block.args[0], block.args[1]) for block in blocks if isinstance(block, _Block)]
    else:
        layout = manager.state[3]["0.14.1"]
        pairs, axes = [(block["values"], block["mgr_locs"]) for block in layout["blocks"]], layout["axes"]
    names, rows = _labels(axes[0]), len(_labels(axes[1]))
    columns: dict[str, npt.NDArray[Any]] = {}
    for values, places in pairs:
        block = resolve(values)
        if not isinstance(block, np.ndarray) or block.ndim != 2 or block.shape[1] != rows:
            raise ValueError("a block of columns that is no table")
        chosen = names[places if isinstance(places, slice) else np.asarray(resolve(places), np.int64)]
        if len(chosen) != len(block):
            raise ValueError(f"{len(block)} columns for {len(chosen)} names")
        columns |= {str(name): column for name, column in zip(chosen, block, strict=True)}
    if len(columns) != len(names):
        raise ValueError(f"{len(names)} names for {len(columns)} columns")
    return columns


def _labels(index: Any) -> npt.NDArray[Any]:
    if not isinstance(index, _Index) or not isinstance(index.args[1], dict):
        raise ValueError("an axis that is no index")
    kind, facts = index.args[:2]
    if kind is _RangeKind:
        return np.arange(*(int(facts[key]) for key in ("start", "stop", "step")))
    labels = resolve(facts["data"])
    if isinstance(labels, Unreadable):
        raise ValueError(f"an index of {labels.kind}")
    return np.asarray(labels)
