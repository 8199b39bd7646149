"""Motion codes per second: ``python -m benchmarks.msm_networks [--upstream CHECKOUT]`` prints one JSON line.

The text-to-motion transformer with random weights draws ``--rows`` motions of ``--codes`` codes (no end before that):
with cache, without, and, of a checkout of https://github.com/Mael-zys/T2M-GPT, as ``Text2Motion_Transformer.sample``
does it: one motion after another, every place again at every step (its loop repeated here with ends left out, so that
all draw as many codes). The VQ-VAE decodes the motions. Every figure is the best of ``--repeats``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from synth.msm.transformer import TextToMotion, TransformerConfig
from synth.msm.vqvae import MotionVQVAE, VQVAEConfig

#: "official": T2M-GPT's; "small": about the size of what ships with posesyn.
TRANSFORMERS = {
    "official": TransformerConfig(),
    "small": TransformerConfig(codes=256, text_dim=384, width=192, heads=6, layers=6),
}
VQVAES = {"official": VQVAEConfig(), "small": VQVAEConfig(codes=256, code_dim=128, width=128)}


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Of the fastest run."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def upstream_loop(checkout: Path, config: TransformerConfig, text_BC: Tensor, codes: int) -> Callable[[], None]:
    """T2M-GPT's way to draw."""
    sys.path.insert(0, str(checkout))
    module = importlib.import_module("models.t2m_trans")
    sizes = {"num_vq": config.codes, "embed_dim": config.width, "clip_dim": config.text_dim, "n_head": config.heads}
    sizes |= {"block_size": config.block_size, "num_layers": config.layers // 2, "fc_rate": config.mlp_ratio}
    model = module.Text2Motion_Transformer(**sizes).eval().to(text_BC.device)

    @torch.no_grad()
    def run() -> None:
        for row in text_BC:
            found: Tensor | list[int] = []
            for _ in range(codes):
                share = model(found, row[None])[:, -1, :-1].softmax(-1)
                code = torch.distributions.Categorical(share).sample()[:, None]
                found = code if isinstance(found, list) else torch.cat([found, code], 1)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(TRANSFORMERS), default="small")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--codes", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--upstream", type=Path, help="checkout of T2M-GPT")
    parser.add_argument("--upstream-rows", type=int, default=2, help="motions of upstream's loop")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config, rows, codes = TRANSFORMERS[options.size], options.rows, options.codes
    torch.manual_seed(0)
    transformer = TextToMotion(config).eval().to(device)
    vqvae = MotionVQVAE(VQVAES[options.size]).eval().to(device)
    text_BC = torch.randn(rows, config.text_dim, device=device)

    def draw(cached: bool) -> Tensor:
        made = transformer.generate(text_BC, max_codes=codes, min_codes=codes, seeds=range(rows), cached=cached)
        return made[0]

    known = draw(True)
    said = {"size": options.size, "rows": rows, "codes": codes, "torch": torch.__version__}
    said |= {"device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()}
    said |= {"threads": torch.get_num_threads()}
    for name, cached in (("cached", True), ("uncached", False)):
        taken = seconds(partial(draw, cached), device, options.repeats)
        said[f"{name}_codes_per_s"] = round(rows * codes / taken, 1)
    with torch.no_grad():
        decoding = seconds(lambda: vqvae.decode(known), device, options.repeats)
    said["decoded_frames_per_s"] = round(rows * codes * vqvae.config.unit_length / decoding)
    if options.upstream is not None:
        few = min(rows, options.upstream_rows)
        loop = upstream_loop(options.upstream, config, text_BC[:few], codes)
        said["upstream_codes_per_s"] = round(few * codes / seconds(loop, device, options.repeats), 1)
        said["ratio_to_upstream"] = round(said["cached_codes_per_s"] / said["upstream_codes_per_s"], 1)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
