"""Which poses a body can take: joint limits and no limb inside another.

The body is a set of capsules, one per bone, whose radii are the free body's own (the median distance of the skin from
the bone that moves it). Two capsules that are not neighbours may overlap a little, as flesh gives way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from human.errors import PosesynError
from human.joint_limits import JOINT_LIMITS
from human.skeleton import SMPL24

# Bones by their end joints; the trunk is one capsule from pelvis to spine3 and one across the chest.
_BONES: tuple[tuple[str, str], ...] = (
    ("pelvis", "spine3"), ("spine3", "neck"), ("head", "head"),
    *((f"{s}_{a}", f"{s}_{b}") for s in ("left", "right") for a, b in (
        ("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"), ("shoulder", "elbow"), ("elbow", "wrist"),
        ("wrist", "hand"))),
)  # fmt: skip
# Pairs that touch in ordinary poses because they share a joint or flesh.
_TOUCHING = {
    frozenset(pair)
    for side in ("left", "right")
    for pair in (
        (f"{side}_hip", "pelvis"), (f"{side}_hip", f"{side}_knee"), (f"{side}_knee", f"{side}_ankle"),
        (f"{side}_hip", f"{side}_ankle"), (f"{side}_shoulder", "spine3"), (f"{side}_shoulder", "pelvis"),
        (f"{side}_shoulder", "head"), (f"{side}_shoulder", f"{side}_elbow"), (f"{side}_elbow", f"{side}_wrist"),
        (f"{side}_shoulder", f"{side}_wrist"), ("left_hip", "right_hip"), ("pelvis", "spine3"), ("spine3", "head"),
        ("pelvis", "head"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Capsules:
    """Bones as joint numbers (C, 2), radii (C,) metres, pairs (P, 2) to compare, offsets (24, 3) metres at rest."""

    ends: np.ndarray
    radius: np.ndarray
    pairs: np.ndarray
    offsets: np.ndarray


@cache
def free_body_capsules() -> Capsules:
    """Capsules of the free body's mean shape."""
    from human.body import load_body

    body = load_body("free")
    joints, skin = body.J_template.double().numpy(), body.v_template.double().numpy()
    part = body.part.numpy()
    ends = np.array([SMPL24.indices(*bone) for bone in _BONES])
    radius = []
    for a, b in ends:
        mine = skin[part == a]
        radius.append(float(np.median(_point_to_segment(mine, joints[a], joints[b]))))
    names = [bone[0] for bone in _BONES]
    pairs = [
        (i, j)
        for i in range(len(names))
        for j in range(i + 1, len(names))
        if frozenset((names[i], names[j])) not in _TOUCHING
    ]
    parents = np.array(SMPL24.parents)
    offsets = joints - np.where(parents[:, None] >= 0, joints[parents], 0)
    return Capsules(ends, np.array(radius), np.array(pairs), offsets)


def joint_positions(body_pose_N23x3: np.ndarray, offsets_24x3: np.ndarray) -> np.ndarray:
    """(N, 24, 3) joints of an upright body at the origin. Each pose is computed by itself: same bytes in any batch."""
    n = len(body_pose_N23x3)
    local = Rotation.from_rotvec(np.asarray(body_pose_N23x3, np.float64).reshape(-1, 3)).as_matrix()
    local = local.reshape(n, 23, 3, 3)
    turn, place = [np.tile(np.eye(3), (n, 1, 1))], [np.zeros((n, 3))]
    for j, p in enumerate(SMPL24.parents[1:], 1):
        place.append(place[p] + (turn[p] * offsets_24x3[j]).sum(-1))
        turn.append((turn[p][:, :, :, None] * local[:, j - 1, None]).sum(-2))
    return np.stack(place, axis=1)


def penetration(body_pose_N23x3: np.ndarray, capsules: Capsules | None = None) -> np.ndarray:
    """(N,) metres by which the worst pair of capsules overlaps, negative where all are apart."""
    c = capsules or free_body_capsules()
    joints = joint_positions(body_pose_N23x3, c.offsets)
    start, end = joints[:, c.ends[:, 0]], joints[:, c.ends[:, 1]]
    worst = np.full(len(joints), -np.inf)
    for i, j in c.pairs:
        gap = _segment_distance(start[:, i], end[:, i], start[:, j], end[:, j])
        worst = np.maximum(worst, c.radius[i] + c.radius[j] - gap)
    return worst


def beyond_limits(body_pose_N23x3: np.ndarray) -> np.ndarray:
    """(N,) radians by which the worst joint exceeds `JOINT_LIMITS`, 0 where none does."""
    limits = JOINT_LIMITS.numpy().astype(np.float64)
    over = np.maximum(body_pose_N23x3 - limits[..., 1], limits[..., 0] - body_pose_N23x3)
    return over.max(axis=(1, 2), initial=0.0)


def is_valid(body_pose_N23x3: np.ndarray, limit_slack: float = 15.0, overlap: float = 0.05) -> np.ndarray:
    """(N,) bool: no joint ``limit_slack`` degrees beyond its limits, no capsules ``overlap`` metres in each other."""
    pose = np.asarray(body_pose_N23x3, np.float64)
    if pose.ndim != 3 or pose.shape[1:] != (23, 3):
        raise PosesynError(f"is_valid: body_pose must have shape (N, 23, 3), got {pose.shape}")
    ok = np.asarray(np.isfinite(pose).all(axis=(1, 2)))
    ok[ok] = beyond_limits(pose[ok]) <= np.deg2rad(limit_slack)
    ok[ok] = penetration(pose[ok]) <= overlap
    return ok


def _point_to_segment(point_N3: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    along = b - a
    t = np.clip((point_N3 - a) @ along / max(float(along @ along), 1e-12), 0, 1)
    return np.linalg.norm(point_N3 - a - t[:, None] * along, axis=1)


def _segment_distance(a0: np.ndarray, a1: np.ndarray, b0: np.ndarray, b1: np.ndarray) -> np.ndarray:
    """Distances (N,) between segments; Ericson, "Real-time collision detection" (2005), §5.1.9."""
    u, v, w = a1 - a0, b1 - b0, a0 - b0
    uu, vv, uv = (u * u).sum(-1) + 1e-12, (v * v).sum(-1) + 1e-12, (u * v).sum(-1)
    uw, vw = (u * w).sum(-1), (v * w).sum(-1)
    denominator = uu * vv - uv * uv
    s = np.where(denominator > 1e-12, np.clip((uv * vw - uw * vv) / np.maximum(denominator, 1e-12), 0, 1), 0.0)
    t = (uv * s + vw) / vv
    s = np.where(t < 0, np.clip(-uw / uu, 0, 1), np.where(t > 1, np.clip((uv - uw) / uu, 0, 1), s))
    t = np.clip(t, 0, 1)
    return np.sqrt((((w + s[:, None] * u) - t[:, None] * v) ** 2).sum(-1))
