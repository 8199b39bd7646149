"""The engine that needs no weights: a dressed, lit body model drawn over a photograph.

Render-and-composite after Chen et al., "Synthesizing Training Images for Boosting Human 3D Pose Estimation"
(3DV 2016), §3.3, fast enough to make every picture of every training step anew.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import cache
from typing import Any, ClassVar

import cv2
import numpy as np
import torch

from human.batch import NUM_JOINTS, PELVIS, PoseBatch
from human.body import load_body
from human.camera import MIN_DEPTH, project
from human.errors import PosesynError
from human.raster import rasterise, vertex_normals
from human.rng import derive_seed, generator
from synth.appearance import Appearance, AppearanceConfig, draw_appearance, paint, swell
from synth.backgrounds import BackgroundBank, load_background_bank
from synth.colours import linear_to_srgb, srgb_to_linear
from synth.engines.base import ENGINES, Engine
from synth.light import LightConfig, cast_shadow, draw_light, occlusion_map
from synth.scene import SceneSpec, in_fixed_batches
from synth.sensor import SensorConfig, degrade, occlude, soften_background
from synth.surface import BodySurface

#: Raise when the same configuration would draw other pixels than before.
_VERSION = 1
_TEXTURE = 64
_AT_ONCE = 8
_LINEAR = srgb_to_linear(np.arange(256)).astype(np.float32)
# Display curve by linear light / _TONE_TOP: straight at first, then a soft shoulder, as cameras have.
_TONE_STEPS, _TONE_TOP = 4096, 3.0
_LIGHT = np.linspace(0, _TONE_TOP, _TONE_STEPS)
_TONE = linear_to_srgb(np.where(_LIGHT < 0.6, _LIGHT, 0.6 + 0.4 * np.tanh((_LIGHT - 0.6) / 0.4))).astype(np.float32)


@ENGINES.register("rendered")
class RenderedEngine(Engine):
    """Draws scenes with the software rasteriser.

    Args:
        body: name of the body model; only its surface and joints are used.
        size: side of the pictures, pixels.
        supersample: 1 to 4; outlines are drawn this many times larger and averaged down.
        appearance, light, sensor: what varies with the seed, and how much.
        backgrounds: where backgrounds and printed fabrics come from when a scene brings none: a bank, or its name.
            "free" fetches its photographs on first use; "procedural" needs no file.
    """

    name: ClassVar[str] = "rendered"

    def __init__(
        self,
        body: str = "free",
        size: int = 128,
        supersample: int = 2,
        appearance: AppearanceConfig | None = None,
        light: LightConfig | None = None,
        sensor: SensorConfig | None = None,
        backgrounds: str | BackgroundBank = "free",
    ) -> None:
        if not 1 <= supersample <= 4:
            raise PosesynError(f"supersample is {supersample}: give 1, 2, 3 or 4")
        self.body_name, self.size, self.supersample = body, size, supersample
        self.appearance = appearance or AppearanceConfig()
        self.light = light or LightConfig()
        self.sensor = sensor or SensorConfig()
        self.backgrounds = load_background_bank(backgrounds) if isinstance(backgrounds, str) else backgrounds
        self.body = load_body(body)
        self.surface = BodySurface(self.body)

    def config(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "body": self.body_name,
            "backgrounds": self.backgrounds.digest,
            "size": self.size,
            "supersample": self.supersample,
            "appearance": asdict(self.appearance),
            "light": asdict(self.light),
            "sensor": asdict(self.sensor),
        }

    def stage(self, spec: SceneSpec) -> SceneSpec:
        """Parameters that are not finite raise :class:`PosesynError`."""
        self._check(spec)
        return spec

    @torch.no_grad()
    def draw(self, spec: SceneSpec) -> PoseBatch:  # type: ignore[override]
        count, size = len(spec), self.size
        # A few at a time: buffers of a large batch would leave the processor's caches.
        parts = [self._draw(spec[i : i + _AT_ONCE]) for i in range(0, count, _AT_ONCE)]
        images, joints = (torch.cat(column) for column in zip(*parts, strict=True))
        joints2d = project(joints, spec.intrinsics)
        inside = ((joints2d > -0.5) & (joints2d < size - 0.5)).all(-1) & (joints[..., 2] > MIN_DEPTH)
        yes = torch.ones(count, dtype=torch.bool)
        key = torch.zeros(count, 4, dtype=torch.int64)
        key[:, 3] = spec.seed
        return PoseBatch(
            image=images,
            joints2d=joints2d,
            joints2d_conf=inside.float(),
            joints3d=joints - joints[:, PELVIS : PELVIS + 1],
            joints3d_conf=torch.ones(count, NUM_JOINTS),
            global_orient=spec.global_orient.float(),
            body_pose=spec.body_pose.float(),
            betas=spec.betas.float(),
            transl=spec.transl.float(),
            intrinsics=spec.intrinsics.float(),
            has_pose=yes,
            has_betas=yes.clone(),
            has_transl=yes.clone(),
            weight=torch.ones(count),
            key=key,
        )

    def _draw(self, spec: SceneSpec) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (B,3,H,W) uint8 and joints (B,32,3) in the camera frame."""
        count, size, k = len(spec), self.size, self.supersample
        posed = (spec.betas, spec.body_pose, spec.global_orient, spec.transl)
        vertices, joints = in_fixed_batches(self._pose, *posed)
        looks = [draw_appearance(generator("looks", int(s)), self.appearance, self.surface) for s in spec.seed]
        normals = vertex_normals(vertices, self.surface.faces)
        thickness = torch.from_numpy(np.stack([swell(self.surface, look) for look in looks]))
        dressed = torch.addcmul(vertices, thickness[..., None], normals)
        # One larger pixel covers k x k small ones, whose centres lie about its own.
        cameras = spec.intrinsics.clone()
        cameras[:, :2] *= k
        cameras[:, :2, 2] += (k - 1) / 2
        fragments = rasterise(dressed, self.surface.faces, cameras, (k * size, k * size), cull_backfaces=True)
        images = np.empty((count, 3, size, size), np.uint8)
        for i in range(count):
            rng = generator("picture", int(spec.seed[i]))
            given = None if spec.background is None else spec.background[i].numpy()
            background = self._background(given, int(spec.seed[i]), rng)
            person = (fragments.face[i].numpy(), fragments.bary[i].numpy(), fragments.depth[i].numpy())
            images[i] = self._picture(*person, normals[i].numpy(), looks[i], background, rng).transpose(2, 0, 1)
        return torch.from_numpy(images), joints

    def _pose(self, *parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.body(*parameters)
        return output.vertices, output.joints

    def _check(self, spec: SceneSpec) -> None:
        for field in fields(spec):
            value = getattr(spec, field.name)
            if field.name in ("seed", "background"):
                continue
            bad = ~torch.isfinite(value).flatten(1).all(1)
            if bad.any():
                i = int(bad.nonzero()[0])
                scene = f"scene {i} of {len(spec)} (seed {int(spec.seed[i])})"
                raise PosesynError(f"{scene} has a {field.name} that is not finite: leave it out")

    def _background(self, given: np.ndarray | None, seed: int, rng: np.random.Generator) -> np.ndarray:
        if given is not None:
            if given.shape == (self.size, self.size, 3):
                return given
            return cv2.resize(given, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return soften_background(
            self.backgrounds.draw(derive_seed("background", seed), (self.size, self.size)), rng, self.sensor
        )

    def _picture(
        self,
        face: np.ndarray,
        bary: np.ndarray,
        depth: np.ndarray,
        normals: np.ndarray,
        looks: Appearance,
        background: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """(H,W,3) uint8: shade, composite, occlude, degrade."""
        light = draw_light(rng, self.light, background)
        chosen, coverage = pick_samples(face, self.supersample)
        image = cast_shadow(background.astype(np.float32), coverage, rng, self.light)
        if chosen.shape[1]:
            face_N, bary_N3 = face.ravel()[chosen.ravel()], bary.reshape(-1, 3)[chosen.ravel()]
            points = self.surface.at(face_N, bary_N3)
            normal = self.surface.interpolate(normals, face_N, bary_N3)
            albedo, cloth = paint(self.surface, looks, points, self._texture(looks))
            wave = looks.folds(points)
            radiance = light.shade(albedo, normal[0] + cloth * wave[0], normal[1] + cloth * wave[1], looks.gloss)
            covered = np.flatnonzero(coverage)
            radiance *= np.tile(1 - light.occlusion * self._near(depth, chosen, covered), 2)[:, None]
            display = _TONE[np.minimum(radiance * (_TONE_STEPS / _TONE_TOP), _TONE_STEPS - 1).astype(np.int32)]
            colour = display.reshape(2, -1, 3).mean(0)
            pixels = image.reshape(-1, 3)
            alpha = coverage.ravel()[covered, None]
            pixels[covered] += alpha * (colour - pixels[covered])
        return degrade(occlude(image, coverage, rng, self.sensor), rng, self.sensor)

    def _near(self, depth: np.ndarray, chosen: np.ndarray, covered: np.ndarray) -> np.ndarray:
        small = np.zeros((self.size, self.size), np.float32)
        small.ravel()[covered] = depth.ravel()[chosen[0]]
        return occlusion_map(small, max(1, self.size // 24)).ravel()[covered]

    def _texture(self, looks: Appearance) -> np.ndarray:
        """(T,T,3) float32 linear: the photograph printed on this person's clothes, if any is."""
        if not looks.has_print:
            return np.zeros((1, 1, 3), np.float32)
        return _LINEAR[self.backgrounds.draw(looks.print_seed, (_TEXTURE, _TEXTURE))]


def pick_samples(face_HW: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of the k x k small pixels of each pixel to shade.

    Shading all would cost most of the time and show in outlines only, where coverage does the work. Two per pixel,
    diagonally apart where possible, smooth garment borders and limbs that cross.

    Returns:
        (2,P) flat indices into the small pixels, for the P covered pixels in order, and coverage (H/k, W/k) float32.
    """
    first_of, last_of, share_of = _sample_tables(k)
    hit = face_HW >= 0
    # One bit per small pixel, so that everything about a pixel is one table look-up.
    code = np.zeros((face_HW.shape[0] // k, face_HW.shape[1] // k), np.int32)
    for bit in range(k * k):
        code |= hit[bit // k :: k, bit % k :: k].astype(np.int32) << bit
    covered = np.flatnonzero(code)
    y, x = np.divmod(covered, code.shape[1])
    corner = k * (y * face_HW.shape[1] + x)
    steps = (face_HW.shape[1] * np.arange(k)[:, None] + np.arange(k)).ravel()
    codes = code.ravel()[covered]
    return np.stack([corner + steps[first_of[codes]], corner + steps[last_of[codes]]]), share_of[code]


@cache
def _sample_tables(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest set bit, and share of set bits, of every k*k-bit number."""
    bits = (np.arange(1 << (k * k))[:, None] >> np.arange(k * k)) & 1
    return bits.argmax(1), k * k - 1 - bits[:, ::-1].argmax(1), bits.mean(1, dtype=np.float32)
