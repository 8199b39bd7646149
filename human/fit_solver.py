"""Levenberg-Marquardt for batches of body fits: small dense normal equations, one Cholesky factor per sample and step.

Each sample keeps its own damping (Marquardt 1963), takes a step only where its
own energy falls, and leaves the batch when it has converged, so that no sample's result depends on its neighbours but
for the rounding of batched products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from human.camera import MIN_DEPTH
from human.fit_points import BodyPoints
from human.fit_prior import PosePrior
from human.joint_limits import JOINT_LIMITS
from human.record import Record

R = TypeVar("R", bound=Record)

MAX_STEP_RAD = 1.0
LAMBDA_START, LAMBDA_MIN, LAMBDA_MAX = 1e-3, 1e-7, 1e5


@dataclass(frozen=True)
class State(Record):
    """rotvec (B, 24, 3) with the pelvis first, transl (B, 3) metres, betas (B, K)."""

    rotvec: Tensor
    transl: Tensor
    betas: Tensor


class Target(Protocol):
    """What points are compared with. `D` numbers per point, in metres or made comparable to metres."""

    def residual(self, points_BP3: Tensor) -> Tensor:
        """(B, P, D)."""
        ...

    def derivative(self, points_BP3: Tensor) -> Tensor | None:
        """(B, P, D, 3), or None for the identity."""
        ...

    def confidence(self) -> Tensor:
        """(B, P) factor on the residual, 0 where there is nothing to compare with."""
        ...

    def __getitem__(self, index: Tensor) -> Target: ...


@dataclass(frozen=True)
class Target3D(Record):
    points: Tensor  # (B, P, 3) metres, finite
    conf: Tensor  # (B, P)

    def residual(self, points_BP3: Tensor) -> Tensor:
        return points_BP3 - self.points

    def derivative(self, points_BP3: Tensor) -> Tensor | None:
        return None

    def confidence(self) -> Tensor:
        return self.conf


@dataclass(frozen=True)
class Target2D(Record):
    """Pixels, divided by `unit`, the pixels that a metre at the person's distance fills."""

    pixels: Tensor  # (B, P, 2), finite
    conf: Tensor  # (B, P)
    intrinsics: Tensor  # (B, 3, 3)
    unit: Tensor  # (B,)

    def residual(self, points_BP3: Tensor) -> Tensor:
        depth = points_BP3[..., 2:].clamp_min(MIN_DEPTH)
        flat = torch.cat([points_BP3[..., :2] / depth, torch.ones_like(depth)], -1)
        return (flat @ self.intrinsics[:, :2].transpose(1, 2) - self.pixels) / self.unit[:, None, None]

    def derivative(self, points_BP3: Tensor) -> Tensor | None:
        depth = points_BP3[..., 2:].clamp_min(MIN_DEPTH)
        scaled = self.intrinsics[:, None, :2, :2] / (depth * self.unit[:, None, None])[..., None]  # (B, P, 2, 2)
        by_depth = -(scaled @ (points_BP3[..., :2] / depth)[..., None])
        return torch.cat([scaled, by_depth], -1)

    def confidence(self) -> Tensor:
        return self.conf


@dataclass(frozen=True)
class Weights:
    """Factors on the residuals beside the data's, which are metres; each is squared in the energy.

    Attributes:
        prior: metres per standard deviation of the pose prior.
        limits: metres per radian beyond the joint limits.
        betas: metres per unit of shape.
        outlier: metres at which a point counts as wrong (Geman and McClure 1987), None: all points count fully.
        tether: metres per radian away from a given pose.
        lean: metres per unit of the depth (z) of the pelvis's upward axis: torsos mostly lie along the image plane.
    """

    prior: float
    limits: float
    betas: float
    outlier: float | None = None
    tether: float = 0.0
    lean: float = 0.0


@dataclass(frozen=True)
class Problem:
    """What a batch of fits minimises; everything batched is indexed together."""

    points: BodyPoints
    target: Target
    prior: PosePrior
    weights: Weights
    free_betas: bool
    group_B: Tensor | None = None  # (B,) 0..G-1: samples that share betas
    tether_BN3: Tensor | None = None  # pose to stay near
    free_joints: tuple[int, ...] | None = None  # the only unknowns are these joints' turns

    def __getitem__(self, index: Tensor) -> Problem:
        tether = None if self.tether_BN3 is None else self.tether_BN3[index]
        group = None if self.group_B is None else self.group_B[index]
        return replace(self, target=self.target[index], tether_BN3=tether, group_B=group)


