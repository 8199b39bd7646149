"""The process that makes refreshes while training goes on: its parts come through a pipe from the trainer that started
it, weights and outcomes through files (:mod:`callbacks.background_folder`).
"""

from __future__ import annotations

import copy
import ctypes
import faulthandler
import io
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from callbacks.background_folder import HandedOver
from callbacks.refresh_modes import run_refresh
from datamodules.pose import PoseDataModule
from human.batch import PoseBatch
from human.errors import PosesynError
from human.memory import keep_freed_memory
from lightning_modules.base import PoseEstimator
from synth.checks import make_checks
from synth.fleet.worker import use_threads

if TYPE_CHECKING:
    from callbacks.refresh import Refresh

log = logging.getLogger(__name__)
_BEAT = 0.2  # seconds between signs of life, at least
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


@dataclass(frozen=True)
class Place:
    """Where a worker works: see :class:`callbacks.background_keeper.Background`."""

    device: str
    threads: int
    cores: tuple[int, ...] | None
    nice: int
    share: float | None
    log: str
    matmul: str  # torch's float32 precision, as in the trainer

    def settle(self) -> None:
        """Make this process so. Before anything touches a GPU: engines take the one that they see."""
        os.nice(self.nice)
        if self.cores is not None:
            os.sched_setaffinity(0, self.cores)
        use_threads(self.threads)
        torch.set_float32_matmul_precision(self.matmul)
        device = torch.device(self.device)
        if device.type == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        elif device.type == "cuda":
            torch.cuda.set_device(device)
            if self.share is not None:
                torch.cuda.set_per_process_memory_fraction(self.share)


@dataclass
class Parts:
    """What a refresh is made with. The estimator's weights are blank until a refresh brings some."""

    host: Refresh
    data: PoseDataModule
    estimator: PoseEstimator

    def refresh(self, handed: HandedOver, tell: Callable[[str, int, int], None]) -> None:
        """Make the refresh, commit it unless the pool has it, and write what came of it."""
        start, task, host = time.perf_counter(), handed.task(), self.host
        weights = handed.weights(next(self.estimator.parameters()).device)
        self.estimator.load_state_dict(weights, strict=False)
        if self.estimator.weights_hash() != task.tpe:
            raise PosesynError(f"the weights in {handed.path} are damaged: they are not those that were handed over")
        refresher = host.refresher(self.data.image_size)
        done = run_refresh(host, refresher, self.estimator, _Lively(self.data.mining_data, tell), task, tell)  # type: ignore[arg-type]
        handed.finish(done, time.perf_counter() - start)


class _Lively:
    """Mining data; every request is a sign of life."""

    def __init__(self, data: Any, tell: Callable[[str, int, int], None]) -> None:
        self._data, self._tell, self._asked = data, tell, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def __len__(self) -> int:
        return len(self._data)

    def crops(self, indices: np.ndarray) -> PoseBatch:
        self._asked += len(indices)
        self._tell("mine", self._asked, 0)
        return self._data.crops(indices)  # type: ignore[no-any-return]


# -- from the trainer to the worker ----------------------------------------------------------------------------------
def pack(host: Refresh, data: PoseDataModule, estimator: PoseEstimator) -> bytes:
    """Everything that a refresh is made with but the weights, for :func:`unpack` in a process that this one starts.

    Raises:
        PosesynError: a part cannot be pickled.
    """
    host, data = copy.copy(host), copy.copy(data)
    for part, changes in (
        (host, {"_mode": None, "_refresher": None, "last": None, "used": None, "history": [], "checks": []}),
        (data, {"trainer": None, "sources": [], "loader": None, "predicting": None, "predicted": tuple}),
        (data, {"_mining": None, "_validation": None, "_recipe": None, "_loader_state": None}),
    ):
        part.__dict__.update(changes)  # type: ignore[attr-defined]
    for name in ("benchmark", "person_detector"):
        data.__dict__.pop(name, None)
    weights = {
        id(value)
        for path, module in estimator.named_modules()
        for name, value in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        if name not in module._non_persistent_buffers_set
        and not f"{path}.{name}".lstrip(".").startswith(estimator.not_predicting)
    }
    sharded = any(isinstance(module, FSDPModule) for module in estimator.modules())

    class Pickler(pickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, Tensor) and id(value) in weights:
                return _blank, (value.shape, value.stride(), value.dtype, isinstance(value, nn.Parameter))
            return _unsharded(value) if sharded and isinstance(value, nn.Module) else NotImplemented

    content = io.BytesIO()
    try:
        torch.save(
            (host, data, estimator),
            content,
            pickle_module=SimpleNamespace(__name__="pickle", Pickler=Pickler),
            pickle_protocol=5,
        )
    # Each is what some kind of thing says that cannot be pickled: a lambda, a lock, a local class, a tensor.
    except (pickle.PicklingError, TypeError, AttributeError, NotImplementedError, RuntimeError) as error:
        raise PosesynError(
            f"{type(host).__name__}, {type(data).__name__} or {type(estimator).__name__} holds something that cannot "
            f"be sent to another process ({error}): define it at the top of a module, or refresh in mode inline"
        ) from error
    return content.getvalue()


