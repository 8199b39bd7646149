"""Sums over the ranks that share a global batch.

A loss is a mean over the samples of the global batch that have a label. A mean of the ranks' own means is another
number wherever one rank has more labels than another; so each rank divides its own sum by the mean over ranks of what
there is to divide by. The average of the ranks' gradients, which DDP and FSDP take, is then the gradient of the loss of
the whole batch. Without ranks all of these return what they are given.

Every rank must call them equally often: never under a condition that depends on a rank's own samples.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


def place() -> tuple[int, int]:
    """Number of this rank and how many there are."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def rank_sum(x: Tensor) -> Tensor:
    """The sum over ranks, without gradient."""
    return _all_reduce(x.detach()) if place()[1] > 1 else x


def rank_mean(x: Tensor) -> Tensor:
    """The mean over ranks, without gradient: of a denominator, or of a figure to log."""
    ranks = place()[1]
    return rank_sum(x) / ranks if ranks > 1 else x


def whole_batch(x_BX: Tensor) -> Tensor:
    """The rows of all ranks in the order of the global batch, of which rank r of n has every n-th from r on."""
    return _all_gather(x_BX).transpose(0, 1).flatten(0, 1) if place()[1] > 1 else x_BX


@torch.no_grad()
def same_statistics(module: nn.Module) -> None:
    """Every rank has the running statistics of rank 0: each rank's own are of the samples that it saw itself."""
    if place()[1] == 1:
        return
    buffers = [
        buffer
        for part in module.modules()
        if getattr(part, "running_mean", None) is not None
        for buffer in part.buffers(recurse=False)
        if buffer.is_floating_point()
    ]
    if buffers:
        flat = torch.cat([b.flatten() for b in buffers])
        dist.broadcast(flat, 0)
        for buffer, value in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(value.view_as(buffer))


def _all_reduce(x: Tensor) -> Tensor:
    total = x.clone()
    dist.all_reduce(total)
    return total


def _all_gather(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x) for _ in range(place()[1])]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts)
