"""Labels put right: keypoints moved to what a detector sees, and bodies fitted to it again.

Pose++ (HumanWild) refines the labels of its generated pictures: image models follow limbs well and heads badly, so the
head's pose is fitted to the detected face with everything else fixed (exemplar fine-tuning, Joo et al., 3DV 2021, of
one part); fitting the whole body is an option. These checks remove nothing but samples whose fit failed.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from human.batch import PELVIS, PoseBatch
from human.body import load_body
from human.camera import MIN_DEPTH, project
from human.errors import PosesynError
from human.fit import WEIGHTS_2D, FitResult, fit_joints2d
from human.skeleton import COCO17, POSE32
from synth.checks.base import CHECKS, Check, Checked
from synth.checks.seen import Seen, Watcher

FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
#: A COCO point's column of POSE32.
_COLUMN = [POSE32.index(joint) for joint in COCO17.joints]


class _Refinement(Check):
    """What refinements share: a detector, how sure it must be, and how far it may be from the label."""

    def __init__(self, bound: float, sure: float, detector: str, detector_options: dict[str, Any] | None) -> None:
        if not (bound > 0 and 0 <= sure <= 1):
            raise PosesynError(f"check {self.name} needs bound > 0 and sure from 0 to 1, got {bound} and {sure}")
        self.bound, self.sure = bound, sure
        self._watcher = Watcher(detector, detector_options)

    def config(self) -> dict[str, Any]:
        return {"bound": self.bound, "sure": self.sure, "detector": self._watcher.config(), "version": 1}

    def _agreed(self, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
        """(B,17) bool: points to move, and those that the detector is sure of and sees somewhere else."""
        sure = seen.common(self.sure)
        away = np.linalg.norm(seen.found - seen.label, axis=-1) / np.nan_to_num(seen.side, nan=1.0)[:, None]
        return sure & (away <= self.bound), sure & (away > self.bound)


@CHECKS.register("refine_keypoints")
class RefineKeypoints(_Refinement):
    """Moves 2D labels to the detector's points where the two agree within a bound; the 3D label stays as it is.

    Args:
        bound: greatest distance that counts as the same point, per longer side of the label's box.
        sure: the detector's least confidence.
        contradicted: factor on the confidence of a 2D label that a sure detection contradicts (0: no label any more).
        detector, detector_options: a keypoint detector by name.

    Figures: ``moved`` and ``contradicted`` points, ``distance`` (mean of the moved, per longer side).
    """

    name: ClassVar[str] = "refine_keypoints"

    def __init__(
        self,
        bound: float = 0.05,
        sure: float = 0.8,
        contradicted: float = 0.0,
        detector: str = "blazepose",
        detector_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(bound, sure, detector, detector_options)
        if not 0 <= contradicted <= 1:
            raise PosesynError(f"check refine_keypoints needs contradicted from 0 to 1, got {contradicted}")
        self.contradicted = contradicted

    def config(self) -> dict[str, Any]:
        return {**super().config(), "contradicted": self.contradicted}

    def __call__(self, batch: PoseBatch) -> Checked:
        seen = self._watcher.compare(batch)
        move, wrong = self._agreed(seen)
        joints, conf = batch.joints2d.clone(), batch.joints2d_conf.clone()
        moved = torch.from_numpy(move)
        joints[:, _COLUMN] = torch.where(moved[..., None], torch.from_numpy(seen.found).to(joints), joints[:, _COLUMN])
        conf[:, _COLUMN] *= torch.where(torch.from_numpy(wrong), self.contradicted, 1.0)
        away = np.linalg.norm(seen.found - seen.label, axis=-1) / np.nan_to_num(seen.side, nan=1.0)[:, None]
        count = move.sum(1)
        distance = np.where(count > 0, np.where(move, away, 0).sum(1) / np.maximum(count, 1), np.nan)
        figures = {"moved": count.astype(float), "contradicted": wrong.sum(1).astype(float), "distance": distance}
        return Checked(batch.replace(joints2d=joints, joints2d_conf=conf), np.ones(len(batch), bool), figures)


class _Fit(_Refinement):
    """Fits the labelled body to detected points; afterwards pose, 3D and 2D joints are one body's again."""

    free: ClassVar[tuple[str, ...] | None]
    fewest: int
    body: str
    tether: float

    def config(self) -> dict[str, Any]:
        return {**super().config(), "fewest": self.fewest, "body": self.body, "tether": self.tether}

    @abstractmethod
    def _targets(self, seen: Seen) -> np.ndarray:
        """(B,17) bool: the points that the fit is to meet."""

    def __call__(self, batch: PoseBatch) -> Checked:
        seen = self._watcher.compare(batch)
        used = self._targets(seen)
        whole = (batch.has_pose & batch.has_betas & batch.has_transl).numpy()
        rows = np.flatnonzero(whole & (used.sum(1) >= self.fewest))
        before, after = np.full(len(batch), np.nan), np.full(len(batch), np.nan)
        refined = np.zeros(len(batch))
        if len(rows):
            index = torch.from_numpy(rows)
            part, target = batch[index], torch.from_numpy(seen.found[rows]).float()
            conf = torch.from_numpy(used[rows] * seen.found_conf[rows]).float()
            done, was, now = self._fit(part, target, conf)
            side = seen.side[rows]
            before[rows], after[rows] = was.numpy() / side, now.numpy() / side
            # A fit that leaves the points farther off than they were is none.
            better = now <= was
            refined[rows] = better.float().numpy()
            changed = done.as_dict()
            for name, value in part.as_dict().items():
                keep = better.view(-1, *[1] * (value.ndim - 1))
                changed[name] = torch.where(keep, changed[name], value)
            batch = batch.replace(**{n: v.index_copy(0, index, changed[n]) for n, v in batch.as_dict().items()})
        return Checked(batch, np.ones(len(batch), bool), {"refined": refined, "before": before, "after": after})

    def _fit(self, batch: PoseBatch, target_B17x2: Tensor, conf_B17: Tensor) -> tuple[PoseBatch, Tensor, Tensor]:
        """Labels of the fitted bodies, and mean distances to the targets before and after, px."""
        body = load_body(self.body)
        state = [batch.betas, batch.body_pose, batch.global_orient, batch.transl]
        none = batch.betas.new_zeros(len(batch))
        betas, pose, orient, transl = (v.float() for v in state)
        start = FitResult(betas, pose, orient, transl, none, none == 0)
        skeleton = "coco17" if "coco17" in body.regressor_names else "pose32"
        conf = conf_B17
        if skeleton == "pose32":
            target_B17x2, conf = _widen(target_B17x2, conf)
        weights = replace(
            WEIGHTS_2D, tether=self.tether, prior=0.0 if self.free is None else WEIGHTS_2D.prior, lean=0.0
        )
        given = {"skeleton": skeleton, "betas": start.betas, "init": start, "weights": weights, "on_bad": "mask"}
        was = fit_joints2d(body, target_B17x2, conf, batch.intrinsics, iterations=0, **given)  # type: ignore[arg-type]
        fit = fit_joints2d(
            body,
            target_B17x2,
            conf,
            batch.intrinsics,
            free_joints=self.free,
            **given,  # type: ignore[arg-type]
        )
        return relabelled(batch, fit, self.body), was.error, fit.error


