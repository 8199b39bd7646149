"""Full rendered samples per second: ``python -m benchmarks.render`` prints one JSON line.

A sample is all of it: pose and camera, body, clothes, light and shadow, background, sensor, labels.

* ``per_second_128``, ``per_second_256``: in ``--workers`` loader processes (default: one per core), as in training
* ``per_second_128_one``, ``..._256_one``: in this process, one thread; its halves are ``stage_ms_...``, ``draw_ms_...``
* ``cuda_per_second_...``: staged in the workers and drawn on the GPU; null where there is none
* ``pytorch3d_per_second_...``: the same dressed meshes through PyTorch3D's rasteriser *alone*, at the same
  supersampling (it knows no garment borders: every garment is drawn whole); null where it is not installed
* ``peak_memory_mb_...``: of the largest loader process

``--plot FILE`` also measures how the time grows with the batch and with the number of triangles, and draws it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.raster import milliseconds
from datamodules.sources import RenderedSource
from human.errors import PosesynError
from human.raster import rasterise
from human.shading import supersampled_intrinsics
from synth.engines.rendered import RenderedEngine
from synth.shot import Shot

BATCH = 32
SIZES = (128, 256)


class Keys(Dataset[Any]):
    """Batches of the per-step source by number, and the memory of the process that made them."""

    def __init__(self, size: int, place: str) -> None:
        self.size, self.place = size, place
        self.source: RenderedSource | None = None

    def __getitem__(self, number: int) -> tuple[Any, float]:
        if self.source is None:
            self.source = source(self.size, self.place)
        batch = self.source.fetch(keys(number * BATCH, BATCH))
        return batch, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def __len__(self) -> int:
        return 1 << 30


def source(size: int, place: Any = "worker") -> RenderedSource:
    made = RenderedSource(place=place)
    made.prepare(size, Path())
    return made


def keys(first: int, count: int) -> np.ndarray:
    """(count, 4) sample keys of an unlimited source."""
    out = np.full((count, 4), -1, np.int64)
    out[:, 0], out[:, 3] = 0, np.arange(first, first + count)
    return out


def one_process(size: int, seconds: float) -> dict[str, Any]:
    """This process, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    maker = source(size, "device")
    staged, drawn, made = 0.0, 0.0, -BATCH
    while made < 0 or staged + drawn < seconds:
        start = time.perf_counter()
        shot = maker.fetch(keys(made + BATCH, BATCH))
        middle = time.perf_counter()
        maker.draw(shot)
        end = time.perf_counter()
        if made >= 0:  # the first batch compiled kernels and read pictures
            staged, drawn = staged + middle - start, drawn + end - middle
        made += BATCH
    torch.set_num_threads(threads)
    return {
        f"per_second_{size}_one": round(made / (staged + drawn), 1),
        f"stage_ms_{size}": round(1000 * staged / made, 2),
        f"draw_ms_{size}": round(1000 * drawn / made, 2),
    }


def in_workers(size: int, workers: int, seconds: float, device: str = "cpu") -> dict[str, Any]:
    """Loader processes, as in training; on a GPU they stage and the pictures are drawn here."""
    cuda = device == "cuda"
    loader = DataLoader(
        Keys(size, "device" if cuda else "worker"),
        batch_size=None,
        sampler=range(1 << 20),  # type: ignore[arg-type]
        num_workers=workers,
        multiprocessing_context="forkserver",
        worker_init_fn=_one_thread,
        prefetch_factor=4,
    )
    drawer = source(size, "device") if cuda else None
    batches = iter(loader)

    warm, made, peak, start = 6 * workers, 0, 0.0, 0.0
    for number, (batch, memory) in enumerate(batches):
        if drawer is not None:
            drawer.draw(batch.to(device))
            torch.cuda.synchronize()
        if number < warm:  # what the workers made while starting
            start = time.perf_counter()
            continue
        made, peak = made + BATCH, max(peak, memory)
        if time.perf_counter() - start > seconds:
            break
    rate = made / (time.perf_counter() - start)
    del batches
    if cuda:
        return {f"cuda_per_second_{size}": round(rate, 1)}
    return {f"per_second_{size}": round(rate, 1), f"peak_memory_mb_{size}": round(peak)}


def on_device_alone(size: int, repeats: int = 10, batch: int = 256) -> dict[str, Any]:
    """Pictures per second of a GPU that is handed ready shots."""
    maker = source(size, "device")
    shot = maker.fetch(keys(0, batch)).to("cuda")
    took = milliseconds(lambda: maker.draw(shot), repeats, "cuda")
    return {f"cuda_draw_per_second_{size}": round(1000 * batch / took, 1)}


