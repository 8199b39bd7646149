"""Keeps a worker at work on what was handed over; a stuck or dead one is ended and started again."""

from __future__ import annotations

import atexit
import logging
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from callbacks.background_folder import HandedOver
from callbacks.background_worker import Place, work
from human.errors import PosesynError

log = logging.getLogger("callbacks.refresh")


@dataclass
class Background:
    """Where a background refresh is made, and when it is given up.

    Args:
        device: "cpu", "cuda:1", ...; null: the trainer's.
        share: of that GPU's memory that the process may take, above 0 to 1; null: what it gets.
        threads: of torch, for work on the CPU.
        cores: numbers of the CPU cores that it may run on; null: the trainer's.
        nice: 0 to 19; above 0 it steps aside where training wants the same core.
        timeout: seconds without a sign of life after which it counts as stuck. A sign is a portion of pictures made, a
            batch mined, a picture read.
        retries: a refresh that was lost more often is given up.
        wait_first: the first epoch waits for the first refresh, as in mode inline.
    """

    device: str | None = None
    share: float | None = None
    threads: int = 1
    cores: list[int] | None = None
    nice: int = 0
    timeout: float = 1800.0
    retries: int = 2
    wait_first: bool = False

    def __post_init__(self) -> None:
        if self.device is not None:
            try:
                torch.device(self.device)
            except RuntimeError:
                raise PosesynError(
                    f"background.device={self.device!r} is no device: say cpu, cuda:1, ..., or null for the trainer's"
                ) from None
        ranges = {"threads": (1, math.inf), "nice": (0, 19), "retries": (0, math.inf)}
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                to = f" to {most}" if most < math.inf else " or more"
                raise PosesynError(f"background.{name}={getattr(self, name)}: give {least}{to}")
        if not self.timeout > 0:
            raise PosesynError(f"background.timeout={self.timeout}: give seconds, more than 0")
        if self.share is not None and not 0 < self.share <= 1:
            raise PosesynError(f"background.share={self.share}: give a share of the GPU's memory, above 0 to 1")
        known = set(range(os.cpu_count() or 1))
        if self.cores is not None and (not self.cores or not set(self.cores) <= known):
            raise PosesynError(
                f"background.cores={self.cores}: this machine has the cores 0 to {max(known)}; name some, or null"
            )


class _Lost(Exception):
    """A worker came to nothing."""


