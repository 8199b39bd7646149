"""A picture from words: the initial picture of Diffusion-HPC's text mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from human.errors import PosesynError
from synth.diffusion.loading import DiffusionModel, Memory, free_memory, load_pipeline
from synth.diffusion.noise import job_generator, latent_noise

VERSION = 1


class TextToImage:
    """Stable Diffusion of any 1.x or 2.x; one picture at a time, so that it is a function of words and seed.

    Args:
        model: the weights; the paper takes "CompVis/stable-diffusion-v1-4".
        memory: where they are held.
        side: of the pictures, pixels; a multiple of 8.
        steps, guidance, negative_prompt: of the denoising.
    """

    def __init__(
        self,
        model: DiffusionModel,
        memory: Memory | None = None,
        side: int = 512,
        steps: int = 50,
        guidance: float = 7.5,
        negative_prompt: str = "deformed, bad anatomy",
    ) -> None:
        if side < 8 or side % 8 or steps < 1:
            raise PosesynError(f"text to image needs a side that is a multiple of 8 and steps >= 1: {side}, {steps}")
        self.model, self.memory, self.side = model, memory or Memory(), side
        self.steps, self.guidance, self.negative_prompt = steps, guidance, negative_prompt
        self._pipeline: Any = None

    def config(self) -> dict[str, Any]:
        """What decides pixels."""
        return {
            "version": VERSION,
            **self.model.config(),
            **self.memory.config(),
            "side": self.side,
            "steps": self.steps,
            "guidance": self.guidance,
            "negative_prompt": self.negative_prompt,
        }

    def __call__(self, prompt: str, seed: int) -> np.ndarray:
        """(side,side,3) uint8 RGB."""
        if self._pipeline is None:
            self._pipeline = load_pipeline(
                "StableDiffusionPipeline", self.model, self.memory, safety_checker=None, requires_safety_checker=False
            )
        pipeline = self._pipeline
        shape = (pipeline.unet.config.in_channels, self.side // 8, self.side // 8)
        with torch.inference_mode():
            pixels = pipeline(
                prompt,
                height=self.side,
                width=self.side,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                negative_prompt=self.negative_prompt,
                latents=latent_noise(seed, shape, dtype=pipeline.unet.dtype, purpose="text2img")[None],
                generator=job_generator(seed, "text2img steps"),
                output_type="pt",
            ).images[0]
        return (255 * pixels.float().cpu().clamp(0, 1)).round().byte().permute(1, 2, 0).contiguous().numpy()

    def release(self) -> None:
        """Give back the networks' memory."""
        self._pipeline = None
        free_memory()
