"""Measures that need more than one person at a time: motion, and the average precision of a whole set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from human.skeleton import get_skeleton
from metrics.bodies import named
from metrics.case import NotMeasured
from metrics.functional import COCO_SIGMAS, acceleration_error
from metrics.functional.coco import AP_NAMES, keypoint_ap
from metrics.protocols.base import Protocol
from metrics.truth import Predictions, Truth

#: (predicted, true, weight of the compared joints; protocol, truth) to (N,) values, NaN where there is none.
SequenceMeasure = Callable[[Tensor, Tensor, Tensor, Protocol, Truth], Tensor]


def acceleration(predicted: Tensor, true: Tensor, weight: Tensor, protocol: Protocol, truth: Truth) -> Tensor:
    """m/s^2, of each frame of each track; ``settings``: fps (30), margin (0)."""
    frame = torch.as_tensor(np.asarray(truth["frame"], np.int64))
    person = np.asarray(truth["person"]) if "person" in truth.columns else np.zeros(len(truth), np.int64)
    track = np.unique(np.stack([np.asarray(truth["sequence"]), person], 1), axis=0, return_inverse=True)[1]
    group = torch.as_tensor(track.reshape(-1))
    order = torch.as_tensor(np.lexsort((frame.numpy(), group.numpy())))
    settings = protocol.settings
    error = acceleration_error(
        predicted[order],
        true[order],
        fps=float(settings.get("fps", 30)),
        weight_TJ=weight[order],
        frames_T=frame[order],
        sequence_T=group[order],
        margin=int(settings.get("margin", 0)),
    )
    out = torch.full_like(error, torch.nan)
    out[order] = error
    return out


SEQUENCE_MEASURES: dict[str, tuple[SequenceMeasure, str]] = {"accel": (acceleration, "m/s^2")}

#: Names of protocols' metrics to COCO's.
AP_METRICS = {f"oks_{name.lower()}": name for name in AP_NAMES}


def average_precision(protocol: Protocol, predicted: Predictions, truth: Truth) -> dict[str, float]:
    """COCO's figures by the names in :data:`AP_METRICS`, in %; -1 (nothing to find) is NaN.

    ``predicted``: detections with ``pictures`` and ``score``, or a person each of the truth, in that one's picture.
    """
    if predicted.joints2d is None:
        raise NotMeasured("the predictions have no 2D joints")
    names = protocol.prediction.names
    known = get_skeleton(predicted.skeleton).joints
    if absent := [n for n in names if n not in known]:
        raise NotMeasured(f"predictions of {predicted.skeleton} have no {', '.join(absent)}")
    number = {name: i for i, name in enumerate(dict.fromkeys(truth.pictures))}
    if len(predicted.pictures):
        places = list(predicted.pictures)
    else:
        where = dict(zip(truth.ids, truth.pictures, strict=True))
        places = [where.get(i, "") for i in predicted.ids]
    here = [k for k, place in enumerate(places) if place in number]
    joints = named(predicted.joints2d, predicted.skeleton, names)[here]
    score = torch.ones(len(predicted)) if predicted.score is None else torch.as_tensor(np.asarray(predicted.score))
    labels = named(truth["native2d"], truth.skeleton, protocol.truth.names)
    box = torch.as_tensor(np.asarray(truth["bbox_xyxy"], np.float64))
    found = keypoint_ap(
        joints,
        score[here],
        torch.tensor([number[places[k]] for k in here], dtype=torch.int64),
        labels[..., :2],
        (labels[..., 2] > 0).long(),
        torch.as_tensor(np.asarray(truth["area"], np.float64)),
        torch.tensor([number[p] for p in truth.pictures], dtype=torch.int64),
        torch.cat([box[:, :2], box[:, 2:] - box[:, :2]], 1),
        torch.as_tensor(np.asarray(truth["crowd"])) if "crowd" in truth.columns else None,
        protocol.settings.get("sigmas", COCO_SIGMAS),
    )
    return {metric: 100 * found[name] if found[name] >= 0 else float("nan") for metric, name in AP_METRICS.items()}
