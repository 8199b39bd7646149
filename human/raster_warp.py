"""The Warp backend of :mod:`human.raster`: launches the kernels of :mod:`human.raster_kernels` on torch tensors.

Importing this module starts Warp, so it is imported at the first call.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import warp as wp

from human import raster_kernels as kernels
from human.errors import PosesynError

#: On the CPU a batch is drawn this many pixels at a time (and at least one image), to stay in the cache.
CHUNK = 1 << 17


_View = type(wp.from_torch(torch.empty(0), return_ctype=True))  # Warp's array descriptors have no public name


def launch(
    kernel: Any,
    batch: int,
    items: int,
    inputs: list[Any],
    outputs: list[Any],
    device: torch.device,
    *,
    span: int | None = None,
) -> None:
    """Run a kernel whose threads are (image, group of ``span`` items); ``span`` is passed between inputs and outputs.

    A tensor is passed as an array of the type that the kernel declares there, without a copy; its last dimensions are
    the components of vectors. (Making ``wp.array`` objects of them takes longer than many a kernel runs.)

    A Warp thread costs an integer division or two on the CPU, so there a thread works through many items. On CUDA it
    takes one (or ``span``), on torch's current stream.
    """
    cuda = device.type == "cuda"
    span = span or (1 if cuda else 1024)
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if cuda else None
    declared, before = kernel.adj.args, len(inputs) + 1
    first = [_argument(kernel, a, value) for a, value in zip(declared, inputs, strict=False)]
    last = [_argument(kernel, a, value) for a, value in zip(declared[before:], outputs, strict=False)]
    dim = (batch, -(-items // span))
    where = wp.device_from_torch(device) if cuda else "cpu"
    wp.launch(kernel, dim, [*first, span], last, device=where, stream=stream)


def _argument(kernel: Any, declared: Any, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = vectors(value, declared.type.dtype)
    if isinstance(value, _View) and value.ndim != declared.type.ndim:
        raise PosesynError(
            f"kernel {kernel.key}: {declared.label} has {value.ndim} dimensions; give {declared.type.ndim}"
        )
    return value


def vectors(tensor: torch.Tensor, dtype: Any) -> Any:
    """Zero-copy view of a contiguous tensor as an array of vectors or matrices; it keeps the tensor alive."""
    return wp.from_torch(tensor, dtype=dtype, return_ctype=True)


def rasterise(
    verts_BV3: torch.Tensor,
    faces_F3: torch.Tensor,
    cameras_B23: torch.Tensor,
    size: tuple[int, int],
    near: float,
    cull_backfaces: bool,
    threads: int,
    cut_BV: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Validated float32/int32 contiguous tensors -> face (B,H,W), bary (B,H,W,3), depth (B,H,W).

    ``cut_BV`` with V = 0 cuts nothing.
    """
    device = verts_BV3.device
    batch, count = verts_BV3.shape[:2]
    height, width = size
    pixels = height * width
    face = torch.empty((batch, pixels), dtype=torch.int32, device=device)
    bary = torch.empty((batch, pixels, 3), dtype=torch.float32, device=device)
    depth = torch.empty((batch, pixels), dtype=torch.float32, device=device)
    triangles = vectors(faces_F3, wp.vec3i)
    settings = [height, width, len(faces_F3) if cull_backfaces else 0]

    def draw(first: int, last: int) -> None:
        step = max(1, CHUNK // pixels) if device.type == "cpu" else max(1, batch)
        screen_buffer = torch.empty((min(step, last - first), count, 3), dtype=torch.int32, device=device)
        z_buffer = torch.empty((min(step, last - first), pixels), dtype=torch.int64, device=device)
        for i in range(first, last, step):
            j = min(i + step, last)
            n = j - i
            screen = vectors(screen_buffer[:n], wp.vec3i)
            keys = wp.from_torch(z_buffer[:n].zero_())
            cut = wp.from_torch(cut_BV[i:j])
            verts = [vectors(verts_BV3[i:j], wp.vec3), vectors(cameras_B23[i:j], kernels.mat23), cut, near]
            launch(kernels.project_kernel, n, count, verts, [screen], device)
            launch(kernels.raster_kernel, n, len(faces_F3), [screen, triangles, cut, *settings], [keys], device)
            outputs = [wp.from_torch(face[i:j]), vectors(bary[i:j], wp.vec3), wp.from_torch(depth[i:j])]
            launch(kernels.resolve_kernel, n, pixels, [keys, screen, triangles, width], outputs, device)

    if threads == 1 or batch == 1 or device.type == "cuda":
        draw(0, batch)
    else:
        wp.load_module(kernels, device="cpu")
        bounds = [batch * t // threads for t in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(draw, bounds[:-1], bounds[1:]))
    return face.view(batch, height, width), bary.view(batch, height, width, 3), depth.view(batch, height, width)
