"""Analytic inverse kinematics from joints and twist angles: HybrIK's, for any body in SMPL's format.

Li et al., "HybrIK: A Hybrid Analytical-Neural Inverse Kinematics Solution for 3D Human Pose and Shape Estimation",
CVPR 2021, §3.2: a joint's rotation is swing times twist. The swing takes the rest bone to the predicted one; the twist
about the bone is the network's. The naive solution follows predicted bones one by one, the adaptive one aims from where
the chain has really got to, so that errors do not add up along it.
"""

from __future__ import annotations

import roma
import torch
from torch import Tensor, nn

from human.body import BodyModel
from human.camera import level_flip
from human.lbs import SMPL_PARENTS, forward_kinematics, tree_levels
from human.rotations import nearest_rotation
from human.skeleton import SMPL24

#: The 24 joints of SMPL and the five points that end its chains, so that every joint has a bone to follow.
LEAVES = ("crown", "left_middle_tip", "right_middle_tip", "left_big_toe", "right_big_toe")
JOINTS29 = (*SMPL24.joints, *LEAVES)
PARENTS29 = (*SMPL_PARENTS, 15, 22, 23, 10, 11)
#: The joint at the other end of the bone that each of the 24 follows; of the pelvis and of spine3 it is the spine's.
CHILDREN24 = tuple({0: 3, 9: 12}.get(j, PARENTS29.index(j)) for j in range(24))
#: Left and right of the 29, and of the 23 twists.
SWAP29 = (*SMPL24.flip_permutation, 24, 26, 25, 28, 27)
SWAP23 = tuple(j - 1 for j in SMPL24.flip_permutation[1:])

_LEVELS = [[j for j in level if j < 24] for level in tree_levels(SMPL_PARENTS)[1:]]
_ROOT_CHILDREN = (3, 1, 2)
# The adaptive solution leaves a chain that is further from the predicted bone than this and takes the bone (metres).
_FAR = 0.015
# A predicted bone shorter than this share of the body's has no direction to speak of.
_COLLAPSED = 0.02
# SMPL's numbers of the five points, on its mesh of 6,890 vertices.
_SMPL_VERTICES, _SMPL_LEAVES = 6890, (411, 2445, 5905, 3216, 6617)


def leaf_vertices(body: BodyModel) -> list[int]:
    """Vertices of :data:`LEAVES`: HybrIK's own on SMPL's mesh.

    On other meshes: the highest point of the head, the outermost of each hand, the foremost of each foot in the T-pose.
    """
    if len(body.v_template) == _SMPL_VERTICES:
        return list(_SMPL_LEAVES)
    x, y, z = body.v_template.unbind(1)
    ends = [(15, y), (22, x), (23, -x), (10, z), (11, z)]
    return [int(torch.where(body.part == joint, along, -torch.inf).argmax()) for joint, along in ends]


class RestSkeleton(nn.Module):
    """Shape to the 29 joints at rest, metres."""

    template: Tensor
    directions: Tensor

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        leaves = leaf_vertices(body)
        template = torch.cat([body.J_template, body.v_template[leaves]])
        directions = torch.cat([body.J_shapedirs, body.shapedirs[leaves][..., : body.num_betas]])
        self.register_buffer("template", template, persistent=False)
        self.register_buffer("directions", directions, persistent=False)

    def forward(self, betas_BS: Tensor) -> Tensor:
        """(B,29,3)."""
        return self.template + (betas_BS @ self.directions.flatten(0, 1).T).unflatten(1, self.template.shape)


def pose29(rotations_B2433: Tensor, rest_B293: Tensor) -> Tensor:
    """(B,29,3) posed joints: the five leaves move with their parents; the pelvis stays at its rest position."""
    eye = torch.eye(3, dtype=rotations_B2433.dtype, device=rotations_B2433.device)
    rotations = torch.cat([rotations_B2433, eye.expand(len(rotations_B2433), 5, 3, 3)], 1)
    return forward_kinematics(rotations, rest_B293, PARENTS29)[1]


