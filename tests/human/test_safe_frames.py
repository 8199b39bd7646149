"""Data frames without pandas: equal to what pandas reads, and nothing in them runs."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from human.errors import PosesynError
from human.safe_frames import read_frame


def table() -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    return {
        "imgPath": ["a.png", "é.png", "c.png"],
        "X": [[1.5, -2.0], [3.0], []],
        "camX": [0.5, 1.5, np.nan],
        "count": [2, 1, 0],
        "seen": [True, False, True],
        "kid": [[np.True_, np.False_], [True], []],
        "joints": [[rng.normal(size=(4, 2)).astype(np.float32) for _ in range(k)] for k in (2, 1, 0)],
        "verts": [list(np.asfortranarray(rng.normal(size=(k, 5, 3)))) for k in (2, 1, 0)],
    }


def frame(**changes: Any) -> pd.DataFrame:
    content = {**table(), **changes}
    columns = {
        name: pd.Series(values, dtype=object if isinstance(values[0], (str, list)) else None)
        for name, values in content.items()
    }
    made = pd.DataFrame(columns)
    made.columns = pd.Index(list(columns), dtype=object)
    return made


def check(found: dict[str, np.ndarray]) -> None:
    assert set(found) == set(table())
    for name, column in table().items():
        for cell, wanted in zip(found[name], column, strict=True):
            if isinstance(wanted, list):
                assert len(cell) == len(wanted)
                for a, b in zip(cell, wanted, strict=True):
                    np.testing.assert_array_equal(a, b)
                    assert np.asarray(a).dtype == np.asarray(b).dtype
            else:
                assert cell == wanted or (wanted != wanted and cell != cell)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_as_pandas_writes_it(tmp_path: Path, protocol: int) -> None:
    frame().to_pickle(tmp_path / "f.pkl", protocol=protocol)
    check(read_frame(tmp_path / "f.pkl"))


def test_rows_that_were_chosen_and_columns_that_were_added(tmp_path: Path) -> None:
    changed = pd.concat([frame(), frame()]).iloc[3:]
    changed.insert(0, "first", [7, 8, 9])
    changed["last"] = [[1], [2], [3]]
    changed.to_pickle(tmp_path / "f.pkl")
    found = read_frame(tmp_path / "f.pkl")
    assert found.pop("first").tolist() == [7, 8, 9]
    assert found.pop("last").tolist() == [[1], [2], [3]]
    check(found)


def test_nobody(tmp_path: Path) -> None:
    frame().iloc[:0].to_pickle(tmp_path / "f.pkl")
    assert {name: len(column) for name, column in read_frame(tmp_path / "f.pkl").items()} == dict.fromkeys(table(), 0)


@pytest.mark.parametrize("key", ["_mgr", "_data"])
def test_as_pandas_before_1_3_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Its managers have a state of axes and blocks instead of arguments."""
    names = list(table())
    numbers = np.array([table()["camX"]])
    objects = np.empty((len(names) - 1, 3), object)
    others = [n for n in names if n != "camX"]
    for row, name in enumerate(others):
        for column in range(3):
            objects[row, column] = table()[name][column]

    class DataFrame:
        pass

    class BlockManager:
        pass

    class Index:
        def __init__(self, facts: dict[str, Any]) -> None:
            self.facts = facts

        def __reduce__(self) -> Any:
            return _new_Index, (type(self), self.facts), None

    class RangeIndex(Index):
        pass

    def _new_Index(cls: Any, facts: Any) -> Any:
        return cls(facts)

    modules: dict[str, list[Any]] = {
        "pandas.core.frame": [DataFrame],
        "pandas.core.internals.managers": [BlockManager],
        "pandas.core.indexes.base": [Index, _new_Index],
        "pandas.core.indexes.range": [RangeIndex],
    }
    for module, members in modules.items():
        fake = types.ModuleType(module)
        for member in members:
            member.__module__, member.__qualname__ = module, member.__name__
            setattr(fake, member.__name__, member)
        monkeypatch.setitem(sys.modules, module, fake)
    rows: dict[str, Any] = {"name": None, "start": 0, "stop": 3, "step": 1}
    axes = [Index({"data": np.array(names, object), "name": None}), RangeIndex(rows)]
    blocks = [
        {"values": numbers, "mgr_locs": slice(names.index("camX"), names.index("camX") + 1, 1)},
        {"values": objects, "mgr_locs": np.array([names.index(n) for n in others])},
    ]
    manager, made = BlockManager(), DataFrame()
    state = (axes, [b["values"] for b in blocks], axes[:1], {"0.14.1": {"axes": axes, "blocks": blocks}})
    BlockManager.__getstate__ = lambda self: state  # type: ignore[attr-defined]
    made.__dict__.update({key: manager, "_typ": "dataframe", "_metadata": []})
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(made, 4))
    monkeypatch.undo()
    check(read_frame(tmp_path / "f.pkl"))


class Hostile:
    def __reduce__(self) -> Any:
        return print, ("it ran",)


def test_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame(X=[[Hostile()], [1.0], []]).to_pickle(tmp_path / "f.pkl")
    with pytest.raises(PosesynError, match=r"f\.pkl wants to run builtins\.print"):
        read_frame(tmp_path / "f.pkl")
    assert capsys.readouterr().out == ""


def test_what_is_no_plain_frame_is_told(tmp_path: Path) -> None:
    file = tmp_path / "f.pkl"
    for content in ({"a": 1}, [1, 2], np.zeros(3)):
        file.write_bytes(pickle.dumps(content))
        with pytest.raises(PosesynError, match="holds no pandas data frame"):
            read_frame(file)
    pd.DataFrame({"a": pd.Categorical(["x", "y"])}).to_pickle(file)
    with pytest.raises(PosesynError, match="wants to run pandas"):
        read_frame(file)
    with pytest.raises(PosesynError, match="cannot be read"):
        read_frame(tmp_path / "none.pkl")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_cut_files_are_told(tmp_path: Path, share: float) -> None:
    frame().to_pickle(tmp_path / "f.pkl")
    whole = (tmp_path / "f.pkl").read_bytes()
    (tmp_path / "f.pkl").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(PosesynError, match=r"f\.pkl is damaged or no pickle"):
        read_frame(tmp_path / "f.pkl")


def test_a_frame_that_contradicts_itself_is_told(tmp_path: Path) -> None:
    frame().to_pickle(tmp_path / "f.pkl", protocol=2)
    whole = (tmp_path / "f.pkl").read_bytes()
    (tmp_path / "f.pkl").write_bytes(whole.replace(b"stop", b"stap"))
    with pytest.raises(PosesynError, match=r"f\.pkl is damaged \(KeyError"):
        read_frame(tmp_path / "f.pkl")
