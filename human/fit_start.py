"""Where a fit to 3D joints starts: everything in closed form, down the kinematic tree.

Shape from the lengths of the bones; the torso by Procrustes; then each bone is swung onto its joint (inverse kinematics
by swing and twist, as HybrIK, Li et al., CVPR 2021, Eq. 5-9), with the twist of thighs and upper arms taken from the
way knees and elbows bend.
"""

from __future__ import annotations

import roma
import torch
from torch import Tensor

from human.fit_solver import State
from human.lbs import tree_levels
from human.rotations import matrix_to_rotvec
from human.skeleton import POSE32, SMPL24

LENGTH_NOISE_M = 0.01  # how much a bone's measured length may be off before shape is believed
LENGTH_OUTLIER_M = 0.15  # a length that far off comes from a misplaced joint (Geman and McClure's weight)
# The way a lower limb moves, in the rest pose, when its joint bends: knees backwards, elbows forwards.
_BEND = {"left_hip": -1.0, "right_hip": -1.0, "left_shoulder": 1.0, "right_shoulder": 1.0}
# Joints that tell how a rigid part is turned, with weights; those of low weight count when the others are missing.
_ROOT_FROM = {
    "left_hip": 1.0, "right_hip": 1.0, "spine1": 1.0, "spine2": 0.1, "spine3": 0.1, "neck": 0.02, "thorax": 0.02,
    "upper_neck": 0.02, "left_shoulder": 0.02, "right_shoulder": 0.02,
}  # fmt: skip
_CHEST_FROM = {
    "neck": 1.0, "left_collar": 1.0, "right_collar": 1.0, "left_shoulder": 0.05, "right_shoulder": 0.05, "thorax": 0.05,
    "upper_neck": 0.05,
}  # fmt: skip
_HEAD_FROM = {"nose": 1.0, "left_eye": 1.0, "right_eye": 1.0, "left_ear": 1.0, "right_ear": 1.0, "head_top": 1.0}


def start_betas(
    template_N3: Tensor,
    directions_N3K: Tensor,
    parents: list[int],
    joints_BN3: Tensor,
    conf_BN: Tensor,
    group_B: Tensor | None,
) -> Tensor:
    """(B, K) shape whose bones are as long as those seen: regularised Gauss-Newton on lengths, which no pose changes.

    Bones, and the distances between children of one joint. Samples of a group get one shape.
    """
    pairs = [(p, j) for j, p in enumerate(parents) if p >= 0]
    pairs += [(i, j) for i, p in enumerate(parents) for j in range(i + 1, len(parents)) if p >= 0 and parents[j] == p]
    a, b = (torch.tensor(ends, device=joints_BN3.device) for ends in zip(*pairs, strict=True))
    seen = (conf_BN[:, a] * conf_BN[:, b]).clamp_max(1)
    wanted = (joints_BN3[:, a] - joints_BN3[:, b]).norm(dim=-1)
    rest, slope = template_N3[a] - template_N3[b], directions_N3K[a] - directions_N3K[b]
    betas = joints_BN3.new_zeros(len(joints_BN3), directions_N3K.shape[2])
    ridge = LENGTH_NOISE_M**2 * torch.eye(betas.shape[1], dtype=betas.dtype, device=betas.device)
    for _ in range(2):
        bone = rest + (betas @ slope.flatten(0, 1).T).unflatten(1, rest.shape)
        length = bone.norm(dim=-1)
        row = torch.einsum("bmc,mck->bmk", bone / length[..., None], slope)
        off = wanted - length
        trust = seen * (LENGTH_OUTLIER_M**2 / (LENGTH_OUTLIER_M**2 + off.square())).square()
        weighted = row * trust[..., None]
        normal, right = weighted.transpose(1, 2) @ row, (weighted * off[..., None]).sum(1)
        right = right - LENGTH_NOISE_M**2 * betas
        normal = normal + ridge
        if group_B is not None:
            member = torch.nn.functional.one_hot(group_B).to(normal.dtype)
            normal = (member.T @ normal.flatten(1)).unflatten(1, normal.shape[1:])[group_B]
            right = (member.T @ right)[group_B]
        betas = betas + torch.linalg.solve(normal, right)
    return betas


