"""OpenAI's own CLIP text encoder at a tiny size, on seeded weights: tests/synth/captions/reference/clip_text_tiny.npz.

    git clone https://github.com/openai/CLIP
    python scripts/make_clip_reference.py CLIP/clip/model.py tests/synth/captions/reference/clip_text_tiny.npz

Made with commit d05afc436d78f1c48dc0dbf8e5980a9d471f35f6; the file holds weights, token
numbers and ``encode_text``'s output.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch

START, END = 98, 99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="clip/model.py of openai/CLIP")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    spec = importlib.util.spec_from_file_location("clip_model", args.model)
    assert spec is not None
    assert spec.loader is not None
    upstream = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(upstream)
    torch.manual_seed(0)
    clip = upstream.CLIP(8, 16, 1, 64, 8, 77, END + 1, 16, 2, 2).eval()
    generator = torch.Generator().manual_seed(1)
    for name, weight in clip.named_parameters():  # its own initial values are nearly zero in many places
        if name != "logit_scale":
            weight.data = torch.randn(weight.shape, generator=generator) * (0.3 if weight.ndim > 1 else 0.5)
    tokens = torch.zeros(3, 77, dtype=torch.long)
    for row, length in enumerate((0, 5, 75)):
        ids = torch.randint(0, START, (length,), generator=generator)
        tokens[row, : length + 2] = torch.tensor([START, *ids.tolist(), END])
    with torch.no_grad():
        output = clip.encode_text(tokens).float()
    text = {k: v.numpy() for k, v in clip.state_dict().items() if not k.startswith("visual.") and k != "logit_scale"}
    np.savez_compressed(args.out, tokens=tokens.numpy(), output=output.numpy(), **text)


if __name__ == "__main__":
    main()
