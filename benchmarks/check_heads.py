"""How well a wrong head is put right: ``python -m benchmarks.check_heads`` prints a table in Markdown.

Rendered people whose labels' necks and heads are turned by random rotations (``--degrees`` standard deviation about
each axis, half of it in the neck, half in the head); ``refine_head`` turns them back by what the detector sees.
The error is that of nose, eyes, ears and crown, mm against the truth, where the detector sees a face.

``--plot FILE`` draws errors before and after.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.checks import _SPARE, ALONE, render, scenes
from human.batch import PoseBatch
from human.fit import FitResult
from human.rng import generator
from human.skeleton import POSE32, SMPL24
from synth.checks import make_check
from synth.checks.refine import relabelled

HEAD = POSE32.indices("nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top")


def turned_heads(batch: PoseBatch, degrees: float) -> PoseBatch:
    """Labels with other head poses, the pictures as they are."""
    noise = np.stack([generator("head", int(s)).standard_normal((2, 3)) for s in batch.key[:, 3]])
    turn = torch.from_numpy(np.deg2rad(degrees / 2) * noise).float()
    pose = batch.body_pose.clone()
    pose[:, [SMPL24.index("neck") - 1, SMPL24.index("head") - 1]] += turn
    zero = batch.betas.new_zeros(len(batch))
    other = FitResult(batch.betas, pose, batch.global_orient, batch.transl, zero, zero == 0)
    return relabelled(batch, other)


def head_errors(batch: PoseBatch, truth: PoseBatch) -> np.ndarray:
    """(B,) mm, mean over the head's joints."""
    away = (batch.joints3d - truth.joints3d)[:, HEAD].norm(dim=-1).mean(1)
    return np.asarray(1000 * away.numpy())


def study(count: int, first: int, size: int, degrees: float, backgrounds: str = "free") -> dict[str, np.ndarray]:
    """Per sample: ``before``, ``after`` (mm) and ``refined`` (bool)."""
    truth = render(scenes("standing", size, range(first, first + _SPARE * count))[:count], size, ALONE, backgrounds)
    wrong = turned_heads(truth, degrees)
    done = make_check("refine_head")(wrong)
    refined = done.figures["refined"] > 0
    return {"before": head_errors(wrong, truth), "after": head_errors(done.batch, truth), "refined": refined}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=100_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--degrees", type=float, default=40.0)
    parser.add_argument("--backgrounds", default="free")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| picture | samples | refined | head before, mm | after, mm | left |\n|---|---|---|---|---|---|")
    results = {}
    for size in args.sizes:
        found = results[size] = study(args.count, args.first, size, args.degrees, args.backgrounds)
        rows = found["refined"]
        before, after = found["before"][rows].mean(), found["after"][rows].mean()
        share = f"{rows.mean():.0%} | {before:.1f} | {after:.1f} | {after / before:.0%}"
        print(f"| {size} px | {args.count} | {share} |", flush=True)
    if args.plot:
        _plot(results, args.plot)


def _plot(results: dict[int, dict[str, np.ndarray]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(4.2 * len(results), 4), squeeze=False)
    for axis, (size, found) in zip(axes[0], results.items(), strict=True):
        rows = found["refined"]
        axis.plot(found["before"][rows], found["after"][rows], "o", markersize=4)
        top = float(max(found["before"][rows].max(), found["after"][rows].max())) * 1.05
        axis.plot([0, top], [0, top / 2], "-", color="grey", label="half")
        axis.set(xlabel="head error before, mm", ylabel="after, mm", title=f"{size} px", xlim=(0, top), ylim=(0, top))
        axis.legend()
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
