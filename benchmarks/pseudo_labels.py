"""Mining without 2D truth: are the same people found? ``python -m benchmarks.pseudo_labels --root FOLDER``.

A data set with 2D labels is mined twice by one estimator: with its labels, and as a folder of pictures that nobody has
labelled (reader ``unlabelled``; PoseSyn, Table 7). For every labeller the tables say

* found: eligible people with pseudo-labels, of those with labels; joints: the 12 that the EEM weighs, with labels
* miss: median distance of a pseudo-label from the label, share of the longer side of the person's box; pck: share of
  them nearer than a tenth of it
* rho: Spearman's rank correlation of the two errors of equation 1, over the people who have both
* overlap: of the K worst by labels (K a tenth of the people), the share among the K worst by pseudo-labels. By chance
  it is a tenth. ``best``: the same of the references.
* gain: how hard the challenges truly are, 0: as everybody, 1: as those that the labels choose

Printed as Markdown, and written to OUT/pseudo_labels.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.stats import spearmanr

from datamodules.crops import CropSet
from datamodules.mining import JoinedCrops
from datamodules.readers import PoseReader, make_reader
from human.errors import PosesynError
from human.prediction import Estimator
from lightning_modules.base import PoseEstimator
from lightning_modules.from_config import load_estimator
from synth.eem import EEM, joint_weights

#: Name -> labeller, its options.
LABELLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "blazepose": ("blazepose", {"levels": 1}),
    "blazepose, tiles": ("blazepose", {"levels": 2}),
}
COLUMNS = ("found", "joints", "miss", "pck", "rho", "overlap", "best", "gain")
CHANCE = 0.1


def write_pictures(reader: PoseReader, folder: Path) -> dict[str, int]:
    """A folder of the reader's pictures, one for each person: file name -> person."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {}
    for i in range(len(reader.index)):
        own = Path(getattr(reader, "root", "")) / reader.pictures[i] if len(reader.pictures) else Path()
        file = folder / f"{i:06d}{own.suffix or '.png'}"
        names[file.name] = i
        if file.exists():
            continue
        if own.is_file():
            file.symlink_to(own.resolve())
        else:
            cv2.imwrite(str(file), reader.read_image(i)[..., ::-1])
    return names


def match(truth: PoseReader, pseudo: PoseReader, names: dict[str, int]) -> np.ndarray:
    """(N,) for each person of ``truth`` the row in ``pseudo`` whose box covers theirs best, -1 where none does."""
    best, row = np.full(len(truth.index), 0.2), np.full(len(truth.index), -1)
    for k, name in enumerate(pseudo.pictures):
        i = names[name]
        iou = _iou(truth.index.bbox_xyxy[i], pseudo.index.bbox_xyxy[k])
        if iou > best[i]:
            best[i], row[i] = iou, k
    return row


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    inside = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(inside / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inside))


def errors_of(eem: EEM, estimator: Estimator, reader: PoseReader, size: int, single: bool) -> np.ndarray:
    """(N,) of equation 1, NaN for those who may not be mined."""
    data = JoinedCrops([CropSet(reader, size)])
    rows = replace(eem, single_person=single).eligible(data)
    out = np.full(len(data), np.nan)
    out[rows] = eem.score(estimator, data, rows)[0]
    return out


def compare(truth: np.ndarray, pseudo: np.ndarray) -> dict[str, float]:
    """Errors of the same (N,) people by labels and by pseudo-labels; NaN where there is none."""
    known = np.isfinite(truth)
    truth, pseudo = truth[known], pseudo[known]
    both = np.isfinite(pseudo)
    count = round(CHANCE * len(truth))
    if count < 1 or both.sum() < 2 * count:
        raise PosesynError(f"{both.sum()} of {len(truth)} people have both errors: too few to compare")

    def worst(errors: np.ndarray, sign: int) -> np.ndarray:
        return np.argsort(np.where(np.isfinite(errors), -sign * errors, np.inf), kind="stable")[:count]

    hard, said = worst(truth, 1), worst(pseudo, 1)
    everybody = truth.mean()
    return {
        "found": float(both.mean()),
        "rho": float(spearmanr(truth[both], pseudo[both]).statistic),
        "overlap": len(np.intersect1d(hard, said)) / count,
        "best": len(np.intersect1d(worst(truth, -1), worst(pseudo, -1))) / count,
        "gain": float((truth[said].mean() - everybody) / (truth[hard].mean() - everybody)),
    }


