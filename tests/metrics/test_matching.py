"""AGORA's matching: what the official evaluator answers, and what the rules mean for a crowd."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.matching import Match, greedy

Crowd = tuple[np.ndarray, np.ndarray, np.ndarray]


def crowd(seed: int) -> Crowd:
    """(P,24,2) predictions, (T,24,2) labels, (T,) valid."""
    rng = np.random.default_rng(seed)
    people = int(rng.integers(1, 7))
    centre = rng.uniform(100, 700 if seed % 2 else 1500, (people, 2))
    labels = centre[:, None] + rng.normal(0, 1, (people, 24, 2)) * rng.uniform(20, 80, (people, 1, 2))
    said = []
    for person in range(people):
        for _ in range(int(rng.choice([0, 1, 1, 1, 2]))):
            off = rng.normal(0, rng.choice([1, 20, 60]), (24, 2))
            said.append(labels[person] + off + rng.normal(0, rng.choice([0, 30, 200]), 2))
    for _ in range(int(rng.choice([0, 0, 1]))):
        said.append(rng.uniform(0, 1500, 2) + rng.normal(0, 40, (24, 2)))
    order = rng.permutation(len(said)) if said else []
    return np.array([said[i] for i in order]).reshape(-1, 24, 2), labels, rng.random(people) < 0.8


def boxes(labels: np.ndarray) -> np.ndarray:
    return np.concatenate([labels.min(1), labels.max(1)], 1)


#: By seed: pairs and false positives of match_2d_greedy (pixelite1201/agora_evaluation:agora_evaluation/matching.py).
ANSWERS: dict[int, tuple[list[tuple[int, int]], int]] = {
    29: ([(1, 1), (3, 5), (5, 2)], np.int64(3)),
    31: ([(0, 2), (1, 3), (4, 0), (5, 1)], np.int64(3)),
    119: ([(0, 2), (2, 0)], np.int64(3)),
    152: ([(0, 2), (2, 1), (4, 4), (5, 3), (6, 0)], np.int64(2)),
    197: ([(1, 2), (3, 5), (4, 4), (6, 0)], np.int64(4)),
    249: ([(0, 4), (1, 0), (3, 3)], np.int64(5)),
    3: ([(0, 2)], np.int64(2)),
    4: ([(0, 3), (1, 4), (4, 0), (6, 2)], np.int64(3)),
    8: ([(0, 0), (1, 4), (4, 3), (5, 2)], np.int64(2)),
    12: ([(1, 1), (3, 2)], np.int64(2)),
    1001: ([(0, 3), (2, 1), (4, 4)], np.int64(4)),
    1002: ([(0, 3), (1, 1), (2, 0), (4, 2)], np.int64(1)),
}


@pytest.mark.parametrize("seed", ANSWERS)
def test_as_the_official_evaluator(seed: int) -> None:
    said, labels, valid = crowd(seed)
    pairs, wrong = greedy(said, labels, boxes(labels), valid)
    assert (sorted(pairs), wrong) == ANSWERS[seed]


def people(*centres: float) -> np.ndarray:
    shape = np.random.default_rng(0).normal(0, 30, (24, 2))
    return np.array([shape + np.array([c, 300.0]) for c in centres]).reshape(-1, 24, 2)


def match(said: np.ndarray, labels: np.ndarray, *invalid: int) -> tuple[list[tuple[int, int]], int]:
    valid = np.array([t not in invalid for t in range(len(labels))], bool)
    return greedy(said, labels, boxes(labels) if len(labels) else np.zeros((0, 4)), valid)


def test_what_the_rules_mean() -> None:
    three = people(100, 400, 700)
    assert match(three[[2, 0, 1]], three) == ([(0, 2), (1, 0), (2, 1)], 0)
    assert match(three[:1], three) == ([(0, 0)], 0)  # two misses
    assert match(people(105, 100), people(100)) == ([(1, 0)], 1)  # twice the same person
    assert match(people(100, 2000), people(100)) == ([(0, 0)], 1)  # somebody who is not there
    assert match(people(2000), people(100)) == ([], 1)
    assert match(three, three, 1) == ([(0, 0), (2, 2)], 1)  # who is not valid makes a false positive
    assert match(people(), three) == ([], 0)
    assert match(three, people()) == ([], 3)


def test_scores() -> None:
    made = Match(np.array([0, -1, 5, 2, -1]), np.array([True, True, True, True, False]), 2)
    assert (made.found, made.missed) == (3, 1)
    assert made.scores() == pytest.approx({"precision": 60.0, "recall": 75.0, "f1": 100 * 3 / 4.5})
    nobody = Match(np.array([-1]), np.array([False]), 0)
    assert nobody.scores() == {"precision": 0, "recall": 0, "f1": 0}
