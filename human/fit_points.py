"""Points of a posed body and their exact derivatives, without the mesh: what the fits of `human.fit` stand on.

Linear blend skinning (SMPL, Loper et al. 2015, Eq. 2-4) makes every fixed blend of vertices x = sum_i r_i v_i a sum
over the joints, x = sum_j W_j (p_j(beta) - w_j J_j(beta)) + w_j x_j, with p_j = sum_i r_i w_ij v_i and
w_j = sum_i r_i w_ij known beforehand. So regressed joints and single vertices cost as much as kinematic joints, and
turning joint a by the world-frame vector d moves x by d x (sum over j below a of (q_j - w_j x_a)), where q_j is the
summand.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from human.body import BodyModel
from human.errors import PosesynError
from human.lbs import tree_levels
from human.skeleton import POSE32, get_skeleton


@dataclass(frozen=True)
class BlendTables:
    """Points as sums over the joints: weight (P, N), offset (P, N, 3) metres, directions (P, N, 3, K) per beta."""

    weight_PN: Tensor
    offset_PN3: Tensor
    directions_PN3K: Tensor

    def __getitem__(self, index: Tensor) -> BlendTables:
        return BlendTables(self.weight_PN[index], self.offset_PN3[index], self.directions_PN3K[index])


@dataclass(frozen=True)
class Posed:
    """A batch of poses: joints (B, N, 3), world rotations and axes (B, N, 3, 3), joints per beta (B, N, 3, K).

    Column k of `axes[:, a]` is the world-frame vector about which all below joint a turns per unit of component k of
    its rotation vector.
    """

    joints_BN3: Tensor
    world_BN33: Tensor
    axes_BN33: Tensor
    joints_per_beta_BN3K: Tensor | None
    rest_BN3: Tensor
    betas_BK: Tensor


def rotation_and_left_jacobian(rotvec: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 3) rotation vectors -> matrices and left Jacobians (..., 3, 3): exp([v + e]) = exp([Jl e]) exp([v]).

    Rodrigues' formula and its integral (Sola et al. 2018, "A micro Lie theory", Eq. 145).
    """
    square = (rotvec * rotvec).sum(-1)
    small = square < 1e-6
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    sine, cosine = angle.sin(), angle.cos()
    s1 = torch.where(small, 1 - square / 6, sine / angle)[..., None, None]
    s2 = torch.where(small, 0.5 - square / 24, (1 - cosine) / safe)[..., None, None]
    s3 = torch.where(small, 1 / 6 - square / 120, (angle - sine) / (safe * angle))[..., None, None]
    x, y, z = rotvec.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    twice = rotvec[..., :, None] * rotvec[..., None, :] - square[..., None, None] * identity
    return identity + s1 * cross + s2 * twice, identity + s2 * cross + s3 * twice


