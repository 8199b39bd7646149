"""Lengths that errors in pixels are measured in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from human.errors import PosesynError
from metrics.bodies import named
from metrics.functional import box_side, head_size

if TYPE_CHECKING:
    from metrics.case import Case

_TORSO = ("left_shoulder", "right_hip")


def normaliser(case: Case) -> Tensor:
    """(B,) px, NaN where the truth does not say."""
    kind, truth = case.protocol.normaliser, case.truth
    if kind == "px":
        return torch.ones(len(truth), dtype=torch.float64)
    if kind == "head":
        if "head_size" in truth.columns:  # some files have the length alone, without the box
            return torch.as_tensor(truth["head_size"]).double()
        return head_size(torch.as_tensor(truth["head_box"]))
    if kind in ("torso", "torso_or_predicted"):
        ends = named(truth["native2d"], truth.skeleton, _TORSO)
        length = torch.linalg.vector_norm(ends[:, 0, :2] - ends[:, 1, :2], dim=-1)
        if kind == "torso":
            return torch.where((ends[..., 2] > 0).all(1), length, torch.nan)
        # JHMDB in mmpose: a torso of less than a pixel is the predicted one's length.
        own = named(case.predicted.joints2d, case.predicted.skeleton, _TORSO)
        return torch.where(length < 1, torch.linalg.vector_norm(own[:, 0] - own[:, 1], dim=-1), length)
    if kind == "box":
        return box_side(case.truth2d, case.weight)
    if kind == "bbox":
        box = torch.as_tensor(truth["bbox_xyxy"]).double()
        return (box[:, 2:] - box[:, :2]).amax(1)
    if kind == "crop":
        return torch.as_tensor(truth["crop"]).double()[:, 2]
    raise PosesynError(f"protocol {case.protocol.name}: no normaliser is called {kind!r}")
