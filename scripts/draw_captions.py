"""Stick figures of packaged poses above what the describer says of them: docs/images/captions.png.

    python scripts/draw_captions.py docs/images/captions.png
    python scripts/draw_captions.py sheet.png --bank free_sampled --count 24 --seed 1

Left limbs are red, right ones blue; all are seen from the person's front left.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

import synth.pose_space  # noqa: F401  # registers its banks
from human.body import load_body
from human.motion import load_motion_bank
from human.skeleton import SMPL24
from synth.captions import describe_poses
from synth.captions.posecodes import PoseCodes

#: Clips and frames of the packaged bank, chosen for variety.
CHOSEN = (
    ("backflip", 14), ("backflip", 24), ("cartwheel", 40), ("crawl", 20), ("dance_a", 14), ("getup_facedown", 10),
    ("getup_faceup", 40), ("jump", 12), ("kick", 22), ("punch", 20), ("roll", 26), ("run", 6),
    ("spin", 60), ("spinkick", 18), ("spinkick", 26), ("walk", 10),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bank", default="free")
    parser.add_argument("--count", type=int, help="as many drawn by --seed, instead of the chosen ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=6)
    args = parser.parse_args()
    bank = load_motion_bank(args.bank)
    if args.count:
        rows = np.sort(np.random.default_rng(args.seed).choice(len(bank), args.count, replace=False))
        names = [""] * len(rows)
    else:
        rows = np.array([bank.frames(clip).start + frame for clip, frame in CHOSEN])
        names = [f"{clip} {frame}" for clip, frame in CHOSEN]
    pose, root = (torch.from_numpy(v[rows].copy()) for v in (bank.poses, bank.root))
    joints = load_body("free").joints(torch.zeros(len(rows), 10), pose, root)[:, :22].double().numpy()
    captions = describe_poses(joints)
    for name, caption in zip(names, captions, strict=True):
        print(f"| {name} | {caption} |")
    draw(joints, [f"{n}: {c}" if n else c for n, c in zip(names, captions, strict=True)], args.out, args.columns)


def draw(joints_BJ3: np.ndarray, captions: list[str], out: Path, columns: int) -> None:
    codes = PoseCodes.of(joints_BJ3)
    rows = -(-len(captions) // columns)
    figure = plt.figure(figsize=(columns * 2.5, rows * 2.7))
    for i, caption in enumerate(captions):
        front, left = codes.forward[i], codes.left[i]
        points = codes.joints_BJ3[i]
        across, ahead, up = points @ left, points @ front, points[:, 1]
        # Seen from 35 degrees to the person's left, so that what is ahead and what is behind can be told apart.
        axes = figure.add_subplot(rows, columns, i + 1, projection="3d")
        for parent, child in SMPL24.bones:
            if child < 22:
                name = SMPL24.joints[child]
                colour = {"l": "tab:red", "r": "tab:blue"}.get(name[0] if "_" in name else "", "black")
                pair = [parent, child]
                axes.plot(across[pair], -ahead[pair], up[pair], color=colour, lw=2)
        axes.scatter(across[15], -ahead[15], up[15] + 0.08, s=45, color="black")
        axes.set(xlim=(-0.8, 0.8), ylim=(-0.8, 0.8), zlim=(0, 1.6))
        axes.set_axis_off()
        axes.view_init(8, -55)
        axes.set_title("\n".join(textwrap.wrap(caption, 36)), fontsize=7, y=0.93)
    figure.subplots_adjust(0, 0, 1, 0.96, 0.02, 0.15)
    figure.savefig(out, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    main()
