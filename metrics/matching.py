"""Who of the predicted is who of the labelled, where a protocol lets the evaluation find out, and what detection costs.

A matching is a function (protocol, predictions, truth) -> :class:`Match`, by name in :data:`MATCHINGS`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from human.errors import PosesynError
from human.skeleton import get_skeleton
from metrics.bodies import named
from metrics.protocols.base import Protocol
from metrics.truth import Predictions, Truth

Array = npt.NDArray[Any]
#: Figures of detection: units. "nmje" and "nmve" are "mpjpe" and "mve" over the F1 score.
DETECTION: dict[str, str] = {"precision": "%", "recall": "%", "f1": "%", "nmje": "mm", "nmve": "mm"}
NORMALISED = {"nmje": "mpjpe", "nmve": "mve"}


@dataclass(frozen=True)
class Match:
    """``rows`` (N,): the prediction of each labelled person, -1 for a miss; ``counted`` (N,) bool: whom the protocol
    counts; ``false_positives``: predictions of nobody that is counted."""

    rows: Array
    counted: Array
    false_positives: int

    def apply(self, predicted: Predictions, truth: Truth) -> tuple[Predictions, Truth]:
        """Both sides of the persons who are counted, row by row; NaN where one was missed."""
        kept = np.flatnonzero(self.counted)
        return predicted.rows(self.rows[kept]), truth.rows(kept)

    @property
    def found(self) -> int:
        return int((self.rows[self.counted] >= 0).sum())

    @property
    def missed(self) -> int:
        return int(self.counted.sum()) - self.found

    def scores(self) -> dict[str, float]:
        """Precision, recall and F1 in %, 0 where they have no denominator."""
        total = {
            "precision": self.found + self.false_positives,
            "recall": self.found + self.missed,
            "f1": self.found + 0.5 * (self.false_positives + self.missed),
        }
        return {name: 100 * self.found / number if number else 0.0 for name, number in total.items()}


def match_agora(protocol: Protocol, predicted: Predictions, truth: Truth) -> Match:
    """AGORA's: in each picture the pair of least error in 2D first, if their boxes overlap by a tenth.

    A prediction that falls to a person who is not valid counts as a false positive, and each refused pair uses up one
    prediction's chance, as in pixelite1201/agora_evaluation:agora_evaluation/matching.py. Its 24 joints are the first
    of SMPL-X's own; of a prediction that has not all (a jaw), those it has.
    """
    if predicted.joints2d is None:
        raise PosesynError(f"protocol {protocol.name} matches by 2D joints: give the predictions' joints2d")
    names = tuple(n for n in protocol.settings["match_joints"] if n in get_skeleton(predicted.skeleton).joints)
    if len(names) < 12:
        raise PosesynError(
            f"protocol {protocol.name} matches by 2D joints; {predicted.skeleton} has {len(names)} of them"
        )
    theirs = named(predicted.joints2d, predicted.skeleton, names).numpy()[..., :2]
    ours = named(truth["native2d"], truth.skeleton, names).numpy()[..., :2]
    boxes = np.asarray(truth["bbox_xyxy"], np.float64)
    valid = np.asarray(truth["valid"], bool)
    labelled, said = defaultdict(list), defaultdict(list)
    for row, picture in enumerate(truth.pictures):
        labelled[picture].append(row)
    where = predicted.pictures or _pictures_of(predicted, truth)
    for row, picture in enumerate(where):
        if picture in labelled and np.isfinite(theirs[row]).all():
            said[picture].append(row)
    rows, false_positives = np.full(len(truth), -1), 0
    for picture, people in labelled.items():
        t, p = np.array(people), np.array(said.get(picture, []), np.int64)
        pairs, wrong = greedy(theirs[p], ours[t], boxes[t], valid[t])
        for a, b in pairs:
            rows[t[b]] = p[a]
        false_positives += wrong
    return Match(rows, valid, false_positives)


def _pictures_of(predicted: Predictions, truth: Truth) -> list[str]:
    known = dict(zip(truth.ids, truth.pictures, strict=True))
    return [known.get(name, "") for name in predicted.ids]


def greedy(
    predicted_PJ2: Array, labelled_TJ2: Array, boxes_T4: Array, valid_T: Array, least_overlap: float = 0.1
) -> tuple[list[tuple[int, int]], int]:
    """Pairs (prediction, person) of one picture, and the number of predictions left over."""
    count, people = len(predicted_PJ2), len(labelled_TJ2)
    if not count or not people:
        return [], count
    # The evaluator's norm is that of a matrix: its largest singular value, not the root of the squares' sum.
    distance = np.linalg.norm(predicted_PJ2[:, None] - labelled_TJ2[None], ord=2, axis=(2, 3))
    boxes_P4 = np.concatenate([predicted_PJ2.min(1), predicted_PJ2.max(1)], 1)
    overlap = _overlaps(boxes_P4, boxes_T4)
    given, taken, refused = np.zeros(count, bool), np.zeros(people, bool), 0
    pairs = []
    for flat in np.argsort(distance, axis=None, kind="stable"):
        if taken.all() or given.sum() + refused >= count:
            break
        p, t = divmod(int(flat), people)
        apart = overlap[p, t] < least_overlap
        if not apart and (given[p] or taken[t]):
            continue
        refused += apart
        if not valid_T[t]:
            taken[t] = True
        elif not apart:
            pairs.append((p, t))
            given[p] = taken[t] = True
    return pairs, count - len(pairs)


def _overlaps(a_P4: Array, b_T4: Array) -> Array:
    """(P,T) intersection over union of boxes xyxy whose borders are pixels within."""
    low, high = np.maximum(a_P4[:, None, :2], b_T4[None, :, :2]), np.minimum(a_P4[:, None, 2:], b_T4[None, :, 2:])
    shared = np.clip(high - low + 1, 0, None).prod(2)
    area_P, area_T = ((x[:, 2:] - x[:, :2] + 1).prod(1) for x in (a_P4, b_T4))
    return np.asarray(shared / (area_P[:, None] + area_T - shared))


def match_nearest(protocol: Protocol, predicted: Predictions, truth: Truth) -> Match:
    """By id where the predictions have the truth's; else each person has the nearest prediction of their picture.

    Near are joints about the root, of those that are labelled for everybody in the picture; one prediction may be
    several persons' (JiangWenPL/multiperson:mmdetection/mmdet/core/utils/eval_utils.py, PanopticEvalHandler).
    """
    from metrics.case import Case  # which builds on this module's neighbours

    counted = np.ones(len(truth), bool)
    where = {name: row for row, name in enumerate(predicted.ids)}
    if any(name in where for name in truth.ids):
        return Match(np.array([where.get(name, -1) for name in truth.ids]), counted, 0)
    if not len(predicted.pictures):
        raise PosesynError(
            f"protocol {protocol.name}: give the predictions the ids of {truth.dataset}'s persons (as "
            f"{truth.ids[0]!r}), or `pictures`, to find out who is who"
        )
    labels = Case(protocol, truth, predicted.rows(np.full(len(truth), -1)))
    true, weight = labels.truth3d.numpy(), labels.weight.numpy() > 0
    said = Case(protocol, truth.rows(np.zeros(len(predicted), np.int64)), predicted).predicted3d.numpy()
    people: dict[str, list[int]] = defaultdict(list)
    found: dict[str, list[int]] = defaultdict(list)
    for row, picture in enumerate(truth.pictures):
        people[picture].append(row)
    for row, picture in enumerate(predicted.pictures):
        if np.isfinite(said[row]).all():
            found[picture].append(row)
    rows = np.full(len(truth), -1)
    for picture, group in people.items():
        others = found.get(picture, [])
        joints = weight[group].all(0)
        if others:
            apart = true[group][:, None, joints] - said[others][None][:, :, joints]
            rows[group] = np.array(others)[np.linalg.norm(apart.reshape(len(group), len(others), -1), axis=2).argmin(1)]
    return Match(rows, counted, 0)


Matching = Callable[[Protocol, Predictions, Truth], Match]
MATCHINGS: dict[str, Matching] = {"agora": match_agora, "nearest": match_nearest}
