"""How far the label lies from what a detector sees."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from human.batch import PoseBatch
from human.crop import Array
from human.errors import PosesynError
from synth.checks.base import CHECKS, Check, Checked
from synth.checks.seen import Seen, Watcher


def disagreement(seen: Seen, sure: float) -> tuple[Array, Array, Array]:
    """(B,) mean distance between label and detection, (B,) length of their median difference, both per longer side of
    the label's box (NaN where no point can be compared), and (B,) how many points were compared.
    """
    used = seen.common(sure)
    away = (seen.found - seen.label) / np.nan_to_num(seen.side, nan=1.0)[:, None, None]
    count = used.sum(1)
    none = count == 0
    distance = np.where(used, np.linalg.norm(away, axis=-1), 0).sum(1) / np.maximum(count, 1)
    masked = np.where(used[..., None], away, np.nan)
    masked[none] = 0  # nanmedian of nothing warns
    shift = np.linalg.norm(np.nanmedian(masked, axis=1), axis=-1)
    return np.where(none, np.nan, distance), np.where(none, np.nan, shift), count


@CHECKS.register("alignment")
class Alignment(Check):
    """Removes people who are not where the label says.

    Args:
        error: largest mean distance between label and detection that passes, per longer side of the label's box.
        shift: largest common displacement (the median over points, which no single limb decides), same unit.
        sure: points that the detector is less sure of are left out.
        points: fewest of COCO's 17 that must remain; with fewer the picture cannot be judged.
        detector, detector_options: a keypoint detector by name.

    Figures: ``error``, ``shift``, ``points`` compared.
    """

    name: ClassVar[str] = "alignment"

    def __init__(
        self,
        error: float = 0.07,
        shift: float = 0.045,
        sure: float = 0.3,
        points: int = 6,
        detector: str = "blazepose",
        detector_options: dict[str, Any] | None = None,
    ) -> None:
        if not (error > 0 and shift > 0 and 0 <= sure <= 1 and 1 <= points <= 17):
            raise PosesynError(
                "check alignment needs error and shift > 0 (shares of the box), sure from 0 to 1 and points from 1 to "
                f"17, got {error}, {shift}, {sure} and {points}"
            )
        self.error, self.shift, self.sure, self.points = error, shift, sure, points
        self._watcher = Watcher(detector, detector_options)

    def config(self) -> dict[str, Any]:
        mine = {"error": self.error, "shift": self.shift, "sure": self.sure, "points": self.points}
        return {**mine, "detector": self._watcher.config(), "version": 1}

    def __call__(self, batch: PoseBatch) -> Checked:
        error, shift, count = disagreement(self._watcher.compare(batch), self.sure)
        near = (np.nan_to_num(error, nan=np.inf) <= self.error) & (np.nan_to_num(shift, nan=np.inf) <= self.shift)
        return Checked(
            batch, near & (count >= self.points), {"error": error, "shift": shift, "points": count.astype(float)}
        )
