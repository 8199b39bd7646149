"""Write a PNG of synthetic samples, with their labels drawn on every second one.

python scripts/contact_sheet.py sheet.png --count 64 --size 128 --seed 0
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from human.batch import PoseBatch
from human.motion import load_motion_bank
from human.skeleton import POSE32
from synth.engines import RenderedEngine
from synth.scene import sample_scene

_LEFT, _RIGHT, _MIDDLE = (255, 160, 40), (40, 160, 255), (60, 230, 60)


def draw_labels(image: np.ndarray, joints_J2: np.ndarray, conf_J: np.ndarray) -> np.ndarray:
    """A copy of (H,W,3) RGB with bones and joints: left orange, right blue, middle green."""
    scale, image = 4, image.copy()
    for parent, child in POSE32.bones:
        if conf_J[parent] and conf_J[child]:
            name = POSE32.joints[child]
            colour = _LEFT if name.startswith("left") else _RIGHT if name.startswith("right") else _MIDDLE
            ends = [tuple(int(v) for v in np.round(joints_J2[j] * 2**scale)) for j in (parent, child)]
            cv2.line(image, ends[0], ends[1], colour, 1, cv2.LINE_AA, scale)
    return image


def contact_sheet(batch: PoseBatch, columns: int, labels: bool, zoom: int) -> np.ndarray:
    """(rows*S, columns*S, 3) RGB; with ``labels`` every sample appears twice, plain and drawn on."""
    tiles = []
    for image, joints, conf in zip(
        batch.image.numpy(), batch.joints2d.numpy(), batch.joints2d_conf.numpy(), strict=True
    ):
        plain = cv2.resize(image.transpose(1, 2, 0), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
        tiles.append(plain)
        if labels:
            tiles.append(draw_labels(plain, (joints + 0.5) * zoom - 0.5, conf))
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
