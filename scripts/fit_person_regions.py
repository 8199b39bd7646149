"""Fit when a region of the segmentation is a person: the numbers of `synth/checks/regions.py`.

    PYTHONPATH=. python scripts/fit_person_regions.py --count 150 --first 0
    PYTHONPATH=. python scripts/fit_person_regions.py --lspet shared/data/lspet --count 80

Rendered pictures of one person and of two (benchmarks.checks, standing and plain scenes; its table is made of other
seeds). A region is a person where the second one changed most of its pixels. Prints bias and weights, the share of
regions told right when one tenth of the pictures is held out in turn, and what several bounds would do. With --lspet
nothing is fitted: it counts people in real pictures of athletes with and without the regions.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from benchmarks.checks import ALONE, company, render, scenes
from datamodules.crops import CropSet
from datamodules.readers import make_reader
from human.batch import PoseBatch
from synth.checks import make_check
from synth.checks.count import known_bodies, without_body
from synth.checks.regions import FIGURES, Region, Regions
from synth.checks.seen import Watcher

_SIZE, _BOUNDS = 256, (0.3, 0.4, 0.5, 0.6, 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="pictures of each kind")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--lspet", help="LSPET's folder: real pictures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.lspet:
        count_real(args.lspet, args.count)
        return
    figures, person, picture, two = [], [], [], []
    for kind in ("standing", "plain"):
        seeds = range(args.first, args.first + 4 * args.count)
        one = render(scenes(kind, _SIZE, seeds)[: args.count], _SIZE, ALONE, "free")
        both, changed, _ = company(kind, seeds, _SIZE, "free")
        for batch, truth in ((one, None), (both[: args.count], changed[: args.count])):
            for number, found in enumerate(regions_of(batch)):
                picture_id = len(two)
                two.append(truth is not None)
                for region, row in found:
                    figures.append(row)
                    person.append(truth is not None and float(truth[number][region.mask].float().mean()) > 0.5)
                    picture.append(picture_id)
            print(f"{kind}: {len(batch)} pictures of {2 if truth is not None else 1}", flush=True)
    x, y, group, has_two = np.stack(figures), np.array(person), np.array(picture), np.array(two)
    mean, spread = x.mean(0), x.std(0)
    scaled = (x - mean) / spread
    model = LogisticRegression(class_weight="balanced")
    told = cross_val_predict(model, scaled, y, groups=group, cv=GroupKFold(10), method="predict_proba")[:, 1]
    print(f"{len(y)} regions, {y.sum()} of them people; area under the curve {roc_auc_score(y, told):.3f}")
    best = np.zeros(len(has_two))
    np.maximum.at(best, group, told)
    for bound in _BOUNDS:
        print(f"bound {bound}: {np.mean(best[has_two] >= bound):.1%} of the second people seen by regions alone, "
              f"{np.mean(best[~has_two] >= bound):.1%} of the pictures of one person removed")  # fmt: skip
    model.fit(scaled, y)
    weights = model.coef_[0] / spread
    bias = float(model.intercept_[0] - weights @ mean)
    print(f"WEIGHTS = ({', '.join(f'{w:.3f}' for w in weights)})  # {', '.join(FIGURES)}\nBIAS = {bias:.3f}")


def count_real(root: str, count: int) -> None:
    crops = CropSet(make_reader("lspet", {"root": root}), _SIZE, box_scale=1.5)
    batch = crops.crops(np.linspace(0, len(crops) - 1, count).astype(int))
    without, with_regions = (
        make_check("person_count", options)(batch).figures["people"] for options in ({"region": 1.0}, {})
    )
    print(f"{len(batch)} real pictures: BlazePose sees others in {(without > 1).sum()}, with the regions it is "
          f"{(with_regions > 1).sum()}")  # fmt: skip


def regions_of(batch: PoseBatch) -> list[list[tuple[Region, np.ndarray]]]:
    watcher = Watcher("blazepose", {"threshold": 0.3})
    seen, regions = watcher.compare(batch), Regions(watcher)
    masks, hidden = without_body(batch, seen)
    known = [known_bodies(mask, seen, row) for row, mask in enumerate(masks)]
    found = regions.find(batch, hidden, known, seen.box)
    return [list(zip(a, b, strict=True)) for a, b in zip(found, regions.figures(batch, found), strict=True)]


if __name__ == "__main__":
    main()
