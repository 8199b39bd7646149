"""The engine of Pose++ (HumanWild, arXiv 2403.11111): text to picture under ControlNets that see the posed body.

Depth and skeleton of the job's people are drawn at the model's own size, a Stable Diffusion (XL) makes the picture, and
the picture is made smaller. Labels are the scene's, as for every engine. See docs/engines/controlnet.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from human.batch import PoseBatch
from human.errors import PosesynError
from synth.diffusion.control_pictures import ControlPictures, control_pictures, resize_pictures
from synth.diffusion.loading import DiffusionModel, Memory, free_memory, hushed, load_component, load_pipeline
from synth.diffusion.noise import job_generator, latent_noise
from synth.diffusion.prompts import ENVIRONMENTS, GENDERS, NEGATIVE, TEMPLATE, check_template, prompt_text
from synth.engines.base import ENGINES, ImageEngine
from synth.jobs import Job
from synth.labels import label_scenes
from synth.scene import SceneSpec

VERSION = 1
#: Kind of condition -> its number in the union ControlNet (xinsir/controlnet-union-sdxl-1.0).
UNION_MODES = {"keypoints": 0, "depth": 1}
_PIPELINES = {"sdxl": "StableDiffusionXLControlNetPipeline", "sd": "StableDiffusionControlNetPipeline"}
_UNION = "StableDiffusionXLControlNetUnionPipeline"
#: Schedule -> class in diffusers, what its configuration changes, and steps and guidance that suit it.
SCHEDULES: dict[str, tuple[str, dict[str, Any], int, float]] = {
    "default": ("", {}, 40, 5.0),  # the model's own
    "ddim": ("DDIMScheduler", {}, 40, 5.0),
    "dpm": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, 25, 5.0),
    "lcm": ("LCMScheduler", {}, 4, 1.0),
    "lightning": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}, 4, 0.0),
}


@ENGINES.register("controlnet")
class ControlNetEngine(ImageEngine):
    """Depth and keypoint ControlNets, or one union ControlNet, over SDXL or Stable Diffusion 1.x.

    Args:
        size: side of the pictures handed over, pixels.
        family: "sdxl" or "sd" (1.x, 2.x): which pipeline.
        model: the base: a folder, a hub id, or an asset of kind "hub".
        revision, variant: of the base, where it is a hub id; assets bring their own.
        depth, keypoints: the two ControlNets, likewise; None leaves one out.
        union: a union ControlNet in place of both (sdxl only).
        depth_scale, keypoint_scale: how strongly each is listened to.
        distilled: a UNet in place of the base's, for few steps (folder, hub id or asset).
        schedule: "default" (the model's own), "ddim", "dpm", "lcm", "lightning".
        steps, guidance: None takes what suits the schedule.
        resolution: side of the picture that is made, pixels; a multiple of 8.
        body: whose mesh is drawn, and read for the labels.
        hidden_joints: whether joints behind something are drawn.
        template, negative_prompt, genders, environments: of the prompts (:mod:`synth.diffusion.prompts`).
        batch: pictures made at once, to which a smaller last batch is filled up. With 1 a picture's bytes do not depend
            on its neighbours; rows of one batch may round differently.
        device, dtype, offload, slicing, tiling, compile: :class:`synth.diffusion.loading.Memory`.
        local_files_only: false lets weights be downloaded on first use.

    Models are loaded at the first job. All rows of one job start from the same noise.
    """

    name = "controlnet"
    wants_prompts = True

    def __init__(
        self,
        size: int,
        family: str = "sdxl",
        model: str = "sdxl_base",
        revision: str | None = None,
        variant: str | None = None,
        depth: str | None = "sdxl_controlnet_depth",
        keypoints: str | None = "sdxl_controlnet_openpose",
        union: str | None = None,
        depth_scale: float = 0.8,
        keypoint_scale: float = 0.5,
        distilled: str | None = None,
        schedule: str = "default",
        steps: int | None = None,
        guidance: float | None = None,
        resolution: int = 1024,
        body: str = "free",
        hidden_joints: bool = True,
        template: str = TEMPLATE,
        negative_prompt: str = NEGATIVE,
        genders: Sequence[str] = GENDERS,
        environments: Sequence[str] = ENVIRONMENTS,
        batch: int = 1,
        device: str = "auto",
        dtype: str = "auto",
        offload: str = "none",
        slicing: bool = False,
        tiling: bool = False,
        compile: bool = False,
        local_files_only: bool = True,
    ) -> None:
        if family not in _PIPELINES:
            raise PosesynError(f"controlnet: family is {family!r}; choose {', '.join(_PIPELINES)}")
        if schedule not in SCHEDULES:
            raise PosesynError(f"controlnet: schedule is {schedule!r}; choose {', '.join(SCHEDULES)}")
        if union is not None and family != "sdxl":
            raise PosesynError("controlnet: a union ControlNet exists for sdxl only; set family to sdxl")
        if union is None and depth is None and keypoints is None:
            raise PosesynError("controlnet: name a depth or a keypoints ControlNet, or a union")
        if size < 8 or resolution < 8 or resolution % 8:
            raise PosesynError(f"controlnet: resolution {resolution} must be a multiple of 8, size {size} at least 8")
        if batch < 1 or (steps is not None and steps < 1):
            raise PosesynError(f"controlnet: batch {batch} and steps {steps} must be at least 1")
        check_template(template)
        self.size, self.family, self.resolution, self.body = size, family, resolution, body
        self.local_files_only = local_files_only
        self.model = self._named(model, revision, variant)
        self.nets = {"union": union} if union else {"depth": depth, "keypoints": keypoints}
        self.distilled = distilled
        self.scales = {"depth": float(depth_scale), "keypoints": float(keypoint_scale)}
        self.schedule = schedule
        suits = SCHEDULES[schedule]
        self.steps = suits[2] if steps is None else steps
        self.guidance = suits[3] if guidance is None else float(guidance)
        self.hidden_joints = hidden_joints
        self.template, self.negative_prompt = template, negative_prompt
        self.genders, self.environments = tuple(genders), tuple(environments)
        self.at_once = batch
        self.memory = Memory(device, dtype, offload, slicing, tiling, compile)
        self._pipeline: Any = None

    def config(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "size": self.size,
            "family": self.family,
            "model": self.model.config(),
            "nets": {k: self._named(v).config() for k, v in self.nets.items() if v is not None},
            "scales": self.scales,
            "distilled": self._named(self.distilled).config() if self.distilled else None,
            "schedule": self.schedule,
            "steps": self.steps,
            "guidance": self.guidance,
            "resolution": self.resolution,
            "body": self.body,
            "hidden_joints": self.hidden_joints,
            "template": self.template,
            "negative_prompt": self.negative_prompt,
            "genders": list(self.genders),
            "environments": list(self.environments),
            **self.memory.config(),
        }

    def conditions(self, job: Job) -> ControlPictures:
        """What the ControlNets are shown of the job's kept rows."""
        others = [other[list(job.keep)] for other in job.others]
        return control_pictures(job.kept, others, self.size, self.resolution, self.body, self.hidden_joints)

    def prompt(self, job: Job) -> str:
        return prompt_text(job, self.template, self.genders, self.environments)

    def make(self, jobs: Sequence[Job]) -> list[PoseBatch]:
        tasks: list[tuple[Job, dict[str, Tensor]]] = []
        for job in jobs:
            try:
                seen = self.conditions(job)
            except PosesynError as error:
                raise PosesynError(f"controlnet cannot make the job with seed {job.seed}: {error}") from error
            for depth, skeleton in zip(seen.depth_picture, seen.skeletons, strict=True):
                tasks.append((job, {"depth": depth.expand(3, -1, -1), "keypoints": skeleton.permute(2, 0, 1)}))
        images = [image for start in range(0, len(tasks), self.at_once) for image in self._paint(tasks[start:])]
        out, start = [], 0
        for job in jobs:
            rows = images[start : start + len(job.keep)]
            start += len(job.keep)
            out.append(label_scenes(_plain(job.kept), torch.stack(rows), self.body))
        return out

    def release(self) -> None:
        self._pipeline = None
        free_memory()

    # ------------------------------------------------------------------------------------------------ the model
    def _named(self, model: str | None, revision: str | None = None, variant: str | None = None) -> DiffusionModel:
        return DiffusionModel(str(model), revision, variant, self.local_files_only)

    def _load(self) -> Any:
        if self._pipeline is not None:
            return self._pipeline
        kind = "ControlNetUnionModel" if "union" in self.nets else "ControlNetModel"
        nets = [load_component(kind, self._named(n), self.memory) for n in self.nets.values() if n is not None]
        more: dict[str, Any] = {"controlnet": nets[0] if "union" in self.nets else nets}
        if self.distilled is not None:
            more["unet"] = load_component("UNet2DConditionModel", self._named(self.distilled), self.memory)
        if self.family == "sdxl":
            more["add_watermarker"] = False
        else:  # its verdict would be a black picture with labels
            more |= {"safety_checker": None, "requires_safety_checker": False}
        pipeline = load_pipeline(
            _UNION if "union" in self.nets else _PIPELINES[self.family], self.model, self.memory, **more
        )
        if self.family == "sdxl" and getattr(pipeline, "tokenizer_2", None) is None:
            raise PosesynError(
                f"controlnet: {self.model.model!r} is no SDXL (it has one text encoder): set family to sd"
            )
        name, changes, _, _ = SCHEDULES[self.schedule]
        if name:
            import diffusers

            pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, **changes)
        self._pipeline = pipeline
        return pipeline

    def _paint(self, tasks: Sequence[tuple[Job, dict[str, Tensor]]]) -> list[Tensor]:
        """(3,size,size) uint8 of up to ``at_once`` tasks, made in one batch of exactly that size."""
        pipeline = self._load()
        wanted = list(tasks[: self.at_once])
        filled = wanted + [wanted[-1]] * (self.at_once - len(wanted))
        kinds = [k for k, net in self.nets.items() if net is not None]
        kinds = ["depth", "keypoints"] if kinds == ["union"] else kinds
        pictures = [torch.stack([shown[k] for _, shown in filled]).float() / 255 for k in kinds]
        channels, side = pipeline.unet.config.in_channels, self.resolution // pipeline.vae_scale_factor
        noise = torch.stack([latent_noise(job.seed, (channels, side, side)) for job, _ in filled])
        given: dict[str, Any] = {
            "prompt": [self.prompt(job) for job, _ in filled],
            "negative_prompt": [self.negative_prompt] * len(filled),
            "height": self.resolution,
            "width": self.resolution,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "controlnet_conditioning_scale": [self.scales[k] for k in kinds],
            "latents": noise.to(pipeline.unet.dtype),
            "generator": [job_generator(job.seed, "schedule") for job, _ in filled],
            "output_type": "pt",
        }
        if "union" in self.nets:
            given |= {"control_image": pictures, "control_mode": [UNION_MODES[k] for k in kinds]}
        else:
            given["image"] = pictures
        try:
            with hushed(), torch.inference_mode():
                made = pipeline(**given).images
        except torch.OutOfMemoryError as error:
            raise PosesynError(
                f"controlnet: {self.at_once} pictures of {self.resolution} px do not fit on "
                f"{self.memory.torch_device}: use a smaller batch, tiling, or offload model or sequential"
            ) from error
        if not bool(made.isfinite().all()):
            raise PosesynError("controlnet: the model made values that are not finite: use dtype bf16 or fp32")
        return list(resize_pictures(made, self.size)[: len(wanted)].clone())


def _plain(scene: SceneSpec) -> SceneSpec:
    """Without what only rendering engines look at."""
    return SceneSpec(scene.betas, scene.body_pose, scene.global_orient, scene.transl, scene.intrinsics, scene.seed)