def out_of_reach(rest_BN3: Tensor, parents: list[int], joints_BN3: Tensor, conf_BN: Tensor, tolerance: float) -> Tensor:
    """(B, N) joints all of whose bones, as seen, are longer or shorter than the body's by over `tolerance` metres."""
    a, b = (torch.tensor(ends) for ends in zip(*((p, j) for j, p in enumerate(parents) if p >= 0), strict=True))
    known = (conf_BN[:, a] > 0) & (conf_BN[:, b] > 0)
    length, wanted = ((x[:, a] - x[:, b]).norm(dim=-1) for x in (joints_BN3, rest_BN3))
    fits = known & ((length - wanted).abs() <= tolerance)
    ends = torch.zeros(len(parents), len(a), dtype=joints_BN3.dtype, device=joints_BN3.device)
    ends[a, torch.arange(len(a))] = 1
    ends[b, torch.arange(len(b))] = 1
    return ((known.to(ends) @ ends.T) > 0) & ((fits.to(ends) @ ends.T) == 0)


def start_pose(
    rest_B32x3: Tensor, parents: list[int], joints_B32x3: Tensor, conf_B32: Tensor, betas_BK: Tensor
) -> State:
    """The analytic pose. POSE32 joints at rest and as seen, metres; what was not seen (conf 0) stays at rest."""
    seen = conf_B32 > 0
    rest, device = rest_B32x3, conf_B32.device
    root, place = _torso(rest, joints_B32x3, conf_B32)
    world = root[:, None].repeat(1, len(parents), 1, 1)
    here = place[:, None] + (root[:, None] @ (rest - rest[:, :1])[..., None])[..., 0]  # where each joint is put
    here = torch.where(seen[..., None], joints_B32x3, here)
    chains = [_main_chain(j, parents) for j in range(len(parents))]
    for level in tree_levels(parents)[1:]:
        above = [parents[j] for j in level]
        carried = here[:, above] + (world[:, above] @ (rest[:, level] - rest[:, above])[..., None])[..., 0]
        # what is seen of a joint beats where the chain puts it
        here[:, level] = torch.where(seen[:, level, None], joints_B32x3[:, level], carried)
        world[:, level] = world[:, above]
        swung = [j for j in level if chains[j]]
        if swung:
            # the nearest joint below that was seen
            longest = max(len(chains[j]) for j in swung)
            below = torch.tensor([[*chains[j], *chains[j][-1:] * longest][:longest] for j in swung], device=device)
            nearest = seen[:, below].to(torch.uint8).argmax(2)  # (B, S)
            there = below[torch.arange(len(swung), device=device), nearest]
            pick = there[..., None].expand(-1, -1, 3)
            aim = (joints_B32x3.gather(1, pick) - here[:, swung]) * seen.gather(1, there)[..., None]
            world[:, swung] = _swing(world[:, swung], rest.gather(1, pick) - rest[:, swung], aim)
        twisted = [j for j in swung if SMPL24.joints[j] in _BEND]
        if twisted:
            child, grandchild = ([chains[j][k] for j in twisted] for k in (0, 1))
            upper = joints_B32x3[:, child] - here[:, twisted]
            lower = joints_B32x3[:, grandchild] - joints_B32x3[:, child]
            lower = lower * (seen[:, child] & seen[:, grandchild])[..., None]
            forward = rest.new_tensor([_BEND[SMPL24.joints[j]] for j in twisted])[:, None]
            world[:, twisted] = _twist(world[:, twisted], upper, lower, forward)
        for name, table in (("spine3", _CHEST_FROM), ("head", _HEAD_FROM)):
            j = SMPL24.index(name)
            if j in level:
                index, weight = _weights(table, conf_B32)
                source, target = rest[:, index] - rest[:, j : j + 1], joints_B32x3[:, index] - here[:, j : j + 1]
                world[:, j] = _procrustes(source, target, weight, world[:, j])
    local = world[:, [max(p, 0) for p in parents]].transpose(2, 3) @ world
    local[:, 0] = world[:, 0]
    return State(matrix_to_rotvec(local), place - rest[:, 0], betas_BK)


