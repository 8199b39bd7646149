"""Average precision of key points (AP), by COCO's own evaluator (pycocotools)."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from human.errors import PosesynError
from metrics.bodies import named
from metrics.protocols.base import Protocol
from metrics.truth import Predictions, Truth

Array = npt.NDArray[Any]
#: Names of the evaluator's figures, in its order.
NAMES = ("ap", "ap_50", "ap_75", "ap_medium", "ap_large", "ar", "ar_50", "ar_75", "ar_medium", "ar_large")


def average_precision(protocol: Protocol, predicted: Predictions, truth: Truth) -> dict[str, float]:
    """The evaluator's ten figures, %, by :data:`NAMES`; NaN for a size that nobody in the truth has.

    The truth needs "state" (COCO's v), "bbox_xyxy", "area" and, where there are any, "crowd". A prediction is matched
    within its picture, whoever it was made for; where ``predicted.pictures`` is empty its id must be of the truth.
    ``score`` orders the predictions (all alike without). Persons whose joints are not all finite are no predictions.
    """
    if predicted.joints2d is None:
        raise PosesynError(f"{protocol.name} needs 2D joints, the predictions have none")
    pictures, own = _pictures(protocol, predicted, truth)
    number = {name: i + 1 for i, name in enumerate(dict.fromkeys([*pictures, *own]))}
    joints = named(predicted.joints2d, predicted.skeleton, protocol.prediction.names).numpy()
    good = np.isfinite(joints).all((1, 2))
    score = np.ones(len(joints)) if predicted.score is None else np.asarray(predicted.score, np.float64)
    if not np.isfinite(score[good]).all():
        raise PosesynError(f"{protocol.name}: a prediction's score is not finite")
    with_flag = np.concatenate([joints, np.full((*joints.shape[:2], 1), 2.0)], -1).reshape(len(joints), -1)
    detections = [
        {"image_id": number[own[i]], "category_id": 1, "keypoints": with_flag[i].tolist(), "score": float(score[i])}
        for i in np.flatnonzero(good).tolist()
    ]
    if not detections:
        return dict.fromkeys(NAMES, 0.0)
    with redirect_stdout(io.StringIO()):  # it prints what it does
        ground = _ground(protocol, truth, [number[p] for p in pictures], len(number))
        evaluator = COCOeval(ground, ground.loadRes(detections), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    figures = np.where(evaluator.stats < 0, np.nan, 100 * evaluator.stats)
    return dict(zip(NAMES, figures.tolist(), strict=True))


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


def _ground(protocol: Protocol, truth: Truth, image: list[int], images: int) -> Any:
    points = named(truth["native2d"], truth.skeleton, protocol.truth.names).numpy()
    state = named(truth["state"][..., None], truth.skeleton, protocol.truth.names).numpy()
    state = np.where(points[..., 2:] > 0, state, 0)
    keypoints = np.concatenate([points[..., :2], state], -1).reshape(len(points), -1)
    count = (state[..., 0] > 0).sum(1)
    box = np.asarray(truth["bbox_xyxy"], np.float64)
    xywh = np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], 1)
    crowd = truth["crowd"] if "crowd" in truth.columns else np.zeros(len(truth), int)
    out = COCO()
    out.dataset = {
        "info": {},
        "images": [{"id": i + 1} for i in range(images)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": image[i],
                "category_id": 1,
                "keypoints": keypoints[i].tolist(),
                "num_keypoints": int(count[i]),
                "bbox": xywh[i].tolist(),
                "area": float(truth["area"][i]),
                "iscrowd": int(crowd[i]),
            }
            for i in range(len(truth))
        ],
    }
    out.createIndex()
    return out
