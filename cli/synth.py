"""``posesyn synth``: synthetic samples by many processes, on this machine or on a Ray cluster.

    posesyn synth --config runs/mine/config.yaml --checkpoint runs/mine/last.ckpt --fleet.workers 4
    posesyn synth --config FILE --checkpoint FILE --plan --fleet.price 2.5
    posesyn synth --jobs FOLDER --fleet.ray auto --wait true

With ``--config``: mines what the config mines with the checkpoint's estimator, plans a generation, makes its jobs and
commits it to the pool. FILE is an experiment file of ``lightning fit`` (its Refresh or DiffusionHPC callback and
``data`` are used), or has ``refresh`` (with ``hpc`` for Diffusion-HPC), ``data``, ``model`` and ``fleet`` at the top.
Stopped or killed at any moment, the same command goes on where it was. With ``--jobs``: only makes the jobs in a folder
that a training run (refresh mode ``fleet``) fills.

``--plan`` times a few jobs and says how many pictures a GPU-day makes, how long all would take and what it costs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from callbacks.diffusion_hpc import DiffusionHPC
from callbacks.refresh import Refresh
from datamodules.pose import ReaderConfig
from human.errors import PosesynError
from synth.fleet.commit import commit_order, committed
from synth.fleet.driver import Fleet, Status, drive, make_crew
from synth.fleet.estimate import estimate
from synth.fleet.folder import JobFolder, PlacedOrder
from synth.pool import GenerationInfo, Pool

_POLL = 2.0  # seconds between looks at a folder without work
_SAY = 60.0  # seconds between lines where there is no terminal
_CALLBACKS = (Refresh.__name__, DiffusionHPC.__name__)


@dataclass
class SynthData:
    """What is mined, with the meanings of ``datamodules.PoseDataModule``; ``pool`` is where samples go."""

    mine: list[ReaderConfig] = field(default_factory=list)
    image_size: int = 128
    box_scale: float | str = 1.25
    body: str = "free"
    seed: int = 0
    pool: str = "pool"


class Stopped(Exception):
    """SIGTERM or ctrl-C came; what is made so far stays."""


def run(argv: Sequence[str]) -> None:
    """``posesyn synth``."""
    from cli.lightning import bad_input, quiet

    quiet()
    try:
        options, config = _parse(argv)
    except (PosesynError, SystemExit):
        raise
    except Exception as error:  # jsonargparse's errors are of many kinds, and long
        raise PosesynError(bad_input(error) or f"synth: {str(error).strip()[:800]}") from error
    with _signals() as stop:
        if options.jobs is not None:
            _serve(JobFolder(options.jobs), options, stop)
        elif config is not None:
            _generation(options, config, stop)
        else:
            raise PosesynError("synth: say --config FILE, or --jobs FOLDER; `posesyn synth --help` tells more")


# -- the command line ------------------------------------------------------------------------------------------------
def _parse(argv: Sequence[str]) -> tuple[Any, Path | None]:
    words = list(argv)
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--config" and (equals or at + 1 < len(words)):
            config = Path(value if equals else words[at + 1])
            keys = own_keys(config)
            with tempfile.TemporaryDirectory() as folder:
                own = Path(folder) / "synth.yaml"
                own.write_text(yaml.safe_dump(keys), encoding="utf-8")
                words[at : at + (1 if equals else 2)] = ["--config", str(own)]
                parser = _parser(DiffusionHPC if "hpc" in keys["refresh"] else Refresh)
                return parser.instantiate(parser.parse_args(words)), config
    parser = _parser(Refresh)
    return parser.instantiate(parser.parse_args(words)), None


def _parser(kind: type[Refresh]) -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="posesyn synth", description=__doc__, exit_on_error=False)
    parser.add_argument("--config", action="config", help="an experiment file")
    parser.add_argument("--checkpoint", type=str | None, default=None, help="the estimator's weights")
    parser.add_argument("--jobs", type=str | None, default=None, help="only make the jobs of this folder")
    parser.add_argument("--wait", type=bool, default=False, help="with --jobs: wait for further orders")
    parser.add_argument("--parent", type=int, default=0, help="with --jobs: end with the process that has this number")
    parser.add_argument("--retry_parked", type=bool, default=False, help="try jobs again that failed too often")
    parser.add_argument("--plan", action="store_true", help="time a few jobs, and stop")
    parser.add_class_arguments(Fleet, "fleet")
    parser.add_class_arguments(kind, "refresh", skip={"mode", "fleet", "background"})
    parser.add_class_arguments(SynthData, "data")
    return parser


def own_keys(config: Path) -> dict[str, Any]:
    """What this command needs of an experiment file: ``refresh`` (the callback's; Diffusion-HPC's has ``hpc``),
    ``data`` and ``fleet``.
    """
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PosesynError(f"there is no config {config}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PosesynError(f"{config} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise PosesynError(f"{config} is not an experiment file: it holds no keys")
    refresh = dict(content.get("refresh") or {})
    for callback in (content.get("trainer") or {}).get("callbacks") or []:
        kind = str(callback.get("class_path", "")).rsplit(".", 1)[-1] if isinstance(callback, dict) else ""
        if kind in _CALLBACKS:
            refresh = {**(callback.get("init_args") or {}), **refresh}
        if kind == DiffusionHPC.__name__:
            refresh.setdefault("hpc", {})
    # Whatever its settings, these pictures are Diffusion-HPC's.
    if "hpc" in refresh:
        refresh["hpc"] = refresh["hpc"] or {}
    fleet = {**(refresh.pop("fleet", None) or {}), **(content.get("fleet") or {})}
    for key in ("mode", "background"):
        refresh.pop(key, None)
    known = {f.name for f in fields(SynthData)}
    data = {k: v for k, v in (content.get("data") or {}).items() if k in known and v is not None}
    options = {k: content[k] for k in ("checkpoint", "jobs", "wait", "plan", "retry_parked") if k in content}
    return {"refresh": refresh, "data": data, "fleet": fleet, **options}


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Yields ``stop()``: whether SIGTERM or ctrl-C came. A second one ends at once, as always."""
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        if came:
            signal.default_int_handler(number, frame)
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(came)
    except Stopped as stopped:
        print(f"stopped: {stopped}; the same command goes on", file=sys.stderr)
        raise SystemExit(128 + (came[0] if came else signal.SIGTERM)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- what it does ----------------------------------------------------------------------------------------------------
def _serve(folder: JobFolder, options: Any, came: Callable[[], bool]) -> None:
    """Make whatever orders the folder holds; who placed them commits them."""

    def stop() -> bool:
        return came() or bool(options.parent and os.getppid() != options.parent)

    with folder.driving():
        while not stop():
            orders = [placed for placed in folder.orders() if not placed.finished]
            if options.retry_parked:
                orders = [p for p in folder.orders() if p.retry_parked() or not p.finished]
            if options.plan:
                if not orders:
                    raise PosesynError(f"{folder.path} has no order with jobs to be made")
                _print_estimate(orders[0], options.fleet)
                return
            for placed in orders:
                _make(placed, options.fleet, stop)
            if not options.wait:
                print(json.dumps({"orders": len(orders), "jobs": sum(len(p.order.keys) for p in orders)}))
                return
            if not orders:
                time.sleep(_POLL)
    raise Stopped("every finished job is kept")


def _generation(options: Any, config: Path, stop: Callable[[], bool]) -> None:
    """Mine, plan, make and commit one generation; one that was begun is finished first."""
    from cli.estimator import load_estimator
    from datamodules.crops import CropSet
    from datamodules.mining import JoinedCrops
    from datamodules.readers import make_reader

    if options.checkpoint is None and not options.plan:
        Console(stderr=True).print("no --checkpoint: the estimator has the weights that the config names")
    data = options.data
    estimator = load_estimator(config, options.checkpoint).eval()
    if torch.cuda.is_available():
        estimator = estimator.cuda()
    pool = Pool(data.pool)
    folder = JobFolder(options.fleet.jobs or Path(data.pool).absolute().parent / "jobs")
    refresh = options.refresh
    with folder.driving():
        refresher = refresh.refresher(data.image_size)
        begun = [p for p in folder.orders() if p.order.spec.engine == refresh.engine and committed(p, pool) is None]
        if begun:
            placed = begun[0]
            if options.retry_parked:
                placed.retry_parked()
        else:
            if not data.mine:
                raise PosesynError(f"nothing to mine: name at least one reader under data.mine of {config}")
            sets = [
                CropSet(make_reader(m.reader, m.options), data.image_size, data.box_scale, body=data.body)
                for m in data.mine
            ]
            crops = JoinedCrops(sets)
            number = max([-1, *(g.generation for g in pool.generations())]) + 1
            mined = refresher.mine(estimator, crops, number=number, seed=data.seed)
            if mined.crops is None:
                raise PosesynError(f"nobody could be mined ({mined.eligible} persons are eligible): nothing was made")
            tpe = estimator.weights_hash()
            plan = refresher.plan(estimator, crops, mined, number=number, seed=data.seed, tpe_hash=tpe)
            order = refresh.order(refresher, plan, data.image_size, number=number, tpe=tpe)
            placed = folder.submit(order, plan.jobs)
        if options.plan:
            _print_estimate(placed, options.fleet)
            return
        status = _make(placed, options.fleet, stop)
        taken = commit_order(placed, pool, refresher.judging, estimator)
    info = taken if isinstance(taken, GenerationInfo) else taken.info
    found = {} if isinstance(taken, GenerationInfo) else {"failed_jobs": taken.failed, **taken.found.summary()}
    made = {"generation": info.generation, "made": info.count, "passed": info.passed, "pool": str(pool.path)}
    print(json.dumps({**made, **found, "fleet": status.summary()}))


def _make(placed: PlacedOrder, fleet: Fleet, stop: Callable[[], bool]) -> Status:
    """All of an order's jobs, with progress; raises :class:`Stopped`."""
    damaged = placed.check_results()
    if damaged:
        Console(stderr=True).print(f"{len(damaged)} damaged results of {placed.name} are made again")
    crew = make_crew(fleet, placed)
    try:
        with _shown(placed) as tell:
            status = drive(placed, crew, fleet, tell, stop)
    finally:
        crew.close()
    left = len(placed.todo())
    if left and stop():
        raise Stopped(f"{status.made} of {status.total} jobs of {placed.path} are made")
    return status


@contextmanager
def _shown(placed: PlacedOrder) -> Iterator[Callable[[Status], None]]:
    """A bar with throughput, cost and time left; where there is no terminal, a line a minute."""
    console = Console(stderr=True)
    said = [time.monotonic()]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(placed.name, total=len(placed.order.keys), facts="")

        def tell(status: Status) -> None:
            progress.update(task, completed=status.made + status.parked, total=status.total, facts=facts(status))
            if not console.is_terminal and time.monotonic() - said[0] > _SAY:
                said[0] = time.monotonic()
                console.print(f"{placed.name}: {status.made} of {status.total}, {facts(status)}", highlight=False)

        yield tell


def facts(status: Status) -> str:
    """Throughput, cost, time left, and what went wrong."""
    left = status.seconds_left
    words = [f"{status.workers} workers", f"{status.rate:.2f}/s"]
    words += [f"left {_duration(left)}"] if left is not None else ["left ?"]
    if status.hourly:
        whole = status.cost + status.hourly * (left or 0.0) / 3600
        words.append(f"cost {status.cost:.2f} of {whole:.2f}")
    words += [f"{status.parked} parked"] if status.parked else []
    words += [f"{status.deaths} died"] if status.deaths else []
    return ", ".join(words)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _print_estimate(placed: PlacedOrder, fleet: Fleet) -> None:
    crew = make_crew(fleet, placed, workers=1)
    try:
        found = estimate(placed, crew)
    finally:
        crew.close()
    jobs, workers = len(placed.todo()), max(fleet.workers, 1)
    hours = found.hours(jobs, workers)
    what = "gpu" if found.gpus or found.device != "cpu" else "worker"
    told = {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(found).items()}
    plan = {f"pictures_per_{what}_day": round(found.per_day), "jobs_left": jobs, "workers": workers}
    cost = {"cost": round(hours * workers * (found.gpus or 1.0) * fleet.price, 2)} if fleet.price else {}
    print(json.dumps({**plan, "hours": round(hours, 4), **cost, **told}))