def inverse_kinematics(
    rest_B293: Tensor, joints_B293: Tensor, twist_B232: Tensor, adaptive: bool, blunt: bool = False
) -> Tensor:
    """Local rotations (B,24,3,3) that bring a rest skeleton to predicted joints.

    Args:
        rest_B293: joints at rest of the predicted shape, metres.
        joints_B293: predicted joints, metres, any origin.
        twist_B232: (cos, sin) of the twist of joints 1..23 about their rest bones, any length.
        adaptive: the adaptive solution, with the root by least squares on its three children; else the naive one,
            with the root from the spine and the middle of the hips, as the original trains.
        blunt: the naive root with the original's 1e-8 beside its lengths. Where hips lie near the spine's axis it is
            no rotation to the fourth digit, which the scale that the original refines with it shows.
    """
    rest, joints = rest_B293.unbind(1), joints_B293.unbind(1)
    twist = (twist_B232 / (twist_B232.norm(dim=-1, keepdim=True) + 1e-8)).unbind(1)
    root = _root_least_squares(rest, joints) if adaptive else _root_spine(rest, joints, blunt)
    local, world, reached = [root] * 24, [root] * 24, [joints[0]] * 24
    for level in _LEVELS:
        parents = [SMPL_PARENTS[j] for j in level]
        above = torch.stack([world[p] for p in parents], 1)
        rest_bone = torch.stack([rest[CHILDREN24[j]] - rest[j] for j in level], 1)
        length = rest_bone.norm(dim=-1, keepdim=True)
        rest_bone = rest_bone / length
        bone = torch.stack([joints[CHILDREN24[j]] - joints[j] for j in level], 1)
        bone = _or_else(bone, length, _apply(above, rest_bone))
        if adaptive:
            offset = torch.stack([rest[j] - rest[p] for j, p in zip(level, parents, strict=True)], 1)
            at = torch.stack([reached[p] for p in parents], 1) + _apply(above, offset)
            aim = torch.stack([joints[CHILDREN24[j]] for j in level], 1) - at
            bone = _unit(bone) * length
            bone = torch.where((aim - bone).norm(dim=-1, keepdim=True) > _FAR, bone, aim)
            for k, j in enumerate(level):
                reached[j] = at[:, k]
        swing = swing_to(rest_bone, _unit(_apply(above.mT, bone)))
        turned = swing @ _twist_about(rest_bone, torch.stack([twist[j - 1] for j in level], 1))
        chained = above @ turned
        for k, j in enumerate(level):
            local[j], world[j] = turned[:, k], chained[:, k]
    return torch.stack(local, 1)


def twists_of(rotations_B2433: Tensor, rest_B293: Tensor) -> tuple[Tensor, Tensor]:
    """The twists (cos, sin) (B,23,2) of joints 1..23 about their rest bones, and (B,23) bool whether each is defined:
    after a swing of half a turn it is not.
    """
    bones = torch.stack([rest_B293[:, CHILDREN24[j]] - rest_B293[:, j] for j in range(1, 24)], 1)
    quaternion = roma.rotmat_to_unitquat(rotations_B2433[:, 1:])
    along, real = (quaternion[..., :3] * _unit(bones)).sum(-1), quaternion[..., 3]
    size = along.square() + real.square()
    defined = size > 1e-4
    size = torch.where(defined, size, 1.0)
    return torch.stack([(real.square() - along.square()) / size, 2 * along * real / size], -1), defined


