"""From one value per person to a figure with its uncertainty, as a whole and in parts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from human.errors import PosesynError
from human.rng import generator
from metrics.functional.bootstrap import draws


@dataclass(frozen=True)
class Summary:
    """A mean over persons and its percentile bootstrap interval, in the unit of the values.

    ``count`` persons are behind the mean; ``invalid`` ought to be and are not, because their value is not finite: look
    at it before believing the mean. ``low`` and ``high`` are NaN where fewer than two resampling units have a value.
    """

    mean: float
    low: float
    high: float
    count: int
    invalid: int


@dataclass(frozen=True)
class Bin:
    """Persons whose number ``by`` lies in [low, high), in the last bin [low, high]."""

    low: float
    high: float
    summary: Summary


def summarise(
    values_N: ArrayLike | Tensor,
    clusters_N: ArrayLike | Tensor | None = None,
    seed: int = 0,
    *,
    weights_N: ArrayLike | Tensor | None = None,
    countable_N: ArrayLike | Tensor | None = None,
    replicates: int = 1000,
    level: float = 0.95,
) -> Summary:
    """Mean of one value per person, and a bootstrap interval for it.

    The interval is the percentile one (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13).

    Args:
        values_N: one value per person; one that is not finite is not counted.
        clusters_N: what is drawn as a whole: a number or name per person, such as the sequence. Frames of a video are
            far from independent, so with single frames as units the interval is too narrow. None: each person.
        seed: the interval is a function of the arguments alone.
        weights_N: >= 0, None is 1; with each person's number of labels, the mean of shares is the share of all labels.
        countable_N: False for persons who should not count (no labels), who are not ``invalid`` then. None: all.
        replicates: bootstrap samples.
        level: of the interval.

    Examples:
        >>> summarise([1.0, 2.0, 3.0, float("nan")])
        Summary(mean=2.0, low=1.0, high=3.0, count=3, invalid=1)
        >>> summarise([1.0, 2.0, 3.0], clusters_N=["a", "a", "b"])
        Summary(mean=2.0, low=1.5, high=3.0, count=3, invalid=0)
    """
    if replicates < 1 or not 0 < level < 1:
        raise PosesynError(f"an interval needs replicates >= 1 and a level in (0, 1), got {replicates} and {level}")
    value_N = _column(values_N, None, "values").astype(np.float64)
    weight_N = np.ones(len(value_N)) if weights_N is None else _column(weights_N, len(value_N), "weights").astype(float)
    asked_N = np.ones(len(value_N), bool) if countable_N is None else _column(countable_N, len(value_N), "countable")
    asked_N = asked_N.astype(bool) & (weight_N > 0)
    used_N = asked_N & np.isfinite(value_N)
    value_N, weight_N = value_N[used_N], weight_N[used_N]
    invalid = int((asked_N & ~used_N).sum())
    if not len(value_N):
        return Summary(np.nan, np.nan, np.nan, 0, invalid)
    if clusters_N is None:
        total_U, weight_U = value_N * weight_N, weight_N
    else:
        unit_N = np.unique(_column(clusters_N, len(used_N), "clusters")[used_N], return_inverse=True)[1].reshape(-1)
        total_U, weight_U = np.bincount(unit_N, value_N * weight_N), np.bincount(unit_N, weight_N)
    mean = float(total_U.sum() / weight_U.sum())
    if len(total_U) < 2:
        return Summary(mean, np.nan, np.nan, len(value_N), invalid)
    means_R = _resampled_means(total_U, weight_U, replicates, seed)
    low, high = np.quantile(means_R, [(1 - level) / 2, (1 + level) / 2])
    return Summary(mean, float(low), float(high), len(value_N), invalid)


def _resampled_means(total_U: np.ndarray, weight_U: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """(R,) means of R draws of U units with replacement."""
    units = len(total_U)
    equal = bool((weight_U == weight_U[0]).all())
    out = []
    for draw_RU in draws(units, replicates, generator("metrics.bootstrap", seed)):
        weight_R = units * weight_U[0] if equal else weight_U[draw_RU].sum(1)
        out.append(total_U[draw_RU].sum(1) / weight_R)
    return np.concatenate(out)


def per_joint(errors_BJ: ArrayLike | Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean over persons of each joint's value.

    Args:
        errors_BJ: as :func:`~metrics.functional.joint_errors` gives; what is not finite is not counted.

    Returns:
        (J,) float64 means, NaN for joints without values, and (J,) int64 numbers of values.

    Examples:
        >>> per_joint([[1.0, float("nan")], [3.0, float("nan")]])
        (array([ 2., nan]), array([2, 0]))
    """
    error_BJ = _array(errors_BJ).astype(np.float64)
    if error_BJ.ndim != 2:
        raise PosesynError(f"joint errors must be (B,J), got {error_BJ.shape}")
    used_BJ = np.isfinite(error_BJ)
    count_J = used_BJ.sum(0)
    total_J = np.where(used_BJ, error_BJ, 0.0).sum(0)
    return np.divide(total_J, count_J, out=np.full(len(count_J), np.nan), where=count_J > 0), count_J


