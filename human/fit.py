"""Bodies fitted to joints: shape and pose from 3D joints (here), from vertices, from 2D keypoints and a camera.

An analytic start (`human.fit_start`, `human.fit_images`), then Levenberg-Marquardt on the points alone
(`human.fit_solver`): the mesh is never posed. Everything is batched, runs where the body's tensors are, and draws no
random numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from human.body import BodyModel
from human.fit_images import WEIGHTS_2D, fit_joints2d
from human.fit_inputs import (
    FitResult,
    OnBad,
    as_pose32,
    check_body,
    check_shape,
    checked_points,
    joint_count,
    mean_over,
)
from human.fit_points import skeleton_points
from human.fit_prior import PosePrior, bank_prior
from human.fit_solver import Problem, State, Target3D, Weights, run_chunked
from human.fit_start import out_of_reach, start_betas, start_pose
from human.fit_vertices import fit_vertices

__all__ = [
    "WEIGHTS_2D",
    "WEIGHTS_3D",
    "FitResult",
    "PosePrior",
    "Weights",
    "fit_joints2d",
    "fit_joints3d",
    "fit_vertices",
]

WEIGHTS_3D = Weights(prior=1e-3, limits=3e-3, betas=7e-3)


@torch.no_grad()
def fit_joints3d(
    body: BodyModel,
    joints_BJ3: Tensor,
    conf_BJ: Tensor | None = None,
    *,
    skeleton: str = "pose32",
    betas: Tensor | None = None,
    init: FitResult | None = None,
    group_B: Tensor | None = None,
    prior: PosePrior | None = None,
    weights: Weights = WEIGHTS_3D,
    iterations: int = 12,
    tolerance: float = 1e-2,
    on_bad: OnBad = "raise",
    chunk: int = 256,
) -> FitResult:
    """Bodies whose joints lie where they were seen.

    Args:
        body: its tensors' device and dtype are used.
        joints_BJ3: (B, J, 3) metres, any frame; of "pose32" also the first 22 (HumanML3D) or 24 (SMPL) alone.
        conf_BJ: (B, J) factor on each joint's distance; 0: not seen, whatever the numbers say. None: all 1.
        skeleton: "pose32", or a regressor of the body ("coco17", "lsp14", "mpii16", "h36m17").
        betas: (B, 10) known shapes; None: fitted.
        init: where to start instead of the analytic pose.
        group_B: (B,) long, 0..G-1: samples of one person, which get one shape.
        prior: of poses; None: `bank_prior()`. It decides what no joint shows.
        weights: `outlier` makes the fit robust to wrong joints, `tether` keeps it near `init`.
        iterations, tolerance: of the refinement (0 leaves the analytic pose); see `Solver.run`.
        on_bad: samples with a joint that is no number (and confidence above 0), or under 3 joints seen, are an error,
            or marked in `valid`.
        chunk: samples at a time where they do not share shapes; bounds memory, about 50 kB a sample.

    Raises:
        PosesynError: shapes do not fit, or bad samples.
    """
    who = "fit_joints3d"
    check_body(who, body)
    points = skeleton_points(body, skeleton)
    short = (22, 24) if skeleton == "pose32" else ()
    joints, conf, valid = checked_points(who, body, joints_BJ3, conf_BJ, joint_count(skeleton), 3, on_bad, short)
    check_shape(who, "betas", betas, (len(joints), body.num_betas))
    check_shape(who, "group_B", group_B, (len(joints),))
    if init is not None:
        check_shape(who, "init.body_pose", init.body_pose, (len(joints), 23, 3))
    if not len(joints):
        return FitResult.of(_empty(body), joints.new_zeros(0), valid)
    betas = None if betas is None else betas.to(joints)
    group = group_B if betas is None else None
    if group is not None:
        group = group.to(joints.device)

    if init is not None:
        start = init.to(joints.device).state
        start = start if betas is None else State(start.rotvec, start.transl, betas)
    else:
        start = analytic_start(body, *as_pose32(skeleton, joints, conf), betas, group, weights.outlier)
    used = torch.nonzero((conf > 0).any(0))[:, 0]
    points, joints, conf = points.keep(used), joints[:, used], conf[:, used]
    problem = Problem(
        points,
        Target3D(joints, conf),
        prior or bank_prior(),
        weights,
        free_betas=betas is None,
        group_B=group,
        tether_BN3=start.rotvec if weights.tether else None,
    )
    state, _ = run_chunked(problem, start, iterations, tolerance, chunk)
    found = points.points(points.pose(state.rotvec, state.transl, state.betas, per_beta=False))
    return FitResult.of(state, mean_over((found - joints).norm(dim=-1), conf), valid)


def analytic_start(
    body: BodyModel,
    joints_B32x3: Tensor,
    conf_B32: Tensor,
    betas: Tensor | None,
    group_B: Tensor | None = None,
    outlier: float | None = None,
) -> State:
    """Closed-form shape and pose from POSE32 joints; with `outlier` (metres), joints no bone reaches are left out."""
    parents = list(body.parents)
    kinematic = slice(len(parents))
    if betas is None:
        betas = start_betas(
            body.J_template, body.J_shapedirs, parents, joints_B32x3[:, kinematic], conf_B32[:, kinematic], group_B
        )
    points = skeleton_points(body, "pose32")
    still = joints_B32x3.new_zeros(len(betas), len(parents), 3)
    rest = points.points(points.pose(still, still[:, 0], betas, per_beta=False))
    if outlier is not None:
        wrong = out_of_reach(rest[:, kinematic], parents, joints_B32x3[:, kinematic], conf_B32[:, kinematic], outlier)
        conf_B32 = conf_B32.clone()
        conf_B32[:, kinematic] *= ~wrong
    return start_pose(rest, parents, joints_B32x3, conf_B32, betas)


def _empty(body: BodyModel) -> State:
    zero = body.J_template.new_zeros
    return State(zero(0, len(body.parents), 3), zero(0, 3), zero(0, body.num_betas))
