"""diffusers' depth-to-image pipeline, given its latents and its depth map as they are.

``StableDiffusionDepth2ImgPipeline`` takes latents for its picture, but shrinks the depth map to an eighth of *them*,
and spreads any map over the whole range, also one without a body. Only its ``prepare_depth_map`` is replaced.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from synth.diffusion.loading import diffusers


@cache
def pipeline_class() -> Any:
    """The pipeline's class, made on first use: diffusers is imported late."""

    class GuidedDepth2Img(diffusers().StableDiffusionDepth2ImgPipeline):  # type: ignore[misc]
        """``image`` are latents (B,4,h,w), ``depth_map`` (B,1,h,w) in -1..1."""

        def prepare_depth_map(
            self,
            image: Tensor,
            depth_map: Tensor,
            batch_size: int,
            do_classifier_free_guidance: bool,
            dtype: torch.dtype,
            device: torch.device,
        ) -> Tensor:
            ready = depth_map.to(device=device, dtype=dtype)
            return torch.cat([ready] * 2) if do_classifier_free_guidance else ready

    return GuidedDepth2Img


def encode(pipeline: Any, pixels_B3HW: Tensor, noise_B4hw: Tensor) -> Tensor:
    """(B,4,h,w) float32 latents of pictures (0..1), drawn from the encoder's posterior at ``noise``."""
    vae = pipeline.vae
    with torch.inference_mode():
        posterior = vae.encode(2 * pixels_B3HW.to(pipeline._execution_device, vae.dtype) - 1).latent_dist
        latents = posterior.mean.float() + posterior.std.float() * noise_B4hw.to(posterior.mean.device)
    return latents * vae.config.scaling_factor
