"""Write a PNG of synthetic samples, with their labels drawn on every second one.

python scripts/contact_sheet.py docs/images/samples.jpg --size 160 --columns 10 --count 20 --seed 3000
python scripts/contact_sheet.py docs/images/contact_sheet.jpg --size 160 --count 64 --no-labels
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from callbacks.drawing import draw_skeleton
from human.batch import PoseBatch
from human.motion import load_motion_bank
from synth.engines import RenderedEngine
from synth.scene import sample_scene


def contact_sheet(batch: PoseBatch, columns: int, labels: bool, zoom: int) -> np.ndarray:
    """(rows*S, columns*S, 3) RGB; with ``labels`` every sample appears twice, plain and drawn on."""
    tiles = []
    for image, joints, conf in zip(
        batch.image.numpy(), batch.joints2d.numpy(), batch.joints2d_conf.numpy(), strict=True
    ):
        plain = cv2.resize(image.transpose(1, 2, 0), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
        tiles.append(plain)
        if labels:
            tiles.append(draw_skeleton(plain, (joints + 0.5) * zoom - 0.5, conf, zoom=1))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--zoom", type=int, default=1)
    parser.add_argument("--no-labels", action="store_true")
    args = parser.parse_args()
    engine = RenderedEngine(size=args.size)
    spec = sample_scene(range(args.seed, args.seed + args.count), load_motion_bank(), engine.body, args.size)
    sheet = contact_sheet(engine.render(spec), args.columns, not args.no_labels, args.zoom)
    cv2.imwrite(str(args.path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
