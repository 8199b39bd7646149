"""Motion banks of the pose-space experiment: mocap, + lifted, + sampled.

    python scripts/make_pose_banks.py --lspet shared/data/lspet --output runs/pose_banks
    python scripts/make_pose_banks.py --motion free /data/CMU --lifted lifted.npz --output runs/pose_banks
    python scripts/make_pose_banks.py --package        # writes human/data/free_pose_space.npz (free motion only)

Writes mocap.npz, lifted.npz, mocap_lifted.npz (both), sampled.npz (drawn from a network learnt on both),
mocap_lifted_sampled.npz (all three), mocap_sampled.npz (mocap and a network learnt on mocap alone) and the two
networks, pose_space.npz and pose_space_mocap.npz. Each bank is used by its path: `motion: runs/pose_banks/sampled.npz`.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from lift_poses import lift_lspet

from human.motion import MotionBank, load_motion_bank
from synth.pose_parts import PARTS
from synth.pose_space import PoseSpace, pose_bank

PACKAGED = Path(__file__).resolve().parents[1] / "human" / "data" / "free_pose_space.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motion", nargs="+", default=["free"], help="motion banks: names, folders or files")
    parser.add_argument("--lspet", type=Path, help="LSPET folder; its pictures 1-5000 are lifted")
    parser.add_argument("--lifted", type=Path, help="a bank that scripts/lift_poses.py wrote, instead of --lspet")
    parser.add_argument("--count", type=int, default=10_000, help="poses to sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/pose_banks"))
    parser.add_argument("--package", action="store_true", help="learn the packaged network and write nothing else")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("synth.lift").setLevel(logging.INFO)
    if args.package:
        free = load_motion_bank("free")
        space = PoseSpace.fit(free.poses, free.root)
        np.savez_compressed(PACKAGED, labels=space.labels.astype(np.uint8), edges=space.edges.astype(np.uint8))
        describe("packaged", space)
        print(f"{PACKAGED}: {PACKAGED.stat().st_size / 1024:.0f} KiB")
        return

    args.output.mkdir(parents=True, exist_ok=True)
    banks = [replace(load_motion_bank(m), fps=0.0) for m in args.motion]
    mocap = MotionBank.cat(banks)
    write(args.output, "mocap", mocap)
    space = PoseSpace.fit(mocap.poses, mocap.root, seed=args.seed)
    describe("mocap alone", space)
    space.save(args.output / "pose_space_mocap.npz")
    write(args.output, "mocap_sampled", MotionBank.cat([mocap, space.bank(args.count, args.seed)]))
    if args.lifted is None and args.lspet is None:
        print("no --lspet and no --lifted: the banks with lifted poses are not written")
        return
    if args.lifted is not None:
        lifted = load_motion_bank(str(args.lifted))
    else:
        found = lift_lspet(args.lspet, "train")
        lifted = pose_bank(found.body_pose, found.root, "lspet_train")
    both = MotionBank.cat([mocap, lifted])
    space = PoseSpace.fit(both.poses, both.root, seed=args.seed)
    describe("mocap and lifted", space)
    space.save(args.output / "pose_space.npz")
    sampled = space.bank(args.count, args.seed)
    for name, bank in (
        ("lifted", lifted),
        ("mocap_lifted", both),
        ("sampled", sampled),
        ("mocap_lifted_sampled", MotionBank.cat([both, sampled])),
    ):
        write(args.output, name, bank)


def write(folder: Path, name: str, bank: MotionBank) -> None:
    bank.save(folder / f"{name}.npz")
    print(f"{folder / name}.npz: {len(bank)} poses")


def describe(name: str, space: PoseSpace) -> None:
    parts = list(PARTS)
    edges = ", ".join(f"{parts[a]} -> {parts[b]}" for a, b in space.edges)
    print(f"network of {name}: {len(space.poses)} poses with mirror images, {len(space.edges)} edges ({edges}); "
          f"{100 * space.acceptance():.0f} % of its draws are valid")  # fmt: skip


if __name__ == "__main__":
    main()
