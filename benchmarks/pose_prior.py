"""What a pose prior knows: ``python -m benchmarks.pose_prior --held-out NAME=MOTION …`` prints one JSON line.

* ``reconstruction``: mean distance of the 22 joints (mm) and of rotations (degrees) of each bank, through the code's
  mean; the pelvis unturned, the free body's mean skeleton.
* ``hardness``: percentiles of :func:`synth.pose_prior.pose_hardness` on each bank, on the same poses with noise of 25
  and 50 degrees on each joint (within the joint limits), and on poses whose joints are drawn from the limits' boxes;
  for those, ``auc``: the chance that such a pose is harder than one of the first bank.
* ``latent_noise``: how far poses of the synthesiser lie from where they started, by s: median over the first bank.

``--picture FILE`` draws starting poses, their reconstructions, neighbours at s = 0.5 and 1, and decoded random codes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

import synth.pose_space  # noqa: F401  registers "free_sampled"
from human.body import load_body
from human.camera import make_intrinsics
from human.joint_limits import JOINT_LIMITS, clamp_pose
from human.motion import load_motion_bank
from human.raster import interpolate, rasterise, vertex_normals
from human.rng import generator
from human.rotations import geodesic_degrees, rotvec_to_matrix
from synth.pose_prior import HARD, JOINTS, PosePrior, decode_pose, pose_hardness, posterior_of
from synth.pose_prior_files import PACKAGED, load_pose_prior

SCALES = (0.25, 0.5, 1.0, 1.5, 2.0)
_SIDE = 160


def evenly(poses: np.ndarray, count: int) -> Tensor:
    """At most ``count`` of them."""
    keep = np.unique(np.linspace(0, len(poses) - 1, min(count, len(poses))).round().astype(int))
    return torch.from_numpy(poses[keep])


def joints22(pose_B23x3: Tensor) -> Tensor:
    """(B, 22, 3) metres."""
    count = len(pose_B23x3)
    return load_body("free").joints(torch.zeros(count, 10), pose_B23x3, torch.zeros(count, 3))[:, : JOINTS + 1]


def distance(a_B23x3: Tensor, b_B23x3: Tensor) -> Tensor:
    """(B,) mm, mean over the joints."""
    return 1000 * (joints22(a_B23x3) - joints22(b_B23x3)).norm(dim=-1).mean(1)


def reconstruction(prior: PosePrior, pose: Tensor) -> dict[str, float]:
    again = decode_pose(prior, posterior_of(prior, pose).mean, pose[:, JOINTS:])
    angle = geodesic_degrees(*(rotvec_to_matrix(p[:, :JOINTS]) for p in (again, pose)))
    away = distance(again, pose)
    return {
        "poses": len(pose),
        "mpjpe_mm": round(float(away.mean()), 1),
        "p95_mm": round(float(away.quantile(0.95)), 1),
        "angle_deg": round(float(angle.mean()), 1),
    }


def strange(pose: Tensor) -> dict[str, Tensor]:
    """Poses that people do not take: with noise on every joint, and every joint anywhere within its limits."""
    rng = generator("pose prior benchmark")
    out = {}
    for degrees in (25, 50):
        noise = torch.from_numpy(np.deg2rad(degrees) * rng.standard_normal(pose.shape)).float()
        out[f"noise_{degrees}"] = clamp_pose(pose + noise)
    u = torch.from_numpy(rng.random(pose.shape)).float()
    out["anywhere"] = JOINT_LIMITS[..., 0] + u * (JOINT_LIMITS[..., 1] - JOINT_LIMITS[..., 0])
    return out


def spread(value: Tensor) -> dict[str, float]:
    low, middle, high = (round(float(q), 1) for q in value.quantile(torch.tensor([0.05, 0.5, 0.95])))
    return {"p5": low, "median": middle, "p95": high, "hard_share": round(float((value > HARD).float().mean()), 3)}


def auc(easy: Tensor, hard: Tensor) -> float:
    return round(float((hard[:, None] > easy).float().mean()), 3)


def neighbours(prior: PosePrior, pose: Tensor, scale: float, key: str = "neighbours") -> Tensor:
    """As the synthesiser's: a code of the posterior, times 1 + s eps."""
    noise = torch.from_numpy(generator(key).standard_normal((2, len(pose), prior.config.latent))).float()
    code = posterior_of(prior, pose).sample(noise[0]) * (1 + scale * noise[1])
    return clamp_pose(decode_pose(prior, code, pose[:, JOINTS:]))


