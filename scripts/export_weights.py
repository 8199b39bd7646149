"""Turn a Lightning checkpoint into weights that ship: ``python scripts/export_weights.py last.ckpt NAME``.

Writes ``lightning_modules/weights/NAME.safetensors``: the (averaged) state dict without the body model, floats
as float16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from lightning_modules.body_match import KEY

WEIGHTS = Path(__file__).resolve().parents[1] / "lightning_modules" / "weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name")
    args = parser.parse_args()
    content = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    state = content["state_dict"]
    kept = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    overflow = [k for k, v in kept.items() if v.is_floating_point() and not v.isfinite().all()]
    if overflow:
        raise SystemExit(f"error: does not fit float16: {overflow}")
    target = WEIGHTS / f"{args.name}.safetensors"
    save_file(kept, target, {f"{KEY}.{k}": v for k, v in content.get(KEY, {}).items()})
    print(f"{target}: {len(kept)} tensors, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
