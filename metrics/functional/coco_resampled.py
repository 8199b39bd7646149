"""COCO's average precision of resampled pictures, from one evaluation: for bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_CHUNK = 20_000_000  # numbers in memory at a time


def resampled_ap(evaluation: Any, times_RP: Array) -> Array:
    """The ten figures of ``AP_NAMES`` as if each picture were in the set that many times.

    Exactly what pycocotools gives for a set with copies of pictures: a detection of a picture that is there w times
    counts w times at its place in the order of scores.

    Args:
        evaluation: ``COCOeval`` of keypoints after ``evaluate()``.
        times_RP: R resamples of the evaluation's pictures (``params.imgIds``), weights >= 0.

    Returns:
        (R,10) in 0..1, NaN where a resample has nobody to find.
    """
    params = evaluation.params
    pictures, areas = len(params.imgIds), len(params.areaRngLbl)
    out = np.full((len(times_RP), 10), np.nan)
    step = max(1, _CHUNK // max(1, _detections(evaluation)))
    for a, name in enumerate(params.areaRngLbl):
        entries = [
            (i, e) for i, e in enumerate(evaluation.evalImgs[a * pictures : (a + 1) * pictures]) if e is not None
        ]
        if not entries or a >= areas:
            continue
        sought_P = np.zeros(pictures)
        for i, e in entries:
            sought_P[i] = (np.asarray(e["gtIgnore"]) == 0).sum()
        score = np.concatenate([e["dtScores"] for _, e in entries])
        order = np.argsort(-score, kind="mergesort")
        picture = np.concatenate([np.full(len(e["dtScores"]), i) for i, e in entries]).astype(int)[order]
        matched = np.concatenate([np.asarray(e["dtMatches"]) for _, e in entries], axis=1)[:, order] > 0
        counted = ~np.concatenate([np.asarray(e["dtIgnore"], bool) for _, e in entries], axis=1)[:, order]
        for start in range(0, len(times_RP), step):
            times = times_RP[start : start + step]
            sought = times @ sought_P
            weight = times[:, picture]
            curves = [
                _curve(weight, m & c, ~m & c, sought, params.recThrs) for m, c in zip(matched, counted, strict=True)
            ]
            precision, recall = (np.stack(part, 1) for part in zip(*curves, strict=True))  # (R,T)
            rows = slice(start, start + len(times))
            if name == "all":
                halves = [int(np.argmin(abs(params.iouThrs - t))) for t in (0.5, 0.75)]
                for first, values in ((0, precision), (5, recall)):
                    out[rows, first] = values.mean(1)
                    out[rows, first + 1 : first + 3] = values[:, halves]
            else:
                place = {"medium": 3, "large": 4}[name]
                out[rows, place], out[rows, place + 5] = precision.mean(1), recall.mean(1)
    return out


def _detections(evaluation: Any) -> int:
    pictures = len(evaluation.params.imgIds)
    return sum(len(e["dtScores"]) for e in evaluation.evalImgs[:pictures] if e is not None)


def _curve(weight_RD: Array, right_D: Array, wrong_D: Array, sought_R: Array, recalls: Array) -> tuple[Array, Array]:
    """(R,) interpolated precision averaged over the recalls, and (R,) recall reached, at one threshold of OKS."""
    right = np.cumsum(weight_RD * right_D, 1)
    total = right + np.cumsum(weight_RD * wrong_D, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(total > 0, right / (total + np.spacing(1)), 0.0)
        recall = right / sought_R[:, None]
    envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    mean, reached = np.full(len(weight_RD), np.nan), np.full(len(weight_RD), np.nan)
    for row in np.flatnonzero(sought_R > 0).tolist():
        place = np.searchsorted(recall[row], recalls, side="left")
        inside = place < recall.shape[1]
        mean[row] = envelope[row, place[inside]].sum() / len(recalls)
        reached[row] = recall[row, -1] if recall.shape[1] else 0.0
    return mean, reached