def unpack(content: bytes, device: torch.device) -> Parts:
    """Only of bytes from the process that started this one: it runs what they say."""
    host, data, estimator = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    host.checks = make_checks(host.check_entries)
    return Parts(host, data, estimator.to(device).eval().requires_grad_(False))


def _blank(shape: Any, stride: Any, dtype: torch.dtype, parameter: bool) -> Tensor:
    """A weight of the right layout, to be filled: convolutions may round differently in another."""
    value = torch.empty_strided(tuple(shape), tuple(stride), dtype=dtype)
    return nn.Parameter(value, requires_grad=False) if parameter else value


def _unsharded(module: nn.Module) -> Any:
    """A module of an estimator under fsdp2 as it was before: of its own class, without hooks that gather weights."""
    kind = next(k for k in type(module).__mro__ if not issubclass(k, FSDPModule))
    hooks = "_hooks" if isinstance(module, FSDPModule) else "state_dict"  # those the modules inside have too
    everything = module.__getstate__()  # type: ignore[call-overload]
    state = {name: value for name, value in everything.items() if "__composable_api" not in name}
    state |= {name: OrderedDict() for name in state if hooks in name and isinstance(state[name], dict)}
    return _bare, (kind,), state


def _bare(kind: type[nn.Module]) -> nn.Module:
    return kind.__new__(kind)


# -- the worker's life -----------------------------------------------------------------------------------------------
def work(pipe: Connection, place: Place) -> None:
    """Until the trainer ends it, or ends."""
    _end_with_the_trainer()
    # What is sent to the whole group of processes is for the trainer, which ends us.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    with open(place.log, "ab", buffering=0) as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    faulthandler.enable()
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", level=logging.WARNING)
    keep_freed_memory()
    try:
        place.settle()
        device = torch.device(place.device)
        parts = unpack(pipe.recv_bytes(), device)
        parts.host.refresher(parts.data.image_size)
    except Exception as error:
        log.exception("the parts of a refresh cannot be made")
        pipe.send(("failed", _words(error)))
        return
    pipe.send(("ready", ""))
    beats = _Beats(pipe)
    while True:
        handed = HandedOver(Path(pipe.recv()))
        try:
            beats("begin", 0, 0)
            for part in getattr(parts.data.mining_data, "sets", []):
                beats.hear(part.reader)
            parts.refresh(handed, beats)
        except Exception as error:
            log.exception("refresh %s failed", handed.name)
            pipe.send(("failed", _words(error)))
        else:
            pipe.send(("done", ""))


class _Beats:
    """Signs of life: the trainer takes a worker without any for stuck."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.last, self.heard = pipe, 0.0, set[int]()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last >= _BEAT:
            self.last = now
            self.pipe.send(("alive", f"{stage} {done}" + (f" of {total}" if total else "")))

    def hear(self, reader: Any) -> None:
        """Crops are cached once, in a single request that may take longer than anything else."""
        if id(reader) in self.heard:
            return
        self.heard.add(id(reader))
        read = reader.read_image

        def read_image(row: int) -> Any:
            self("read", row, 0)
            return read(row)

        reader.read_image = read_image


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, PosesynError) else f"{type(error).__name__}: {error}"


def _end_with_the_trainer() -> None:
    """Killed as well, the trainer leaves no worker."""
    if sys.platform == "linux":  # also where a library holds Python's lock
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    trainer = multiprocessing.parent_process()
    assert trainer is not None

    def watch() -> None:
        wait([trainer.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="watch the trainer", daemon=True).start()
