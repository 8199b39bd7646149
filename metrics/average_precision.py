"""Average precision of key points under a protocol: whose predictions, in which pictures, and COCO's evaluator."""

from __future__ import annotations

import numpy as np
import torch

from human.errors import PosesynError
from metrics.bodies import named
from metrics.functional.coco import AP_NAMES, keypoint_ap
from metrics.protocols.base import Protocol
from metrics.truth import Predictions, Truth

#: What :func:`metrics.functional.coco.keypoint_ap` calls them, by our names.
FIGURES = dict(
    zip(("ap", "ap_50", "ap_75", "ap_m", "ap_l", "ar", "ar_50", "ar_75", "ar_m", "ar_l"), AP_NAMES, strict=True)
)


def average_precision(protocol: Protocol, predicted: Predictions, truth: Truth) -> dict[str, float]:
    """The ten figures of COCO's evaluator, %, by the names in :data:`FIGURES`; NaN for a size that nobody has.

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
    )
    return {ours: float("nan") if found[its] < 0 else 100 * found[its] for ours, its in FIGURES.items()}


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
