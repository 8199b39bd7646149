"""The same people from refresh to refresh: what the estimator says of the first challenges as it learns."""

from __future__ import annotations

from typing import Any

import numpy as np

from callbacks.drawing import caption
from callbacks.tiles import overlay, resized
from human.batch import PoseBatch
from human.prediction import Estimator
from synth.eem import EEM, MiningData, extraction_error, inference, joint_weights, predict_crops

_DIGITS = 2


class Followed:
    """Predictions of the first refresh's worst people, at the first look and the latest ones.

    Args:
        people: how many are followed.
        looks: columns of the picture: the first look, and the latest others.
    """

    def __init__(self, people: int = 6, looks: int = 8) -> None:
        self.people, self.looks = people, looks
        self.rows: list[int] = []  # indices into the mined data
        self.seen: list[dict[str, Any]] = []  # refresh, errors, joints: plain numbers, they travel in the checkpoint

    def look(self, estimator: Estimator, data: MiningData, eem: EEM, refresh: int, challenges: list[int]) -> None:
        """Ask the estimator of the people; who they are is decided by the first ``challenges``."""
        self.rows = self.rows or challenges[: self.people]
        if not self.rows or max(self.rows) >= len(data):
            return
        with inference(estimator):
            parts = list(predict_crops(estimator, data, np.asarray(self.rows), eem.batch_size))
        weights = joint_weights(eem.weights)
        errors = [
            float(e)
            for crops, said in parts
            for e in extraction_error(said.joints2d, crops.joints2d, crops.joints2d_conf, weights, eem.by_confidence)
        ]
        joints = [np.round(said.joints2d.float().numpy(), _DIGITS).tolist() for _, said in parts]
        entry = {"refresh": refresh, "errors": errors, "joints": [person for part in joints for person in part]}
        self.seen.append(entry)
        if len(self.seen) > self.looks:
            del self.seen[1]

    @property
    def error(self) -> float:
        """Mean error of the people at the latest look, px of the crop."""
        errors = np.asarray(self.seen[-1]["errors"] if self.seen else [], np.float64)
        return float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")

    def draw(self, data: MiningData, side: int) -> np.ndarray | None:
        """A row for each person, a column for each look."""
        if not self.seen:
            return None
        crops: PoseBatch = data.crops(np.asarray(self.rows))
        rows = []
        for k in range(len(self.rows)):
            tiles = [
                caption(
                    resized(overlay(crops[k : k + 1], np.asarray(look["joints"][k], np.float32)), side),
                    f"refresh {look['refresh']}: Err {look['errors'][k]:.0f} px",
                )
                for look in self.seen
            ]
            rows.append(np.hstack(tiles))
        return np.vstack(rows)

    def state(self) -> dict[str, Any]:
        return {"rows": self.rows, "seen": self.seen}

    def load(self, state: dict[str, Any]) -> None:
        self.rows, self.seen = list(state["rows"]), list(state["seen"])
