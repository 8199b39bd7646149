"""Error extraction module (EEM): finds the people an estimator gets wrong in a 2D data set, and those it gets right.

PoseSyn (arXiv 2503.13025) §3.1, equations 1-3: the error of a person is the weighted distance between predicted and
labelled 2D joints, each taken relative to the root; the K_C worst become *challenges*, the K_NC best *references*.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from human.batch import PoseBatch, root_of
from human.errors import PosesynError
from human.prediction import Estimator, Prediction, module_of
from human.skeleton import POSE32
from synth.spread import HERE, PREDICT, SCORE, Spread
from synth.within_memory import predict

# PoseSyn's weights: distal joints carry the pose, proximal ones hardly move.
JOINT_WEIGHTS = {"ankle": 1.0, "wrist": 1.0, "elbow": 0.5, "knee": 0.5, "hip": 0.25, "shoulder": 0.25}


class MiningData(Protocol):
    """What is mined: persons with 2D labels, as crops without augmentation."""

    name: str

    def __len__(self) -> int: ...

    @property
    def ids(self) -> Sequence[str]:
        """A stable name for each person."""
        ...

    @property
    def people(self) -> np.ndarray:
        """(N,) persons in each person's picture."""
        ...

    @property
    def labelled(self) -> np.ndarray:
        """(N,32) bool: which POSE32 joints are labelled."""
        ...

    def crops(self, indices: np.ndarray) -> PoseBatch:
        """The persons' crops and labels; an unreadable picture has weight 0."""
        ...


def joint_weights(weights: dict[str, float]) -> Tensor:
    """(32,) weight of each POSE32 joint from weights by body part (both sides)."""
    out = torch.zeros(len(POSE32))
    for part, weight in weights.items():
        for side in ("left", "right"):
            out[POSE32.index(f"{side}_{part}")] = weight
    return out


def extraction_error(
    predicted_BJ2: Tensor, target_BJ2: Tensor, conf_BJ: Tensor, weights_J: Tensor, by_confidence: bool = False
) -> Tensor:
    """Equation 1: sum_n w_n |(p_n - p_root) - (t_n - t_root)|, (B,) pixels.

    Unlabelled joints do not count; the sum is scaled to what it would be with all joints labelled, so that persons with
    different labels compare. The root is the pelvis where it is labelled, else the middle of the hips, on both sides.
    A person with no weighted joint or no root gets NaN. ``by_confidence``: a joint counts as much as its label is sure,
    which is for pseudo-labels; else all labelled joints count in full.
    """
    valid = (conf_BJ > 0).to(predicted_BJ2.dtype)
    has_root = (valid[:, POSE32.index("pelvis")] > 0) | (valid[:, POSE32.indices("left_hip", "right_hip")].sum(1) == 2)
    difference = (predicted_BJ2 - root_of(predicted_BJ2, conf_BJ)[:, None]) - (
        target_BJ2 - root_of(target_BJ2, conf_BJ)[:, None]
    )
    # where, not a product: coordinates of unlabelled joints may be junk.
    distance = torch.where(valid > 0, difference.norm(dim=-1), torch.zeros_like(valid))
    present = (conf_BJ.to(valid.dtype) * valid if by_confidence else valid) * weights_J
    error = (distance * present).sum(1) * weights_J.sum() / present.sum(1)
    return torch.where(has_root & (present.sum(1) > 0), error, torch.full_like(error, torch.nan))


@contextmanager
def inference(estimator: Estimator) -> Iterator[torch.device]:
    """Eval mode and ``inference_mode`` around a block, every module's own mode restored after it; yields the device."""
    module = module_of(estimator)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.inference_mode():
            yield next(module.parameters()).device
    finally:
        for part, training in modes:
            part.training = training


def predict_crops(
    estimator: Estimator, data: MiningData, indices: np.ndarray, batch_size: int
) -> Iterator[tuple[PoseBatch, Prediction]]:
    """Batches of (crops, prediction) on the CPU; call inside :func:`inference`."""
    for start in range(0, len(indices), batch_size):
        batch = data.crops(indices[start : start + batch_size])
        yield batch, predict(estimator, batch)


@dataclass(frozen=True)
class Mined:
    """What one pass of the EEM found.

    ``errors`` (N,) pixels of the crop, NaN where a person could not be scored; ``challenges`` and ``references`` are
    indices into the data, worst and best first; ``predictions`` and ``crops`` belong to the challenges.
    """

    errors: np.ndarray
    challenges: np.ndarray
    references: np.ndarray
    predictions: Prediction | None
    crops: PoseBatch | None
    eligible: int
    not_finite: int
    unreadable: int
    seconds: float