def _widen(points_B17x2: Tensor, conf_B17: Tensor) -> tuple[Tensor, Tensor]:
    points, conf = points_B17x2.new_zeros(len(points_B17x2), 32, 2), conf_B17.new_zeros(len(conf_B17), 32)
    points[:, _COLUMN], conf[:, _COLUMN] = points_B17x2, conf_B17
    return points, conf


def relabelled(batch: PoseBatch, fit: FitResult, body: str = "free") -> PoseBatch:
    """``batch`` with the labels of other bodies before the same cameras; confidences of 2D joints that left the picture
    become 0, those that came in get 1.
    """
    with torch.no_grad():
        joints = fit.joints(load_body(body))
    joints2d = project(joints, batch.intrinsics)
    height, width = batch.image.shape[-2:]
    low, high = joints2d.new_tensor([-0.5, -0.5]), joints2d.new_tensor([width - 0.5, height - 0.5])
    inside = ((joints2d > low) & (joints2d < high)).all(-1) & (joints[..., 2] > MIN_DEPTH)
    was_inside = ((batch.joints2d > low) & (batch.joints2d < high)).all(-1)
    conf = torch.where(was_inside, batch.joints2d_conf, batch.joints2d_conf.amax(1, keepdim=True)) * inside
    return batch.replace(
        joints2d=joints2d,
        joints2d_conf=conf,
        joints3d=joints - joints[:, PELVIS : PELVIS + 1],
        body_pose=fit.body_pose,
        global_orient=fit.global_orient,
        transl=fit.transl,
    )


