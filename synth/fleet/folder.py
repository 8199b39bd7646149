"""The job folder: everything that a fleet must not forget, as files.

    FOLDER/lock                       held by the one driver that hands out jobs
    FOLDER/ORDER/order.json           written last: an order is there wholly or not at all
    FOLDER/ORDER/jobs/KEY             what is to be made (synth.jobs)
    FOLDER/ORDER/results/KEY          what was made, after its checks
    FOLDER/ORDER/failed/KEY.json      how often it failed, and how; parked after too often
    FOLDER/ORDER/commit.json          the number that the generation is to have, written before it is committed
    FOLDER/journal.json               what a training run took in after which epoch (callbacks.fleet_mode)

A file is written beside its place and renamed, so it is whole or absent, and nothing is ever changed from "claimed" to
"free": what is left to do is what has neither a result nor is parked. A job's name is its key, so the same job is the
same file, and a result that two workers make is the same result. Who dies, driver or worker, therefore loses the jobs
in its hands and nothing else. Only one process writes (the driver), so a folder need not be seen by the workers.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from human.batch import PoseBatch
from human.errors import PosesynError
from synth.jobs import Job
from synth.judging import Found
from synth.making import Made

_FORMAT = 1


@dataclass(frozen=True)
class EngineSpec:
    """What a worker needs to know to build the engine and the checks, as plain values."""

    engine: str
    size: int
    backgrounds: str = "free"
    options: dict[str, Any] = field(default_factory=dict)
    checks: list[Any] = field(default_factory=list)
    config_hash: str = ""  # the engine's; a worker that builds another one refuses


@dataclass(frozen=True)
class Order:
    """The jobs of one generation to be.

    Attributes:
        spec: who makes them.
        keys: the jobs', in the order of the pool's rows.
        seeds: of all samples; they name the generation in the pool.
        number: of the refresh in its run.
        tpe, made_by: weights and synthesiser that the jobs come from.
    """

    spec: EngineSpec
    keys: tuple[str, ...]
    seeds: tuple[int, ...]
    number: int = 0
    tpe: str = ""
    made_by: str = ""

    @classmethod
    def of(cls, spec: EngineSpec, jobs: Sequence[Job], **more: Any) -> Order:
        seeds = tuple(int(s) for job in jobs for s in job.kept.seed)
        return cls(spec, tuple(job.key(spec.config_hash) for job in jobs), seeds, **more)

    @property
    def name(self) -> str:
        """16 hex digits: the same jobs for the same engine and checks are the same order."""
        text = json.dumps([self.keys, self.spec.checks, self.made_by, self.tpe], sort_keys=True)
        return f"{self.number:05d}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def write_whole(path: Path, content: bytes) -> None:
    """Whole or not at all, also for who reads meanwhile."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)


