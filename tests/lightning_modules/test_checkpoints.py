"""Files of weights that hold other objects too: read whole, nothing run."""

from __future__ import annotations

import functools
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from human.errors import PosesynError
from lightning_modules.checkpoints import read_checkpoint
from tests.lightning_modules.seeded import REFERENCES, load_reference


class Marker:
    """What must not run."""

    ran = 0


def run(*args: Any, **kwargs: Any) -> Any:
    Marker.ran += 1
    return run


class OnReduce:
    def __reduce__(self) -> Any:
        return run, ("x",)

    def __call__(self) -> None:
        """Only what can be called may be called by a pickle (`OnCall`)."""


class OnState:
    """Runs its own method when its state comes back."""

    def __init__(self) -> None:
        self.value = 1

    def __setstate__(self, state: Any) -> None:
        run()


class OnNew:
    def __new__(cls, *args: Any) -> Any:
        if args:  # only when unpickled
            run()
        return super().__new__(cls)

    def __getnewargs__(self) -> tuple[int]:
        return (1,)


class OnItems(dict):  # type: ignore[type-arg]
    def __setitem__(self, key: Any, value: Any) -> None:
        run()


class OnAppend(list):  # type: ignore[type-arg]
    def append(self, value: Any) -> None:
        run()

    def extend(self, values: Any) -> None:
        run()


class OnCall:
    """`run("x")("y")`: calls what a call gave."""

    def __reduce__(self) -> Any:
        return OnReduce(), ("y",)


WEIGHTS = OrderedDict(
    a=torch.arange(6.0).reshape(2, 3),
    transposed=torch.arange(6.0).reshape(2, 3).T,
    part=torch.arange(10)[4:7],
    scalar=torch.tensor(True),
    empty=torch.zeros(0, 4),
    half=torch.ones(3, dtype=torch.bfloat16),
    parameter=torch.nn.Parameter(torch.ones(2)),
)
FOREIGN = {
    "reduce": OnReduce,
    "state": OnState,
    "new": OnNew,
    "call": OnCall,
    "items": lambda: OnItems({"a": 1}),
    "append": lambda: OnAppend([1, 2, 3]),
    "method": lambda: OnState().__reduce_ex__,
    "partial": lambda: functools.partial(run, 1),
    "number": lambda: np.float64(0.5),
    "array": lambda: np.arange(3),
    "path": lambda: Path("x"),
    "type": lambda: OnState,
    "function": lambda: run,
    "builtin": lambda: sys.exit,
}


@pytest.fixture(autouse=True)
def _nothing_runs() -> Iterator[None]:
    yield
    assert Marker.ran == 0


