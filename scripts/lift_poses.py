"""Lift the 2D joints of LSPET to a bank of 3D poses: `load_motion_bank("lifted.npz")`, or `motion: lifted.npz`.

python scripts/lift_poses.py --root shared/data/lspet --split train --output lifted.npz
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from datamodules.readers.lspet import LspetReader
from human.body import load_body
from human.skeleton import convert
from synth.lift import LiftedPoses, lift_poses
from synth.pose_space import pose_bank


def lift_lspet(root: Path, split: str, limit: int | None = None) -> LiftedPoses:
    """All usable persons of a split (or the first ``limit``)."""
    joints_NJ3 = LspetReader(root, split).index.joints2d[:limit]
    joints, conf = convert(joints_NJ3[..., :2], joints_NJ3[..., 2], "pose32", "lsp14")
    return lift_poses(joints, conf, load_body("free"), skeleton="lsp14")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="LSPET folder: images/ and joints.mat")
    parser.add_argument("--split", default="train", choices=("train", "val"))
    parser.add_argument("--limit", type=int, help="only the first so many persons")
    parser.add_argument("--output", type=Path, default=Path("lifted.npz"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    start = time.perf_counter()
    lifted = lift_lspet(args.root, args.split, args.limit)
    pose_bank(lifted.body_pose, lifted.root, f"lspet_{args.split}").save(args.output)
    print(f"{args.output}: {len(lifted)} poses, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
