"""Launches the kernels of :mod:`metrics.functional.procrustes_kernels` on torch tensors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

#: Fewer poses than this are not worth a thread of their own.
_PER_THREAD = 2048


def pa_mpjpe_warp(pred_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None) -> tuple[Tensor, Tensor]:
    """PA-MPJPE (B,) float64 mm by the closed form, and the indices of the poses that it cannot do.

    Those are nearly line-like or mirrored poses, and all with numbers that are not finite. ``weight_BJ``: float64 >= 0,
    0 where the target is not finite; None is 1. With weights, a pose that has none is NaN.
    """
    batch, joints = pred_BJ3.shape[:2]
    device = pred_BJ3.device
    error_B = torch.full((batch,), torch.nan, dtype=torch.float64, device=device)
    if batch == 0 or joints == 0:
        return error_B, torch.zeros(0, dtype=torch.int64, device=device)
    if device.type not in ("cpu", "cuda"):  # no Warp there
        return error_B, torch.arange(batch, device=device)
    from human.raster_warp import launch, wp
    from metrics.functional import procrustes_kernels as kernels

    double = torch.float64 in (pred_BJ3.dtype, target_BJ3.dtype)
    dtype = torch.float64 if double else torch.float32  # which holds half precisions exactly
    pred, target = (points.detach().to(dtype).contiguous() for points in (pred_BJ3, target_BJ3))
    given = [pred, target] if weight_BJ is None else [pred, target, weight_BJ.detach().contiguous()]
    kernel = (kernels.PLAIN if weight_BJ is None else kernels.WEIGHTED)[dtype.itemsize]
    hard_B = torch.empty(batch, dtype=torch.uint8, device=device)

    def align(first: int, last: int) -> None:
        part = slice(first, last)
        launch(kernel, 1, last - first, [x[part] for x in given], [error_B[part], hard_B[part]], device)

    threads = min(torch.get_num_threads(), -(-batch // _PER_THREAD)) if device.type == "cpu" else 1
    if threads == 1:
        align(0, batch)
    else:  # Warp runs a launch on the CPU in one thread; Python's lock is free meanwhile
        wp.load_module(kernels, device="cpu")
        bounds = [batch * i // threads for i in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(align, bounds[:-1], bounds[1:]))
    return error_B, hard_B.nonzero()[:, 0]