def per_bin(
    values_N: ArrayLike | Tensor,
    by_N: ArrayLike | Tensor,
    edges: Sequence[float] | int,
    clusters_N: ArrayLike | Tensor | None = None,
    seed: int = 0,
    *,
    weights_N: ArrayLike | Tensor | None = None,
    countable_N: ArrayLike | Tensor | None = None,
) -> list[Bin]:
    """:func:`summarise` of the persons in each bin of another number: box size, visible joints, the error itself.

    Args:
        by_N: one number per person; persons without a finite one, or outside the edges, are in no bin.
        edges: rising bin edges, or a number of bins with as many persons each (quantiles of the finite numbers of
            countable persons; ties can leave fewer bins).
        others: as for :func:`summarise`.

    Examples:
        >>> [(b.low, b.high, b.summary.mean) for b in per_bin([1.0, 2.0, 6.0], [10, 20, 30], [10, 20, 30])]
        [(10.0, 20.0, 1.0), (20.0, 30.0, 4.0)]
        >>> [(b.low, b.high, b.summary.count) for b in per_bin([1.0, 2.0, 6.0, 7.0], [1, 2, 3, 4], 2)]
        [(1.0, 2.5, 2), (2.5, 4.0, 2)]
    """
    value_N = _column(values_N, None, "values")
    by_N = _column(by_N, len(value_N), "numbers to bin by").astype(np.float64)
    asked_N = np.ones(len(value_N), bool) if countable_N is None else _column(countable_N, len(value_N), "countable")
    asked_N = asked_N.astype(bool)
    if isinstance(edges, int):
        if edges < 1:
            raise PosesynError(f"there must be at least one bin, got {edges}")
        inside_M = by_N[asked_N & np.isfinite(by_N)]
        limits = np.unique(np.quantile(inside_M, np.linspace(0, 1, edges + 1))) if len(inside_M) else np.zeros(0)
        limits = np.repeat(limits, 2) if len(limits) == 1 else limits  # all numbers are the same
    else:
        limits = np.asarray(edges, np.float64)
        if len(limits) < 2 or not (np.diff(limits) > 0).all():
            raise PosesynError(f"bin edges must be at least two rising numbers, got {list(edges)}")
    bins = []
    for i, (low, high) in enumerate(itertools.pairwise(limits)):
        last = i == len(limits) - 2
        within_N = (by_N >= low) & ((by_N <= high) if last else (by_N < high))
        summary = summarise(value_N, clusters_N, seed, weights_N=weights_N, countable_N=asked_N & within_N)
        bins.append(Bin(float(low), float(high), summary))
    return bins


def _array(values: ArrayLike | Tensor) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach()
        values = (values.double() if values.is_floating_point() else values).cpu().numpy()
    return np.asarray(values)


def _column(values: ArrayLike | Tensor, length: int | None, what: str) -> np.ndarray:
    column_N = _array(values)
    if column_N.ndim != 1 or (length is not None and len(column_N) != length):
        raise PosesynError(
            f"{what} must be one per person, ({'N' if length is None else length},), got {column_N.shape}"
        )
    return column_N
