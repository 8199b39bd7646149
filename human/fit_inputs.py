"""Checked inputs of the fits, and their result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from human.body import BodyModel
from human.errors import PosesynError
from human.fit_solver import State
from human.record import Record
from human.skeleton import POSE32, convert, get_skeleton

OnBad = Literal["raise", "mask"]
MIN_JOINTS = 3


@dataclass(frozen=True)
class FitResult(Record):
    """Bodies, ready for `BodyModel.forward(betas, body_pose, global_orient, transl)`.

    Attributes:
        betas: (B, 10).
        body_pose: (B, 23, 3) rotation vectors.
        global_orient: (B, 3) rotation vectors, in the frame of the input.
        transl: (B, 3) metres.
        error: (B,) mean distance to what was given, over the points with confidence: metres, of 2D fits pixels. inf
            where `valid` is false.
        valid: (B,) false for samples with too few points or with numbers that are none, and for those a fit gave up on.
    """

    betas: Tensor
    body_pose: Tensor
    global_orient: Tensor
    transl: Tensor
    error: Tensor
    valid: Tensor

    def joints(self, body: BodyModel) -> Tensor:
        """(B, 32, 3) POSE32 joints, metres."""
        return body.joints(self.betas, self.body_pose, self.global_orient, self.transl)

    @property
    def state(self) -> State:
        return State(torch.cat([self.global_orient[:, None], self.body_pose], 1), self.transl, self.betas)

    @staticmethod
    def of(state: State, error_B: Tensor, valid_B: Tensor) -> FitResult:
        finite = torch.isfinite(state.rotvec).flatten(1).all(1) & torch.isfinite(error_B)
        valid = valid_B & finite
        clean = [torch.where(valid.view(-1, *[1] * (v.ndim - 1)), v, torch.zeros_like(v)) for v in state.values()]
        error = torch.where(valid, error_B, torch.full_like(error_B, torch.inf))
        return FitResult(clean[2], clean[0][:, 1:], clean[0][:, 0], clean[1], error, valid)


def check_shape(who: str, name: str, value: Tensor | None, shape: tuple[int, ...]) -> None:
    if value is not None and tuple(value.shape) != shape:
        raise PosesynError(f"{who}: {name} must have shape {shape}, got {tuple(value.shape)}")


def check_body(who: str, body: BodyModel) -> None:
    if len(body.parents) != 24:
        raise PosesynError(f"{who}: bodies with SMPL's 24 joints can be fitted, this one has {len(body.parents)}")


def checked_points(
    who: str,
    body: BodyModel,
    points: Tensor,
    conf: Tensor | None,
    count: int,
    dimensions: int,
    on_bad: OnBad,
    short: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """Points (B, count, D) and confidences (B, count) on the body's device, finite; which samples can be used (B,).

    Points of fewer columns, if `short` names their number, are filled up with unseen ones.

    Raises:
        PosesynError: shapes do not fit, negative confidences, or bad samples and `on_bad` is "raise".
    """
    allowed = (count, *short)
    if points.ndim != 3 or points.shape[1] not in allowed or points.shape[2] != dimensions:
        wanted = " or ".join(str(n) for n in allowed)
        raise PosesynError(f"{who}: points must have shape (B, {wanted}, {dimensions}), got {tuple(points.shape)}")
    check_shape(who, "confidences", conf, tuple(points.shape[:2]))
    points = points.to(body.J_template)
    conf = torch.ones_like(points[..., 0]) if conf is None else conf.to(body.J_template)
    if points.shape[1] < count:
        missing = count - points.shape[1]
        points = torch.cat([points, points.new_zeros(len(points), missing, dimensions)], 1)
        conf = torch.cat([conf, conf.new_zeros(len(conf), missing)], 1)
    unseen = conf == 0
    bad = (~torch.isfinite(points).all(-1) | ~torch.isfinite(conf) | (conf < 0)) & ~unseen
    few = (~unseen).sum(1) < MIN_JOINTS
    valid = ~(bad.any(1) | few)
    if on_bad == "raise" and not bool(valid.all()):
        first = int(torch.nonzero(~valid)[0, 0])
        what = "a point or confidence that is no number" if bool(bad[first].any()) else f"under {MIN_JOINTS} points"
        raise PosesynError(
            f"{who}: {int((~valid).sum())} of {len(valid)} samples cannot be fitted, the first is number {first} "
            f'with {what}; give unseen points confidence 0, or pass on_bad="mask"'
        )
    keep = valid[:, None] & ~unseen
    return torch.where(keep[..., None], points, torch.zeros_like(points)), torch.where(keep, conf, 0.0), valid


def as_pose32(skeleton: str, points: Tensor, conf: Tensor) -> tuple[Tensor, Tensor]:
    """Points of a skeleton at the POSE32 joints of the same names: near enough to start from."""
    return (points, conf) if skeleton == "pose32" else convert(points, conf, skeleton, "pose32")


def joint_count(skeleton: str) -> int:
    return len(POSE32) if skeleton == "pose32" else len(get_skeleton(skeleton))


def mean_over(distance_BP: Tensor, conf_BP: Tensor) -> Tensor:
    """(B,) mean of the distances whose confidence is above 0; 0 where none is."""
    seen = (conf_BP > 0).to(distance_BP)
    return (distance_BP * seen).sum(1) / seen.sum(1).clamp_min(1)
