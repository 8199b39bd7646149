"""Our rasteriser against PyTorch3D's, on the CPU, in one process: ``python -m benchmarks.raster``.

Draws the free body (every vertex and face of it) filling most of a 256 x 256 image and prints one JSON line.
``ratio`` is PyTorch3D's time for one image over ours per image in a batch of 8 different bodies; the time of a single
image is there too. Errors compare the same single image. Both use one CPU thread by default. CUDA figures are null
where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from human.body import load_body
from human.errors import PosesynError
from human.raster import Fragments, rasterise

BATCH = 8
FILL = 0.95
DISTANCE = 4.0


def scene(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Eight T-poses of different shape facing the camera, each framed: vertices (8,V,3), faces, intrinsics (8,3,3)."""
    body = load_body("free")
    betas = torch.zeros(BATCH, body.num_betas)
    betas[:, 0] = torch.linspace(0, 2, BATCH)
    upright = torch.tensor([torch.pi, 0.0, 0.0]).expand(BATCH, 3)
    with torch.no_grad():
        verts = body(betas, torch.zeros(BATCH, 23, 3), upright, None).vertices
    verts = verts - (verts.amax(1, keepdim=True) + verts.amin(1, keepdim=True)) / 2
    verts[..., 2] += DISTANCE
    reach = (verts[..., :2] / verts[..., 2:]).abs().amax((1, 2))
    intrinsics = torch.eye(3).repeat(BATCH, 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = FILL * size / 2 / reach
    intrinsics[:, :2, 2] = (size - 1) / 2
    return verts, body.faces, intrinsics


def milliseconds(draw: Callable[[], Any], repeats: int, device: str) -> float:
    """Median time of ``draw`` after one warming call (none when it runs once)."""
    times = []
    for i in range(repeats if repeats == 1 else repeats + 1):
        start = time.perf_counter()
        draw()
        if device == "cuda":
            torch.cuda.synchronize()
        if repeats == 1 or i > 0:
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(size: int, repeats: int, threads: int) -> dict[str, Any]:
    """The figures, by name."""
    torch.set_num_threads(threads)
    verts, faces, intrinsics = scene(size)
    result: dict[str, Any] = {
        "size": size,
        "faces": len(faces),
        "vertices": verts.shape[1],
        "batch": BATCH,
        "cpu": platform.processor() or platform.machine(),
        "threads": threads,
    }
    for device in ("cpu", "cuda"):
        if device == "cuda" and not torch.cuda.is_available():
            result |= dict.fromkeys(("ours_cuda_ms", "ours_cuda_single_ms", "pytorch3d_cuda_ms"))
            continue
        v, f, k = verts.to(device), faces.to(device), intrinsics.to(device)
        whole = milliseconds(partial(rasterise, v, f, k, (size, size), threads=threads), repeats, device)
        single = milliseconds(partial(rasterise, v[:1], f, k[:1], (size, size)), repeats, device)
        result |= {f"ours_{device}_ms": whole / BATCH, f"ours_{device}_single_ms": single}
        result |= pytorch3d(v[:1], f, k[:1], size, device)
    theirs = result["pytorch3d_cpu_ms"]
    result["ratio"] = None if theirs is None else theirs / result["ours_cpu_ms"]
    result["ratio_single"] = None if theirs is None else theirs / result["ours_cpu_single_ms"]
    return result


def pytorch3d(v: torch.Tensor, f: torch.Tensor, k: torch.Tensor, size: int, device: str) -> dict[str, Any]:
    """One timed image by PyTorch3D, and on the CPU how it differs from ours; null with a note when it is absent."""
    drawn: list[Fragments] = []
    try:
        # A tiny scene first: importing the package is not rasterising, and an absent one is reported here.
        rasterise(v, f[:1], k, (8, 8), "pytorch3d")
        took = milliseconds(lambda: drawn.append(rasterise(v, f, k, (size, size), "pytorch3d")), 1, device)
    except PosesynError as error:
        keys = ["pytorch3d_cpu_ms", "mask_iou", "depth_max_err_mm", "depth_max_err_same_face_mm", "same_face"]
        return dict.fromkeys(keys if device == "cpu" else ["pytorch3d_cuda_ms"]) | {"note": str(error)}
    if device == "cuda":
        return {"pytorch3d_cuda_ms": took}
    ours, theirs = rasterise(v, f, k, (size, size)), drawn[0]
    both = ours.mask & theirs.mask
    agree = both & (ours.face == theirs.face)
    difference = 1000 * (ours.depth - theirs.depth).abs()
    return {
        "pytorch3d_cpu_ms": took,
        "coverage": ours.mask.float().mean().item(),
        "mask_iou": (both.sum() / (ours.mask | theirs.mask).sum()).item(),
        "same_face": (agree.sum() / both.sum()).item(),
        "depth_max_err_mm": difference[both].max().item(),
        "depth_max_err_same_face_mm": difference[agree].max().item(),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="image side in pixels")
    parser.add_argument("--repeats", type=int, default=30, help="timed repeats of ours; PyTorch3D runs once")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, for torch and for ours")
    args = parser.parse_args()
    print(json.dumps(measure(args.size, args.repeats, args.threads)))


if __name__ == "__main__":
    main()