@dataclass(frozen=True)
class Linear(Record):
    """Energy (B,), gradient / 2 (B, C), Gauss-Newton Hessian / 2 (B, C, C); columns: 3 A rotations, 3 transl, betas."""

    energy: Tensor
    gradient: Tensor
    hessian: Tensor


class Solver:
    """Levenberg-Marquardt on one kind of problem.

    Joints that move none of the points are left out of the equations; the prior's conditional mean fills them in
    afterwards, which is where they would have gone.
    """

    def __init__(self, problem: Problem) -> None:
        points, prior = problem.points, problem.prior
        device, dtype = points.rest_template.device, points.rest_template.dtype
        movable = points.movable()
        if 0 not in movable:
            movable.insert(0, 0)
        self.movable = torch.tensor(movable, device=device)
        seen = [3 * (a - 1) + k for a in movable if a > 0 for k in range(3)]
        unseen = [i for i in range(prior.mean.shape[1]) if i not in set(seen)]
        mean, precision = prior.mean.double(), prior.precision.double()
        p_us = precision[:, unseen][:, :, seen]
        # conditional mean of what is not seen: mean_u + gain (seen - mean_s); marginal precision of what is
        gain = -torch.linalg.solve(precision[:, unseen][:, :, unseen], p_us)
        marginal = precision[:, seen][:, :, seen] + p_us.transpose(1, 2) @ gain
        self.prior = PosePrior(mean[:, seen], marginal, prior.offset).to(device=device, dtype=dtype)
        self.unseen_mean, self.gain = mean[:, unseen].to(device, dtype), gain.to(device, dtype)
        self.unseen = torch.tensor(unseen, dtype=torch.long, device=device)
        self.seen = torch.tensor(seen, dtype=torch.long, device=device)
        limits = JOINT_LIMITS.to(device, dtype).flatten(0, 1)[self.seen]
        self.low, self.high = limits[:, 0], limits[:, 1]

    def run(self, problem: Problem, start: State, iterations: int, tolerance: float) -> tuple[State, Tensor]:
        """Minimise the energy of `problem`, which holds some samples of the solver's, from `start`.

        A sample is done when a step lowers its energy by less than `tolerance` of it.

        Returns:
            the fitted state, and the energy (B,), metres squared.
        """
        if not len(start.transl):
            return start, start.transl.new_zeros(0)
        state = start
        final, energy = start, start.transl.new_zeros(len(start.transl))
        alive = torch.arange(len(start.transl), device=start.transl.device)
        linear = self.linearise(problem, state)
        damping = torch.full_like(linear.energy, LAMBDA_START)
        for _ in range(iterations):
            proposal = self._advance(problem, state, linear, damping)
            trial = self.linearise(problem, proposal)
            before, after = self._shared(problem, linear.energy), self._shared(problem, trial.energy)
            better = after < before  # False for nan
            state, linear = _choose(better, proposal, state), _choose(better, trial, linear)
            done = better & (before - after <= tolerance * after + 1e-9)
            damping = torch.where(better, damping / 10, damping * 10).clamp_min(LAMBDA_MIN)
            done |= damping > LAMBDA_MAX
            if problem.group_B is None:
                # one look per step at how many are left; worth it, since most need few steps
                left = torch.nonzero(~done)[:, 0]
                if len(left) < len(done):
                    final, energy = _write(final, alive, state), energy.index_copy(0, alive, linear.energy)
                    alive, state, linear, damping = alive[left], state[left], linear[left], damping[left]
                    problem = problem[left]
                if not len(left):
                    break
            elif bool(done.all()):
                break
        if len(alive):
            final, energy = _write(final, alive, state), energy.index_copy(0, alive, linear.energy)
        # a tethered joint that no point shows stays where it is, and so does one that is held
        loose = problem.tether_BN3 is None and problem.free_joints is None
        return (self._fill(final) if loose else final), energy

    def linearise(self, problem: Problem, state: State) -> Linear:
        """Energy and normal equations at `state`."""
        points, weights, movable = problem.points, problem.weights, self.movable
        posed = points.pose(state.rotvec, state.transl, state.betas, per_beta=problem.free_betas)
        place, lever = points.levers(posed, movable)
        batch, count, joints = lever.shape[:3]
        rotations, shape = 3 * joints, state.betas.shape[1] if problem.free_betas else 0
        jacobian = lever.new_zeros(batch, count, 3, rotations + 3 + shape)
        turn = jacobian[..., :rotations].unflatten(-1, (joints, 3))
        ax, ay, az = posed.axes_BN33[:, None, movable].unbind(-2)  # each (B, 1, A, 3): a component of the three axes
        mx, my, mz = lever[..., None].unbind(-2)
        turn[:, :, 0] = ay * mz - az * my
        turn[:, :, 1] = az * mx - ax * mz
        turn[:, :, 2] = ax * my - ay * mx
        jacobian[..., rotations : rotations + 3] = torch.eye(3, dtype=lever.dtype, device=lever.device)
        if shape:
            jacobian[..., rotations + 3 :] = points.by_beta(posed)

        residual, derivative = problem.target.residual(place), problem.target.derivative(place)
        if derivative is not None:
            jacobian = derivative @ jacobian
        factor = problem.target.confidence()
        square = residual.square().sum(-1)
        if weights.outlier is None:
            energy = (factor.square() * square).sum(-1)
        else:
            trust = weights.outlier**2 / (weights.outlier**2 + square)
            energy = (factor.square() * square * trust).sum(-1)
            factor = factor * trust
        jacobian = (jacobian * factor[..., None, None]).flatten(1, 2)
        residual = (residual * factor[..., None]).flatten(1)
        hessian = jacobian.transpose(1, 2) @ jacobian
        gradient = (residual[:, None] @ jacobian)[:, 0]

        body = slice(3, rotations)  # movable joints but the pelvis
        pose = state.rotvec[:, movable[1:]].flatten(1)
        away, pull, which = self.prior.nearest(pose)
        energy = energy + weights.prior**2 * away
        gradient[:, body] += weights.prior**2 * pull
        hessian[:, body, body] += weights.prior**2 * self.prior.precision[which]
        excess = (pose - self.high).clamp_min(0) + (pose - self.low).clamp_max(0)
        energy = energy + weights.limits**2 * excess.square().sum(-1)
        gradient[:, body] += weights.limits**2 * excess
        diagonal = torch.zeros_like(gradient)
        diagonal[:, body] += weights.limits**2 * (excess != 0)
        if weights.lean:
            up = posed.world_BN33[:, 0, :, 1]
            slope = posed.axes_BN33[:, 0, 0] * up[:, 1:2] - posed.axes_BN33[:, 0, 1] * up[:, :1]  # of up's z
            energy = energy + weights.lean**2 * up[:, 2].square()
            gradient[:, :3] += weights.lean**2 * up[:, 2:] * slope
            hessian[:, :3, :3] += weights.lean**2 * slope[:, :, None] * slope[:, None]
        if problem.tether_BN3 is not None:
            drift = (state.rotvec - problem.tether_BN3)[:, movable[1:]].flatten(1)
            energy = energy + weights.tether**2 * drift.square().sum(-1)
            gradient[:, body] += weights.tether**2 * drift
            diagonal[:, body] += weights.tether**2
        if shape:
            energy = energy + weights.betas**2 * state.betas.square().sum(-1)
            gradient[:, -shape:] += weights.betas**2 * state.betas
            diagonal[:, -shape:] += weights.betas**2
        hessian.diagonal(dim1=1, dim2=2).add_(diagonal)
        if problem.free_joints is not None:
            held = torch.ones(hessian.shape[1], dtype=torch.bool, device=hessian.device)
            for joint in problem.free_joints:
                held[:rotations].view(-1, 3)[movable == joint] = False
            # an unknown that is held has an equation of its own, whose answer is to stay
            gradient = gradient.masked_fill(held, 0.0)
            hessian = hessian.masked_fill(held[:, None] | held, 0.0)
            hessian.diagonal(dim1=1, dim2=2)[:, held] = 1.0
        return Linear(energy, gradient, hessian)

    def _advance(self, problem: Problem, state: State, linear: Linear, damping: Tensor) -> State:
        """One damped step."""
        hessian = linear.hessian.clone()
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        diagonal.add_(damping[:, None] * (diagonal + 1e-2))
        joints = len(self.movable)
        if problem.group_B is None or not problem.free_betas:
            factor, _ = torch.linalg.cholesky_ex(hessian)
            step = -torch.cholesky_solve(linear.gradient[..., None], factor)[..., 0]
        else:
            step = self._arrow(hessian, linear.gradient, problem.group_B)
        longest = step[:, : 3 * joints].abs().amax(1, keepdim=True)
        step = step * (MAX_STEP_RAD / longest.clamp_min(MAX_STEP_RAD))
        rotvec = state.rotvec.clone()
        rotvec[:, self.movable] += step[:, : 3 * joints].unflatten(1, (joints, 3))
        root = rotvec[:, 0]
        angle = root.norm(dim=-1, keepdim=True)
        rotvec[:, 0] = torch.where(angle > torch.pi, root * (1 - 2 * torch.pi / angle.clamp_min(1.0)), root)
        betas = state.betas
        if problem.free_betas:
            betas = betas + step[:, 3 * joints + 3 :]
        return State(rotvec, state.transl + step[:, 3 * joints : 3 * joints + 3], betas)

    @staticmethod
    def _arrow(hessian: Tensor, gradient: Tensor, group_B: Tensor) -> Tensor:
        """Samples of a group share the last 10 unknowns: eliminate the others first (Schur complement)."""
        own = hessian.shape[1] - 10
        factor, _ = torch.linalg.cholesky_ex(hessian[:, :own, :own])
        right = torch.cat([hessian[:, :own, own:], gradient[:, :own, None]], -1)
        solved = torch.cholesky_solve(right, factor)
        reduced = hessian[:, own:, own:] - hessian[:, own:, :own] @ solved[..., :-1]
        rest = gradient[:, own:] - (hessian[:, own:, :own] @ solved[..., -1:])[..., 0]
        member = torch.nn.functional.one_hot(group_B).to(hessian.dtype)  # (B, G): sums in a fixed order
        reduced = (member.T @ reduced.flatten(1)).unflatten(1, reduced.shape[1:])
        shared = -torch.linalg.solve(reduced, member.T @ rest)[group_B]
        return torch.cat([-solved[..., -1] - (solved[..., :-1] @ shared[..., None])[..., 0], shared], 1)

    @staticmethod
    def _shared(problem: Problem, energy: Tensor) -> Tensor:
        """Energy that decides about a step: of the group where betas are shared."""
        if problem.group_B is None or not problem.free_betas:
            return energy
        member = torch.nn.functional.one_hot(problem.group_B).to(energy.dtype)
        return (member.T @ energy)[problem.group_B]

    def _fill(self, state: State) -> State:
        """Joints that no point shows, by the prior."""
        pose = state.rotvec[:, 1:].flatten(1)
        seen = pose[:, self.seen]
        which = self.prior.nearest(seen)[2]
        away = (seen - self.prior.mean[which])[..., None]
        guess = self.unseen_mean[which] + (self.gain[which] @ away)[..., 0]
        pose = pose.index_copy(1, self.unseen, guess)
        return replace(state, rotvec=torch.cat([state.rotvec[:, :1], pose.unflatten(1, (-1, 3))], 1))


