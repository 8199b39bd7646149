"""Estimators, ours and the originals' own: ``python -m benchmarks.tpe [--small] [--upstream NAME=CHECKOUT ...]``
prints one JSON line.

For each estimator: the whole training step (pictures to losses, backward, optimiser) and prediction, pictures per
second; and, where a checkout of the original's code is given, the network alone against the original's, in turns in the
same process: the same pictures and the same optimiser, a loss on every output. ``ratio_*`` are medians of the rounds'
quotients, above 1 where ours is faster: what slows a machine down for a while slows both of a round. The normalisation
of uint8 pictures, which the originals leave to their loaders, is in both. ``memory_mib``: on a GPU the peak of a
training step; on a CPU what a forward keeps for the way back.

On a GPU ours runs in bfloat16, compiled; the original in what it trains in (4D-Humans: float16 with a scaler; the
others: float32).
``share_of_peak`` is of the dense bfloat16 rate in ``PEAKS``, from operations counted in ours, three forwards a step.
Each estimator has a process of its own, since the originals' module names collide; one that fails is reported as
``error``, and the command ends with status 1. Packages that an original needs beside posesyn's (4D-Humans: einops and
yacs) may lie in a folder of their own, named in ``PYTHONPATH``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.tpe_upstream import PAIRS, Pair
from human.batch import PoseBatch
from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from lightning_modules import ESTIMATORS, PoseEstimator
from synth.engines.build import make_engine
from synth.scene import SceneConfig, sample_scene

#: Dense bfloat16, operations per second, by a part of the device's name (NVIDIA's data sheets, SXM boards).
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
Step = Callable[[], Any]


def people(count: int, size: int, device: torch.device) -> PoseBatch:
    engine = make_engine("rendered", size, "procedural", {"supersample": 1})
    scene = sample_scene(range(min(count, 16)), load_motion_bank(), load_body(), size, SceneConfig())
    batch = engine.render(scene)
    rows = torch.arange(count) % len(batch)
    return PoseBatch(**{k: v[rows].to(device) for k, v in batch.as_dict().items()})


def autocast(device: torch.device, dtype: torch.dtype | None) -> Any:
    return torch.autocast(device.type, dtype) if dtype is not None else contextlib.nullcontext()


def proxy_loss(outputs: list[Tensor]) -> Tensor:
    return torch.stack([o.float().square().mean() for o in outputs]).sum()


def trainer_of(run: Callable[[], Tensor], weights: list[nn.Parameter], scaled: bool) -> Step:
    """One optimiser step of what ``run`` computes."""
    optimizer = torch.optim.AdamW(weights, lr=1e-6)
    scaler = torch.amp.GradScaler(enabled=scaled)

    def step() -> None:
        optimizer.zero_grad()
        scaler.scale(run()).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def seconds(step: Step, device: torch.device, least: float) -> float:
    """Mean seconds of a call, over at least ``least`` seconds."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start, count = time.perf_counter(), 0
    while True:
        step()
        count += 1
        if count >= 3 or device.type == "cpu":
            wait()
            if time.perf_counter() - start >= least:
                return (time.perf_counter() - start) / count


def in_turns(steps: dict[str, Step], device: torch.device, rounds: int, least: float) -> dict[str, list[float]]:
    """Seconds of each in every round; two calls warm up (and compile). Every second round goes backwards."""
    for step in steps.values():
        step(), step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        for name, step in list(steps.items())[:: -1 if number % 2 else 1]:
            times[name].append(seconds(step, device, least))
    return times


def median_ratio(theirs: list[float], ours: list[float]) -> float:
    """How many times as fast as theirs ours is, from the seconds of both in each round."""
    return statistics.median(t / o for t, o in zip(theirs, ours, strict=True))


