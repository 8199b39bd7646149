"""Bake the DeepMimic clips of the pybullet wheel into SMPL pose space: human/data/free_motion.npz.

    python scripts/bake_free_motion.py                  # fetches the asset `deepmimic_motions`
    python scripts/bake_free_motion.py --clips FOLDER   # reads *.txt clips from a folder

The clips (Peng et al., "DeepMimic: example-guided deep reinforcement learning of physics-based character skills",
SIGGRAPH 2018) come with pybullet 3.2.7 under the zlib licence; what is written here is an altered version of them.
human/mocap/deepmimic.py says how they are retargeted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from human.assets import fetch
from human.mocap.deepmimic import FPS, clip_name, read_deepmimic_frames, resample, retarget_deepmimic

OUTPUT = Path(__file__).resolve().parents[1] / "human" / "data" / "free_motion.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of DeepMimic *.txt clips (default: fetch the asset)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    folder = args.clips or fetch("deepmimic_motions")

    names: list[str] = []
    roots, poses, positions, clips = [], [], [], []
    for name, path in sorted((clip_name(p), p) for p in folder.rglob("*.txt")):
        frames = read_deepmimic_frames(path)
        rotations, position = resample(frames, FPS)
        root, pose = retarget_deepmimic(rotations)
        clips.append(np.full(len(root), len(names)))
        names.append(name)
        roots.append(root)
        poses.append(pose)
        positions.append(position)
        print(f"{names[-1]:16s} {len(frames):4d} frames, {len(root) / FPS:5.2f} s")
    np.savez_compressed(
        args.output,
        poses=np.concatenate(poses).astype(np.float16),
        root=np.concatenate(roots).astype(np.float16),
        position=np.concatenate(positions).astype(np.float16),
        clip=np.concatenate(clips).astype(np.uint8),
        clip_names=np.array(names),
        fps=np.float32(FPS),
    )
    print(f"{args.output}: {sum(map(len, clips))} poses, {args.output.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
