"""Which frame of a motion a sample shows.

The motion synthesis module gives many poses for one challenge (PoseSyn §3.2: hundreds of frames that pass near the true
pose). A slot shows one of them: any ("uniform", as the paper takes all), or the one that explains the challenge's
labelled 2D joints best ("labels", which the paper does not do).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from human.rng import generator

Select = Literal["uniform", "labels"]
SELECTS: tuple[Select, ...] = ("uniform", "labels")


def usable_frames(jumps_MT: Tensor, ends_M: Tensor, first: int) -> Tensor:
    """(M, T) frames that may be shown: from ``first`` on, before the motion's end and before the first jump there.

    Jumps before that are the held pose's (its features start with one) and are not shown.
    """
    frame_T = torch.arange(jumps_MT.shape[1], device=jumps_MT.device)
    shown_T = frame_T >= first
    return ((jumps_MT & shown_T).cumsum(1) == 0) & (frame_T < ends_M[:, None]) & shown_T


def pick_uniform(usable_SC: Tensor, seeds: Sequence[int]) -> Tensor:
    """(S,) one usable candidate of each row, -1 where it has none; by the row's own seed."""
    draw_S = torch.tensor([generator("pick", int(s)).random() for s in seeds], dtype=torch.float64)
    count_S = usable_SC.sum(1).cpu()
    nth_S = (draw_S * count_S).long().clamp_max((count_S - 1).clamp_min(0))
    # The candidate before which exactly nth usable ones lie.
    place_SC = usable_SC.cpu().long().cumsum(1) - 1
    chosen_S = ((place_SC == nth_S[:, None]) & usable_SC.cpu()).to(torch.int8).argmax(1)
    return torch.where(count_S > 0, chosen_S, -1)


def pick_by_labels(error_SC: Tensor, usable_SC: Tensor) -> Tensor:
    """(S,) the usable candidate of the least error, the first among equals; -1 where a row has none."""
    error_SC = error_SC.nan_to_num(torch.inf).masked_fill(~usable_SC, torch.inf)
    # A person without labels has infinite errors everywhere: any usable frame will do.
    first_S = usable_SC.to(torch.int8).argmax(1)
    chosen_S = torch.where(error_SC.amin(1).isfinite(), error_SC.argmin(1), first_S)
    return torch.where(usable_SC.any(1), chosen_S, -1).cpu()