@dataclass
class EEM:
    """The module's settings.

    Args:
        challenges, references: K_C and K_NC (the paper's 500 and 200).
        weights: joint weights by body part.
        min_joints: fewer labelled weighted joints than this and a person is not used.
        single_person: use only pictures with one person, as the paper.
        batch_size: crops per forward pass.
        by_confidence: weigh joints by their labels' confidence too (pseudo-labels, docs/unlabelled.md).
        random: choose the challenges at random instead of by error (the control of the paper's ablation).
    """

    challenges: int = 500
    references: int = 200
    weights: dict[str, float] = field(default_factory=lambda: dict(JOINT_WEIGHTS))
    min_joints: int = 8
    single_person: bool = True
    batch_size: int = 128
    random: bool = False
    by_confidence: bool = False

    def __post_init__(self) -> None:
        if self.challenges < 1 or self.references < 0 or self.batch_size < 1:
            raise PosesynError(
                "EEM needs challenges >= 1, references >= 0 and batch_size >= 1, "
                f"got {self.challenges}, {self.references} and {self.batch_size}"
            )
        joint_weights(self.weights)  # an unknown body part is an error here, not at the first refresh

    def eligible(self, data: MiningData) -> np.ndarray:
        """Indices of the persons that may be mined."""
        counted = data.labelled[:, joint_weights(self.weights).numpy() > 0].sum(1)
        keep = counted >= self.min_joints
        if self.single_person:
            keep &= data.people <= 1
        return np.flatnonzero(keep)

    def score(
        self, estimator: Estimator, data: MiningData, indices: np.ndarray, spread: Spread = HERE, task: str = SCORE
    ) -> tuple[np.ndarray, int, int]:
        """(len(indices),) errors, NaN where there is none; and how many predictions were not finite, pictures
        unreadable.
        """
        found = list(
            spread(task, lambda rows: self.score_batch(estimator, data, rows), _batches(indices, self.batch_size))
        )
        errors = np.concatenate([np.zeros(0, np.float32), *(errors for errors, _, _ in found)])
        return errors, sum(n for _, n, _ in found), sum(n for _, _, n in found)

    def score_batch(self, estimator: Estimator, data: MiningData, rows: np.ndarray) -> tuple[np.ndarray, int, int]:
        """:meth:`score` of people who go through the network together."""
        with inference(estimator):
            ((batch, prediction),) = predict_crops(estimator, data, rows, len(rows))
            error = extraction_error(
                prediction.joints2d,
                batch.joints2d,
                batch.joints2d_conf,
                joint_weights(self.weights),
                self.by_confidence,
            )
        readable, finite = batch.weight > 0, prediction.finite
        error = torch.where(readable & finite, error, torch.nan)
        return error.numpy(), int((readable & ~finite).sum()), int((~readable).sum())

    def mine(self, estimator: Estimator, data: MiningData, rng: np.random.Generator, spread: Spread = HERE) -> Mined:
        """Equations 2 and 3: score every eligible person, take the worst and the best.

        Ties are broken by index, so that the result is a function of the weights and the data. With fewer eligible
        persons than K_C + K_NC the challenges come first and nobody is both.
        """
        start = time.perf_counter()
        pool = self.eligible(data)
        scored, not_finite, unreadable = self.score(estimator, data, pool, spread)
        errors = np.full(len(data), np.nan, np.float32)
        errors[pool] = scored
        ranked = pool[np.isfinite(scored)]
        ranked = ranked[np.argsort(-errors[ranked], kind="stable")]
        challenges = ranked[: self.challenges]
        if self.random:
            challenges = np.sort(rng.permutation(ranked)[: self.challenges])
        rest = ranked[~np.isin(ranked, challenges)]
        references = rest[::-1][: self.references]
        crops, predictions = None, None
        if len(challenges):
            batches = list(_batches(challenges, self.batch_size))
            found = spread(PREDICT, lambda rows: self.predict_batch(estimator, data, rows), batches)
            predictions = Prediction.cat(list(found))
            crops = PoseBatch.cat([data.crops(rows) for rows in batches])
        return Mined(
            errors,
            challenges,
            references,
            predictions,
            crops,
            len(pool),
            not_finite,
            unreadable,
            time.perf_counter() - start,
        )

    def predict_batch(self, estimator: Estimator, data: MiningData, rows: np.ndarray) -> Prediction:
        """Of people who go through the network together."""
        with inference(estimator):
            ((_, prediction),) = predict_crops(estimator, data, rows, len(rows))
        return prediction


def _batches(indices: np.ndarray, size: int) -> Iterator[np.ndarray]:
    # Copies: an item that is sent elsewhere takes its own rows along, not the whole array.
    return (indices[start : start + size].copy() for start in range(0, len(indices), size))
