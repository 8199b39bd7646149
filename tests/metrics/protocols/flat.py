"""Round trips of 2D protocols: the labels as predictions, known errors, and mistakes that must show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from human.skeleton import get_skeleton
from metrics.evaluation import evaluate, kept
from metrics.measures import Case
from metrics.protocols import Protocol
from metrics.truth import Predictions, Truth

Array = np.ndarray


def perfect(truth: Truth) -> Predictions:
    """The labels themselves, in the data set's joints."""
    joints = np.array(truth["native2d"][..., :2], np.float64)
    return Predictions(truth.ids, skeleton=truth.skeleton, joints2d=joints, pictures=truth.pictures)


def values(protocol: Protocol, predicted: Predictions, truth: Truth) -> dict[str, float]:
    figures = evaluate(protocol, predicted, truth).figures(resamples=20)
    assert [f.metric for f in figures] == list(protocol.metrics)
    return {f.metric: f.value for f in figures}


def lengths(protocol: Protocol, truth: Truth) -> Array:
    """(N,) px that thresholds are multiplied with, of the persons that count."""
    part = truth.rows(np.flatnonzero(kept(protocol, truth)))
    return Case(protocol, part, perfect(part)).normaliser.numpy()


def check_pck(protocol: Protocol, truth: Truth) -> None:
    """100 % for the labels; all or nothing as a shift passes the threshold; half where the left side is shifted."""
    same = perfect(truth)
    assert values(protocol, same, truth) == {m: pytest.approx(100.0, abs=1e-9) for m in protocol.metrics}
    keep = np.flatnonzero(kept(protocol, truth))
    truth, same = truth.rows(keep), same.rows(keep)
    unit = lengths(protocol, truth)
    assert (np.isfinite(unit) & (unit > 0)).all()
    names = get_skeleton(truth.skeleton).joints
    left = np.array([name.startswith("left_") for name in names])
    # Pairs of which both sides are compared and, of every person, labelled: then half of these is half.
    counted = Case(protocol, truth, same).weight.numpy() > 0
    for metric in protocol.metrics:
        limit = float(metric.split("@")[1]) * unit[:, None, None]
        one = replace(protocol, metrics=(metric,))
        towards = np.array([0.6, -0.8])
        for factor, expected in ((0.999, 100.0), (1.001, 0.0)):
            shifted = replace(same, joints2d=same.joints2d + factor * limit * towards)
            if protocol.normaliser == "torso_or_predicted":
                assert (unit > 1).all()
            assert values(one, shifted, truth)[metric] == pytest.approx(expected, abs=1e-9)
        moved = replace(same, joints2d=same.joints2d + 1.001 * limit * towards * left[:, None])
        wrong = np.array([name.startswith("left_") for name in protocol.truth.names])[None] & counted
        assert values(one, moved, truth)[metric] == pytest.approx(expected_share(protocol, counted, wrong), abs=1e-9)


def expected_share(protocol: Protocol, counted_NJ: Array, wrong_NJ: Array) -> float:
    """100 minus the share that is wrong, averaged the protocol's way, counted one by one."""
    if protocol.average == "label":
        return 100.0 * (1 - wrong_NJ.sum() / counted_NJ.sum())
    axis = 0 if protocol.average == "joint" else 1
    some = counted_NJ.any(axis)
    return 100.0 * float(np.mean(1 - wrong_NJ.sum(axis)[some] / counted_NJ.sum(axis)[some]))


def check_mistakes_show(protocol: Protocol, truth: Truth) -> None:
    """Left for right, one picture's persons for another's, and a picture halved without its labels: none gives 100."""
    same = perfect(truth)
    names = get_skeleton(truth.skeleton)
    swapped = replace(same, joints2d=same.joints2d[:, list(names.flip_permutation)])
    halved = replace(same, joints2d=same.joints2d / 2)
    turned = replace(same, joints2d=np.roll(same.joints2d, len(truth) // 2, axis=0))
    for mistake in (swapped, halved, turned):
        assert all(value < 99 for value in values(protocol, mistake, truth).values())


def check_missing_predictions_count_as_missing(protocol: Protocol, truth: Truth) -> None:
    same = perfect(truth)
    first = kept(protocol, truth).argmax()
    without = replace(same, joints2d=same.joints2d.copy())
    without.joints2d[first] = np.nan
    figures = evaluate(protocol, without, truth).figures(resamples=5)
    assert all(f.missing == 1 for f in figures)
