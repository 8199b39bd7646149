"""How much of pose space is covered: a figure (t-SNE) and numbers, as Chen et al. (2016, figure 4) show it.

    python scripts/pose_coverage.py --lspet shared/data/lspet --output docs/images/pose_space.png
    python scripts/pose_coverage.py --test cmu=/data/CMU       # numbers on other held-out motion

`--banks` is the folder that scripts/make_pose_banks.py wrote. The distance of two poses is the mean angle between their
12 bones, seen from the pelvis. For every held-out pose (LSPET pictures 5001-6000, lifted; or other motion) the nearest
pose of each bank or of its mirror image is looked for. To be fair to small banks all are also compared at equal size.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from lift_poses import lift_lspet

from human.motion import load_motion_bank, mirror_pose
from human.rng import generator
from human.skeleton import SMPL24
from synth.pose_parts import PART_JOINTS
from synth.pose_validity import free_body_capsules, is_valid, joint_positions

BONES = np.array(
    [SMPL24.indices("pelvis", "spine3"), SMPL24.indices("spine3", "neck"), SMPL24.indices("neck", "head")]
    + [SMPL24.indices("left_shoulder", "right_shoulder")]
    + [SMPL24.indices(f"{s}_{a}", f"{s}_{b}") for s in ("left", "right")
       for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))]
)  # fmt: skip
NEAR = 15.0  # degrees: a pose this near is taken for covered
COLOURS = {"mocap": (60, 60, 220), "lifted": (60, 150, 40), "sampled": (220, 120, 30)}  # BGR


def bones(body_pose_N23x3: np.ndarray) -> np.ndarray:
    """(N, bones, 3) unit directions in the pelvis's frame."""
    joints = joint_positions(body_pose_N23x3, free_body_capsules().offsets)
    way = joints[:, BONES[:, 1]] - joints[:, BONES[:, 0]]
    return (way / np.linalg.norm(way, axis=-1, keepdims=True)).astype(np.float32)


def nearest(query_N: np.ndarray, bank_M: np.ndarray) -> np.ndarray:
    """(N,) degrees, mean over bones, to the nearest of the bank."""
    best = np.full(len(query_N), np.inf, np.float32)
    for part in np.array_split(bank_M, max(1, len(bank_M) // 500)):
        cosine = np.einsum("nbk,mbk->nmb", query_N, part).clip(-1, 1)
        best = np.minimum(best, np.degrees(np.arccos(cosine)).mean(-1).min(1))
    return best


def independent(poses_N23x3: np.ndarray, count: int) -> np.ndarray:
    """The control: every part from a pose of its own, valid combinations only."""
    rng = generator("pose_coverage")
    out: list[np.ndarray] = []
    while sum(map(len, out)) < count:
        drawn = np.zeros((count, 24, 3))
        for joints in PART_JOINTS[1:]:
            pick = rng.integers(len(poses_N23x3), size=count)
            drawn[:, list(joints)] = poses_N23x3[pick][:, [j - 1 for j in joints]]
        out.append(drawn[is_valid(drawn[:, 1:]), 1:])
    return np.concatenate(out)[:count]


def figure(sets: dict[str, np.ndarray], path: Path, size: int = 460) -> None:
    """One embedding of all sets; a panel for each, the others grey."""
    from sklearn.manifold import TSNE

    values = np.concatenate([s.reshape(len(s), -1) for s in sets.values()])
    plane = TSNE(perplexity=30, random_state=0, init="pca", n_jobs=1).fit_transform(values)
    low, high = np.percentile(plane, [0.2, 99.8], axis=0)
    plane = (plane - low) / (high - low) * (size - 40) + 20
    owner = np.repeat(np.arange(len(sets)), [len(s) for s in sets.values()])
    panels = []
    for k, (name, members) in enumerate(sets.items()):
        panel = np.full(((size + 40) * 2, size * 2, 3), 255, np.uint8)  # drawn twice as large, then reduced

        def dot(at: np.ndarray, colour: tuple[int, int, int], panel: np.ndarray = panel) -> None:
            cv2.circle(panel, (round(2 * float(at[0])), round(2 * float(at[1]) + 80)), 4, colour, -1, cv2.LINE_AA)

        for at in plane[owner != k]:
            dot(at, (215, 215, 215))
        for at in plane[owner == k]:
            dot(at, COLOURS[name])
        cv2.putText(panel, f"{name} ({len(members)} poses)", (30, 56), cv2.FONT_HERSHEY_SIMPLEX, 1.4, (40, 40, 40), 2,
                    cv2.LINE_AA)  # fmt: skip
        panels.append(cv2.resize(panel, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(path), np.concatenate(panels, axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--banks", type=Path, default=Path("runs/pose_banks"))
    parser.add_argument("--lspet", type=Path, help="LSPET folder; pictures 5001-6000 are lifted as held-out poses")
    parser.add_argument("--test", action="append", default=[], help="NAME=BANK: more held-out poses")
    parser.add_argument("--equal", type=int, default=1200, help="size of the banks in the comparison at equal size")
    parser.add_argument("--dots", type=int, default=900, help="poses of each kind in the figure")
    parser.add_argument("--output", type=Path, help="PNG to write")
    args = parser.parse_args()

    names = ("mocap", "mocap_sampled", "lifted", "mocap_lifted", "sampled", "mocap_lifted_sampled")
    poses = {n: load_motion_bank(str(args.banks / f"{n}.npz")).poses for n in names}
    poses["sampled_from_mocap"] = poses.pop("mocap_sampled")[len(poses["mocap"]) :]
    poses["mocap_sampled"] = np.concatenate([poses["mocap"], poses["sampled_from_mocap"]])
    poses["mocap_independent_parts"] = independent(poses["mocap"], len(poses["sampled_from_mocap"]))
    tests = {}
    if args.lspet:
        tests["lspet_5001_6000"] = lift_lspet(args.lspet, "val").body_pose
    for item in args.test:
        name, _, bank = item.partition("=")
        tests[name] = load_motion_bank(bank).poses
    held_out = {}
    for name, test in tests.items():
        keep = np.unique(np.linspace(0, len(test) - 1, min(1000, len(test))).astype(int))
        held_out[name] = bones(test[keep])
    for name, bank in poses.items():
        line: dict[str, object] = {"bank": name, "poses": len(bank)}
        both = bones(np.concatenate([bank, mirror_pose(bank)]))
        few = generator("equal", name).choice(len(both), min(args.equal, len(both)), replace=False)
        for test, query in held_out.items():
            far, equal = nearest(query, both), nearest(query, both[few])
            line[test] = {
                "mean_deg": round(float(far.mean()), 2),
                f"within_{NEAR:.0f}_deg": round(float((far < NEAR).mean()), 3),
                f"mean_deg_at_{args.equal}": round(float(equal.mean()), 2),
                # the other way round: how far a pose of the bank is from what people were seen to do
                "back_mean_deg": round(float(nearest(both[few[:500]], query).mean()), 2),
            }
        print(json.dumps(line), flush=True)
    if args.output:
        rng = generator("pose_coverage", "dots")
        chosen = {n: poses[n] for n in ("mocap", "lifted", "sampled")}
        chosen = {n: p[rng.choice(len(p), min(args.dots, len(p)), replace=False)] for n, p in chosen.items()}
        figure({n: bones(p) for n, p in chosen.items()}, args.output)
        print(args.output)


if __name__ == "__main__":
    main()
