"""Bodies fitted to the vertices of a posed mesh of the same topology: an estimator's, or a registered scan.

Each part's rotation by Procrustes from its own vertices, then Levenberg-Marquardt on a few hundred vertices spread over
the parts.
"""

from __future__ import annotations

import roma
import torch
from torch import Tensor

from human.body import BodyModel
from human.errors import PosesynError
from human.fit_inputs import FitResult, OnBad, check_body, check_shape, checked_points
from human.fit_points import BodyPoints, vertex_points
from human.fit_prior import PosePrior, bank_prior
from human.fit_solver import Problem, State, Target3D, Weights, run_chunked
from human.rotations import matrix_to_rotvec

WEIGHTS_VERTICES = Weights(prior=1e-4, limits=0.0, betas=1e-4)
PER_PART = 24


@torch.no_grad()
def fit_vertices(
    body: BodyModel,
    verts_BV3: Tensor,
    *,
    betas: Tensor | None = None,
    group_B: Tensor | None = None,
    prior: PosePrior | None = None,
    weights: Weights = WEIGHTS_VERTICES,
    iterations: int = 15,
    tolerance: float = 1e-2,
    on_bad: OnBad = "raise",
    chunk: int = 32,
) -> FitResult:
    """Bodies whose vertices lie where they were seen.

    Args:
        body: its tensors' device and dtype are used.
        verts_BV3: (B, V, 3) metres, any frame, in the body's own vertex order.
        betas: (B, 10) known shapes; None: fitted.
        group_B: (B,) long, 0..G-1: samples of one person, which get one shape.
        prior, weights, iterations, tolerance, on_bad, chunk: as in `fit_joints3d`.

    Returns:
        FitResult; `error` is the mean over all vertices, metres.

    Raises:
        PosesynError: shapes do not fit, or bad samples.
    """
    who = "fit_vertices"
    check_body(who, body)
    if verts_BV3.ndim == 3 and verts_BV3.shape[1] != len(body.v_template):
        raise PosesynError(
            f"{who}: this body has {len(body.v_template)} vertices, got {verts_BV3.shape[1]}; "
            "convert the mesh first or fit its joints"
        )
    verts, _, valid = checked_points(who, body, verts_BV3, None, len(body.v_template), 3, on_bad)
    count = len(verts)
    check_shape(who, "betas", betas, (count, body.num_betas))
    check_shape(who, "group_B", group_B, (count,))
    shape = verts.new_zeros(count, body.num_betas) if betas is None else betas.to(verts)
    if not count:
        return FitResult.of(State(verts.new_zeros(0, 24, 3), verts.new_zeros(0, 3), shape), verts.new_zeros(0), valid)
    used = spread_vertices(body)
    points, seen = vertex_points(body, used), verts[:, used]
    start = _start(points, seen, body.part[used], shape)
    group = None if group_B is None or betas is not None else group_B.to(verts.device)
    problem = Problem(
        points,
        Target3D(seen, verts.new_ones(seen.shape[:2])),
        prior or bank_prior(),
        weights,
        free_betas=betas is None,
        group_B=group,
    )
    state, _ = run_chunked(problem, start, iterations, tolerance, chunk)
    error = [
        (body(part.betas, part.rotvec[:, 1:], part.rotvec[:, 0], part.transl).vertices - wanted).norm(dim=-1).mean(1)
        for part, wanted in ((state[i : i + chunk], verts[i : i + chunk]) for i in range(0, count, chunk))
    ]
    return FitResult.of(state, torch.cat(error), valid)


def spread_vertices(body: BodyModel, per_part: int = PER_PART) -> Tensor:
    """Numbers (ascending) of up to `per_part` vertices of each part, far from one another (farthest point first)."""
    chosen = []
    for part in range(len(body.parents)):
        own = torch.nonzero(body.part == part)[:, 0]
        place = body.v_template[own]
        farthest = (place - place.mean(0)).norm(dim=-1)
        nearest = torch.full_like(farthest, torch.inf)
        picked = [int(farthest.argmax())]
        while len(picked) < min(per_part, len(own)):
            nearest = torch.minimum(nearest, (place - place[picked[-1]]).norm(dim=-1))
            picked.append(int(nearest.argmax()))
        chosen.append(own[picked])
    return torch.cat(chosen).sort().values


def _start(points: BodyPoints, seen_BP3: Tensor, part_P: Tensor, betas_BK: Tensor) -> State:
    """Every part turned as its vertices are; the whole moved onto them."""
    parents = points.parents
    still = seen_BP3.new_zeros(len(seen_BP3), len(parents), 3)
    rest_BP3 = points.points(points.pose(still, still[:, 0], betas_BK, per_beta=False))
    member_NP = (part_P == torch.arange(len(parents), device=part_P.device)[:, None]).to(seen_BP3)
    share_NP = member_NP / member_NP.sum(1, keepdim=True).clamp_min(1)

    def around(points_BP3: Tensor) -> Tensor:
        return points_BP3 - (share_NP @ points_BP3)[:, part_P]

    moment = torch.einsum("np,bpi,bpj->bnij", member_NP, around(seen_BP3), around(rest_BP3))
    world = roma.special_procrustes(moment + 1e-9 * torch.eye(3, dtype=moment.dtype, device=moment.device))
    local = world[:, points.parent_index].transpose(2, 3) @ world
    rotvec = matrix_to_rotvec(torch.cat([world[:, :1], local[:, 1:]], 1))
    posed = points.points(points.pose(rotvec, still[:, 0], betas_BK, per_beta=False))
    return State(rotvec, (seen_BP3 - posed).mean(1), betas_BK)