def run_chunked(problem: Problem, start: State, iterations: int, tolerance: float, chunk: int) -> tuple[State, Tensor]:
    """`Solver.run`, a bounded number of samples at a time unless they share shapes."""
    solver = Solver(problem)
    count = len(start.transl)
    if problem.group_B is not None and problem.free_betas and count:
        member = torch.nn.functional.one_hot(problem.group_B).to(start.betas)
        start = replace(start, betas=(member / member.sum(0)).nan_to_num().T @ start.betas)
        start = replace(start, betas=start.betas[problem.group_B])
    if problem.group_B is not None or count <= chunk:
        return solver.run(problem, start, iterations, tolerance)
    rows = torch.arange(count, device=start.transl.device).split(chunk)
    parts = [solver.run(problem[index], start[index], iterations, tolerance) for index in rows]
    return State.cat([part for part, _ in parts]), torch.cat([energy for _, energy in parts])


def _choose(mask_B: Tensor, yes: R, no: R) -> R:
    rows = zip(yes.values(), no.values(), strict=True)
    return type(yes)(*(torch.where(mask_B.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in rows))


def _write(whole: R, index: Tensor, part: R) -> R:
    rows = zip(whole.values(), part.values(), strict=True)
    return type(whole)(*(a.index_copy(0, index, b) for a, b in rows))
