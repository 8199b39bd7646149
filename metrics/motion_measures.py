"""Measures of motion, which need whole tracks: acceleration, and a body's way through the world."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from metrics.functional import acceleration_error
from metrics.functional.motion import jitter
from metrics.functional.world import foot_sliding, rte, w_mpjpe, wa_mpjpe
from metrics.protocols.base import Protocol
from metrics.truth import Truth

#: (predicted, true, weight of the compared joints; protocol, truth) to (N,) values, NaN where there is none, or to sums
#: and counts, (N,K) each.
SequenceMeasure = Callable[[Tensor, Tensor, Tensor, Protocol, Truth], Tensor | tuple[Tensor, Tensor]]


def tracks(truth: Truth) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) rows in the order of their tracks (a person in a sequence) and frames; number of the track and frame of
    each, in that order."""
    frame = np.asarray(truth["frame"], np.int64)
    person = np.asarray(truth["person"]) if "person" in truth.columns else np.zeros(len(truth), np.int64)
    track = np.unique(np.stack([np.asarray(truth["sequence"]), person], 1), axis=0, return_inverse=True)[1].reshape(-1)
    order = np.lexsort((frame, track))
    return torch.as_tensor(order), torch.as_tensor(track[order]), torch.as_tensor(frame[order])


def acceleration(predicted: Tensor, true: Tensor, weight: Tensor, protocol: Protocol, truth: Truth) -> Tensor:
    """m/s^2, of each frame of each track; ``settings``: fps (30), margin (0)."""
    order, group, frame = tracks(truth)
    settings = protocol.settings
    error = acceleration_error(
        predicted[order],
        true[order],
        fps=float(settings.get("fps", 30)),
        weight_TJ=weight[order],
        frames_T=frame,
        sequence_T=group,
        margin=int(settings.get("margin", 0)),
    )
    out = torch.full_like(error, torch.nan)
    out[order] = error
    return out


# -- the world -------------------------------------------------------------------------------------------------------
# A truth lies before its camera, and "camera" says where that stood; predictions are in a world of their own, which
# each measure aligns with the true one.
def in_world(points_NJ3: Tensor, truth: Truth) -> Tensor:
    """(N,J,3) metres, from the camera's frame to the world's."""
    camera = torch.as_tensor(np.asarray(truth["camera"], np.float64))
    return (points_NJ3 - camera[:, None, :3, 3]) @ camera[:, :3, :3]  # by the transposed rotation


def _runs(truth: Truth) -> Iterator[Tensor]:
    """Rows of each track in order."""
    order, group, _ = tracks(truth)
    yield from order.split(torch.unique_consecutive(group, return_counts=True)[1].tolist())


def _per_track(function: Callable[[Tensor, Tensor], Tensor]) -> SequenceMeasure:
    """``function`` of the predicted and the true joints (T,J,3) in the world, of one track at a time."""

    def take(predicted: Tensor, true: Tensor, weight: Tensor, protocol: Protocol, truth: Truth) -> Tensor:
        world, out = in_world(true, truth), torch.full((len(true),), torch.nan, dtype=torch.float64)
        for rows in _runs(truth):
            out[rows] = function(predicted[rows], world[rows])
        return out

    return take


def world_jitter(predicted: Tensor, true: Tensor, weight: Tensor, protocol: Protocol, truth: Truth) -> Tensor:
    """Of the prediction alone, per frame; ``settings``: fps (30)."""
    order, group, frame = tracks(truth)
    out = torch.full((len(true),), torch.nan, dtype=torch.float64)
    out[order] = jitter(predicted[order], float(protocol.settings.get("fps", 30)), frame, group)
    return out


def sliding(predicted: Tensor, true: Tensor, weight: Tensor, protocol: Protocol, truth: Truth) -> tuple[Tensor, Tensor]:
    """Over all points of the feet that truly stand, not frame by frame."""
    world, value = in_world(true, truth), torch.full(true.shape[:2], torch.nan, dtype=torch.float64)
    for rows in _runs(truth):
        value[rows] = foot_sliding(predicted[rows], world[rows])
    return value.nansum(1, keepdim=True), value.isfinite().double().sum(1, keepdim=True)


SEQUENCE_MEASURES: dict[str, tuple[SequenceMeasure, str]] = {
    "accel": (acceleration, "m/s^2"),
    "w_mpjpe": (_per_track(w_mpjpe), "mm"),
    "wa_mpjpe": (_per_track(wa_mpjpe), "mm"),
    "rte": (_per_track(lambda predicted, true: rte(predicted[:, 0], true[:, 0])), "%"),
    "jitter": (world_jitter, "10 m/s^3"),
    "foot_sliding": (sliding, "mm"),
}