class JobFolder:
    """Orders by name, oldest refresh first."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()

    def submit(self, order: Order, jobs: Sequence[Job]) -> PlacedOrder:
        """Write an order; one that is there already stays as it is, with what was made of it."""
        folder = self.path / order.name
        if not (folder / "order.json").is_file():
            for part in ("jobs", "results", "failed"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            for key, job in zip(order.keys, jobs, strict=True):
                if not (folder / "jobs" / key).is_file():
                    job.save(folder / "jobs" / key)
            text = json.dumps({"format": _FORMAT, **asdict(order)}, indent=1)
            write_whole(folder / "order.json", text.encode())
        return PlacedOrder(folder)

    def orders(self) -> list[PlacedOrder]:
        return [PlacedOrder(path.parent) for path in sorted(self.path.glob("*/order.json"))]

    @contextmanager
    def driving(self, patience: float = 10.0) -> Iterator[None]:
        """Held by who hands out jobs; the kernel lets go when that process dies.

        Raises :class:`PosesynError` where another process holds it for ``patience`` seconds.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + patience
        with open(self.path / "lock", "a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        said = f"another process makes the jobs of {self.path}: wait for it, or end it"
                        raise PosesynError(said) from None
                    time.sleep(0.2)
            yield


class PlacedOrder:
    """An order in its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def order(self) -> Order:
        try:
            content = json.loads((self.path / "order.json").read_bytes())
            if content.pop("format") != _FORMAT:
                raise PosesynError(f"{self.path} is of another format: make its jobs with the posesyn that wrote them")
            spec = EngineSpec(**content.pop("spec"))
            return Order(spec, tuple(content.pop("keys")), tuple(content.pop("seeds")), **content)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PosesynError(
                f"{self.path} is no order of jobs ({type(error).__name__}: {error}): delete it"
            ) from error

    # -- what is left ------------------------------------------------------------------------------------------------
    def made(self) -> set[str]:
        return set(self.order.keys) & set(_names(self.path / "results"))

    def failures(self) -> dict[str, dict[str, Any]]:
        """``attempts``, ``error`` and ``parked`` by key, of jobs that failed and were not made since."""
        out = {}
        for name in _names(self.path / "failed"):
            key = name.removesuffix(".json")
            try:
                out[key] = json.loads((self.path / "failed" / name).read_bytes())
            except (OSError, ValueError):
                continue  # as if it had not failed yet
        made = self.made() if out else set()
        return {key: entry for key, entry in out.items() if key not in made}

    def todo(self) -> list[str]:
        """Keys of jobs that are neither made nor parked."""
        made, failed = self.made(), self.failures()
        return [k for k in dict.fromkeys(self.order.keys) if k not in made and not failed.get(k, {}).get("parked")]

    @property
    def finished(self) -> bool:
        return not self.todo()

    def job(self, key: str) -> Job:
        return Job.load(self.path / "jobs" / key)

    def job_bytes(self, key: str) -> bytes:
        """Raises :class:`PosesynError` where the job's file is gone."""
        try:
            return (self.path / "jobs" / key).read_bytes()
        except OSError as error:
            raise PosesynError(f"the job {key} of {self.path} cannot be read: {error}") from error

    # -- what was made -----------------------------------------------------------------------------------------------
    def put(self, key: str, result: bytes) -> None:
        """Of results that say the same, the last one stays."""
        write_whole(self.path / "results" / key, result)

    def fail(self, key: str, error: str, retries: int) -> bool:
        """Note a failure; True where the job is parked now: it failed more than ``retries`` times."""
        before = self.failures().get(key, {})
        attempts = int(before.get("attempts", 0)) + 1
        entry = {"attempts": attempts, "error": error[-4000:], "parked": attempts > retries}
        write_whole(self.path / "failed" / f"{key}.json", json.dumps(entry).encode())
        return attempts > retries

    def retry_parked(self) -> int:
        """Parked jobs are tried again; how many."""
        parked = [key for key, entry in self.failures().items() if entry["parked"]]
        for key in parked:
            (self.path / "failed" / f"{key}.json").unlink(missing_ok=True)
        return len(parked)

    def portions(self, size: int = 32) -> Iterator[list[Made]]:
        """Every job with what was made of it, in the order's order; call when :attr:`finished`."""
        keys, failed = self.order.keys, self.failures()
        for start in range(0, len(keys), size):
            portion = []
            for key in keys[start : start + size]:
                job = self.job(key)
                if key in failed:
                    portion.append(Made(job, None, failed[key]["error"]))
                else:
                    portion.append(unpack_result((self.path / "results" / key), job))
            yield portion

    def check_results(self) -> list[str]:
        """Delete results that are damaged, so that they are made again; their keys."""
        bad = []
        for key in sorted(self.made()):
            try:
                unpack_result(self.path / "results" / key, None)
            except PosesynError:
                (self.path / "results" / key).unlink(missing_ok=True)
                bad.append(key)
        return bad

    # -- notes -------------------------------------------------------------------------------------------------------
    def note(self, name: str) -> dict[str, Any] | None:
        """``commit``."""
        try:
            return dict(json.loads((self.path / f"{name}.json").read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise PosesynError(f"{self.path / name}.json cannot be read: {error}") from error

    def write_note(self, name: str, content: dict[str, Any]) -> None:
        write_whole(self.path / f"{name}.json", json.dumps(content).encode())


def pack_result(batch: PoseBatch, left: np.ndarray, found: Found) -> bytes:
    """Samples of one job, pixels as they are, with which of them the checks let pass."""
    tensors = {name: value.contiguous() for name, value in batch.as_dict().items()}
    return save({**tensors, "left": torch.from_numpy(left)}, metadata={"found": json.dumps(asdict(found))})


def unpack_result(path: Path, job: Job | None) -> Made:
    """Raises :class:`PosesynError` where the file is damaged."""
    try:
        with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
            found = Found(**json.loads(file.metadata()["found"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        left = tensors.pop("left").numpy()
        return Made(job, PoseBatch(**tensors), left=left, found=found)  # type: ignore[arg-type]
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise PosesynError(f"{path} is not a whole result ({type(error).__name__}: {error}): delete it") from error


def _names(folder: Path) -> list[str]:
    """Files, without partial ones."""
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        return []