def _main_chain(joint: int, parents: list[int]) -> list[int]:
    """The joints of a limb below `joint`, nearest first; for the spine, up to the chest."""
    chain: list[int] = []
    while children := [c for c, p in enumerate(parents) if p == (chain[-1] if chain else joint)]:
        if len(children) > 1:
            break
        chain += children
    return chain


def _weights(table: dict[str, float], conf_B32: Tensor) -> tuple[list[int], Tensor]:
    index = POSE32.indices(*table)
    return index, conf_B32[:, index].clamp_max(1) * conf_B32.new_tensor(list(table.values()))


def _torso(rest: Tensor, joints: Tensor, conf: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation (B, 3, 3) and place (B, 3) of the pelvis, from the joints of the torso or else from all there are."""
    index, weight = _weights({"pelvis": 1.0, **_ROOT_FROM}, conf)
    full = torch.zeros_like(conf).index_copy(1, torch.tensor(index, device=conf.device), weight)
    full = torch.where(weight.sum(1, keepdim=True) > 0, full, conf.clamp_max(1))
    share = (full / full.sum(1, keepdim=True).clamp_min(1e-9))[:, None]
    middle_rest, middle = share @ rest, share @ joints  # (B, 1, 3)
    identity = torch.eye(3, dtype=rest.dtype, device=rest.device)
    rotation = _procrustes(rest - middle_rest, joints - middle, full, identity)
    return rotation, (middle + (rest[:, :1] - middle_rest) @ rotation.transpose(1, 2))[:, 0]


def _procrustes(source_BP3: Tensor, target_BP3: Tensor, weight_BP: Tensor, otherwise: Tensor) -> Tensor:
    """The rotation that best takes source to target; `otherwise` in directions that the points leave open."""
    moment = (target_BP3 * weight_BP[..., None]).transpose(1, 2) @ source_BP3
    return roma.special_procrustes(moment + 1e-5 * otherwise)


def _swing(world: Tensor, rest: Tensor, aim: Tensor) -> Tensor:
    """(..., 3, 3) `world` turned by the smallest rotation that points its `rest` direction along `aim` (..., 3).

    Unturned where aim is 0.
    """
    start = torch.nn.functional.normalize((world @ rest[..., None])[..., 0], dim=-1)
    end = torch.nn.functional.normalize(aim, dim=-1)
    end = torch.where(end.square().sum(-1, keepdim=True) > 0.5, end, start)
    cross = _hat(torch.linalg.cross(start, end, dim=-1))
    cosine = (start * end).sum(-1)[..., None, None].clamp_min(-0.999)
    return world + cross @ (world + cross @ world / (1 + cosine))


def _twist(world: Tensor, upper: Tensor, lower: Tensor, forward: Tensor) -> Tensor:
    """Turned about the upper limb so that the lower one bends the natural way; less so where it hardly bends."""
    axis = torch.nn.functional.normalize(upper, dim=-1)
    lower = torch.nn.functional.normalize(lower, dim=-1)
    across = lower - (lower * axis).sum(-1, keepdim=True) * axis  # as long as the sine of the bend
    natural = forward * world[..., 2]
    natural = natural - (natural * axis).sum(-1, keepdim=True) * axis
    bend2 = across.square().sum(-1)
    sine = (torch.linalg.cross(natural, across, dim=-1) * axis).sum(-1)
    angle = torch.atan2(sine, (natural * across).sum(-1) + 1e-9) * (bend2 / (bend2 + 0.02))
    return roma.rotvec_to_rotmat(axis * angle[..., None]) @ world


def _hat(vector: Tensor) -> Tensor:
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
