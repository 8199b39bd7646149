"""Human animation on AnimateDiff (Guo et al., ICLR 2024) with ControlNets: the lighter way to a clip.

Stable Diffusion 1.5 with a motion adapter makes all frames together; ControlNets hold each to its drawing (and depth);
an IP-Adapter brings the reference's appearance, where there is one, and words the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from human.errors import PosesynError
from synth.diffusion.loading import DiffusionModel, Memory, diffusers, load_component, load_pipeline, place
from synth.diffusion.noise import job_generator, latent_noise
from synth.diffusion.prompts import NEGATIVE, TEMPLATE, check_template, prompt_text
from synth.driving import Driving, View
from synth.engines.base import ENGINES
from synth.engines.video import VideoEngine, pictures
from synth.jobs import Job

_CONTROLS = ("pose", "depth")
#: What AnimateDiff was trained with; Stable Diffusion's own schedule differs (diffusers, api/pipelines/animatediff).
_SCHEDULE = {"beta_schedule": "linear", "clip_sample": False, "timestep_spacing": "linspace", "steps_offset": 1}


@ENGINES.register("animatediff")
class AnimateDiffEngine(VideoEngine):
    """Videos by AnimateDiff, of which the kept frames become samples.

    Args:
        size: side of the samples, pixels.
        model, revision, variant: Stable Diffusion 1.5 or one made from it: an asset's name, a hub id or a folder, as
            of all networks here; ``local_files_only`` is for all of them.
        motion_adapter: the motion modules.
        controls: ControlNets by what they are shown, "pose" and "depth", and their weights.
        control_scale: strength of each.
        ip_adapter: a repository of IP-Adapters, None to go by words alone; ip_adapter_file, ip_adapter_encoder: the
            weights and the folder of the image encoder in it; ip_adapter_scale: strength.
        area: pixels of a frame. frames: at most so many are made (the adapter knows 32); stride: rows from one to the
            next: 2 of a 20 frames a second clip come near the 8 that the adapter learned.
        steps, guidance: of the schedule.
        template, negative_prompt: see :func:`synth.diffusion.prompts.prompt_text`; suffix: added to every prompt.
        body: body model of the labels.
        device, dtype, offload, slicing, tiling, compile: see :class:`synth.diffusion.loading.Memory`.
    """

    name: ClassVar[str] = "animatediff"
    wants_prompts: ClassVar[bool] = True
    multiple: ClassVar[int] = 8

    def __init__(
        self,
        size: int,
        model: str = "sd15",
        revision: str | None = None,
        variant: str | None = None,
        local_files_only: bool = True,
        motion_adapter: str = "animatediff_motion_v1_5_3",
        controls: dict[str, str] | None = None,
        control_scale: dict[str, float] | None = None,
        ip_adapter: str | None = "ip_adapter_sd15",
        ip_adapter_file: str = "models/ip-adapter_sd15.safetensors",
        ip_adapter_encoder: str = "models/image_encoder",
        ip_adapter_scale: float = 0.7,
        area: int = 512 * 512,
        frames: int = 16,
        stride: int = 2,
        steps: int = 25,
        guidance: float = 7.5,
        template: str = TEMPLATE,
        suffix: str = "photograph, natural light, detailed",
        negative_prompt: str = NEGATIVE,
        body: str = "free",
        device: str = "auto",
        dtype: str = "auto",
        offload: str = "none",
        slicing: bool = False,
        tiling: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__(size, area, body, Memory(device, dtype, offload, slicing, tiling, compile))
        given = controls or {"pose": "sd15_controlnet_openpose"}
        scales = dict.fromkeys(given, 1.0) | (control_scale or {})
        if set(scales) != set(given) or not set(given) <= set(_CONTROLS):
            raise PosesynError(
                f"animatediff.controls names {', '.join(given)} and control_scale {', '.join(scales)}: choose from "
                f"{', '.join(_CONTROLS)}, and give scales of those alone"
            )
        if frames < 1 or stride < 1 or steps < 1:
            raise PosesynError(f"animatediff needs frames, stride and steps >= 1, got {frames}, {stride} and {steps}")
        here: dict[str, Any] = {"local_files_only": local_files_only}
        self.model = DiffusionModel(model, revision, variant, local_files_only)
        self.motion_adapter = DiffusionModel(motion_adapter, **here)
        self.controls = {name: DiffusionModel(given[name], **here) for name in _CONTROLS if name in given}
        self.scales = [float(scales[name]) for name in self.controls]
        self.ip_adapter = DiffusionModel(ip_adapter, **here) if ip_adapter else None
        self.ip_adapter_file, self.ip_adapter_encoder = ip_adapter_file, ip_adapter_encoder
        self.ip_adapter_scale = float(ip_adapter_scale)
        self.frames, self.stride, self.steps, self.guidance = frames, stride, steps, float(guidance)
        check_template(template)
        self.template, self.suffix, self.negative_prompt = template, suffix, negative_prompt

    def config(self) -> dict[str, Any]:
        adapter = None
        if self.ip_adapter is not None:
            adapter = [self.ip_adapter.config(), self.ip_adapter_file, self.ip_adapter_encoder, self.ip_adapter_scale]
        return (
            super().config()
            | self.model.config()
            | {
                "motion_adapter": self.motion_adapter.config(),
                "controls": {n: [m.config(), s] for (n, m), s in zip(self.controls.items(), self.scales, strict=True)},
                "ip_adapter": adapter,
                "frames": self.frames,
                "stride": self.stride,
                "steps": self.steps,
                "guidance": self.guidance,
                "template": self.template,
                "suffix": self.suffix,
                "negative_prompt": self.negative_prompt,
            }
        )

    def _load(self) -> Any:
        dtype = next(n for n in ("fp32", "fp16", "bf16") if Memory(dtype=n).torch_dtype == self.memory.torch_dtype)
        here = replace(self.memory, device="cpu", dtype=dtype, offload="none", compile=False)
        parts: dict[str, Any] = {
            "motion_adapter": load_component("MotionAdapter", self.motion_adapter, here),
            "controlnet": [load_component("ControlNetModel", m, here) for m in self.controls.values()],
        }
        if self.ip_adapter is not None:
            parts["image_encoder"] = load_component(
                "CLIPVisionModelWithProjection", self.ip_adapter, here, subfolder=self.ip_adapter_encoder
            )
        pipeline = load_pipeline("AnimateDiffControlNetPipeline", self.model, here, **parts)
        pipeline.scheduler = diffusers().DDIMScheduler.from_config(pipeline.scheduler.config, **_SCHEDULE)
        if self.ip_adapter is not None:
            self._add_ip_adapter(pipeline, self.ip_adapter)
        return place(pipeline, self.memory)

    def _add_ip_adapter(self, pipeline: Any, adapter: DiffusionModel) -> None:
        folder, _, file = self.ip_adapter_file.rpartition("/")
        where, files = adapter.where
        if not file.endswith(".safetensors"):
            raise PosesynError(f"animatediff.ip_adapter_file is {file!r}: only safetensors are read")
        try:
            pipeline.load_ip_adapter(
                where,
                subfolder=folder,
                weight_name=file,
                image_encoder_folder=None,
                revision=files.get("revision"),
                local_files_only=files["local_files_only"],
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise PosesynError(
                f"the IP-Adapter {adapter.model!r} ({self.ip_adapter_file}) cannot be loaded "
                f"({str(error).strip().splitlines()[0][:200]}): {adapter.advice()}"
            ) from error
        pipeline.set_ip_adapter_scale(self.ip_adapter_scale)

    def _rows(self, job: Job) -> list[int]:
        return spaced_rows(len(job.scene), job.keep, self.frames, self.stride)

    def _frames(self, pipeline: Any, job: Job, view: View, driving: Driving) -> np.ndarray:
        count, scale = len(driving.pose), pipeline.vae_scale_factor
        shown = {"pose": driving.pose, "depth": np.repeat(driving.depth[..., None], 3, -1)}
        noise = latent_noise(
            job.seed, (pipeline.unet.config.in_channels, count, view.height // scale, view.width // scale)
        )
        words = ", ".join(part for part in (prompt_text(job, self.template), self.suffix) if part)
        more: dict[str, Any] = {}
        if self.ip_adapter is not None:
            # Without a reference the adapter is shown grey and counts for nothing.
            picture = np.full((8, 8, 3), 127, np.uint8) if job.reference is None else job.reference.image
            more["ip_adapter_image"] = pictures(picture[None])[0]
            pipeline.set_ip_adapter_scale(self.ip_adapter_scale if job.reference is not None else 0.0)
        with torch.inference_mode():
            out = pipeline(
                prompt=words,
                negative_prompt=self.negative_prompt,
                num_frames=count,
                height=view.height,
                width=view.width,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                latents=noise[None].to(pipeline.unet.dtype),
                generator=job_generator(job.seed, "steps"),
                conditioning_frames=[pictures(shown[name]) for name in self.controls],
                controlnet_conditioning_scale=self.scales,
                output_type="np",
                **more,
            ).frames[0]
        return np.asarray(out, np.float32)


def spaced_rows(count: int, keep: Sequence[int], frames: int, stride: int) -> list[int]:
    """At most ``frames`` of ``count`` rows, sorted: the kept ones, and others about them ``stride`` apart.

    Raises :class:`PosesynError` where more are kept than frames are made.
    """
    if len(keep) > frames:
        raise PosesynError(f"{len(keep)} frames of a clip are kept and only {frames} made: raise frames")
    chosen = set(keep)
    middle = keep[0]
    steps = [way * k * stride for k in range(1, count) for way in (-1, 1)]
    for row in (middle + step for step in steps):
        near = any(abs(row - k) < stride for k in keep if k != middle)
        if len(chosen) < frames and 0 <= row < count and not near:
            chosen.add(row)
    return sorted(chosen)
