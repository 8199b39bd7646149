"""Bodies fitted to 2D keypoints under a known camera (the setting of SMPLify, Bogo et al., ECCV 2016).

One picture leaves depth open, so the fit starts from several answers: poses of a motion bank, turned to many views, are
compared with the keypoints up to a planar similarity (weak perspective), and the best of each quarter turn is refined.
The answer of lowest energy (reprojection, pose prior, joint limits, shape) is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from human.body import BodyModel
from human.camera import project
from human.errors import PosesynError
from human.fit_inputs import FitResult, OnBad, check_body, check_shape, checked_points, joint_count, mean_over
from human.fit_points import BodyPoints, skeleton_points
from human.fit_prior import PosePrior, bank_prior
from human.fit_solver import Problem, State, Target2D, Weights, run_chunked
from human.motion import load_motion_bank, mirror_pose, mirror_root
from human.rotations import matrix_to_rotvec, rotation_about, rotvec_to_matrix
from human.skeleton import SMPL24

# The data's part: an annotator's noise is about 2 cm; what is 15 cm off is a mistake.
WEIGHTS_2D = Weights(prior=0.025, limits=0.2, betas=0.025, outlier=0.15, lean=0.05)
YAWS, PITCHES_DEG = 16, (-30.0, 0.0, 30.0)
BANK_STEP = 5  # every fifth pose of the bank and its mirror image
TILT_PENALTY = 0.02  # of the picture's own rotation: people mostly stand upright in it


@dataclass(frozen=True)
class Views:
    """Posed people seen from many sides: points (P, M, 3) metres in camera axes around the pelvis, M views in all.

    `quarter` (M,): which quarter turn about the vertical; `root` (M, 3, 3) and `pose` (M, 23, 3): what was posed.
    """

    points_PM3: Tensor
    quarter_M: Tensor
    root_M33: Tensor
    pose_M233: Tensor


@torch.no_grad()
def fit_joints2d(
    body: BodyModel,
    joints_BJ2: Tensor,
    conf_BJ: Tensor | None,
    intrinsics_B33: Tensor,
    *,
    skeleton: str = "pose32",
    betas: Tensor | None = None,
    init: FitResult | None = None,
    group_B: Tensor | None = None,
    prior: PosePrior | None = None,
    weights: Weights = WEIGHTS_2D,
    free_joints: Sequence[str] | None = None,
    starts: int = 4,
    iterations: int = 30,
    tolerance: float = 1e-3,
    on_bad: OnBad = "raise",
    chunk: int = 128,
) -> FitResult:
    """Likely bodies that project onto the keypoints, in the camera's frame (metres, x right, y down, z forward).

    Args:
        body: its tensors' device and dtype are used.
        joints_BJ2: (B, J, 2) pixels; of "pose32" also the first 22 or 24.
        conf_BJ: (B, J) factor on each keypoint's distance; 0: not seen. None: all 1.
        intrinsics_B33: pixels.
        skeleton: "pose32", or a regressor of the body: "lsp14" and "coco17" know where annotators click.
        betas: (B, 10) known shapes; None: fitted, near the mean.
        init: where to start instead, in the camera's frame; one start.
        group_B: (B,) long: samples of one person, which get one shape (with `init`, or after a first fit without).
        prior: of poses; None: `bank_prior()`.
        weights: metres at the person's distance.
        free_joints: SMPL's names of the only joints that turn; the rest of `init` (which is needed then), its place and
            its shape stay as they are.
        starts: how many starting answers are refined: 1, 2, 4, 8 or 16.
        iterations, tolerance: of the refinement.
        on_bad, chunk: as in `fit_joints3d`.

    Returns:
        FitResult, `error` in pixels.

    Raises:
        PosesynError: shapes do not fit, or bad samples.
    """
    who = "fit_joints2d"
    check_body(who, body)
    points = skeleton_points(body, skeleton)
    short = (22, 24) if skeleton == "pose32" else ()
    pixels, conf, valid = checked_points(who, body, joints_BJ2, conf_BJ, joint_count(skeleton), 2, on_bad, short)
    free = None if free_joints is None else tuple(SMPL24.indices(*free_joints))
    if free is not None and (init is None or group_B is not None):
        raise PosesynError(f"{who}: free_joints needs init, the body whose other joints stay, and no group_B")
    count = len(pixels)
    check_shape(who, "intrinsics", intrinsics_B33, (count, 3, 3))
    check_shape(who, "betas", betas, (count, body.num_betas))
    check_shape(who, "group_B", group_B, (count,))
    if starts < 1 or YAWS % starts:
        raise PosesynError(f"{who}: starts must divide {YAWS}, got {starts}")
    camera = intrinsics_B33.to(pixels)
    if not bool((torch.isfinite(camera).flatten(1).all(1) & (camera[:, 0, 0] > 0) & (camera[:, 1, 1] > 0)).all()):
        raise PosesynError(f"{who}: intrinsics need finite numbers and positive focal lengths, in pixels")
    if not count:
        zero = pixels.new_zeros
        return FitResult.of(State(zero(0, 24, 3), zero(0, 3), zero(0, body.num_betas)), zero(0), valid)
    used = torch.nonzero((conf > 0).any(0))[:, 0]
    points, pixels, conf = points.keep(used), pixels[:, used], conf[:, used]
    focal = (camera[:, 0, 0] + camera[:, 1, 1]) / 2

    if init is not None:
        check_shape(who, "init.body_pose", init.body_pose, (count, 23, 3))
        start, starts = init.to(pixels.device).state, 1
        unit = focal / start.transl[:, 2].clamp_min(0.1)
    else:
        start, unit = _retrieve(body, points, pixels, conf, camera, starts)  # (B * starts), sample by sample
    if betas is not None:
        start = State(start.rotvec, start.transl, betas.to(pixels).repeat_interleave(starts, 0))
    rows = torch.arange(count, device=pixels.device).repeat_interleave(starts)
    target = Target2D(pixels, conf, camera, torch.ones_like(focal))[rows]
    problem = Problem(
        points,
        Target2D(target.pixels, target.conf, target.intrinsics, unit),
        prior or bank_prior(),
        weights,
        free_betas=betas is None and free is None,
        group_B=None if group_B is None or betas is not None or starts > 1 else group_B.to(pixels.device),
        tether_BN3=start.rotvec if weights.tether else None,
        free_joints=free,
    )
    state, energy = run_chunked(problem, start, iterations, tolerance, chunk)
    behind = state.transl[:, 2] <= 0
    # energies of one sample's starts are in its own metres: compare them at one distance
    comparable = torch.where(behind, torch.inf, energy).nan_to_num(torch.inf, torch.inf).view(count, starts)
    best = comparable.argmin(1) + starts * torch.arange(count, device=pixels.device)
    state, valid = state[best], valid & torch.isfinite(comparable.amin(1))
    found = points.points(points.pose(state.rotvec, state.transl, state.betas, per_beta=False))
    result = FitResult.of(state, mean_over((project(found, camera) - pixels).norm(dim=-1), conf), valid)
    if group_B is None or betas is not None or init is not None:
        return result
    return fit_joints2d(
        body, joints_BJ2, conf_BJ, intrinsics_B33, skeleton=skeleton, init=result, group_B=group_B, prior=prior,
        weights=weights, iterations=iterations, tolerance=tolerance, on_bad=on_bad, chunk=chunk,
    )  # fmt: skip


def bank_views(points: BodyPoints, bank: str = "free") -> Views:
    """Poses of a motion bank from 16 sides and 3 heights."""
    motion = load_motion_bank(bank)
    like = points.rest_template
    pose = torch.from_numpy(motion.poses[::BANK_STEP].copy()).to(like)
    root = torch.from_numpy(motion.root[::BANK_STEP].copy()).to(like)
    pose, root = torch.cat([pose, mirror_pose(pose)]), torch.cat([root, mirror_root(root)])
    yaw = torch.arange(YAWS, device=like.device, dtype=like.dtype) * (2 * math.pi / YAWS)
    pitch = torch.deg2rad(torch.tensor(PITCHES_DEG, device=like.device, dtype=like.dtype))
    upright = rotvec_to_matrix(root)
    heading = torch.atan2(upright[:, 0, 2], upright[:, 2, 2])  # a lying person has none; any is as good
    facing = rotation_about("y", -heading) @ upright
    # y up to y down, then the camera's height, then the side
    to_camera = rotation_about("x", math.pi + pitch)[:, None] @ rotation_about("y", yaw)
    turned = to_camera.flatten(0, 1)[:, None] @ facing  # (views, poses, 3, 3)
    views, poses = turned.shape[:2]
    still = torch.cat([torch.zeros_like(root)[:, None], pose], 1)
    shape = like.new_zeros(poses, points.rest_directions.shape[2])
    placed = points.points(points.pose(still, like.new_zeros(poses, 3), shape, per_beta=False))
    placed = placed - points.rest_template[0]
    seen = torch.einsum("vnij,npj->pvni", turned, placed).flatten(1, 2)
    side = torch.arange(YAWS, device=like.device).repeat(len(pitch)).repeat_interleave(poses)
    return Views(seen, side, turned.flatten(0, 1), pose.repeat(views, 1, 1))


def _retrieve(
    body: BodyModel, points: BodyPoints, pixels: Tensor, conf: Tensor, camera: Tensor, starts: int
) -> tuple[State, Tensor]:
    """For every sample the best view of each of `starts` sectors; and their pixels per metre. Sample-major."""
    views = bank_views(points)
    x_MP, y_MP = views.points_PM3[..., 0], views.points_PM3[..., 1]  # (P, M)
    order = torch.argsort(views.quarter_M * starts // YAWS, stable=True)
    states, units = [], []
    for rows in torch.arange(len(pixels), device=pixels.device).split(64):
        weight = conf[rows].square()
        weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-12)
        # normalised image coordinates: the camera's own pixel shape drops out
        focal = camera[rows][:, [0, 1], [0, 1]]
        plane = (pixels[rows] - camera[rows, None, :2, 2]) / focal[:, None]
        middle = (weight[..., None] * plane).sum(1)
        u, v = (weight[..., None] * (plane - middle[:, None])).unbind(-1)
        # least squares of the plane by c * view, c complex: its scale and turn (Umeyama 1991 in two dimensions)
        real, imaginary = u @ x_MP + v @ y_MP, v @ x_MP - u @ y_MP
        mean_x, mean_y = weight @ x_MP, weight @ y_MP
        spread = weight @ (x_MP.square() + y_MP.square()) - mean_x.square() - mean_y.square()
        spread = spread.clamp_min(1e-6)
        size = (weight * (plane - middle[:, None]).square().sum(-1)).sum(1, keepdim=True).clamp_min(1e-12)
        length = (real.square() + imaginary.square()).sqrt().clamp_min(1e-12)
        score = -length.square() / (spread * size) - TILT_PENALTY * real / length
        best = score[:, order].unflatten(1, (starts, -1)).argmin(2)
        chosen = order[best + torch.arange(starts, device=best.device) * (len(order) // starts)]  # (b, starts)

        def pick(table: Tensor, chosen: Tensor = chosen) -> Tensor:
            return table.gather(1, chosen)

        scale = pick(length) / pick(spread)  # image plane per metre: 1 / depth
        depth = 1 / scale.clamp_min(1e-6)
        turn = torch.atan2(pick(imaginary), pick(real))
        spin = rotation_about("z", turn)
        mean_z = weight @ views.points_PM3[..., 2]
        centre = torch.stack([pick(mean_x), pick(mean_y), pick(mean_z)], -1)
        centre = (spin @ centre[..., None])[..., 0]
        place = torch.cat([middle[:, None] * depth[..., None], depth[..., None]], -1) - centre
        place = place - points.rest_template[0]
        root = matrix_to_rotvec(spin @ views.root_M33[chosen])
        pose = torch.cat([root[:, :, None], views.pose_M233[chosen]], 2).flatten(0, 1)
        shape = pixels.new_zeros(len(pose), body.num_betas)
        states.append(State(pose, place.flatten(0, 1), shape))
        # one unit for all starts of a sample, so that their energies compare
        per_metre = focal.mean(1) * scale.median(1).values
        units.append(per_metre.repeat_interleave(starts))
    return State.cat(states), torch.cat(units)