def swing_to(a: Tensor, b: Tensor, spare: Tensor | None = None) -> Tensor:
    """(...,3,3) smallest rotation that takes unit vectors ``a`` to ``b``; where they are opposite, half a turn
    about ``spare``, a unit vector across ``a`` (default: any).
    """
    cos = (a * b).sum(-1)[..., None, None]
    cross = torch.linalg.cross(a, b)
    sin2 = cross.square().sum(-1)[..., None, None]
    blunt = cos < 0
    opposite = blunt & (sin2 < 1e-12)
    # (1 - cos) / sin^2, twice: either loses its digits where the other keeps them.
    factor = torch.where(
        blunt, (1 - cos) / torch.where(opposite | ~blunt, 1.0, sin2), 1 / (1 + torch.where(blunt, 0.0, cos))
    )
    eye = torch.eye(3, dtype=a.dtype, device=a.device)
    usual = cos * eye + _skew(cross) + factor * _outer(cross, cross)
    if spare is None:
        axis = torch.nn.functional.one_hot(a.abs().argmin(-1), 3).to(a)
        spare = _unit(torch.linalg.cross(a, axis))
    return torch.where(opposite, 2 * _outer(spare, spare) - eye, usual)


def _twist_about(axis: Tensor, cos_sin: Tensor) -> Tensor:
    """Rodrigues' formula about unit axes."""
    cos, sin = cos_sin[..., 0, None, None], cos_sin[..., 1, None, None]
    eye = torch.eye(3, dtype=axis.dtype, device=axis.device)
    return cos * eye + sin * _skew(axis) + (1 - cos) * _outer(axis, axis)


def _root_bones(rest: tuple[Tensor, ...], joints: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """(B,3,3) bones at rest and as predicted, of spine, left and right hip, each a row."""
    at_rest = torch.stack([rest[c] - rest[0] for c in _ROOT_CHILDREN], 1)
    bones = torch.stack([joints[c] - joints[0] for c in _ROOT_CHILDREN], 1)
    length = at_rest.norm(dim=-1, keepdim=True)
    upright = level_flip(at_rest)  # SMPL is y up, the camera y down
    return at_rest, _or_else(bones, length, upright / length)


def _root_least_squares(rest: tuple[Tensor, ...], joints: tuple[Tensor, ...]) -> Tensor:
    """Rotation with the least squared error on the bones of spine and hips."""
    at_rest, bones = _root_bones(rest, joints)
    return nearest_rotation(bones.mT @ at_rest)


def _root_spine(rest: tuple[Tensor, ...], joints: tuple[Tensor, ...], blunt: bool) -> Tensor:
    """Rotation that takes the first spine bone to the predicted one and turns the middle of the hips about it."""
    at_rest, bones = _root_bones(rest, joints)
    spine = _unit(bones[:, 0])
    to_spine = swing_to(_unit(at_rest[:, 0]), spine)

    def across(vector: Tensor) -> Tensor:
        return vector - (vector * spine).sum(-1, keepdim=True) * spine

    hips_rest, hips = across(_apply(to_spine, at_rest[:, 1:].mean(1))), across(bones[:, 1:].mean(1))
    if not blunt:
        return swing_to(_unit(hips_rest), _unit(hips), spare=spine) @ to_spine
    lengths = (hips_rest.norm(dim=-1) * hips.norm(dim=-1) + 1e-8)[:, None, None]
    area = (torch.linalg.cross(hips_rest, hips) * spine).sum(-1)[:, None, None]
    cos, sin = (hips_rest * hips).sum(-1)[:, None, None] / lengths, area / lengths
    axis = area.abs() / (area.abs() + 1e-8)
    eye = torch.eye(3, dtype=spine.dtype, device=spine.device)
    return (eye + sin * axis * _skew(spine) + (1 - cos) * axis.square() * (_outer(spine, spine) - eye)) @ to_spine


def _or_else(bone: Tensor, length: Tensor, direction: Tensor) -> Tensor:
    """Bones, with ``direction`` for those that have collapsed, as a network's that has learnt nothing yet."""
    return bone + (_COLLAPSED * length - bone.norm(dim=-1, keepdim=True)).relu() * direction


def _unit(vector: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vector, dim=-1, eps=1e-8)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a[..., :, None] * b[..., None, :]


def _skew(v: Tensor) -> Tensor:
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