class Keeper:
    """One worker process, and a thread that looks after it; the trainer's own thread never waits for either.

    Args:
        folder: of the refreshes; ``worker.log`` is there too.
        settings: see :class:`Background`.
        device: where the worker works.
        parts: makes what it works with (:func:`callbacks.background_worker.pack`).
    """

    def __init__(self, folder: Path, settings: Background, device: str, parts: bytes) -> None:
        self.folder, self.settings, self.parts = folder, settings, parts
        self.place = Place(
            device,
            settings.threads,
            tuple(settings.cores) if settings.cores is not None else None,
            settings.nice,
            settings.share,
            str(folder / "worker.log"),
            torch.get_float32_matmul_precision(),
        )
        self._turn = threading.Condition()
        self._queue: list[str] = []
        self._current: str | None = None
        self._closed = False
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="background refreshes", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a run that ends without its hooks: multiprocessing would wait for the worker

    @property
    def pid(self) -> int | None:
        """Of the worker, while there is one."""
        process = self._process
        return process.pid if process is not None else None

    @property
    def alive(self) -> bool:
        return not self._closed and self._thread.is_alive()

    # -- asked by the trainer ----------------------------------------------------------------------------------------
    def give(self, names: list[str]) -> None:
        """Refreshes to be made after those given before; one that was given already is not given again."""
        with self._turn:
            self._queue += [name for name in names if name not in self._queue and name != self._current]
            self._turn.notify_all()

    def withdraw(self, name: str) -> bool:
        """Whether the refresh was not begun, and now will not be."""
        with self._turn:
            begun = name == self._current or HandedOver(self.folder / name).finished
            if not begun and name in self._queue:
                self._queue.remove(name)
            return not begun

    def wait_for(self, name: str) -> None:
        """Until the refresh has an outcome."""
        with self._turn:
            while (name in self._queue or name == self._current) and self.alive:
                self._turn.wait(1.0)

    def close(self) -> None:
        """End the worker; what it was at is lost, and made again or found in the pool when the run is resumed."""
        atexit.unregister(self.close)
        with self._turn:
            self._closed = True
            if self._process is not None:
                self._process.kill()
            self._turn.notify_all()
        self._thread.join(60)

    # -- the thread --------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            while (name := self._next()) is not None:
                self._make(HandedOver(self.folder / name))
                with self._turn:
                    self._current = None
                    self._turn.notify_all()
        finally:
            self._end()

    def _next(self) -> str | None:
        with self._turn:
            while not self._queue and not self._closed:
                self._turn.wait()
            self._current = None if self._closed else self._queue.pop(0)
            return self._current

    def _make(self, handed: HandedOver) -> None:
        tries = self.settings.retries + 1
        for left in reversed(range(tries)):
            try:
                if handed.finished:
                    break
                handed.task()
                handed.settle()
                self._attempt(handed)
                break
            except Exception as error:
                self._end()
                if self._closed:
                    return
                if left and isinstance(error, _Lost):
                    log.warning(
                        "the background refresh %s was lost, training goes on; it is tried again (%d more): %s (%s)",
                        handed.name, left, error, self.place.log,
                    )  # fmt: skip
                    continue
                why = f"given up after {tries - left} tries: {error}" if isinstance(error, _Lost) else str(error)
                self._guarded(lambda why=why: handed.fail(why))  # type: ignore[misc]
                break
        self._guarded(handed.tidy)

    def _guarded(self, do: Callable[[], None]) -> None:
        try:
            do()
        except OSError as error:
            log.error("the background refreshes cannot write to %s, training goes on: %s", self.folder, error)

    def _attempt(self, handed: HandedOver) -> None:
        if self._process is None:
            self._start()
        assert self._pipe is not None
        self._send(lambda pipe: pipe.send(str(handed.path)))
        self._await("done")

    def _start(self) -> None:
        # Warp and Lance do not survive a fork, and a GPU cannot be used in a forked child.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self.place), name="background refreshes")
        with self._turn:
            if self._closed:
                raise _Lost("the run ends")
            process.start()
            self._process = process
        theirs.close()
        self._send(lambda pipe: pipe.send_bytes(self.parts))
        self._await("ready")

    def _send(self, send: Callable[[Connection], None]) -> None:
        assert self._pipe is not None
        try:
            send(self._pipe)
        except OSError as error:  # it died: how is known when it is awaited
            log.debug("nothing can be sent to the worker: %s", error)

    def _await(self, wanted: str) -> None:
        """Until the worker says so; :class:`_Lost` when it says that it failed, dies, or says nothing for too long."""
        assert self._pipe is not None
        assert self._process is not None
        stage, heard = "its start", time.monotonic()
        while True:
            left = heard + self.settings.timeout - time.monotonic()
            ready = wait([self._pipe, self._process.sentinel], max(left, 0))
            if self._pipe in ready:
                try:
                    kind, text = self._pipe.recv()
                except (EOFError, OSError):
                    kind, text = "died", ""
                heard = time.monotonic()
                if kind == wanted:
                    return
                if kind == "alive":
                    stage = text
                    continue
                if kind == "failed":
                    raise _Lost(text)
            elif not ready:
                raise _Lost(f"no sign of life for {self.settings.timeout:g} s since {stage}: the process is ended")
            self._process.join(10)
            raise _Lost(f"its process died at {stage} ({_how(self._process.exitcode)})")

    def _end(self) -> None:
        """No process, no zombie, no open pipe."""
        with self._turn:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join(60)
            if not process.is_alive():
                process.close()
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        hint = "; out of memory?" if code == -9 else ""
        return f"signal {-code}{hint}"
    return f"exit status {code}"
