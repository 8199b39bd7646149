"""Depth-guided denoising of a picture about a given body: the image half of Diffusion-HPC.

Weng, Bravo-Sanchez and Yeung, "Diffusion-HPC: Synthetic Data Generation for Human Mesh Recovery in Challenging
Domains" (3DV 2024, arXiv 2303.09541). The paper goes initial picture -> mesh -> picture. Here the work is divided where
the label is known: a *planner* (:mod:`synth.hpc`) recovers the meshes, keeps the hard ones, augments them and writes
jobs; this *engine* makes pictures of jobs. So labels follow from the job alone, any planner feeds any engine, and
this engine pictures anybody's jobs: those of a refresh have their poses from the motion synthesis and their pictures
from the references.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from human.batch import PoseBatch
from human.body import BodyModel, load_body
from human.errors import PosesynError
from human.rng import generator
from synth.diffusion.depth2img import encode, pipeline_class
from synth.diffusion.depth_guidance import FLOOR, Guidance, guide, scene_depth
from synth.diffusion.loading import DiffusionModel, Memory, free_memory, load_pipeline
from synth.diffusion.noise import job_generator, latent_noise
from synth.diffusion.text2img import TextToImage
from synth.engines.base import ENGINES, ImageEngine
from synth.jobs import Job, Prompt, Reference
from synth.labels import label_scenes
from synth.scene import SceneSpec
from synth.segmenters import Instances, InstanceSegmenter, make_segmenter

log = logging.getLogger(__name__)
VERSION = 1
MODES = ("T", "R", "TR")
#: A reference whose name begins so was itself made from words: mode T may use it.
MADE = "made:"
NEGATIVE = "deformed, bad anatomy"


@ENGINES.register("depth2img")
class Depth2ImgEngine(ImageEngine):
    """Stable Diffusion's depth-to-image on an initial picture whose people are replaced by noise.

    Args:
        size: side of the pictures that are handed over, pixels.
        mode: "TR": the job's reference is the initial picture, its prompt the words; "R": no words; "T": words alone,
            the initial picture is made from them (a reference that was made from words is used as it is).
        model, revision, variant: the depth-to-image weights: a folder, a hub id or an asset's name.
        text_model, text_revision, text_variant: Stable Diffusion for the initial pictures of mode T.
        resolution: side of the pictures that are denoised, pixels; latents have an eighth of it.
        steps, guidance, negative_prompt: of the denoising; strength: share of the steps that is taken (0.7 of 50).
        human_latents: "noise" replaces the people's latents by z before the picture's noise is added, "picture" keeps
            them.
        floor: level of the body's farthest point in the depth map, the nearest has 1.
        hidden_at_most: share of the body that objects may hide (:func:`synth.diffusion.depth_guidance.guide`).
        blur: standard deviations, pixels of ``resolution``, from which one is drawn to blur what was made; None: sharp.
            The paper's few-shot sets have (1, 2.5).
        segmenter, segmenter_options: who tells people and objects apart (:mod:`synth.segmenters`). "body" needs no
            files; it finds no objects.
        template: the words of a job whose prompt has no caption.
        body: the model that the poses belong to.
        local_files_only: never download weights.
        batch: pictures that are denoised together, always as many (the last ones are filled up), so that a picture
            does not depend on its neighbours.
        device, dtype, offload, slicing, tiling, compile: see :class:`synth.diffusion.loading.Memory`.
    """

    name = "depth2img"
    wants_references = True
    wants_prompts = True

    def __init__(
        self,
        size: int,
        mode: str = "TR",
        model: str = "sd2_depth",
        revision: str | None = None,
        variant: str | None = None,
        text_model: str = "sd14",
        text_revision: str | None = None,
        text_variant: str | None = None,
        resolution: int = 512,
        steps: int = 50,
        strength: float = 0.7,
        guidance: float = 7.5,
        negative_prompt: str = NEGATIVE,
        human_latents: str = "noise",
        floor: float = FLOOR,
        hidden_at_most: float = 0.5,
        blur: tuple[float, float] | list[float] | None = None,
        segmenter: str = "body",
        segmenter_options: dict[str, Any] | None = None,
        template: str = "a photo of a {gender} {action} {environment}",
        body: str = "free",
        local_files_only: bool = True,
        batch: int = 1,
        device: str = "auto",
        dtype: str = "auto",
        offload: str = "none",
        slicing: bool = False,
        tiling: bool = False,
        compile: bool = False,
    ) -> None:
        if mode not in MODES or human_latents not in ("noise", "picture"):
            raise PosesynError(
                f"engine 'depth2img': mode is one of {', '.join(MODES)} and human_latents noise or picture, got "
                f"{mode!r} and {human_latents!r}"
            )
        if size < 1 or resolution < 8 or resolution % 8 or batch < 1:
            raise PosesynError(
                "engine 'depth2img': size and batch are at least 1 and resolution is a multiple of 8, got "
                f"{size}, {batch} and {resolution}"
            )
        if not 0 < strength <= 1 or int(steps * strength) < 1 or not 0 <= floor < 1 or not 0 <= hidden_at_most <= 1:
            raise PosesynError(
                "engine 'depth2img': strength of the steps must leave at least one, floor and hidden_at_most lie in "
                f"0 .. 1, got {strength} of {steps}, {floor} and {hidden_at_most}"
            )
        if blur is not None and not (len(blur) == 2 and 0 <= blur[0] <= blur[1]):
            raise PosesynError(f"engine 'depth2img': blur is (least, most) pixels, got {blur}")
        self.size, self.mode, self.resolution, self.at_once = size, mode, resolution, batch
        self.steps, self.strength, self.guidance, self.negative_prompt = steps, strength, guidance, negative_prompt
        self.human_latents, self.floor, self.hidden_at_most = human_latents, floor, hidden_at_most
        self.blur = None if blur is None else (float(blur[0]), float(blur[1]))
        self.template, self.body_name = template, body
        self.model = DiffusionModel(model, revision, variant, local_files_only)
        self.memory = Memory(device, dtype, offload, slicing, tiling, compile)
        words = DiffusionModel(text_model, text_revision, text_variant, local_files_only)
        self.text2img = TextToImage(words, self.memory, resolution, steps, guidance, negative_prompt)
        self._segmenter_settings = (segmenter, segmenter_options)
        self._pipeline: Any = None

    def config(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "mode": self.mode,
            **self.model.config(),
            **self.memory.config(),
            "text_model": self.text2img.config() if self.mode == "T" else None,
            "size": self.size,
            "resolution": self.resolution,
            "steps": self.steps,
            "strength": self.strength,
            "guidance": self.guidance,
            "negative_prompt": self.negative_prompt,
            "human_latents": self.human_latents,
            "floor": self.floor,
            "hidden_at_most": self.hidden_at_most,
            "blur": list(self.blur) if self.blur else None,
            "segmenter": self.segmenter.config(),
            "template": self.template,
            "body": self.body_name,
        }

    @cached_property
    def body(self) -> BodyModel:
        return load_body(self.body_name)

    @cached_property
    def segmenter(self) -> InstanceSegmenter:
        return make_segmenter(*self._segmenter_settings)

    def release(self) -> None:
        self._pipeline = None
        self.text2img.release()
        self.segmenter.release()
        free_memory()

    # -- what the networks are given ---------------------------------------------------------------------------------
    def prompt(self, prompt: Prompt) -> str:
        """The words of a job."""
        if self.mode == "R":
            return ""
        if prompt.caption:
            return prompt.caption
        parts = {"gender": prompt.gender or "person", "action": prompt.action, "environment": prompt.environment}
        return " ".join(self.template.format(**parts).split())

    def initial(self, job: Job, number: int = 0) -> np.ndarray:
        """(resolution,resolution,3) uint8: what the denoising starts from."""
        reference = job.reference
        if self.mode == "T" and (reference is None or not reference.id.startswith(MADE)):
            image = self.text2img(self.prompt(job.prompt), job.seed)
        elif reference is None:
            raise PosesynError(
                f"engine 'depth2img' in mode {self.mode}: job {number} brings no reference picture; use mode T, which "
                "makes one from words"
            )
        else:
            image = reference.image
        return self._fitted(image, number)

    def _fitted(self, image: np.ndarray, number: int) -> np.ndarray:
        height, width = image.shape[:2]
        if image.ndim != 3 or height != width or image.dtype != np.uint8:
            raise PosesynError(
                f"engine 'depth2img': the reference of job {number} is {image.shape} {image.dtype}; it takes square "
                "uint8 RGB crops"
            )
        if height == self.resolution:
            return image
        how = cv2.INTER_AREA if height > self.resolution else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(image, (self.resolution, self.resolution), interpolation=how), np.uint8)

    def found_in(self, job: Job, initial: np.ndarray) -> Instances:
        """People and objects in a job's initial picture."""
        return self.segmenter(initial, self._known_body(job.reference))

    def guidance_of(
        self, job: Job, row: int, initial: np.ndarray, number: int = 0, found: Instances | None = None
    ) -> Guidance:
        """Depth map and mask of one row of a job about its initial picture, in which ``found`` was found."""
        people = [scene[row : row + 1] for scene in (job.scene, *job.others)]
        depth = scene_depth(self.body, people, self.size, self.resolution)
        if not bool((depth > 0).any()):
            raise PosesynError(
                f"engine 'depth2img': nobody is in the picture of job {number}, row {row} (seed {job.seed}): its body "
                "lies outside it or behind the camera"
            )
        found = found or self.found_in(job, initial)
        person, objects = torch.from_numpy(found.person), torch.from_numpy(found.objects)
        return guide(depth, person, objects, self.resolution // 8, self.floor, self.hidden_at_most)

    def _known_body(self, reference: Reference | None) -> np.ndarray | None:
        """(resolution,resolution) bool, where the fitted body of the initial picture is; None where there is none."""
        if reference is None or reference.body is None or (self.mode == "T" and not reference.id.startswith(MADE)):
            return None
        if not all(bool(v.isfinite().all()) for v in _numbers(reference.body)):
            return None
        side = reference.image.shape[0]
        return (scene_depth(self.body, [reference.body], side, self.resolution) > 0).numpy()

    # -- making ------------------------------------------------------------------------------------------------------
    def make(self, jobs: Sequence[Job]) -> list[PoseBatch]:
        work = []
        for number, job in enumerate(jobs):
            everyone = (job.kept, *(other[list(job.keep)] for other in job.others))
            if not all(bool(v.isfinite().all()) for scene in everyone for v in _numbers(scene)):
                raise PosesynError(f"engine 'depth2img': the scene of job {number} (seed {job.seed}) is not finite")
            initial = self.initial(job, number)
            found = self.found_in(job, initial)
            for row in job.keep:
                work.append((job, row, initial, self.guidance_of(job, row, initial, number, found)))
        images: list[Tensor] = []
        for start in range(0, len(work), self.at_once):
            part = work[start : start + self.at_once]
            full = [*part, *[part[-1]] * (self.at_once - len(part))]
            images += self._denoise(full)[: len(part)]
        out, start = [], 0
        for job in jobs:
            pictures = torch.stack(images[start : start + len(job.keep)])
            out.append(label_scenes(job.kept, pictures, self.body_name))
            start += len(job.keep)
        return out

    def _loaded(self) -> Any:
        if self._pipeline is None:
            self._pipeline = load_pipeline(
                pipeline_class(), self.model, self.memory, depth_estimator=None, feature_extractor=None
            )
            channels = self._pipeline.unet.config.in_channels
            if channels != self._pipeline.vae.config.latent_channels + 1:
                self._pipeline = None
                raise PosesynError(
                    f"engine 'depth2img': {self.model.model!r} is not a depth-to-image model: its denoiser takes "
                    f"{channels} channels, not the latents' and one of depth"
                )
        return self._pipeline

    def _denoise(self, work: list[tuple[Job, int, np.ndarray, Guidance]]) -> list[Tensor]:
        """(3,size,size) uint8 each."""
        pipeline = self._loaded()
        side = self.resolution // 8
        shape = (pipeline.vae.config.latent_channels, side, side)
        latents = torch.cat([self._latents(pipeline, *one, shape) for one in work])
        with torch.inference_mode():
            made = pipeline(
                prompt=[self.prompt(job.prompt) for job, *_ in work],
                image=latents.to(pipeline.unet.dtype),
                depth_map=torch.stack([g.depth for *_, g in work]),
                strength=self.strength,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                negative_prompt=[self.negative_prompt] * len(work),
                generator=[job_generator(job.seed, "depth2img", row) for job, row, *_ in work],
                output_type="pt",
            ).images
        pixels = (255 * made.float().cpu().clamp(0, 1)).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        return [self._finished(p, job, row) for p, (job, row, *_) in zip(pixels, work, strict=True)]

    def _latents(
        self, pipeline: Any, job: Job, row: int, initial: np.ndarray, guidance: Guidance, shape: tuple[int, int, int]
    ) -> Tensor:
        """(1,4,h,w): the initial picture's, the people's replaced by noise."""
        pixels = torch.from_numpy(initial).permute(2, 0, 1)[None].float() / 255
        noise, z = (latent_noise(job.seed, shape, purpose=f"{what} {row}") for what in ("encoder", "human"))
        latents = encode(pipeline, pixels, noise[None]).cpu()
        if self.human_latents == "picture":
            return latents
        return latents * (1 - guidance.people) + z * guidance.people

    def _finished(self, pixels_HWC: np.ndarray, job: Job, row: int) -> Tensor:
        if self.blur is not None:
            sigma = generator("depth2img blur", job.seed, row).uniform(*self.blur)
            pixels_HWC = cv2.GaussianBlur(pixels_HWC, (0, 0), max(sigma, 1e-3))
        if self.size != self.resolution:
            how = cv2.INTER_AREA if self.size < self.resolution else cv2.INTER_CUBIC
            pixels_HWC = cv2.resize(pixels_HWC, (self.size, self.size), interpolation=how)
        return torch.from_numpy(np.ascontiguousarray(pixels_HWC)).permute(2, 0, 1)


def _numbers(scene: SceneSpec) -> tuple[Tensor, ...]:
    return scene.betas, scene.body_pose, scene.global_orient, scene.transl, scene.intrinsics