def memory(run: Callable[[], Tensor], step: Step, weights: list[nn.Parameter], device: torch.device) -> float:
    """MiB: see the module's docstring."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() / 2**20
    own, kept = {w.untyped_storage().data_ptr() for w in weights}, {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        loss = run()
    del loss
    return sum(kept.values()) / 2**20


def ours_network(model: PoseEstimator, batch: PoseBatch, whole: bool) -> list[Tensor]:
    if whole:
        out = model.solve(batch)
        return [out.joints3d, out.rotations, out.betas, out.said.weak, *out.said.extras.values()]
    said = model.regress(batch)
    return [said.rotations, said.betas, said.weak, *said.extras.values()]


def share_of_peak(model: PoseEstimator, batch: PoseBatch, per_second: dict[str, float]) -> dict[str, float] | None:
    name = torch.cuda.get_device_name() if batch.image.is_cuda else ""
    peak = next((v for k, v in PEAKS.items() if k in name), None)
    if peak is None:
        return None
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval().regress(batch)
    each = counter.get_total_flops() / len(batch)
    return {"train": 3 * each * per_second["train"] / peak, "infer": each * per_second["infer"] / peak}


def measure(name: str, checkout: Path | None, args: argparse.Namespace) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() and not args.small else "cpu")
    try:
        pair: Pair = PAIRS[name](checkout, args.small)
    except (ImportError, FileNotFoundError) as error:
        what = f"the package {error.name}" if isinstance(error, ImportError) else f"the file {error.filename}"
        raise PosesynError(
            f"{name}: {checkout} is no complete checkout of the original's code, or {what} is missing"
        ) from None
    fast = device.type == "cuda"
    torch.manual_seed(0)
    plain = ESTIMATORS.get(name)(**pair.options)
    model = ESTIMATORS.get(name)(**pair.options, compile=True) if fast or args.compile else plain
    model.to(device), plain.to(device)
    batch = people(args.batch, model.image_size, device)
    own = [p for p in model.parameters() if p.requires_grad]
    half = torch.bfloat16 if fast else None

    def whole_loss() -> Tensor:
        with autocast(device, half):
            return torch.stack(list(model.losses(model.solve(batch), batch).values())).sum()

    def network_loss() -> Tensor:
        with autocast(device, half):
            return proxy_loss(ours_network(model, batch, pair.whole))

    @torch.no_grad()
    def predict() -> None:
        with autocast(device, half):
            model.predict(batch)

    @torch.no_grad()
    def infer() -> None:
        with autocast(device, half):
            ours_network(model, batch, pair.whole)

    training = {"train": trainer_of(whole_loss, own, False)}
    inference: dict[str, Step] = {"infer": predict}
    theirs: list[nn.Parameter] = []
    if pair.upstream is not None:
        for network in pair.networks:
            network.to(device)
        theirs = [p for n in pair.networks for p in n.parameters() if p.requires_grad]
        upstream, their_half = pair.upstream, pair.half if fast else None

        def upstream_loss() -> Tensor:
            with autocast(device, their_half):
                return proxy_loss(upstream(batch))

        @torch.no_grad()
        def upstream_infer() -> None:
            with autocast(device, their_half):
                upstream(batch)

        training["network_train"] = trainer_of(network_loss, own, False)
        training["upstream_train"] = trainer_of(upstream_loss, theirs, their_half == torch.float16)
        inference["network_infer"], inference["upstream_infer"] = infer, upstream_infer
    found: dict[str, Any] = {"batch": args.batch, "image_size": model.image_size}
    found["parameters"] = sum(p.numel() for p in own)
    for module in (model, *pair.networks):
        module.train()
    took = in_turns(training, device, args.rounds, args.seconds)
    found["memory_mib"] = round(memory(whole_loss, training["train"], own, device), 1)
    if pair.upstream is not None:
        found["upstream_parameters"] = sum(p.numel() for p in theirs)
        found["network_memory_mib"] = round(memory(network_loss, training["network_train"], own, device), 1)
        found["upstream_memory_mib"] = round(memory(upstream_loss, training["upstream_train"], theirs, device), 1)
    for module in (model, *pair.networks):
        module.eval()
    took |= in_turns(inference, device, args.rounds, args.seconds)
    per_second = {k: args.batch / statistics.median(t) for k, t in took.items()}
    found |= {f"{k}_per_second": round(v, 2) for k, v in per_second.items()}
    if pair.upstream is not None:
        for kind in ("train", "infer"):
            found[f"ratio_{kind}"] = round(median_ratio(took[f"upstream_{kind}"], took[f"network_{kind}"]), 3)
    if share := share_of_peak(plain, batch, per_second):
        found["share_of_peak"] = {k: round(v, 3) for k, v in share.items()}
    return found


def checkouts(given: list[str]) -> dict[str, Path]:
    """NAME=FOLDER of the options, by name."""
    found = {}
    for item in given:
        name, _, folder = item.partition("=")
        if name not in PAIRS or not Path(folder).is_dir():
            raise PosesynError(f"--upstream {item}: say NAME=FOLDER, with NAME one of {', '.join(PAIRS)}")
        found[name] = Path(folder).resolve()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*PAIRS], default=[*PAIRS], metavar="NAME")
    parser.add_argument("--upstream", nargs="+", default=[], metavar="NAME=CHECKOUT")
    parser.add_argument("--small", action="store_true", help="small networks, on the CPU")
    parser.add_argument("--compile", action="store_true", help="compile ours on the CPU too")
    parser.add_argument("--batch", type=int, default=None, help="default: 4 on the CPU, 64 on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="at least, for each measurement of a round")
    args = parser.parse_args()
    try:
        folders = checkouts(args.upstream)
    except PosesynError as error:
        parser.error(str(error))
    cuda = torch.cuda.is_available() and not args.small
    args.batch = args.batch or (64 if cuda else 4)
    if len(args.only) == 1:
        (name,) = args.only
        try:
            results = {name: measure(name, folders.get(name), args)}
        except PosesynError as error:
            parser.error(str(error))
    else:
        results = {}
        for name in args.only:
            command = [sys.executable, "-m", "benchmarks.tpe", "--only", name, "--batch", str(args.batch)]
            command += ["--rounds", str(args.rounds), "--seconds", str(args.seconds)]
            command += ["--small"] * args.small + ["--compile"] * args.compile
            command += [f"--upstream={name}={folders[name]}"] if name in folders else []
            done = subprocess.run(command, capture_output=True, text=True)
            print(done.stderr, file=sys.stderr, end="")
            lines = done.stdout.splitlines()
            if done.returncode == 0 and lines:
                results |= json.loads(lines[-1])["estimators"]
            else:
                said = [line for line in done.stderr.splitlines() if line.strip()]
                results[name] = {"error": said[-1] if said else f"ended with status {done.returncode}"}
    device = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    report = {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__, "small": args.small}
    print(json.dumps(report | {"estimators": results}))
    if any("error" in result for result in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
