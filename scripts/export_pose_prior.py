"""A checkpoint of ``PosePriorTrainer`` as weights that ship: ``python scripts/export_pose_prior.py last.ckpt NAME``.

Writes ``synth/weights/NAME.safetensors`` (float32), its configuration and settings in the header.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from synth.pose_prior_files import load_pose_prior, save_pose_prior

WEIGHTS = Path(__file__).resolve().parents[1] / "synth" / "weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name")
    args = parser.parse_args()
    settings = torch.load(args.checkpoint, map_location="cpu", weights_only=True)["hyper_parameters"]
    prior = load_pose_prior(args.checkpoint)
    prior.config = replace(prior.config, dropout=settings["dropout"])
    target = WEIGHTS / f"{args.name}.safetensors"
    plain = {k: v for k, v in settings.items() if isinstance(v, str | int | float | None)}
    save_pose_prior(prior, target, trained=json.dumps(plain))
    print(f"{target}: {sum(p.numel() for p in prior.parameters())} parameters, {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
