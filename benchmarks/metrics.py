"""How long PA-MPJPE of 100,000 poses takes: ``python -m benchmarks.metrics`` prints one line of JSON.

``ours_s`` is :func:`metrics.functional.pa_mpjpe` on float32 tensors, the best of three; ``numpy_s`` the usual loop, one
numpy SVD per pose, timed on ``numpy_poses`` of them and scaled up; ``ratio`` is the second by the first.
"""

from __future__ import annotations

import json
import time

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


def main() -> None:
    rng = generator("benchmarks.metrics")
    target = rng.normal(size=(POSES, JOINTS, 3)) * (0.3, 0.6, 0.15)
    pred = target + 0.05 * rng.normal(size=target.shape)
    pred_f32, target_f32 = (torch.from_numpy(points.astype(np.float32)) for points in (pred, target))
    pred, target = pred_f32.double().numpy(), target_f32.double().numpy()

    torch.set_num_threads(1)  # core against core: the loop uses one
    pa_mpjpe(pred_f32[:4096], target_f32[:4096])
    ours = []
    for _ in range(3):
        start = time.perf_counter()
        values = pa_mpjpe(pred_f32, target_f32)
        ours.append(time.perf_counter() - start)
    start = time.perf_counter()
    reference = [numpy_pa_mpjpe(p, t) for p, t in zip(pred[:NUMPY_POSES], target[:NUMPY_POSES], strict=True)]
    numpy_s = (time.perf_counter() - start) * POSES / NUMPY_POSES
    result = {
        "benchmark": "pa_mpjpe",
        "poses": POSES,
        "joints": JOINTS,
        "numpy_poses": NUMPY_POSES,
        "threads": 1,
        "ours_s": round(min(ours), 4),
        "numpy_s": round(numpy_s, 4),
        "ratio": round(numpy_s / min(ours), 1),
        "max_difference_mm": float(np.abs(values[:NUMPY_POSES].numpy() - reference).max()),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
