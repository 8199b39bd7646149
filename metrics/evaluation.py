"""Predictions against a data set's truth under a protocol: a figure, its confidence interval, who stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from human.errors import PosesynError
from human.regressors import FILES
from human.rng import generator
from metrics import segmentation, silhouettes  # noqa: F401 -- register their measures
from metrics.breakdown import by_person, joint_table, jointwise
from metrics.case import Case, NotMeasured
from metrics.functional.bootstrap import draws
from metrics.matching import DETECTION, MATCHINGS, NORMALISED, Match
from metrics.measures import MEASURES, WHOLE, per_person
from metrics.motion_measures import SEQUENCE_MEASURES
from metrics.protocols.base import Protocol
from metrics.truth import Predictions, Truth

Array = npt.NDArray[Any]
CHUNK = 64  # persons whose meshes are in memory at a time
RESAMPLES = 1000
WHOLE_RESAMPLES = 300  # of figures that are costly to take again


@dataclass(frozen=True)
class Figure:
    """``value`` in ``unit`` with its 95 % interval [``low``, ``high``] (bootstrap over the protocol's clusters), of
    ``count`` persons; ``missing`` more should have been counted but were not predicted."""

    metric: str
    unit: str
    value: float
    low: float
    high: float
    count: int
    missing: int


@dataclass
class Evaluation:
    """What came of a protocol, person by person: ``values`` holds (numerator, denominator), (N,K) float64 each, by
    metric; ``single`` figures that only a whole set has; ``joints``: (J,) sums and counts; ``notes``: why a metric is
    absent."""

    protocol: Protocol
    truth: Truth
    values: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    single: dict[str, Figure] = field(default_factory=dict)
    joints: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    missing: Array = field(default_factory=lambda: np.zeros(0, bool))
    notes: list[str] = field(default_factory=list)

    def figures(self, resamples: int = RESAMPLES) -> list[Figure]:
        """One for each metric that could be taken, in the protocol's order."""
        groups = clusters(self.protocol.cluster, self.truth)
        out = []
        for metric in self.protocol.metrics:
            if metric in self.single:
                out.append(self.single[metric])
            elif metric in self.values:
                numerator, denominator = self.values[metric]
                value, low, high = interval(numerator, denominator, groups, f"{self.protocol.hash}/{metric}", resamples)
                counted = (denominator > 0).any(1)
                figure = Figure(metric, unit_of(metric), value, low, high, int(counted.sum()), int(self.missing.sum()))
                out.append(figure)
        return out

    def per_person(self, metric: str) -> Array:
        """(N,) the metric of each person, NaN where it is not counted."""
        numerator, denominator = self.values[metric]
        with np.errstate(invalid="ignore"):
            return np.nansum(numerator, 1) / np.where(denominator.sum(1) > 0, denominator.sum(1), np.nan)

    def breakdown(self) -> dict[str, Any]:
        """By metric, as far as it has them: each joint's figure, and means by the box's size and the labels' number."""
        out: dict[str, Any] = {}
        for metric in self.protocol.metrics:
            if metric in self.joints:
                out.setdefault(metric, {})["joints"] = joint_table(*self.joints[metric], self.protocol.truth.names)
            if metric in self.values:
                out.setdefault(metric, {}).update(by_person(self.per_person(metric), self.truth))
        return out


def unit_of(metric: str) -> str:
    whole = {**WHOLE, **DETECTION}
    return whole[metric] if metric in whole else {**MEASURES, **SEQUENCE_MEASURES}[split_metric(metric)[0]][1]


def split_metric(metric: str) -> tuple[str, float]:
    """ "pck@0.2" is "pck" and 0.2."""
    name, _, number = metric.partition("@")
    known = (*MEASURES, *SEQUENCE_MEASURES, *DETECTION)
    if name not in known:
        names = ", ".join(sorted([*known, *WHOLE]))
        raise PosesynError(f"no metric is called {name!r}; known: {names}")
    return name, float(number or "nan")


def evaluate(
    protocol: Protocol,
    predicted: Predictions,
    truth: Truth,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Every metric of the protocol.

    Args:
        truth: the split that the protocol names; :attr:`Protocol.keep` is applied here.
        progress: told of the persons done.

    Raises:
        PosesynError: the truth lacks what the protocol needs (another data set, a body file that is missing), or the
            predictions name persons that the truth does not have and none that it has.
    """
    if truth.dataset != protocol.dataset:
        raise PosesynError(f"protocol {protocol.name} is for {protocol.dataset}, this is {truth.dataset}")
    truth = truth.rows(np.flatnonzero(kept(protocol, truth)))
    if not len(truth):
        raise PosesynError(f"protocol {protocol.name} leaves nobody of {truth.dataset} ({truth.split})")
    match = None
    if protocol.matching != "given":
        match = MATCHINGS[protocol.matching](protocol, predicted, truth)
        predicted, truth = match.apply(predicted, truth)
    out = Evaluation(protocol, truth, missing=np.ones(len(truth), bool))
    if any(metric in WHOLE for metric in protocol.metrics):
        _whole(out, predicted)
        if progress is not None:
            progress(len(truth))
        return out
    if match is None:
        predicted = matched(predicted, truth)
    moving = [m for m in protocol.metrics if m in SEQUENCE_MEASURES]
    joints: list[tuple[Tensor, Tensor, Tensor]] = []
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    missing: list[Array] = []
    for rows in _chunks(len(truth)):
        case = Case(protocol, truth.rows(rows), predicted.rows(rows))
        try:
            if moving:
                joints.append((case.predicted3d, case.truth3d, case.weight))
        except NotMeasured as reason:
            moving = _noted(out, moving, reason)
        for metric in protocol.metrics:
            name, number = split_metric(metric)
            if name not in MEASURES:
                continue
            try:
                pair = MEASURES[name][0](case, number)
                if protocol.average == "group":
                    pair = _by_group(*pair, case)
                parts.setdefault(metric, []).append(pair)
                if (each := jointwise(case, name, number)) is not None:
                    before = out.joints.get(metric, (np.zeros(1), np.zeros(1)))
                    out.joints[metric] = (before[0] + each[0].numpy(), before[1] + each[1].numpy())
            except NotMeasured as reason:
                _noted(out, [metric], reason)
        try:
            missing.append((case.missing & (case.weight > 0).any(1)).numpy())
        except NotMeasured:
            missing.append(np.ones(len(rows), bool))
        if progress is not None:
            progress(len(rows))
    out.missing = np.concatenate(missing)
    if protocol.prediction.source in FILES and predicted.body.split("_")[0] == "free":
        out.notes.append(
            "the free body's own joints stand in for the published regressor's: the figure compares only with others "
            "of the free body"
        )
    for metric, pairs in parts.items():
        columns = [torch.cat(column).numpy() for column in zip(*pairs, strict=True)]
        if len(columns[0]) == len(truth):
            out.values[metric] = (columns[0], columns[1])
    for metric in moving:
        predicted3d, true3d, weight = (torch.cat(column) for column in zip(*joints, strict=True))
        value = SEQUENCE_MEASURES[metric][0](predicted3d, true3d, weight, protocol, truth)
        pair = value if isinstance(value, tuple) else per_person(value, torch.ones(len(value), dtype=torch.bool))
        out.values[metric] = (pair[0].numpy(), pair[1].numpy())
    if match is not None:
        _detection(out, match)
    return out


def _detection(out: Evaluation, match: Match) -> None:
    """Figures of finding the persons at all; no interval."""
    scores = match.scores()
    # AGORA's evaluator rounds the score before it divides by it.
    f1 = round(scores["f1"] / 100, 2)
    for metric in out.protocol.metrics:
        if metric in scores:
            value = scores[metric]
        elif NORMALISED.get(metric) in out.values and f1:
            value = average(*out.values[NORMALISED[metric]]) / f1
        else:
            continue
        figure = Figure(metric, DETECTION[metric], value, np.nan, np.nan, len(out.truth), match.missed)
        out.single[metric] = figure


def _noted(out: Evaluation, metrics: list[str], reason: NotMeasured) -> list[str]:
    """Why these are absent, once; gives the list of those left, which is empty."""
    if (note := f"{', '.join(metrics)}: {reason}") not in out.notes:
        out.notes.append(note)
    return []


def _whole(out: Evaluation, predicted: Predictions) -> None:
    """Figures that no sum over persons gives, in ``out.single``: such a protocol has no others."""
    from metrics.average_precision import average_precision

    protocol, truth = out.protocol, out.truth
    others = [metric for metric in protocol.metrics if metric not in WHOLE]
    if others:
        raise PosesynError(f"protocol {protocol.name} mixes {', '.join(others)} with figures of a whole set")
    sought = (np.asarray(truth["native2d"])[..., 2] > 0).any(1)
    if "crowd" in truth.columns:
        sought &= np.asarray(truth["crowd"]) == 0
    named = set(predicted.ids)
    given = np.array([i in named for i in truth.ids])
    # Of a detector's persons, who have names of their own, nobody is missing: recall is part of the figure.
    out.missing = sought & ~given if given.any() else np.zeros(len(truth), bool)
    if predicted.joints2d is None and len(predicted):
        out.notes.append(f"{', '.join(protocol.metrics)}: the predictions have no 2D joints")
        return
    count, missing = int(sought.sum()), int(out.missing.sum())
    for metric, figure in average_precision(protocol, predicted, truth, WHOLE_RESAMPLES).items():
        if metric in protocol.metrics:
            out.single[metric] = Figure(metric, WHOLE[metric], *figure, count, missing)


def _by_group(numerator: Tensor, denominator: Tensor, case: Case) -> tuple[Tensor, Tensor]:
    """Each person's value in the column of their group: the average over columns is that over groups."""
    rows, group = torch.arange(len(numerator)), torch.as_tensor(np.asarray(case.truth["group"], np.int64))
    out = numerator.new_zeros(2, len(rows), int(case.protocol.settings["groups"]))
    out[0, rows, group], out[1, rows, group] = numerator[:, 0], denominator[:, 0]
    return out[0], out[1]


def _chunks(count: int) -> Iterator[Array]:
    return (np.arange(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def kept(protocol: Protocol, truth: Truth) -> Array:
    """(N,) bool: the persons whom the protocol counts."""
    keep = np.ones(len(truth), bool)
    for column, operator, value in protocol.keep:
        numbers = np.asarray(truth[column])
        if operator == "==":
            keep &= numbers == value
        elif operator == ">=":
            keep &= numbers >= value
        elif operator == "in":
            keep &= np.isin(numbers, list(value))
        elif operator == "every":
            keep &= numbers % value == 0
        elif operator == "labelled":
            keep &= (numbers[:, list(value), -1] > 0).all(1)
        elif operator == "least":
            keep &= (numbers[..., -1] > 0).sum(1) >= value
        else:
            raise PosesynError(f"protocol {protocol.name}: no condition is called {operator!r}")
    return keep


def matched(predicted: Predictions, truth: Truth) -> Predictions:
    """The predictions in the truth's order, by id; NaN for persons of whom there is none."""
    rows: dict[str, int] = {}
    for row, name in enumerate(predicted.ids):
        if name in rows:
            raise PosesynError(f"the predictions have the person {name!r} twice")
        rows[name] = row
    order = np.array([rows.get(name, -1) for name in truth.ids])
    if len(predicted) and (order < 0).all():
        raise PosesynError(
            f"none of the predictions' persons (as {predicted.ids[0]!r}) is in {truth.dataset} ({truth.split}), whose "
            f"persons are called as {truth.ids[0]!r}"
        )
    return predicted.rows(order)


# -- figures ---------------------------------------------------------------------------------------------------------
def clusters(kind: str, truth: Truth) -> Array:
    """(N,) number of the group that each person is resampled with."""
    if kind == "person":
        return np.arange(len(truth))
    if kind == "sequence" and "sequence" in truth.columns:
        values: Any = np.asarray(truth["sequence"])
    else:
        values = np.asarray(list(truth.pictures))
    return np.unique(values, return_inverse=True)[1]


def average(numerator_NK: Array, denominator_NK: Array) -> float:
    """Mean over K of each column's quotient of sums; columns never counted are left out."""
    return float(_averages(np.nansum(numerator_NK, 0)[None], denominator_NK.sum(0)[None])[0])


def _averages(numerator_RK: Array, denominator_RK: Array) -> Array:
    counted = denominator_RK > 0
    quotient = np.where(counted, numerator_RK / np.where(counted, denominator_RK, 1), 0.0)
    columns = counted.sum(1)
    return np.where(columns > 0, quotient.sum(1) / np.maximum(columns, 1), np.nan)


def interval(
    numerator_NK: Array, denominator_NK: Array, groups_N: Array, key: str, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """The average and its 95 % percentile interval, groups drawn with replacement; the same each time for a ``key``."""
    count = int(groups_N.max()) + 1 if len(groups_N) else 0
    shape = (count, numerator_NK.shape[1])
    sums, totals = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, groups_N, np.nan_to_num(numerator_NK))
    np.add.at(totals, groups_N, denominator_NK)
    value = average(numerator_NK, denominator_NK)
    if count < 2 or not np.isfinite(value) or resamples < 2:
        return value, float("nan"), float("nan")
    drawn = []
    for draw_RU in draws(count, resamples, generator("bootstrap", key)):
        number = len(draw_RU)
        chosen = draw_RU + count * np.arange(number)[:, None]
        times = np.bincount(chosen.ravel(), minlength=number * count).reshape(number, count).astype(np.float64)
        drawn.append(_averages(times @ sums, times @ totals))
    low, high = np.nanpercentile(np.concatenate(drawn), [2.5, 97.5])
    return value, float(low), float(high)