@CHECKS.register("refine_head")
class RefineHead(_Fit):
    """Turns neck and head so that the face lies where a detector sees it; everything else stays as it is.

    Args:
        bound: greatest distance of the face's middle from the label's, per longer side of the label's box: farther off
            it is another face, and nothing is changed.
        sure: points of the face that the detector is less sure of are left out.
        fewest: points of the face that must remain; with fewer nothing is changed.
        tether: metres per radian that the label's own head pose counts.
        body: model of the labels.
        detector, detector_options: a keypoint detector by name.

    Figures: ``refined`` 1 or 0; mean distance of the points ``before`` and ``after``, per longer side.
    """

    name: ClassVar[str] = "refine_head"
    free: ClassVar[tuple[str, ...] | None] = ("neck", "head")

    def __init__(
        self,
        bound: float = 0.15,
        sure: float = 0.5,
        fewest: int = 3,
        tether: float = 0.01,
        body: str = "free",
        detector: str = "blazepose",
        detector_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(bound, sure, detector, detector_options)
        if not 1 <= fewest <= len(FACE) or tether < 0:
            raise PosesynError(f"check refine_head needs fewest from 1 to 5 and tether >= 0, got {fewest} and {tether}")
        self.fewest, self.tether, self.body = fewest, tether, body

    def _targets(self, seen: Seen) -> np.ndarray:
        face = np.isin(COCO17.joints, FACE)
        # The labelled face may have left the picture, which the true one has not.
        used = (seen.found_conf >= self.sure) & face & np.isfinite(seen.side)[:, None]
        shared = used & (seen.label_conf > 0)
        count = np.maximum(shared.sum(1), 1)
        middle = np.where(shared[..., None], seen.found - seen.label, 0).sum(1) / count[:, None]
        near = np.linalg.norm(middle, axis=-1) <= self.bound * np.nan_to_num(seen.side, nan=1.0)
        return used & (near & shared.any(1))[:, None]


@CHECKS.register("refine_body")
class RefineBody(_Fit):
    """Exemplar fine-tuning of the whole pose: the labelled body, of the same shape, moved to the detected points.

    Args:
        bound: detections farther from the label than this, per longer side of its box, are left out.
        sure: points that the detector is less sure of are left out.
        fewest: points that must remain; with fewer nothing is changed.
        tether: metres per radian that the label's own pose counts.
        body: model of the labels.
        detector, detector_options: a keypoint detector by name.

    Figures: as :class:`RefineHead`.
    """

    name: ClassVar[str] = "refine_body"
    free: ClassVar[tuple[str, ...] | None] = None

    def __init__(
        self,
        bound: float = 0.1,
        sure: float = 0.5,
        fewest: int = 6,
        tether: float = 0.1,
        body: str = "free",
        detector: str = "blazepose",
        detector_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(bound, sure, detector, detector_options)
        if not 1 <= fewest <= 17 or tether < 0:
            raise PosesynError(
                f"check refine_body needs fewest from 1 to 17 and tether >= 0, got {fewest} and {tether}"
            )
        self.fewest, self.tether, self.body = fewest, tether, body

    def _targets(self, seen: Seen) -> np.ndarray:
        return self._agreed(seen)[0]
