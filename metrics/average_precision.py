"""Average precision of key points under a protocol: whose predictions, in which pictures, and COCO's evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from human.errors import PosesynError
from human.rng import generator
from metrics.bodies import named
from metrics.functional.coco import AP_NAMES, keypoint_ap
from metrics.functional.coco_resampled import resampled_ap
from metrics.protocols.base import Protocol
from metrics.truth import Predictions, Truth

Array = npt.NDArray[Any]
#: What :func:`metrics.functional.coco.keypoint_ap` calls them, by our names.
FIGURES = dict(
    zip(("ap", "ap_50", "ap_75", "ap_m", "ap_l", "ar", "ar_50", "ar_75", "ar_m", "ar_l"), AP_NAMES, strict=True)
)


def average_precision(
    protocol: Protocol, predicted: Predictions, truth: Truth, resamples: int = 0
) -> dict[str, tuple[float, float, float]]:
    """The ten figures of COCO's evaluator, %, by the names in :data:`FIGURES`, each with its 95 % interval (pictures
    drawn with replacement ``resamples`` times; NaN without); NaN for a size that nobody has.

    The truth needs "state" (COCO's v), "bbox_xyxy", "area" and, where there are any, "crowd". A prediction is matched
    within its picture, whoever it was made for; where ``predicted.pictures`` is empty its id must be of the truth.
    ``score`` orders the predictions (all alike without). Persons whose joints are not all finite are no predictions.
    """
    if predicted.joints2d is None:
        raise PosesynError(f"{protocol.name} needs 2D joints, the predictions have none")
    pictures, own = _pictures(protocol, predicted, truth)
    number = {name: i for i, name in enumerate(dict.fromkeys([*pictures, *own]))}
    points = named(truth["native2d"], truth.skeleton, protocol.truth.names)
    state = named(truth["state"][..., None], truth.skeleton, protocol.truth.names)[..., 0]
    score = np.ones(len(predicted)) if predicted.score is None else np.asarray(predicted.score, np.float64)
    box = torch.as_tensor(np.asarray(truth["bbox_xyxy"], np.float64))
    drawn: list[Array] = []

    def resample(evaluation: Any) -> None:
        count = len(number)
        rng = generator("bootstrap", protocol.hash)
        times = rng.multinomial(count, np.full(count, 1 / count), resamples).astype(np.float64)
        drawn.append(resampled_ap(evaluation, times))

    found = keypoint_ap(
        named(predicted.joints2d, predicted.skeleton, protocol.prediction.names),
        torch.as_tensor(score),
        torch.tensor([number[name] for name in own]),
        points[..., :2],
        torch.where(points[..., 2] > 0, state, 0.0),
        torch.as_tensor(np.array(truth["area"])),
        torch.tensor([number[name] for name in pictures]),
        torch.cat([box[:, :2], box[:, 2:] - box[:, :2]], 1),
        torch.as_tensor(np.array(truth["crowd"])) if "crowd" in truth.columns else None,
        watch=resample if resamples > 1 and len(number) > 1 else None,
    )
    out = {}
    for k, (ours, its) in enumerate(FIGURES.items()):
        value = float("nan") if found[its] < 0 else 100 * found[its]
        low = high = float("nan")
        if drawn and np.isfinite(value) and np.isfinite(drawn[0][:, k]).any():
            low, high = np.nanpercentile(100 * drawn[0][:, k], [2.5, 97.5]).tolist()
        out[ours] = (value, low, high)
    return out


def _pictures(protocol: Protocol, predicted: Predictions, truth: Truth) -> tuple[list[str], list[str]]:
    """Each person's picture, of the truth and of the predictions."""
    pictures = list(truth.pictures)
    if len(predicted.pictures):
        return pictures, list(predicted.pictures)
    of = dict(zip(truth.ids, pictures, strict=True))
    unknown = next((i for i in predicted.ids if i not in of), None)
    if unknown is not None:
        raise PosesynError(
            f"{protocol.name}: the prediction {unknown!r} is of no person of {truth.dataset} and does not say its "
            "picture: give `pictures`"
        )
    return pictures, [of[i] for i in predicted.ids]
