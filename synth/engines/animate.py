"""PoseSyn's human animation (arXiv 2503.13025, §3.3) on Wan-Animate: a reference picture that moves as a motion says.

Wan-Animate (Wan Team, arXiv 2509.14055) takes a picture of a person, a video of skeletons and a video of a face. Its
preprocessing detects both in a real video; here the skeletons are drawn from the bodies of the clip
(:mod:`synth.driving`), in its style, so that the labels are exact as far as the model follows its drawings.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import cv2
import numpy as np
import torch

from human.camera import project
from human.errors import PosesynError
from synth.diffusion.loading import DiffusionModel, Memory, load_component, load_pipeline
from synth.diffusion.noise import job_generator, latent_noise
from synth.driving import Driving, View, fit_picture, head_crop, posed_body
from synth.engines.base import ENGINES
from synth.engines.video import VideoEngine, hold_last, pictures
from synth.inpaint import inpaint_person, person_mask
from synth.jobs import Job, Reference

#: Upstream's own words, which the model was tuned with ("the people in the video do actions"), and what to avoid:
#: Wan-Video/Wan2.2, wan/configs/wan_animate_14B.py and shared_config.py.
PROMPT = "视频中的人在做动作"
NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，"
    "残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，"
    "三条腿，背景人很多，倒着走"
)
MODEL = "Wan-AI/Wan2.2-Animate-14B-Diffusers"
MODES, FACES = ("animate", "replace"), ("reference", "none")
_TEMPORAL = 4  # frames to a latent frame of Wan's autoencoder, after the first
_DILATE = 7  # pixels: upstream grows a replaced person's mask three times by such a square


@ENGINES.register("animate")
class AnimateEngine(VideoEngine):
    """Videos by Wan-Animate, of which the kept frames become samples.

    Args:
        size: side of the samples, pixels.
        model, revision, variant, local_files_only: weights, see :class:`synth.diffusion.loading.DiffusionModel`.
        area: pixels of a frame: 480 * 832 by default, 720 * 1280 is the model's largest.
        mode: "animate" lets the reference's picture move; "replace" keeps the reference's place, with the person
            removed, outside the new person's mask, and needs the reference's body.
        face: "reference": the reference's own face, still, is what the face video shows; "none": black.
        steps: of the schedule. guidance: above 1, the negative prompt is heeded (twice the time).
        prompt, negative_prompt: upstream's own by default. Captions are not used: upstream advises against it.
        segment: frames made at once, 4n + 1; longer clips go on from the last ``overlap`` (1 or 5) frames.
        body: body model of the labels.
        vae_fp32: the autoencoder in float32, as upstream has it.
        device, dtype, offload, slicing, tiling, compile: see :class:`synth.diffusion.loading.Memory`.

    Raises:
        PosesynError: settings that make no sense; when making: weights that are not there (what to download), a job
            without a reference picture.
    """

    name: ClassVar[str] = "animate"

    def __init__(
        self,
        size: int,
        model: str = MODEL,
        revision: str | None = None,
        variant: str | None = None,
        local_files_only: bool = True,
        area: int = 480 * 832,
        mode: str = "animate",
        face: str = "reference",
        steps: int = 20,
        guidance: float = 1.0,
        prompt: str = PROMPT,
        negative_prompt: str = NEGATIVE,
        segment: int = 77,
        overlap: int = 1,
        body: str = "free",
        vae_fp32: bool = True,
        device: str = "auto",
        dtype: str = "auto",
        offload: str = "none",
        slicing: bool = False,
        tiling: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__(size, area, body, Memory(device, dtype, offload, slicing, tiling, compile))
        for option, value, known in (("mode", mode, MODES), ("face", face, FACES), ("overlap", overlap, (1, 5))):
            if value not in known:
                raise PosesynError(f"animate.{option}={value!r}: choose one of {', '.join(map(str, known))}")
        if steps < 1 or segment <= overlap or (segment - 1) % _TEMPORAL or not guidance >= 0:
            raise PosesynError(
                f"animate needs steps >= 1, guidance >= 0 and a segment of 4n + 1 frames, more than overlap={overlap}, "
                f"got {steps}, {guidance} and {segment}"
            )
        self.model = DiffusionModel(model, revision, variant, local_files_only)
        self.mode, self.face, self.steps, self.guidance = mode, face, steps, float(guidance)
        self.prompt, self.negative_prompt, self.segment, self.overlap = prompt, negative_prompt, segment, overlap
        self.vae_fp32 = vae_fp32

    def config(self) -> dict[str, Any]:
        settings = {"mode": self.mode, "face": self.face, "steps": self.steps, "guidance": self.guidance}
        words = {"prompt": self.prompt, "negative_prompt": self.negative_prompt if self.guidance > 1 else ""}
        lengths = {"segment": self.segment, "overlap": self.overlap, "vae_fp32": self.vae_fp32}
        return super().config() | self.model.config() | settings | words | lengths

    def _load(self) -> Any:
        parts = {}
        if self.vae_fp32:
            parts["vae"] = load_component("AutoencoderKLWan", self.model, Memory(dtype="fp32"), subfolder="vae")
        return load_pipeline("WanAnimatePipeline", self.model, self.memory, **parts)

    def _check(self, job: Job) -> None:
        if job.reference is None:
            raise PosesynError(
                f"job {job.seed} has no reference picture, which engine 'animate' makes move: mine references "
                "(eem.references > 0), or use 'animatediff', which goes by words where there is none"
            )
        image = job.reference.image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise PosesynError(
                f"job {job.seed}: the reference {job.reference.id!r} is no RGB picture: {image.dtype} {image.shape}"
            )
        if self.mode == "replace" and job.reference.body is None:
            raise PosesynError(
                f"job {job.seed}: mode 'replace' removes the reference {job.reference.id!r} from its picture and needs "
                "to know its body: use mode 'animate'"
            )

    def _rows(self, job: Job) -> list[int]:
        return list(range(len(job.scene)))

    def _frames(self, pipeline: Any, job: Job, view: View, driving: Driving) -> np.ndarray:
        assert job.reference is not None
        length, segment = self._lengths(len(driving.pose))
        size = pipeline.transformer.config.motion_encoder_size
        more: dict[str, Any] = {}
        if self.mode == "replace":
            place = fit_picture(_emptied(job.reference, self.body), view.height, view.width)
            grown = [cv2.dilate(mask, np.ones((_DILATE, _DILATE), np.uint8), iterations=3) for mask in driving.mask]
            more["background_video"] = pictures(np.repeat(place[None], length, 0))
            more["mask_video"] = pictures(hold_last(np.stack(grown), length))
        with torch.inference_mode():
            out = pipeline(
                image=pictures(fit_picture(job.reference.image, view.height, view.width)[None])[0],
                pose_video=pictures(hold_last(driving.pose, length)),
                face_video=pictures(np.repeat(self._face(job.reference, size)[None], length, 0)),
                prompt=self.prompt,
                negative_prompt=self.negative_prompt if self.guidance > 1 else None,
                height=view.height,
                width=view.width,
                segment_frame_length=segment,
                prev_segment_conditioning_frames=self.overlap,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                mode=self.mode,
                latents=self._noise(pipeline, job.seed, segment, view),
                generator=job_generator(job.seed, "segments"),
                output_type="np",
                **more,
            ).frames[0]
        return np.asarray(out, np.float32)

    def _lengths(self, frames: int) -> tuple[int, int]:
        """How many frames are asked for, and how many at once: whole segments, which the pipeline expects."""
        most = self.segment
        if frames <= most:
            least = self.overlap + _TEMPORAL  # one latent frame beyond what a segment takes over
            segment = max(math.ceil((frames - 1) / _TEMPORAL) * _TEMPORAL + 1, least)
            return segment, min(segment, most)
        step = most - self.overlap
        return self.overlap + math.ceil((frames - self.overlap) / step) * step, most

    def _noise(self, pipeline: Any, seed: int, segment: int, view: View) -> torch.Tensor:
        """Of the first segment; the reference takes the first latent frame."""
        scale = pipeline.vae_scale_factor_spatial
        shape = (
            pipeline.vae.config.z_dim,
            (segment - 1) // pipeline.vae_scale_factor_temporal + 2,
            view.height // scale,
            view.width // scale,
        )
        return latent_noise(seed, shape)[None]

    def _face(self, reference: Reference, size: int) -> np.ndarray:
        crop = None
        if self.face == "reference" and reference.body is not None:
            crop = head_crop(reference.image, reference.body, posed_body(self.body))
        if crop is None:
            return np.zeros((size, size, 3), np.uint8)
        return np.asarray(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def _emptied(reference: Reference, body: str) -> np.ndarray:
    """The reference's picture with its person removed."""
    who, model = reference.body, posed_body(body)
    assert who is not None
    joints = model.joints(who.betas[:1], who.body_pose[:1], who.global_orient[:1], who.transl[:1])
    at = project(joints, who.intrinsics[:1].float())[0].double().numpy()
    seen = np.abs(np.nan_to_num(at, nan=np.inf)).max(1) < 16 * max(reference.image.shape)
    mask = person_mask(np.nan_to_num(at), seen.astype(np.float64), reference.image.shape[:2])
    return inpaint_person(reference.image, mask) if mask.any() else reference.image