def label_figures(truth: PoseReader, pseudo: PoseReader, row: np.ndarray) -> dict[str, float]:
    """How good the pseudo-labels of matched people are, over the joints that the EEM weighs."""
    joints = np.flatnonzero(joint_weights(EEM().weights).numpy() > 0)
    who = np.flatnonzero(row >= 0)
    mine, theirs = truth.index.joints2d[who][:, joints], pseudo.index.joints2d[row[who]][:, joints]
    box = truth.index.bbox_xyxy[who]
    side = (box[:, 2:] - box[:, :2]).max(1)[:, None]
    both = (mine[..., 2] > 0) & (theirs[..., 2] > 0)
    distance = (np.linalg.norm(mine[..., :2] - theirs[..., :2], axis=-1) / side)[both]
    return {
        "joints": float(both.sum() / (mine[..., 2] > 0).sum()),
        "miss": float(np.median(distance)),
        "pck": float((distance < 0.1).mean()),
    }


def measure(
    estimator: PoseEstimator,
    truth: PoseReader,
    folder: Path,
    labellers: dict[str, tuple[str, dict[str, Any]]],
    thresholds: Sequence[float],
    cache: Path | None = None,
) -> list[dict[str, Any]]:
    """A row for each labeller, least confidence, and way of weighing."""
    names = write_pictures(truth, folder)
    size, rows = estimator.image_size, []
    by_labels = errors_of(EEM(), estimator, truth, size, single=False)
    for title, (labeller, options) in labellers.items():
        for threshold in thresholds:
            start = time.perf_counter()
            found = make_reader(
                "unlabelled",
                {
                    "root": str(folder),
                    "labeller": labeller,
                    "labeller_options": options,
                    "min_confidence": threshold,
                    "cache": cache,
                },
            )
            seconds = time.perf_counter() - start
            row = match(truth, found, names)
            quality = label_figures(truth, found, row)
            for weighed in (False, True):
                said = errors_of(EEM(by_confidence=weighed), estimator, found, size, single=False)
                pseudo = np.where(row >= 0, said[row], np.nan)
                head = {"labeller": title, "threshold": threshold, "by_confidence": weighed, "seconds": seconds}
                rows.append({**head, "people": len(truth.index), **quality, **compare(by_labels, pseudo)})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = ("labeller", "least confidence", "joints count by", *COLUMNS)
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for r in rows:
        cells = [r["labeller"], f"{r['threshold']:g}", "confidence" if r["by_confidence"] else "label"]
        lines.append(f"| {' | '.join([*cells, *(f'{r[c]:.3f}' for c in COLUMNS)])} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="lspet", help="reader of a set with 2D labels")
    parser.add_argument("--root", help="its folder")
    parser.add_argument("--split", default="val")
    parser.add_argument("--config", type=Path, default=Path("configs/lspet.yaml"), help="of the estimator that mines")
    parser.add_argument("--ckpt", help="its weights; default: those that the config names")
    parser.add_argument("--teacher", help="weights of another estimator that labels too")
    parser.add_argument("--teacher-config", help="its config; default: near the weights")
    parser.add_argument("--labellers", nargs="*", choices=list(LABELLERS), default=list(LABELLERS))
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--cache", type=Path, help="where labels are kept; default: the user's cache")
    parser.add_argument("--out", type=Path, default=Path("runs/pseudo_labels"))
    args = parser.parse_args()
    truth = make_reader(args.data, {"split": args.split, **({"root": args.root} if args.root else {})})
    labellers = {name: LABELLERS[name] for name in args.labellers}
    if args.teacher:
        options = {"checkpoint": args.teacher, "config": args.teacher_config, "detector_options": {"levels": 1}}
        labellers["estimator"] = ("estimator", options)
    estimator = load_estimator(args.config, args.ckpt)
    rows = measure(estimator, truth, args.out / f"{args.data}-{args.split}", labellers, args.thresholds, args.cache)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "pseudo_labels.json").write_text(json.dumps(rows, indent=1))
    print(f"{len(truth.index)} people of {args.data} ({args.split})\n")
    print(table(rows))


if __name__ == "__main__":
    main()