class BodyPoints:
    """P points of a body: some of its kinematic joints, then blends.

    Args:
        body: parents, J_template and J_shapedirs are read from it.
        joints: kinematic joints among the points, by number.
        blends: the points after those.
    """

    def __init__(self, body: BodyModel, joints: list[int], blends: BlendTables | None) -> None:
        self.body = body
        self.parents = list(body.parents)
        self.joint_numbers = joints
        self.blends = blends
        template, directions = body.J_template, body.J_shapedirs
        self.rest_template, self.rest_directions = template, directions
        device, dtype, n = template.device, template.dtype, len(self.parents)
        above = torch.zeros(n, n, dtype=dtype)  # above[j, a]: a is j or one of its ancestors
        for j, parent in enumerate(self.parents):
            if parent >= 0:
                above[j] = above[parent]
            above[j, j] = 1
        self.chain_NN = above.to(device)
        self.moves_PN = (above - torch.eye(n))[joints].to(device)  # moves[p, a]: turning a moves kinematic point p
        self.parent_index = torch.tensor([max(p, 0) for p in self.parents], device=device)
        is_root = torch.tensor([p < 0 for p in self.parents], device=device)
        self.root_mask = is_root.to(dtype)[:, None]
        self.offset_directions = directions - directions[self.parent_index] * (1 - self.root_mask[..., None])
        self.levels = [torch.tensor(level, device=device) for level in tree_levels(self.parents)]
        self.level_parents = [self.parent_index[level] for level in self.levels]
        self.joint_index = torch.tensor(joints, dtype=torch.long, device=device)

    def __len__(self) -> int:
        return len(self.joint_numbers) + (0 if self.blends is None else len(self.blends.weight_PN))

    def keep(self, index: Tensor) -> BodyPoints:
        """Only the points of these numbers (ascending)."""
        kinematic = index[index < len(self.joint_numbers)]
        blends = None if self.blends is None else self.blends[index[len(kinematic) :] - len(self.joint_numbers)]
        if blends is not None and not len(blends.weight_PN):
            blends = None
        return BodyPoints(self.body, [self.joint_numbers[i] for i in kinematic.tolist()], blends)

    def movable(self) -> list[int]:
        """Joints whose rotation moves some of the points: the others cannot be seen in them."""
        seen = self.moves_PN.sum(0) > 0
        if self.blends is not None:
            used = self.blends.weight_PN.abs().sum(0) > 0
            seen |= (self.chain_NN * used[:, None].to(self.chain_NN)).sum(0) > 0
        return torch.nonzero(seen)[:, 0].tolist()

    def pose(self, rotvec_BN3: Tensor, transl_B3: Tensor, betas_BK: Tensor, per_beta: bool) -> Posed:
        """Forward kinematics."""
        rotation, jacobian = rotation_and_left_jacobian(rotvec_BN3)
        world = torch.empty_like(rotation)
        world[:, self.levels[0]] = rotation[:, self.levels[0]]
        for level, parents in zip(self.levels[1:], self.level_parents[1:], strict=True):
            world[:, level] = world[:, parents] @ rotation[:, level]
        identity = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
        root = self.root_mask[..., None]
        parent_world = world[:, self.parent_index] * (1 - root) + identity * root
        rest = self.rest_template + (betas_BK @ self.rest_directions.flatten(0, 1).T).unflatten(1, (-1, 3))
        offset = rest - rest[:, self.parent_index] * (1 - self.root_mask)
        step = (parent_world @ offset[..., None])[..., 0]
        joints = self.chain_NN @ step + transl_B3[:, None]
        by_beta = None
        if per_beta:
            step_by_beta = parent_world @ self.offset_directions
            by_beta = (self.chain_NN @ step_by_beta.flatten(2)).unflatten(2, step_by_beta.shape[2:])
        return Posed(joints, world, parent_world @ jacobian, by_beta, rest, betas_BK)

    def points(self, posed: Posed) -> Tensor:
        """(B, P, 3) metres."""
        kinematic = posed.joints_BN3[:, self.joint_index]
        if self.blends is None:
            return kinematic
        return torch.cat([kinematic, self._parts(posed).sum(2)], 1)

    def _parts(self, posed: Posed) -> Tensor:
        """(B, P, N, 3): the share of each joint in each blended point."""
        assert self.blends is not None
        table = self.blends
        shaped = table.offset_PN3 + (table.directions_PN3K.flatten(0, 2) @ posed.betas_BK.T).T.unflatten(
            1, table.offset_PN3.shape
        )
        lever = shaped - table.weight_PN[..., None] * posed.rest_BN3[:, None]  # (B, P, N, 3)
        turned = (posed.world_BN33 @ lever.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return turned + table.weight_PN[..., None] * posed.joints_BN3[:, None]

    def levers(self, posed: Posed, movable: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, P, 3), and lever (B, P, A, 3): turning joint a by d moves point p by d x lever[p, a]."""
        centre = posed.joints_BN3[:, movable]
        kinematic = posed.joints_BN3[:, self.joint_index]
        lever = self.moves_PN[:, movable, None] * (kinematic[:, :, None] - centre[:, None])
        if self.blends is None:
            return kinematic, lever
        parts = self._parts(posed)
        below = self.chain_NN[:, movable].T  # (A, N)
        blended = below @ parts - (self.blends.weight_PN @ below.T)[..., None] * centre[:, None]
        return torch.cat([kinematic, parts.sum(2)], 1), torch.cat([lever, blended], 1)

    def by_beta(self, posed: Posed) -> Tensor:
        """(B, P, 3, K) derivative of the points with respect to betas; `posed` must hold joints_per_beta."""
        moved = posed.joints_per_beta_BN3K
        assert moved is not None
        kinematic = moved[:, self.joint_index]
        if self.blends is None:
            return kinematic
        table = self.blends
        lever = table.directions_PN3K - table.weight_PN[..., None, None] * self.rest_directions  # (P, N, 3, K)
        count, joints, _, k = lever.shape
        flat = lever.permute(1, 2, 0, 3).reshape(joints * 3, count * k)
        side_by_side = posed.world_BN33.transpose(1, 2).flatten(2)  # (B, 3, 3 N): one product sums over the joints
        turned = (side_by_side @ flat).unflatten(2, (count, k)).transpose(1, 2)
        carried = (table.weight_PN @ moved.flatten(2)).unflatten(2, (3, k))
        return torch.cat([kinematic, turned + carried], 1)


def blend_tables(regressor_PV: Tensor, template_V3: Tensor, directions_V3K: Tensor, weights_VN: Tensor) -> BlendTables:
    """Tables of the points `regressor @ vertices`."""
    shares = regressor_PV[:, :, None] * weights_VN[None]  # (P, V, N)
    return BlendTables(
        shares.sum(1),
        torch.einsum("pvn,vc->pnc", shares, template_V3),
        torch.einsum("pvn,vck->pnck", shares, directions_V3K),
    )


def skeleton_points(body: BodyModel, skeleton: str) -> BodyPoints:
    """The joints of `body` as it names them: "pose32" (kinematic ones and the 8 of the face and neck), or a regressor.

    Raises:
        PosesynError: the body has no such joints.
    """
    if skeleton == "pose32":
        tables = blend_tables(body.extra_regressor, body.extra_template, body.extra_shapedirs, body.extra_weights)
        return BodyPoints(body, list(range(len(POSE32) - len(tables.weight_PN))), tables)
    if skeleton not in body.regressor_names:
        known = ", ".join(("pose32", *body.regressor_names))
        raise PosesynError(f"fitting: this body has no joints called {skeleton!r}; it has {known}")
    index, weight = body.get_buffer(f"{skeleton}_index"), body.get_buffer(f"{skeleton}_weight")
    used, position = index.unique(return_inverse=True)
    regressor = weight.new_zeros(len(index), len(used)).scatter_add_(1, position, weight)
    tables = blend_tables(regressor, body.v_template[used], body.shapedirs[used], body.weights[used])
    assert len(get_skeleton(skeleton)) == len(index)
    return BodyPoints(body, [], tables)


def vertex_points(body: BodyModel, vertices: Tensor) -> BodyPoints:
    """Single vertices, by number (long)."""
    weights = body.weights[vertices]
    return BodyPoints(
        body,
        [],
        BlendTables(
            weights,
            weights[..., None] * body.v_template[vertices][:, None],
            weights[..., None, None] * body.shapedirs[vertices][:, None],
        ),
    )
