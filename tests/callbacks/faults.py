"""Faults at every point of a tiny run, and the run resumed: does it end the same, to the last bit?

    python -m tests.callbacks.faults [--only FAULT:POINT,...] [--workers N] [--table FILE] [--json FILE]

Every run is a process of its own, forked from one that only imported; what it ended with it writes to ``result.pt``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from callbacks import EMA, EpochTable, Gallery, Interrupt
from callbacks import checkpoints as checkpoint_files
from callbacks.checkpoints import WholeCheckpoints, newest_whole
from synth import intake, making
from synth.eem import EEM
from synth.engines.base import Engine
from synth.pool import Pool
from tests.tiny import STEPS, Recorder, tiny_data, tiny_hmr, tiny_refresh, write_data

EPOCHS = 2
FAULTS = {
    "kill": "kill -9",
    "term": "SIGTERM",
    "exception": "exception",
    "disk": "full disk",
}
POINTS = {
    "train": "train step",
    "mine": "mining",
    "render": "rendering",
    "filter": "filtering",
    "commit": "pool commit",
    "checkpoint": "checkpoint write",
}
#: Beyond the matrix: right after the commit, in validation, Ctrl-C once and twice.
MORE = [("kill", "committed"), ("term", "committed"), ("term", "validate"), ("interrupt", "render"), ("twice", "mine")]
STATUS = {
    "kill": -signal.SIGKILL,
    "term": 143,
    "interrupt": 130,
    "twice": -signal.SIGINT,
    "requeue": 138,
    "exception": 1,
    "disk": 0,
}
SIGNALS = {"term": signal.SIGTERM, "interrupt": signal.SIGINT, "requeue": signal.SIGUSR1, "kill": signal.SIGKILL}
SLURM = {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_ID": "4711"}


# -- one run ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """A run in ``folder``, with a fault, or resumed."""

    data: str
    folder: str
    fault: str | None = None
    point: str | None = None
    resume: str | None = None
    workers: int = 0
    devices: int = 1
    victim: int = 0  # the rank that it happens to
    light: bool = False  # half of the parts, for the fast tests
    slurm: bool = False


class Fault(Callback):
    """Happens once, at the second refresh or in the second epoch; list it before ``Refresh``."""

    def __init__(self, case: Case) -> None:
        self.kind, self.point, self.victim = case.fault, case.point, case.victim
        self.armed = False

    def happen(self) -> None:
        if not self.armed:
            return
        self.armed = False
        if self.kind in SIGNALS:
            os.kill(os.getpid(), SIGNALS[self.kind])
        elif self.kind == "twice":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        elif self.kind == "exception":
            raise RuntimeError("a bug")
        elif self.kind == "disk":  # until the process ends
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.point in ("train", "checkpoint") and trainer.global_step == STEPS + 1:
            self.armed = trainer.global_rank == self.victim

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any, **more: Any) -> None:
        if self.point == "validate" and trainer.global_step == STEPS:
            self.armed = trainer.global_rank == self.victim
            self.happen()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.point not in ("train", "checkpoint", "validate") and trainer.current_epoch == 0:
            self.armed = trainer.global_rank == self.victim


@contextmanager
def injected(fault: Fault) -> Iterator[None]:
    """The real functions, with the fault in their middle or right behind them."""

    def then(function: Callable[..., Any], before: bool = False, skip: int = 0) -> Callable[..., Any]:
        left = [skip]

        def wrapped(*args: Any, **more: Any) -> Any:
            def happen() -> None:
                left[0] -= fault.armed
                if left[0] < 0:
                    fault.happen()

            if before:
                happen()
            out = function(*args, **more)
            if not before:
                happen()
            return out

        return wrapped

    def half_written(obj: Any, out: Any) -> None:
        def write(data: Any) -> int:
            fault.armed and written[0] > 100_000 and fault.happen()
            written[0] += len(data)
            return int(out.write(data))

        written = [0]
        save(obj, SimpleNamespace(write=write, flush=out.flush))

    save, model = torch.save, type(tiny_hmr())
    where: dict[str | None, Any] = {
        "train": lambda: mock.patch.object(model, "training_step", then(model.training_step)),
        "mine": lambda: mock.patch.object(EEM, "eligible", then(EEM.eligible)),
        "render": lambda: mock.patch.object(making, "_try", then(making._try, skip=1)),
        "filter": lambda: mock.patch.object(intake, "judge", then(intake.judge)),
        "commit": lambda: mock.patch.object(Pool, "_publish", then(Pool._publish, before=True)),
        "committed": lambda: mock.patch.object(Pool, "_publish", then(Pool._publish)),
        "checkpoint": lambda: mock.patch.object(checkpoint_files.torch, "save", half_written),
    }
    if fault.point in where:
        with where[fault.point]():
            yield
    else:
        yield


class Losses(Callback):
    def __init__(self) -> None:
        self.said: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.said.append(float(outputs["loss"]))


def run(case: Case) -> None:
    """Train, with the case's fault; writes ``result.pt`` where it comes to the end."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if case.slurm:
        os.environ.update(SLURM)
    folder, fault, recorder, losses = Path(case.folder), Fault(case), Recorder(), Losses()
    refresh = tiny_refresh(**({"reference_p": 0.0} if case.light else {}))
    files = ModelCheckpoint(
        folder / "checkpoints",
        filename="{step}",
        auto_insert_metric_name=False,
        every_n_train_steps=3,
        save_top_k=1,
        save_last=True,
    )
    callbacks = [EMA(0.9), fault, refresh, recorder, losses, EpochTable(show=False), Gallery(4, 2), files, Interrupt()]
    trainer = L.Trainer(
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        default_root_dir=folder,
        accelerator="cpu",
        devices=case.devices,
        strategy="ddp" if case.devices > 1 else "auto",
        max_epochs=EPOCHS,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    model, data = tiny_hmr(), tiny_data(Path(case.data), folder, workers=case.workers)
    if case.light:
        data.sources.pop()
    # Two jobs at a time: a refresh is caught in the middle of its rendering.
    with injected(fault), mock.patch.object(Engine, "at_once", 2):
        trainer.fit(model, datamodule=data, ckpt_path=case.resume, weights_only=True)
    if case.fault is not None:
        return
    told = ("refresh", "generation", "made", "passed", "challenge_error", "challenge_error_after")
    pool = {g.generation: data.pool.read(g.generation, range(g.passed)).as_dict() for g in data.pool.generations()}
    said = {
        "batches": [(epoch, batch.as_dict()) for epoch, batch in recorder.batches],
        "losses": losses.said,
        "weights": model.state_dict(),
        "recipe": data.recipe.state(),
        # The rank that refreshes knows how the last challenges fare in the end.
        "history": [{key: entry.get(key) for key in told} for entry in refresh.history if trainer.is_global_zero],
        "pool": pool,
    }
    torch.save(said, folder / f"result_{trainer.global_rank}.pt")


def in_child(work: Callable[[], None]) -> tuple[int, str]:
    """Exit status (negative: killed by that signal) and what was said, of ``work`` in a fork of this process."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            os.dup2(write, 1)
            os.dup2(write, 2)
            work()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


# -- the comparison --------------------------------------------------------------------------------------------------
@dataclass
class Outcome:
    """What became of a case: how it ended, where it was resumed, and everything that differs from the whole run."""

    fault: str
    point: str
    status: int
    said: str
    resumed_from: str = ""
    step: int = -1
    again: int = 0  # steps trained twice
    wrong: list[str] = field(default_factory=list)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def differences(whole: dict[str, Any], part: dict[str, Any]) -> list[str]:
    """What of a resumed run is not that of the whole one; its batches and losses are the last ones of it."""
    wrong = []
    for name in ("batches", "losses"):
        if not part[name] or not same(whole[name][-len(part[name]) :], part[name]):
            wrong.append(name)
    return wrong + [name for name in ("weights", "recipe", "history", "pool") if not same(whole[name], part[name])]


Start = Callable[[Case], tuple[int, str]]


def fork(case: Case) -> tuple[int, str]:
    return in_child(lambda: run(case))


def check(case: Case, whole: Path, start: Start = fork, resumed: Start = fork, **changes: Any) -> Outcome:
    """Run a case, resume it from its newest whole checkpoint, and compare with the run in ``whole``."""
    assert case.fault is not None
    assert case.point is not None
    status, said = start(case)
    outcome = Outcome(case.fault, case.point, status, said)
    if status != STATUS[case.fault]:
        outcome.wrong.append(f"ended with {status}")
    newest = newest_whole(Path(case.folder))
    if newest is None:
        outcome.wrong.append("no checkpoint")
        return outcome
    outcome.resumed_from = newest.name
    outcome.step = torch.load(newest, weights_only=True)["global_step"]
    status, said = resumed(replace(case, fault=None, point=None, resume=None if case.slurm else str(newest), **changes))
    if status:
        outcome.wrong.append(f"resumed run ended with {status}: {said[-2000:]}")
        return outcome
    for rank in range(case.devices):
        ended = (torch.load(f / f"result_{rank}.pt", weights_only=True) for f in (whole, Path(case.folder)))
        outcome.wrong += differences(*ended)
    done = STEPS if case.point not in ("train", "checkpoint") else STEPS + 1
    outcome.again = max(0, done - outcome.step)
    left = [f.name for f in (Path(case.folder) / "checkpoints").iterdir() if f.name.endswith(".part")]
    return replace(outcome, wrong=[*outcome.wrong, *(f"left {name}" for name in left)])


def table(outcomes: list[Outcome]) -> str:
    """Markdown: what each fault at each point cost."""
    cells = {(o.fault, o.point): "**" + "; ".join(o.wrong) + "**" if o.wrong else f"exact, {o.again}" for o in outcomes}
    rows = [" | ".join(["", *FAULTS.values(), ""]).strip(), "|" + "---|" * (len(FAULTS) + 1)]
    rows[0] = "| | " + " | ".join(FAULTS.values()) + " |"
    for point, title in POINTS.items():
        rows.append(f"| {title} | " + " | ".join(cells.get((fault, point), "") for fault in FAULTS) + " |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="FAULT:POINT,...; default: all")
    parser.add_argument("--table", type=Path, help="write the table there")
    parser.add_argument("--json", type=Path, help="write the outcomes there")
    parser.add_argument("--workers", type=int, default=0, help="loader processes of the resumed runs")
    parser.add_argument("--case", help="run this one (JSON) in this very process")
    parser.add_argument("--start", help="start each of these (a list of JSON) and tell how they ended, as JSON")
    args = parser.parse_args()
    if args.case:
        run(Case(**json.loads(args.case)))
        return
    if args.start:
        print(json.dumps([fork(Case(**case)) for case in json.loads(args.start)]))
        return
    wanted = [tuple(o.split(":")) for o in args.only.split(",")] if args.only else None
    wanted = wanted or [(fault, point) for point in POINTS for fault in FAULTS] + MORE
    folder = Path(tempfile.mkdtemp(prefix="faults"))
    os.environ["POSESYN_CACHE"] = str(folder / "cache")
    try:
        data, whole = folder / "data", folder / "whole"

        def first() -> None:
            write_data(data)
            run(Case(str(data), str(whole)))

        status, said = in_child(first)
        assert status == 0, said
        outcomes = []
        for fault, point in wanted:
            case = Case(str(data), str(folder / f"{fault}_{point}"), fault, point)
            one = check(case, whole, workers=args.workers)
            outcomes.append(one)
            ended = f"status {one.status}, resumed from {one.resumed_from} (step {one.step})"
            print(f"{fault} {point}: {ended}: {one.wrong or 'exact'}", flush=True)
    finally:
        shutil.rmtree(folder)
    print(table(outcomes))
    if args.table:
        args.table.write_text(table(outcomes))
    if args.json:
        args.json.write_text(json.dumps([asdict(o) for o in outcomes], indent=1))
    sys.exit(any(o.wrong for o in outcomes))


if __name__ == "__main__":
    main()
