"""Make the motion pair that ships: ``python scripts/export_motion_pair.py last.ckpt NAME``.

Writes ``synth/msm/weights/NAME.safetensors`` from a checkpoint of configs/msm/small_t2m.yaml: both networks as float16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from lightning_modules.motion_transformer import read_pair
from synth.msm.pair import PACKAGED_WEIGHTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name")
    parser.add_argument("--folder", type=Path, default=PACKAGED_WEIGHTS)
    args = parser.parse_args()
    pair = read_pair(args.checkpoint)
    file = pair.save(args.folder / f"{args.name}.safetensors", torch.float16)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
