"""How well a motion VQ-VAE reconstructs motions that it was not trained on: one JSON line.

    python scripts/motion_reconstruction.py packaged:msm_small PATH_OF_MOTIONS     # or a checkpoint, a run folder

Reads AMASS, BVH, Acclaim and DeepMimic files, or HumanML3D's new_joint_vecs/*.npy. ``held_*``: single poses of the
motions, repeated for 30 frames, as motion synthesis encodes them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from datamodules.motion_clips import HOLD_FRAMES, UNIT
from datamodules.motion_sources import find_motions, motion_joints, to_features
from human.body import load_body
from human.motion_features import features_to_joints
from lightning_modules.codebook_watch import codebook_use
from lightning_modules.motion_vqvae import MotionVQVAETrainer, read_vqvae, reconstruction_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vqvae")
    parser.add_argument("motions")
    parser.add_argument("--only", nargs="*", help="names of the motions to take")
    parser.add_argument("--poses", type=int, default=64, help="poses to hold")
    args = parser.parse_args()
    network, mean, std, layout = read_vqvae(args.vqvae)
    model = MotionVQVAETrainer(network.config, layout)
    model.vqvae.load_state_dict(network.state_dict())
    model.set_normalisation(mean, std)
    model.eval()

    motions = read(Path(args.motions), args.motions, args.only)
    errors: dict[str, list[torch.Tensor]] = {}
    counts = torch.zeros(network.config.codes, dtype=torch.long)
    for features in motions:
        whole = torch.from_numpy(features[: len(features) // UNIT * UNIT])[None]
        recon, codes = model.reconstruct(whole)
        counts += torch.bincount(codes.flatten(), minlength=len(counts))
        for name, value in reconstruction_errors(recon, whole, model).items():
            errors.setdefault(name, []).append(value)
    rows = [features_to_joints(torch.from_numpy(f)[None])[0].numpy() for f in motions]
    poses = np.concatenate(rows)
    poses = poses[np.linspace(0, len(poses) - 1, min(args.poses, len(poses))).astype(int)]
    for pose in poses:
        held = torch.from_numpy(to_features(np.repeat(pose[None], HOLD_FRAMES, 0), False))[
            None, : HOLD_FRAMES // UNIT * UNIT
        ]
        recon, _ = model.reconstruct(held)
        for name, value in reconstruction_errors(recon, held, model).items():
            errors.setdefault(f"held_{name}", []).append(value)
    use = codebook_use(counts)
    figures = {f"{k}_mm": round(float(torch.cat(v).mean()), 1) for k, v in errors.items() if k != "held_world_mpjpe"}
    frames = sum(map(len, motions))
    print(json.dumps({"motions": len(motions), "frames": frames, **figures, "codes_used": use.used,
                      "codes": len(counts), "perplexity": round(use.perplexity, 1)}))  # fmt: skip


def read(path: Path, where: str, only: list[str] | None) -> list[np.ndarray]:
    if path.is_dir() and (files := sorted(path.rglob("*.npy"))):
        return [np.load(f, allow_pickle=False).astype(np.float32) for f in files if only is None or f.stem in only]
    body = load_body()
    found = [m.motion for m in find_motions(where, None)]
    return [to_features(motion_joints(body, m), True) for m in found if only is None or m.name in only]


if __name__ == "__main__":
    main()
