"""Where an estimator fails: its figures joint by joint, and for persons of different size and completeness."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metrics.case import Case
from metrics.functional import correct_joints, joint_errors, per_bin
from metrics.truth import Truth

Array = npt.NDArray[Any]
BINS = 4  # with as many persons each


def jointwise(case: Case, metric: str, threshold: float) -> tuple[Tensor, Tensor] | None:
    """(J,) sums and counts of a metric that each joint has: MPJPE's distances (mm), PCK's shares (%); else None."""
    if metric == "mpjpe":
        error = joint_errors(case.predicted3d, case.truth3d, case.weight)
        return error.nansum(0), error.isfinite().double().sum(0)
    if metric == "pck":
        right, counted = correct_joints(case.predicted2d, case.truth2d, case.normaliser, threshold, case.weight)
        return 100.0 * right.double().sum(0), counted.double().sum(0)
    return None


def by_person(per_person_N: Array, truth: Truth) -> dict[str, list[dict[str, Any]]]:
    """Means of one figure per person in bins of the box's longer side (px) and of the number of labelled 2D joints."""
    box = np.asarray(truth["bbox_xyxy"], np.float64)
    numbers = {
        "box_px": (box[:, 2:] - box[:, :2]).max(1),
        "labelled_joints": (np.asarray(truth["native2d"])[..., 2] > 0).sum(1).astype(np.float64),
    }
    out = {}
    for name, number_N in numbers.items():
        bins = per_bin(per_person_N, number_N, BINS, countable_N=np.isfinite(per_person_N))
        out[name] = [
            {"from": b.low, "to": b.high, "mean": b.summary.mean, "low": b.summary.low, "high": b.summary.high,
             "persons": b.summary.count}
            for b in bins if b.summary.count
        ]  # fmt: skip
    return out


def joint_table(sums_J: Array, counts_J: Array, names: tuple[str, ...]) -> dict[str, float | None]:
    """Mean of each joint by name; None where it is never labelled."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = torch.as_tensor(sums_J / counts_J)
    return {name: float(m) if np.isfinite(float(m)) else None for name, m in zip(names, means, strict=True)}
