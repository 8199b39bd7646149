"""How fast figures are taken: ``python -m benchmarks.metrics`` prints one line of JSON.

PA-MPJPE of 100,000 poses:

``ours_s`` is :func:`metrics.functional.pa_mpjpe` on float32 tensors with ``threads`` threads, the best of ten;
``one_thread_s`` the same on one. ``numpy_s`` is what people run: a Python loop with one numpy SVD per pose, which uses
one thread, timed on ``numpy_poses`` of them (the best of three) and scaled up. ``ratio`` is ``numpy_s`` by ``ours_s``.

``readers``: for every data set, persons indexed and pictures decoded per second (``benchmarks.dataset_rates``).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from human.rng import generator
from metrics.functional import pa_mpjpe

POSES, JOINTS, NUMPY_POSES = 100_000, 24, 5_000


def numpy_pa_mpjpe(pred_J3: np.ndarray, target_J3: np.ndarray) -> float:
    """One pose, metres to mm; Umeyama's algorithm."""
    pred, target = pred_J3 - pred_J3.mean(0), target_J3 - target_J3.mean(0)
    u, s, vt = np.linalg.svd(target.T @ pred)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (s * sign).sum() / (pred**2).sum()
    return float(1000 * np.linalg.norm(scale * pred @ ((u * sign) @ vt).T - target, axis=1).mean())


def best_of(times: int, call: Callable[[], object]) -> float:
    """Seconds of the fastest of ``times`` calls, after one that is not timed."""
    call()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-readers", action="store_true", help="only PA-MPJPE")
    args = parser.parse_args()
    result: dict[str, Any] = pose_rates()
    if not args.skip_readers:
        from benchmarks.dataset_rates import rates  # and the tests' generators, with what they need

        result["readers"] = rates()
    print(json.dumps(result))


def pose_rates() -> dict[str, Any]:
    """PA-MPJPE, ours and numpy's."""
    rng = generator("benchmarks.metrics")
    target = rng.normal(size=(POSES, JOINTS, 3)) * (0.3, 0.6, 0.15)
    pred = target + 0.05 * rng.normal(size=target.shape)
    pred_f32, target_f32 = (torch.from_numpy(points.astype(np.float32)) for points in (pred, target))
    pred, target = pred_f32.double().numpy(), target_f32.double().numpy()

    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    seconds = {}
    for n in (1, threads):
        torch.set_num_threads(n)
        seconds[n] = best_of(10, lambda: pa_mpjpe(pred_f32, target_f32))
    values = pa_mpjpe(pred_f32[:NUMPY_POSES], target_f32[:NUMPY_POSES]).numpy()

    def loop() -> np.ndarray:
        pairs = zip(pred[:NUMPY_POSES], target[:NUMPY_POSES], strict=True)
        return np.array([numpy_pa_mpjpe(p, t) for p, t in pairs])

    numpy_s = best_of(3, loop) * POSES / NUMPY_POSES
    return {
        "benchmark": "metrics",
        "poses": POSES,
        "joints": JOINTS,
        "numpy_poses": NUMPY_POSES,
        "threads": threads,
        "ours_s": round(seconds[threads], 4),
        "one_thread_s": round(seconds[1], 4),
        "numpy_s": round(numpy_s, 4),
        "ratio": round(numpy_s / seconds[threads], 1),
        "max_difference_mm": float(np.abs(values - loop()).max()),
    }


if __name__ == "__main__":
    main()
