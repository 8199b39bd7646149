"""What image engines cost: ``python -m benchmarks.engines`` prints one JSON line.

For each engine, in a worker of its own, on the GPU where there is one:

* ``per_second``: pictures of one worker, after one call that warms it up; ``memory_mb``, ``gpu_memory_mb``: its peak
* ``teraflops``: what its torch operations come to (``torch.utils.flop_counter``; Warp's kernels are not counted), and
  ``share_of_peak`` of the GPU's dense bf16 rate; null without a GPU whose rate is known
* ``scaling``: pictures per second of two workers, one thread each, over those of one; for engines on the CPU

    python -m benchmarks.engines --engine controlnet --options '{"steps": 4}' --size 256

An engine whose weights are absent says so under ``note``. Default: the embedded engine, "rendered".
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from human.errors import PosesynError
from synth.engines.build import make_image_engine
from synth.fleet.crew import Event, LocalCrew
from synth.fleet.folder import EngineSpec
from synth.jobs import Job, Prompt, Reference

#: Dense bf16 TFLOP/s as the makers' data sheets give them.
PEAK = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "RTX 4090": 165.0}


def make_jobs(spec: EngineSpec, count: int) -> list[Job]:
    """People in poses of the motion bank, with words and a reference for those who look at them."""
    from human.body import load_body
    from human.motion import load_motion_bank
    from synth.engines.base import ENGINES
    from synth.scene import sample_scene

    scene = sample_scene(range(count), load_motion_bank(), load_body("free"), spec.size)
    kind, prompt = ENGINES.get(spec.engine), Prompt("a person walks", "person", "walking", "in a park")
    picture = np.full((spec.size, spec.size, 3), 128, np.uint8)
    reference = Reference("grey", picture, scene[:1]) if kind.wants_references else None
    if not kind.wants_clips:
        return [Job(scene[i : i + 1], i, prompt=prompt, reference=reference) for i in range(count)]
    from synth.clips import approach, clip_job

    start = scene.global_orient.new_full((count, 24, 3), float("nan"))
    body = load_body("free")
    clips = approach(scene.betas, scene.body_pose, scene.global_orient, start, body)
    how: dict[str, Any] = {"size": spec.size, "field_of_view": 40.0, "fill": 0.8, "shift": (0.0, 0.0)}
    return [
        clip_job(clips, i, scene.betas[i], body, seed=i, prompt=prompt, reference=reference, **how)
        for i in range(count)
    ]


def packed(jobs: list[Job]) -> list[bytes]:
    """As workers get them."""
    import tempfile
    from pathlib import Path

    out = []
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs:
            job.save(Path(folder) / "job")
            out.append((Path(folder) / "job").read_bytes())
    return out


def throughput(spec: EngineSpec, workers: int, jobs: list[bytes], seconds: float) -> dict[str, float]:
    """Pictures a second of ``workers`` processes that never wait, after one call of each; peak memory of one."""
    crew = LocalCrew(spec, workers, threads=1)
    at_once, usage, made, began = 1, {}, 0, 0.0
    warm: set[int] = set()

    def news() -> list[Event]:
        events = crew.events(1.0)
        for event in events:
            if event.kind in ("unfit", "died"):
                raise PosesynError(event.text)
        return events

    try:
        for worker in range(workers):
            crew.start(worker)
        while True:
            for event in news():
                if event.kind == "ready" and event.fitness is not None:
                    at_once = event.fitness.at_once
                else:
                    errors = [r.error for r in event.results if r.content is None]
                    if errors:
                        raise PosesynError(errors[0])
                    usage = event.usage
                    if began:
                        made += len(event.results)
                    warm.add(event.worker)
                    if len(warm) == workers and not began:
                        began = time.perf_counter()
                if began and time.perf_counter() - began > seconds and made:
                    return {"per_second": made / (time.perf_counter() - began), **usage}
                crew.give(event.worker, [jobs[k % len(jobs)] for k in range(at_once)])
    finally:
        crew.close()


def flops(spec: EngineSpec, jobs: list[Job]) -> dict[str, Any]:
    """Of one call, per picture, and the rate on the GPU; in a process of its own."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    engine = make_image_engine(spec.engine, spec.size, spec.backgrounds, spec.options)
    group = jobs[: engine.at_once]
    engine.make(group)
    counter = FlopCounterMode(display=False)
    with counter:
        pictures = sum(len(batch) for batch in engine.make(group))
    each = counter.get_total_flops() / pictures
    out: dict[str, Any] = {"gigaflop_per_picture": round(each / 1e9, 3), "teraflops": None, "share_of_peak": None}
    if torch.cuda.is_available():
        start, rounds = time.perf_counter(), 3
        for _ in range(rounds):
            engine.make(group)
        torch.cuda.synchronize()
        rate = each * pictures * rounds / (time.perf_counter() - start) / 1e12
        name = torch.cuda.get_device_name()
        peak = next((value for key, value in PEAK.items() if key in name), None)
        out |= {"teraflops": round(rate, 2), "share_of_peak": round(rate / peak, 4) if peak else None}
    return out


def measure(spec: EngineSpec, seconds: float) -> dict[str, Any]:
    """Everything of one engine."""
    import torch

    try:
        jobs = make_jobs(spec, 32)
        content = packed(jobs)
        one = throughput(spec, 1, content, seconds)
        out = {k: round(v, 3) for k, v in one.items()}
        if not torch.cuda.is_available():
            two = throughput(spec, 2, content, seconds)
            out |= {
                "per_second_2": round(two["per_second"], 3),
                "scaling": round(two["per_second"] / one["per_second"], 3),
            }
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return out | pool.submit(flops, spec, jobs).result()
    except PosesynError as error:
        return {"note": str(error)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", nargs="+", default=["rendered"])
    parser.add_argument("--options", type=json.loads, default={}, help="of the engines, as JSON")
    parser.add_argument("--backgrounds", default="free")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate")
    args = parser.parse_args()
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    result: dict[str, Any] = {"device": device, "cores": os.cpu_count(), "size": args.size}
    for name in args.engine:
        result[name] = measure(EngineSpec(name, args.size, args.backgrounds, args.options), args.seconds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
