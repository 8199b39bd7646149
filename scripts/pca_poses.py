"""A motion bank of poses drawn from the PCA of a data set's SMPL poses, e.g. SMART's `embedding/*_smpl_pose_pca.json`.

    python scripts/pca_poses.py shared/data/samples/smart/embedding/*_smpl_pose_pca.json --output runs/pca.npz
    python scripts/make_pose_banks.py --motion free runs/pca.npz --lifted lifted.npz --output runs/pose_banks

A file has `mean` (69), `basis` (69, k) and `eigenv` (k). SMART's eigenvalues are sums over its poses, whose number it
does not tell: here each draw has a total variance of its own between the bounds of `--spread`, in square radians. Poses
that no body can take are drawn again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from human.errors import PosesynError
from human.rng import generator
from synth.pose_space import pose_bank
from synth.pose_validity import is_valid

_ROUNDS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=600, help="poses of each file")
    parser.add_argument("--spread", type=float, nargs=2, default=(1.5, 8.0), help="least and most variance, rad^2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    poses = np.concatenate([draw(file, args.count, tuple(args.spread), args.seed) for file in args.files])
    pose_bank(poses, np.zeros((len(poses), 3), np.float32), "pca").save(args.output)
    print(f"{args.output}: {len(poses)} poses of {len(args.files)} files")


def draw(file: Path, count: int, spread: tuple[float, float], seed: int) -> np.ndarray:
    """(at most ``count``, 23, 3) rotation vectors."""
    try:
        content = json.loads(file.read_text())
        mean, basis, eigenvalues = (np.asarray(content[key], np.float64) for key in ("mean", "basis", "eigenv"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PosesynError(
            f"{file}: cannot be read as a PCA of poses ({error}); it needs mean, basis and eigenv"
        ) from None
    if mean.shape != (69,) or basis.shape != (69, len(eigenvalues)) or not (eigenvalues > 0).all():
        raise PosesynError(
            f"{file}: expected mean (69), basis (69, k), eigenv (k) > 0, got {mean.shape}, {basis.shape}"
        )
    rng = generator("pca_poses", seed, file.name)
    kept: list[np.ndarray] = []
    for _ in range(_ROUNDS):
        variance = rng.uniform(*spread, size=(count, 1))
        coefficients = rng.normal(size=(count, len(eigenvalues)))
        coefficients *= np.sqrt(variance * eigenvalues / eigenvalues.sum())
        drawn = (mean + coefficients @ basis.T).reshape(count, 23, 3)
        kept.append(drawn[is_valid(drawn)])
        if sum(map(len, kept)) >= count:
            break
    return np.concatenate(kept)[:count].astype(np.float32)


if __name__ == "__main__":
    main()
