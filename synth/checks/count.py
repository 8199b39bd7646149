"""How many people a picture shows."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from human.batch import PoseBatch
from human.errors import PosesynError
from human.keypoints import People
from synth.checks.base import CHECKS, Check, Checked
from synth.checks.seen import Watcher


@CHECKS.register("person_count")
class PersonCount(Check):
    """Removes pictures with nobody, or with more people than asked for.

    Args:
        expected: people in a picture; a job's other people count (``synth.jobs.Job.others``).
        score: how sure the detector must be of a person.
        smallest: people whose longer side is less than this share of the picture's do not count: passers-by far away.
        detector, detector_options: a keypoint detector by name; None for the embedded one, set up for counting.

    Figures: ``people`` counted.
    """

    name: ClassVar[str] = "person_count"

    def __init__(
        self,
        expected: int = 1,
        score: float = 0.5,
        smallest: float = 0.15,
        detector: str = "blazepose",
        detector_options: dict[str, Any] | None = None,
    ) -> None:
        if expected < 0 or not (0 <= score <= 1 and 0 <= smallest <= 1):
            raise PosesynError(
                "check person_count needs expected >= 0, and score and smallest from 0 to 1, got "
                f"{expected}, {score} and {smallest}"
            )
        self.expected, self.score, self.smallest = expected, score, smallest
        if detector == "blazepose":
            detector_options = {"levels": 1, "threshold": 0.4, "present": 0.5} | (detector_options or {})
        self._watcher = Watcher(detector, detector_options)

    def config(self) -> dict[str, Any]:
        mine = {"expected": self.expected, "score": self.score, "smallest": self.smallest}
        return {**mine, "detector": self._watcher.config(), "version": 1}

    def __call__(self, batch: PoseBatch) -> Checked:
        count = np.array([self._count(p, batch.size) for p in self._watcher.people(batch)], float)
        return Checked(batch, count == self.expected, {"people": count})

    def _count(self, people: People, size: int) -> int:
        if not len(people):
            return 0
        extent = (people.points.max(1) - people.points.min(1)).max(1)
        return int(((people.score >= self.score) & (extent >= self.smallest * size)).sum())
