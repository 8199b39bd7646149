"""What the quality figures say of the rendered engine: ``python -m benchmarks.quality --real lspet:val=FOLDER``.

Free bodies in poses of the free motion bank are rendered, kept in a pool and compared with one half of the real
people's crops. So are, to read the figures by: the other half of the real people (the least that can be had), the same
renderings in grey noise (the engine without its photographs), and renderings whose labels were moved by 8 % of the
person's box or mirrored, which the alignment must see. Prints Markdown, writes OUT/quality.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cli.bench import parse_data
from datamodules.crops import CropSet
from datamodules.mining import JoinedCrops
from datamodules.readers import make_reader
from human.batch import PoseBatch
from human.body import load_body
from human.motion import load_motion_bank
from metrics.functional import box_side
from synth.engines.build import make_engine
from synth.pool import Pool, encode_image
from synth.quality import Measurer, Quality, QualityConfig
from synth.sample import LABEL_SHAPES, Sample
from synth.scene import sample_scene

_COLUMNS = ("fid", "fid_crop", "kid", "kid_crop", "alignment", "undetected", "apd", "apd_body", "density", "coverage")


class Part:
    """Some of the people of a crop set (:class:`synth.eem.MiningData`)."""

    def __init__(self, data: JoinedCrops, rows: np.ndarray) -> None:
        self.data, self.rows, self.name = data, rows, data.name
        self.ids = [data.ids[i] for i in rows]
        self.people, self.labelled = data.people[rows], data.labelled[rows]

    def __len__(self) -> int:
        return len(self.rows)

    def crops(self, indices: np.ndarray) -> PoseBatch:
        return self.data.crops(self.rows[np.asarray(indices)])


def rendered(count: int, size: int, backgrounds: str) -> PoseBatch:
    """People of the free motion bank."""
    engine, bank, body = make_engine("rendered", size, backgrounds), load_motion_bank(), load_body()
    parts = [range(i, min(i + 32, count)) for i in range(0, count, 32)]
    return PoseBatch.cat([engine.render(sample_scene(part, bank, body, size)) for part in parts])


def moved(batch: PoseBatch, share: float) -> PoseBatch:
    """Labels moved by ``share`` of the person's box, each person's in a direction of their own."""
    side = box_side(batch.joints2d, batch.joints2d_conf).nan_to_num().float()
    angle = torch.rand(len(batch), generator=torch.Generator().manual_seed(0)) * 2 * torch.pi
    shift = share * side[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return batch.replace(joints2d=batch.joints2d + shift[:, None])


def mirrored(batch: PoseBatch) -> PoseBatch:
    """Pictures turned round, labels as they were."""
    return batch.replace(image=batch.image.flip(-1))


def samples(batch: PoseBatch, name: str) -> Iterator[Sample]:
    for k in range(len(batch)):
        labels = {n: getattr(batch, n)[k] for n in LABEL_SHAPES}
        yield Sample(image=encode_image(batch.image[k]), engine=name, seed=int(batch.key[k, 3]), **labels)


def measure(real: JoinedCrops, count: int, config: QualityConfig) -> list[Quality]:
    """A row for each of the sets."""
    rows = np.random.default_rng(0).permutation(len(real))
    half = min(count, len(rows) // 2)
    reference, other = Part(real, np.sort(rows[:half])), Part(real, np.sort(rows[half : 2 * half]))
    measurer = Measurer(reference, config)
    size = real.sets[0].size
    people = rendered(half, size, "free")
    sets = {
        "rendered": people,
        "rendered, no photographs": rendered(half, size, "procedural"),
        "labels moved by 8 %": moved(people, 0.08),
        "pictures mirrored": mirrored(people),
    }
    out = []
    batches = [other.crops(np.arange(i, min(i + 64, half))) for i in range(0, half, 64)]
    figures, notes = measurer.compare(measurer.side(batches))
    aligned, more = measurer.align([PoseBatch.cat(batches)[: config.align]])
    out.append(Quality("real, other half", None, half, half, half, {**figures, **aligned}, (*notes, *more)))
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(Path(folder) / "pool")
        for number, (name, batch) in enumerate(sets.items()):
            pool.commit(number, samples(batch, name))
            out += measurer.measure(pool, number)
    return out


def table(rows: list[Quality]) -> str:
    """Markdown."""
    lines = [f"| pictures | {' | '.join(_COLUMNS)} |", "|" + "---|" * (1 + len(_COLUMNS))]
    for row in rows:
        cells = (f"{row.figures[c]:.4f}" if c.startswith("kid") else f"{row.figures[c]:.2f}" for c in _COLUMNS)
        lines.append(f"| {row.engine} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", nargs="+", required=True, metavar="SET[:SPLIT][=FOLDER]")
    parser.add_argument("--count", type=int, default=256, help="pictures of each set")
    parser.add_argument("--size", type=int, default=128, help="their side, px")
    parser.add_argument("--align", type=int, default=64, help="pictures that the detector looks at")
    parser.add_argument("--features", default=QualityConfig.features)
    parser.add_argument("--feature-weights")
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    args = parser.parse_args()
    sets = []
    for name, path, options in parse_data(args.real).values():
        sets.append(CropSet(make_reader(name, {**({"root": str(path)} if path else {}), **options}), args.size))
    config = replace(QualityConfig(), features=args.features, feature_weights=args.feature_weights, align=args.align)
    rows = measure(JoinedCrops(sets), args.count, config)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "quality.json").write_text(json.dumps([r.as_dict() for r in rows], indent=1))
    print(f"{rows[0].made} pictures of each set, {args.size} px\n")
    print(table(rows))


if __name__ == "__main__":
    main()