def meshes(size: int, count: int) -> tuple[RenderedEngine, torch.Tensor, torch.Tensor]:
    """Dressed bodies (B,V,3) and the intrinsics of their supersampled pictures."""
    maker = source(size, "device")
    engine, shot = maker.engine, maker.fetch(keys(0, count))
    assert isinstance(engine, RenderedEngine)
    assert isinstance(shot, Shot)
    return engine, engine.meshes(shot.person).vertices, supersampled_intrinsics(shot.intrinsics, engine.supersample)


def pytorch3d(size: int, count: int = 2) -> dict[str, Any]:
    """Rasterisation alone, PyTorch3D against ours."""
    engine, vertices, cameras = meshes(size, count)
    side = (size * engine.supersample,) * 2
    faces = engine.dressed.faces
    try:
        rasterise(vertices, faces[:1], cameras, (8, 8), "pytorch3d")
        took = milliseconds(lambda: rasterise(vertices, faces, cameras, side, "pytorch3d"), 1, "cpu")
    except PosesynError as error:
        return {f"pytorch3d_per_second_{size}": None, "note": str(error)}
    ours = milliseconds(lambda: rasterise(vertices, faces, cameras, side), 20, "cpu")
    return {
        f"pytorch3d_per_second_{size}": round(1000 * count / took, 3),
        f"raster_ratio_{size}": round(took / ours),
    }


def growth(path: Path) -> dict[str, Any]:
    """Milliseconds per picture over batch size (whole draw) and over triangles (rasteriser), as a plot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    torch.set_num_threads(1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
    result: dict[str, Any] = {}
    sizes = (1, 2, 4, 8, 16, 32, 64)
    for size in SIZES:
        maker = source(size, "device")
        shots = maker.fetch(keys(0, max(sizes)))
        times = [milliseconds(partial(maker.draw, shots[:n]), 5, "cpu") / n for n in sizes]
        left.plot(sizes, times, "o-", label=f"{size} px")
        result[f"draw_ms_by_batch_{size}"] = dict(zip(sizes, (round(t, 2) for t in times), strict=True))
        engine, vertices, cameras = meshes(size, 8)
        faces, counts, took = engine.dressed.faces.long(), [], []
        side = (size * engine.supersample,) * 2
        for _ in range(4):
            took.append(milliseconds(partial(rasterise, vertices, faces, cameras, side), 5, "cpu") / 8)
            counts.append(len(faces))
            vertices, faces = split(vertices, faces)
        right.plot(counts, took, "o-", label=f"{size} px")
        result[f"raster_ms_by_triangles_{size}"] = dict(zip(counts, (round(t, 2) for t in took), strict=True))
    left.set(xscale="log", xlabel="pictures in a batch", ylabel="ms per picture, whole draw", ylim=(0, None))
    right.set(xscale="log", xlabel="triangles", ylabel="ms per picture, rasteriser", ylim=(0, None))
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    return result


def split(vertices_BV3: torch.Tensor, faces_F3: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every triangle into four, at the middles of its sides."""
    a, b, c = faces_F3.unbind(1)
    edges, place = torch.stack([a, b, b, c, c, a], 1).view(-1, 2).sort(1).values.unique(dim=0, return_inverse=True)
    middle = (vertices_BV3[:, edges[:, 0]] + vertices_BV3[:, edges[:, 1]]) / 2
    ab, bc, ca = (place.view(-1, 3) + vertices_BV3.shape[1]).unbind(1)
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return torch.cat([vertices_BV3, middle], 1), torch.cat([torch.stack(p, 1) for p in parts])


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each rate")
    parser.add_argument("--skip-pytorch3d", action="store_true", help="it takes half a minute per picture")
    parser.add_argument("--plot", type=Path, help="measure growth too and write this picture")
    args = parser.parse_args()
    cuda = torch.cuda.is_available()
    result: dict[str, Any] = {"workers": args.workers, "device": torch.cuda.get_device_name() if cuda else "cpu"}
    for size in SIZES:
        result |= in_workers(size, args.workers, args.seconds)
        result |= one_process(size, args.seconds)
        result |= in_workers(size, args.workers, args.seconds, "cuda") if cuda else {f"cuda_per_second_{size}": None}
        if cuda:
            result |= on_device_alone(size)
        if not args.skip_pytorch3d:
            result |= pytorch3d(size)
    if args.plot:
        result |= growth(args.plot)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
