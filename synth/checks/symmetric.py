"""Left for right: average precision of the symmetric joints.

Pose++ (HumanWild) removes pictures where the average precision of the joints that come in pairs, between a detector's
and the condition's, lies below a bound: image models turn people about, and a body seen from behind has the outline of
one seen from the front. (The paper's value of the bound was not at hand: the default is ours, docs/checks.md.)
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from human.batch import PoseBatch
from human.crop import Array
from human.errors import PosesynError
from human.skeleton import COCO17, LIMB_JOINTS
from synth.checks.base import CHECKS, Check, Checked
from synth.checks.seen import Seen, Watcher

#: COCO's standard deviations of its annotators, per square root of area (cocoapi, cocoeval.py), in COCO's order.
OKS_SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
_THRESHOLDS = np.arange(0.5, 0.96, 0.05)
#: Area of a person over that of their box; what MMPose uses where there is no mask.
_FILLED = 0.53
_LIMBS = np.isin(COCO17.joints, LIMB_JOINTS)
_SWAP = list(COCO17.flip_permutation)


def similarity(label: Array, found: Array, used: npt.NDArray[np.bool_], area: Array) -> Array:
    """(B,) object keypoint similarity over the used joints (B,17), NaN where none is."""
    distance = ((label - found) ** 2).sum(-1)
    variance = 2 * area[:, None] * (2 * OKS_SIGMAS) ** 2
    each = np.where(used, np.exp(-distance / np.maximum(variance, 1e-9)), 0)
    count = used.sum(1)
    return np.where(count > 0, each.sum(1) / np.maximum(count, 1), np.nan)


def average_precision(similarity_B: Array) -> Array:
    """(B,) of one person and one detection each: the share of COCO's thresholds that the similarity reaches."""
    reached = np.nan_to_num(similarity_B)[:, None] >= _THRESHOLDS - 1e-9
    return np.where(np.isfinite(similarity_B), reached.mean(1), np.nan)


@CHECKS.register("symmetric_ap")
class SymmetricAP(Check):
    """Removes people whose left and right are not where the label says.

    Args:
        sigma: least average precision of shoulders, elbows, wrists, hips, knees and ankles that passes.
        margin: the similarity to the label must exceed that to the label with left and right swapped by this much;
            None: not asked.
        sure: joints that the detector is less sure of are left out.
        joints: fewest that must remain; with fewer the picture cannot be judged.
        detector, detector_options: a keypoint detector by name.

    Figures: ``ap``, ``oks``, ``swapped`` (similarity to the swapped label), ``joints`` compared.
    """

    name: ClassVar[str] = "symmetric_ap"

    def __init__(
        self,
        sigma: float = 0.5,
        margin: float | None = 0.0,
        sure: float = 0.3,
        joints: int = 5,
        detector: str = "blazepose",
        detector_options: dict[str, Any] | None = None,
    ) -> None:
        if not 0 <= sigma <= 1 or not 1 <= joints <= _LIMBS.sum() or not 0 <= sure <= 1:
            raise PosesynError(
                f"check symmetric_ap needs sigma and sure from 0 to 1 and joints from 1 to {_LIMBS.sum()}, "
                f"got {sigma}, {sure} and {joints}"
            )
        self.sigma, self.margin, self.sure, self.joints = sigma, margin, sure, joints
        self._watcher = Watcher(detector, detector_options)

    def config(self) -> dict[str, Any]:
        mine = {"sigma": self.sigma, "margin": self.margin, "sure": self.sure, "joints": self.joints}
        return {**mine, "detector": self._watcher.config(), "version": 1}

    def __call__(self, batch: PoseBatch) -> Checked:
        seen = self._watcher.compare(batch)
        used = seen.common(self.sure) & _LIMBS
        area = _area(seen)
        oks = similarity(seen.label, seen.found, used, area)
        # The swapped label has a joint wherever its partner is labelled.
        swapped = similarity(seen.label[:, _SWAP], seen.found, used & (seen.label_conf[:, _SWAP] > 0), area)
        ap = average_precision(oks)
        passed = (used.sum(1) >= self.joints) & (np.nan_to_num(ap) >= self.sigma)
        if self.margin is not None:
            # Where both are alike the person has no sides to confuse: a slim body seen from the side.
            passed &= ~(np.nan_to_num(swapped) - np.nan_to_num(oks) > -self.margin) | (swapped == oks)
        figures = {"ap": ap, "oks": oks, "swapped": swapped, "joints": used.sum(1).astype(float)}
        return Checked(batch, passed, figures)


def _area(seen: Seen) -> Array:
    """(B,) square pixels of the person."""
    sides = seen.box[:, 2:] - seen.box[:, :2]
    # A body is at least a fifth as broad as it is tall, whatever its joints span.
    return _FILLED * np.maximum(sides.min(1), 0.2 * sides.max(1)) * sides.max(1)
