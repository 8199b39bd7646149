"""Forward kinematics and linear blend skinning (SMPL, Loper et al. 2015, Eq. 2-4 and 7), in batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

# SMPL's kinematic tree; joint order is human.skeleton.SMPL24. Parents always come before their children.
SMPL_PARENTS: tuple[int, ...] = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip


def tree_levels(parents: Sequence[int]) -> list[list[int]]:
    """Joints grouped by depth below the root, so that each depth is one batched product instead of one per joint."""
    depth: list[int] = []
    for parent in parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    return [[j for j, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]


def forward_kinematics(
    rotations_BJ33: Tensor, rest_joints_BJ3: Tensor, parents: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Chain local rotations down the tree.

    Args:
        rotations_BJ33: rotation of each joint relative to its parent (of the root: to the world).
        rest_joints_BJ3: joints in the rest pose, metres.
        parents: parent of each joint, -1 for the root, parents first.

    Returns:
        world rotations (B, J, 3, 3) and posed joints (B, J, 3); the root stays at its rest position.
    """
    parent_index = list(parents)
    levels = tree_levels(parents)
    order: list[int] = list(levels[0])
    world = rotations_BJ33[:, levels[0]]
    joints = rest_joints_BJ3[:, levels[0]]
    for level in levels[1:]:
        # positions of this level's parents among the joints already chained
        above = [order.index(parent_index[j]) for j in level]
        offset = rest_joints_BJ3[:, level] - rest_joints_BJ3[:, [parent_index[j] for j in level]]
        parent_rotation = world[:, above]
        joints = torch.cat([joints, joints[:, above] + (parent_rotation @ offset[..., None])[..., 0]], dim=1)
        world = torch.cat([world, parent_rotation @ rotations_BJ33[:, level]], dim=1)
        order += level
    if order != sorted(order):
        back = sorted(range(len(order)), key=order.__getitem__)
        world, joints = world[:, back], joints[:, back]
    return world, joints


def skin(
    vertices_BV3: Tensor,
    weights_VJ: Tensor,
    rotations_BJ33: Tensor,
    joints_BJ3: Tensor,
    rest_joints_BJ3: Tensor,
) -> Tensor:
    """Linear blend skinning: each vertex moves by the weighted mean of its joints' rigid motions.

    Args:
        vertices_BV3: vertices in the rest pose, metres.
        weights_VJ: skinning weights, rows sum to 1.
        rotations_BJ33: world rotations from `forward_kinematics`.
        joints_BJ3, rest_joints_BJ3: joints posed and at rest, metres.

    Returns:
        posed vertices (B, V, 3), metres.
    """
    shift_BJ3 = joints_BJ3 - (rotations_BJ33 @ rest_joints_BJ3[..., None])[..., 0]
    motion_BJ12 = torch.cat([rotations_BJ33.flatten(2), shift_BJ3], dim=-1)
    # vertices last: long contiguous rows are twice as fast on CPU as a 3x3 product per vertex
    blended_B12V = motion_BJ12.transpose(1, 2) @ weights_VJ.T
    rotation_B33V = blended_B12V[:, :9].unflatten(1, (3, 3))
    posed_B3V = (rotation_B33V * vertices_BV3.transpose(1, 2)[:, None]).sum(2) + blended_B12V[:, 9:]
    return posed_B3V.transpose(1, 2).contiguous()
