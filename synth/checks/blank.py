"""Pictures that show nothing: what an engine hands over when its numbers overflowed or its safety checker struck."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from human.batch import PoseBatch
from human.errors import PosesynError
from synth.checks.base import CHECKS, Check, Checked


@CHECKS.register("not_blank")
class NotBlank(Check):
    """Removes flat pictures, and samples with a label that is not a finite number.

    A picture is flat where all channels' grey values spread less than ``spread`` within nearly every one of 8 x 8
    tiles: a gradient or a noisy black is flat, a person before a plain wall is not.

    Args:
        spread: standard deviation within a tile that counts as content, grey values of 255.
        tiles: how many tiles of 64 must have content.

    Figures: ``tiles`` with content.
    """

    name: ClassVar[str] = "not_blank"

    def __init__(self, spread: float = 4.0, tiles: int = 4) -> None:
        if not (spread > 0 and 1 <= tiles <= 64):
            raise PosesynError(f"check not_blank needs spread > 0 and tiles from 1 to 64, got {spread} and {tiles}")
        self.spread, self.tiles = spread, tiles

    def config(self) -> dict[str, Any]:
        return {"spread": self.spread, "tiles": self.tiles, "version": 1}

    def __call__(self, batch: PoseBatch) -> Checked:
        grey = batch.image.float().nan_to_num(0.0).mean(1, keepdim=True)  # a picture of floats may hold NaN
        side = max(2, min(grey.shape[-2:]) // 8)
        tiles = torch.nn.functional.unfold(grey, side, stride=side)  # (B, side * side, tiles)
        count = (tiles.std(1, correction=0) > self.spread).sum(-1)
        share = count * 64 / max(tiles.shape[-1], 1)
        passed = (share >= self.tiles) & finite_labels(batch)
        return Checked(batch, passed.numpy(), {"tiles": count.double().numpy()})


def finite_labels(batch: PoseBatch) -> Tensor:
    """(B,) bool: every label that is there is a finite number."""

    def whole(value: Tensor, there: Tensor) -> Tensor:
        there = there.view(*there.shape, *[1] * (value.ndim - there.ndim))
        return (torch.isfinite(value) | ~there).reshape(len(value), -1).all(1)

    yes = torch.ones(len(batch), dtype=torch.bool)
    parts = [
        whole(batch.joints2d, batch.joints2d_conf != 0),
        whole(batch.joints3d, batch.joints3d_conf != 0),
        whole(batch.global_orient, batch.has_pose),
        whole(batch.body_pose, batch.has_pose),
        whole(batch.betas, batch.has_betas),
        whole(batch.transl, batch.has_transl),
        *(whole(v, yes) for v in (batch.joints2d_conf, batch.joints3d_conf, batch.intrinsics, batch.weight)),
    ]
    return torch.stack(parts).all(0)