def draw(rows: list[Tensor]) -> np.ndarray:
    """One person per cell, from the front, shaded by where the skin faces."""
    body = load_body("free")
    strips = []
    for pose in rows:
        count = len(pose)
        with torch.no_grad():
            vertices = body(torch.zeros(count, 10), pose, torch.zeros(count, 3)).vertices
        turn = rotvec_to_matrix(torch.tensor([0.0, 0.4, 0.0]))
        seen = (vertices @ turn.T) * torch.tensor([1.0, -1.0, -1.0])
        seen = seen - seen.mean(1, keepdim=True) + torch.tensor([0.0, 0.0, 6.0])
        frags = rasterise(seen, body.faces, make_intrinsics(torch.full((count,), 2.8 * _SIDE), _SIDE), (_SIDE, _SIDE))
        facing = -interpolate(frags, body.faces, vertex_normals(seen, body.faces))[..., 2]
        grey = torch.where(frags.mask, 60 + 180 * facing.clamp(0, 1), 255.0).to(torch.uint8).numpy()
        strips.append(np.concatenate(list(grey), axis=1))
    return np.concatenate(strips, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default=PACKAGED, help="as load_pose_prior takes it")
    parser.add_argument("--held-out", action="append", default=[], help="NAME=MOTION[:CLIP,CLIP]; default: free")
    parser.add_argument("--poses", type=int, default=1000, help="at most so many of each")
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    prior = load_pose_prior(args.prior)
    sets: dict[str, Tensor] = {}
    for item in args.held_out or ["free=free"]:
        name, _, rest = item.partition("=")
        motion, _, clips = rest.partition(":")
        bank = load_motion_bank(motion or name)
        parts = [bank.poses[bank.frames(c)] for c in clips.split(",")] if clips else [bank.poses]
        sets[name] = evenly(np.concatenate(parts), args.poses)
    first = next(iter(sets.values()))
    hardness = {name: pose_hardness(prior, pose) for name, pose in sets.items()}
    odd = {name: pose_hardness(prior, pose) for name, pose in strange(first).items()}
    easy = next(iter(hardness.values()))
    start = decode_pose(prior, posterior_of(prior, first).mean, first[:, JOINTS:])
    steps = {}
    for scale in (0.0, *SCALES):
        pose = neighbours(prior, first, scale)
        steps[str(scale)] = {
            "from_start_mm": round(float(distance(pose, first).median()), 1),
            "from_reconstruction_mm": round(float(distance(pose, start).median()), 1),
        }
    line = {
        "prior": str(args.prior),
        "parameters": sum(p.numel() for p in prior.parameters()),
        "reconstruction": {name: reconstruction(prior, pose) for name, pose in sets.items()},
        "hardness": {name: spread(v) for name, v in (hardness | odd).items()},
        "auc": {name: auc(easy, v) for name, v in odd.items()},
        "latent_noise": steps,
    }
    print(json.dumps(line))
    if args.picture:
        some = evenly(first.numpy(), 10)
        code = torch.from_numpy(generator("codes").standard_normal((len(some), prior.config.latent))).float()
        again = decode_pose(prior, posterior_of(prior, some).mean, some[:, JOINTS:])
        rows = [some, again, neighbours(prior, some, 0.5), neighbours(prior, some, 1.0), decode_pose(prior, code)]
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(args.picture), draw(rows))


if __name__ == "__main__":
    main()