def save(path: Path, content: Any, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    Marker.ran = 0  # pickling may
    return path


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("kind", list(FOREIGN))
def test_weights_beside_any_object(tmp_path: Path, kind: str, legacy: bool) -> None:
    foreign = FOREIGN[kind]()
    beside = {"hyper_parameters": {"x": foreign, "more": [foreign]}, "optimizer": {"m": torch.ones(5)}}
    path = save(tmp_path / "w.ckpt", {**beside, "state_dict": WEIGHTS}, legacy)
    with pytest.raises(pickle.UnpicklingError):  # else the case tests nothing
        torch.load(path, weights_only=True)
    _, state = read_checkpoint(path)
    assert list(state) == list(WEIGHTS)
    for name, value in WEIGHTS.items():
        assert state[name].dtype == value.dtype
        assert torch.equal(state[name], value.detach()), name
        assert type(state[name]) is torch.Tensor


def test_the_objects_do_run_when_they_are_trusted(tmp_path: Path) -> None:
    """The cases above are dangerous: without protection each of these runs code."""
    for kind in ("reduce", "state", "new", "call", "items", "append"):
        path = save(tmp_path / f"{kind}.ckpt", {"x": FOREIGN[kind]()})
        torch.load(path, weights_only=False)
        assert Marker.ran > 0, kind
        Marker.ran = 0


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
def test_views_share_nothing_and_bring_no_more_than_themselves(tmp_path: Path, legacy: bool) -> None:
    base = torch.arange(1000.0)
    content = {"state_dict": {"a": base[10:12], "b": base[11:13]}, "x": OnState()}
    _, state = read_checkpoint(save(tmp_path / "w.ckpt", content, legacy))
    assert state["a"].untyped_storage().nbytes() == 8
    state["a"].zero_()
    assert state["b"].tolist() == [11, 12]


def test_lightning_checkpoint_of_4d_humans() -> None:
    """Written by Lightning with 4D-Humans' module and OmegaConf configuration (scripts/tpe_reference/hmr2.py)."""
    path = REFERENCES / "hmr2.ckpt"
    with pytest.raises(pickle.UnpicklingError, match="omegaconf"):
        torch.load(path, weights_only=True)
    before = set(sys.modules)
    _, state = read_checkpoint(path)
    assert not [m for m in set(sys.modules) - before if m.startswith("omegaconf")]
    reference = load_reference("hmr2")
    expected = {k: v for k, v in reference.state.items() if k.startswith("smpl_head.") and v.numel() <= 48}
    expected |= {k: v for k, v in reference.arrays.items() if k in expected}
    assert set(state) == set(expected)
    for name, value in expected.items():
        assert torch.equal(state[name], value), name


def test_a_class_that_is_not_installed(tmp_path: Path) -> None:
    with _module("of_nobody", OnState):
        path = save(tmp_path / "w.ckpt", {"state_dict": WEIGHTS, "x": OnState()})
    _, state = read_checkpoint(path)
    assert list(state) == list(WEIGHTS)


@contextmanager
def _module(name: str, kind: type) -> Iterator[None]:
    """``kind`` as a class of a module that exists only here."""
    module, own = types.ModuleType(name), kind.__module__
    setattr(module, kind.__name__, kind)
    sys.modules[name], kind.__module__ = module, name
    try:
        yield
    finally:
        del sys.modules[name]
        kind.__module__ = own


# -- hostile and damaged files ---------------------------------------------------------------------------------------
def _tensor_call(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Any:
    class Forged:
        def __reduce__(self) -> Any:
            storage = torch.ones(4).untyped_storage()
            typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
            return torch._utils._rebuild_tensor_v2, (typed, offset, size, stride, False, OrderedDict())

    return Forged()


@pytest.mark.parametrize(
    "forged", [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 2), (4, 1)), (-1, (2,), (1,)), (0, (2,), (-1,))]
)
def test_tensors_that_reach_beyond_their_storage(tmp_path: Path, forged: Any) -> None:
    path = save(tmp_path / "w.ckpt", {"state_dict": {"a": _tensor_call(*forged)}, "x": OnState()})
    with pytest.raises(PosesynError, match=r"w.ckpt cannot be read"):
        read_checkpoint(path)


OPCODES = {
    "attribute of a class": b"chuman.inert_checkpoint\nInert\nN}X\x05\x00\x00\x00__new__K\x01s\x86b.",
    "attribute of OrderedDict": b"ccollections\nOrderedDict\nN}X\x06\x00\x00\x00updateK\x01s\x86b.",
    "system": b"cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
    "persistent": b"X\x04\x00\x00\x00fileQ.",
    "extension": b"\x82\x01.",
    "no end": b"}",
    "nothing to take": b"R.",
}


@pytest.mark.parametrize("kind", list(OPCODES))
def test_forged_pickles(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + OPCODES[kind])
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")
    with pytest.raises(PosesynError, match=r"w.ckpt cannot be read") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert OrderedDict(a=1) == {"a": 1}
    assert callable(OrderedDict.update)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.99])
def test_files_cut_short(tmp_path: Path, keep: float, legacy: bool) -> None:
    content = {"x": OnState(), "state_dict": {"a": torch.arange(500.0)}}
    path = save(tmp_path / "w.ckpt", content, legacy)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(PosesynError, match=r"w.ckpt cannot be read"):
        read_checkpoint(path)


def test_what_is_beside_the_weights_is_not_read(tmp_path: Path) -> None:
    """The optimiser's numbers may be damaged: they are not looked at."""
    path = save(tmp_path / "w.ckpt", {"x": OnState(), "state_dict": {"a": torch.ones(3)}, "m": torch.full((999,), 7.0)})
    data = path.read_bytes()
    there = data.index(torch.full((999,), 7.0).numpy().tobytes())
    path.write_bytes(data[:there] + b"\xff" * 8 + data[there + 8 :])
    assert read_checkpoint(path)[1]["a"].tolist() == [1, 1, 1]
