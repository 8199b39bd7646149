"""The engine that needs no weights: a dressed, lit body model drawn over a photograph.

Render-and-composite after Chen et al., "Synthesizing Training Images for Boosting Human 3D Pose Estimation"
(3DV 2016), §3.2-3.3, fast enough to make every picture of every training step anew.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from human.batch import PoseBatch
from human.body import load_body
from human.camera import project
from human.detail import load_detail
from human.errors import PosesynError
from human.memory import keep_freed_memory
from human.motion import load_motion_bank
from human.rng import derive_seed, generator
from synth.backgrounds import BackgroundBank, load_background_bank
from synth.bystanders import BEHIND, IN_FRONT, BystanderConfig, draw_bystander
from synth.dressed import DressedBody
from synth.engines.base import ENGINES, Engine
from synth.labels import labelled
from synth.lighting import LightingConfig, draw_lighting
from synth.occluders import Occluder, OccluderConfig, apply_occluders, draw_occluders
from synth.outfit import Outfit, OutfitConfig, draw_outfits, empty_outfit
from synth.paint import Banks, Paint, PaintConfig, pyramid
from synth.paint_draws import draw_paint
from synth.scene import SceneSpec
from synth.sensor import Sensor, SensorConfig, apply_sensor, draw_sensor, soften_background
from synth.shading import Shaded, shade_shot
from synth.shot import Person, Shot
from synth.texture_bank import TextureBank, build_texture_bank

#: Raise when the same configuration would draw other pixels than before.
_VERSION = 6
_PRINTS, _PRINT_SIDE = 48, 64
_SETTINGS = {
    "outfit": OutfitConfig,
    "paint": PaintConfig,
    "light": LightingConfig,
    "sensor": SensorConfig,
    "occluder": OccluderConfig,
    "bystander": BystanderConfig,
}
_AT_ONCE = 32  # on the CPU: buffers of a larger batch would leave the caches, smaller ones take more launches


@dataclass(frozen=True)
class Meshes:
    """Dressed people in the camera frame: ``vertices``, ``normals`` (B,V,3), ``cut`` (B,V), ``joints`` (B,32,3)."""

    vertices: Tensor
    normals: Tensor
    cut: Tensor
    joints: Tensor


@ENGINES.register("rendered")
class RenderedEngine(Engine):
    """Draws scenes with the software rasteriser.

    Args:
        body: name of the body model; the wardrobe fits the free one, any other is drawn without loose clothes.
        size: side of the pictures, pixels.
        supersample: 1 to 4; outlines are drawn this many times larger and averaged down.
        outfit, paint, light, sensor, occluder, bystander: what varies with the seed, and how much; a dict of their
            fields will do.
        backgrounds: where backgrounds and printed fabrics come from when a scene brings none: a bank, or its name.
            "free" fetches its photographs on first use; "procedural" needs no file.
        textures: clothing pictures to dress people in (:mod:`synth.texture_bank`): a bank, or the folder of the
            pictures; None for none.
        looks: different people to draw; 0 is a new one for every seed.
        detail: "light" draws the free body's coarse mesh, made for people up to some 400 pixels tall; "full" all of
            its triangles. Labels are the same. Other bodies are always drawn in full.
    """

    name: ClassVar[str] = "rendered"

    def __init__(
        self,
        body: str = "free",
        size: int = 128,
        supersample: int = 2,
        outfit: OutfitConfig | dict[str, Any] | None = None,
        paint: PaintConfig | dict[str, Any] | None = None,
        light: LightingConfig | dict[str, Any] | None = None,
        sensor: SensorConfig | dict[str, Any] | None = None,
        occluder: OccluderConfig | dict[str, Any] | None = None,
        bystander: BystanderConfig | dict[str, Any] | None = None,
        backgrounds: str | BackgroundBank = "free",
        textures: str | TextureBank | None = None,
        looks: int = 0,
        detail: str = "light",
    ) -> None:
        if not 1 <= supersample <= 4:
            raise PosesynError(f"supersample is {supersample}: give 1, 2, 3 or 4")
        if looks < 0:
            raise PosesynError(f"looks is {looks}: give how many different people there are, or 0 for no limit")
        if detail not in ("light", "full"):
            raise PosesynError(f"detail is {detail!r}: give light or full")
        self.detail = detail if body == "free" else "full"
        self.body_name, self.size, self.supersample, self.looks = body, size, supersample, looks
        given = (outfit, paint, light, sensor, occluder, bystander)
        self.settings: dict[str, Any] = {
            name: _settings(name, kind, value) for (name, kind), value in zip(_SETTINGS.items(), given, strict=True)
        }
        self.backgrounds = load_background_bank(backgrounds) if isinstance(backgrounds, str) else backgrounds
        self.body = load_body(body)
        coarse = load_detail() if self.detail == "light" else None
        self.dressed = DressedBody(self.body, None if body == "free" else {}, coarse)
        self.textures = build_texture_bank(textures) if isinstance(textures, str) else textures
        self.banks = self._banks()
        self._elsewhere: dict[torch.device, tuple[DressedBody, Banks]] = {}

    def config(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "body": self.body_name,
            "backgrounds": self.backgrounds.digest,
            "textures": self.textures.digest if self.textures is not None else None,
            "looks": self.looks,
            "detail": self.detail,
            "size": self.size,
            "supersample": self.supersample,
            **{name: asdict(value) for name, value in self.settings.items()},
        }

    # -- stage -------------------------------------------------------------------------------------------------------
    def stage(self, spec: SceneSpec) -> Shot:
        """Parameters that are not finite raise :class:`PosesynError`."""
        self._check(spec)
        seeds = [int(s) for s in spec.seed]
        ups = np.tile(np.array([0.0, -1.0, 0.0]), (len(seeds), 1)) if spec.up is None else spec.up.double().numpy()
        backgrounds = [self._background(spec, i, seed) for i, seed in enumerate(seeds)]
        looks = [derive_seed("look", seed % self.looks) if self.looks else seed for seed in seeds]
        # A real person's appearance is the whole surface: no shells, no procedural face.
        outfit, paint = self._looks(looks, bare=spec.atlas is not None)
        light = self.settings["light"]
        lighting = draw_lighting([generator("light", seed) for seed in seeds], light, backgrounds, ups)
        if spec.light is not None:
            lighting = replace(lighting, sh=spec.light.float(), sun=lighting.sun * torch.tensor([[1.0], [0.0]]))
        person = Person(
            spec.betas.float(),
            spec.body_pose.float(),
            spec.global_orient.float(),
            spec.transl.float(),
            outfit,
            paint,
        )
        other, place = self._bystanders(person, seeds, ups)
        return Shot(
            person=person,
            other=other,
            place=place,
            intrinsics=spec.intrinsics.float(),
            lighting=lighting,
            background=torch.from_numpy(np.stack(backgrounds)),
            occluder=Occluder.stack(
                [
                    draw_occluders(generator("occluder", seed), self.settings["occluder"], self.size, background)
                    for seed, background in zip(seeds, backgrounds, strict=True)
                ]
            ),
            sensor=Sensor.stack(
                [draw_sensor(generator("sensor", seed), self.settings["sensor"], self.size) for seed in seeds]
            ),
            seed=spec.seed,
            atlas=spec.atlas,
        )

    def _looks(self, seeds: list[int], bare: bool = False) -> tuple[Outfit, Paint]:
        """Clothes and colours of a person per seed."""
        config, surface = self.settings["outfit"], self.dressed.surface
        if bare:
            outfit = empty_outfit(len(seeds))
        else:
            outfit = draw_outfits([generator("outfit", seed) for seed in seeds], config, surface)
        paint = draw_paint(
            [generator("paint", seed) for seed in seeds],
            self.settings["paint"],
            outfit.kind.numpy(),
            outfit.params[..., 0].numpy(),
            cloth_PG=outfit.fabric.numpy(),
            prints=len(self.banks.prints),
            textures=len(self.banks.textures) // 2,
        )
        return outfit, paint

    def _bystanders(self, person: Person, seeds: list[int], ups: np.ndarray) -> tuple[Person, Tensor]:
        """Rows where nobody else is repeat the person's, and are drawn nowhere."""
        config, bank = self.settings["bystander"], load_motion_bank()
        drawn = [
            draw_bystander(generator("bystander", seed), config, bank, up, at)
            for seed, up, at in zip(seeds, ups, person.transl.double().numpy(), strict=True)
        ]
        place = torch.tensor([other.place if other else 0 for other in drawn], dtype=torch.int8)
        others = [other for other in drawn if other]
        if not others:
            return person, place
        outfit, paint = self._looks([derive_seed("bystander", s) for s, b in zip(seeds, drawn, strict=True) if b])
        posed = {
            name: torch.from_numpy(np.stack([getattr(other, name) for other in others]))
            for name in ("betas", "body_pose", "global_orient", "transl")
        }
        rows = torch.arange(len(seeds))
        rows[place > 0] = torch.arange(len(seeds), len(seeds) + len(others))
        return Person.cat([person, Person(**posed, outfit=outfit, paint=paint)])[rows], place

    def _background(self, spec: SceneSpec, row: int, seed: int) -> np.ndarray:
        """(H,W,3) uint8."""
        if spec.background is not None:
            given = spec.background[row].numpy()
            if given.shape == (self.size, self.size, 3):
                return given
            return cv2.resize(given, (self.size, self.size), interpolation=cv2.INTER_AREA)
        drawn = self.backgrounds.draw(derive_seed("background", seed), (self.size, self.size))
        return soften_background(drawn, generator("focus", seed), self.settings["sensor"])

    def _check(self, spec: SceneSpec) -> None:
        for field in fields(spec):
            value = getattr(spec, field.name)
            if value is None or not value.is_floating_point():
                continue
            bad = ~torch.isfinite(value).flatten(1).all(1)
            if bad.any():
                i = int(bad.nonzero()[0])
                scene = f"scene {i} of {len(spec)} (seed {int(spec.seed[i])})"
                raise PosesynError(f"{scene} has a {field.name} that is not finite: leave it out")

    def _banks(self) -> Banks:
        """Pictures for cloth."""
        side = (_PRINT_SIDE, _PRINT_SIDE)
        prints = np.stack([self.backgrounds.draw(derive_seed("print", i), side) for i in range(_PRINTS)])
        textures = None if self.textures is None else torch.from_numpy(self.textures.textures)
        return Banks.build(torch.from_numpy(prints), textures)

    # -- draw --------------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def draw(self, shot: Shot) -> PoseBatch:  # type: ignore[override]
        """On the CPU a few at a time; on a GPU all at once."""
        count = len(shot)
        step = max(count, 1)
        if shot.seed.device.type == "cpu":
            keep_freed_memory()
            step = _AT_ONCE
        parts = [self._draw(shot[i : i + step]) for i in range(0, count, step)]
        images, joints = (torch.cat(column) for column in zip(*parts, strict=True))
        return labelled(images, joints, shot.person, shot.intrinsics, shot.seed)

    def meshes(self, person: Person) -> Meshes:
        """The dressed people as they are drawn."""
        dressed, _ = self._on(person.transl.device)
        posed, joints = dressed.pose(person.betas, person.body_pose, person.global_orient, person.transl)
        vertices, cut, normals = dressed.drape(posed, person.outfit)
        return Meshes(vertices, normals, cut, joints)

    def _draw(self, shot: Shot) -> tuple[Tensor, Tensor]:
        """Pictures (B,3,H,W) uint8 and joints (B,32,3) in the camera frame."""
        _, banks = self._on(shot.seed.device)
        if shot.atlas is not None:
            atlas = torch.arange(len(shot), dtype=torch.int32, device=shot.seed.device)
            banks = replace(banks, atlases=pyramid(shot.atlas))
            shot = replace(shot, person=replace(shot.person, paint=replace(shot.person.paint, atlas=atlas)))
        rows = (shot.place == BEHIND).nonzero()[:, 0]
        if len(rows):
            drawn = _to_bytes(self._shade_other(shot[rows], banks))
            shot = replace(shot, background=shot.background.index_copy(0, rows, drawn))
        meshes = self.meshes(shot.person)
        image = self._shade(shot, shot.person, meshes, banks).image
        rows = (shot.place == IN_FRONT).nonzero()[:, 0]
        if len(rows):
            image[rows] = self._shade_other(replace(shot[rows], background=_to_bytes(image[rows])), banks)
        image, _ = apply_occluders(image, shot.occluder, project(meshes.joints, shot.intrinsics), in_place=True)
        return apply_sensor(image, shot.sensor), meshes.joints

    def _shade_other(self, shot: Shot, banks: Banks) -> Tensor:
        """The bystanders over the backgrounds."""
        return self._shade(shot, shot.other, self.meshes(shot.other), banks).image

    def _shade(self, shot: Shot, person: Person, meshes: Meshes, banks: Banks) -> Shaded:
        dressed, _ = self._on(shot.seed.device)
        return shade_shot(
            dressed,
            meshes.vertices,
            meshes.normals,
            meshes.cut,
            shot.intrinsics,
            person.outfit,
            person.paint,
            shot.lighting,
            shot.background,
            banks,
            self.size,
            self.supersample,
            maps=False,
        )

    def _on(self, device: torch.device) -> tuple[DressedBody, Banks]:
        """Mesh and pictures on a device."""
        if device.type == "cpu":
            return self.dressed, self.banks
        if device not in self._elsewhere:
            self._elsewhere[device] = (copy.deepcopy(self.dressed).to(device), self.banks.to(device))
        return self._elsewhere[device]


def _settings(name: str, kind: type, value: Any) -> Any:
    """A config object from what a YAML file gives."""
    if not isinstance(value, dict):
        return kind() if value is None else value
    unknown = sorted(set(value) - {f.name for f in fields(kind)})
    if unknown:
        known = ", ".join(f.name for f in fields(kind))
        raise PosesynError(f"engine option {name!r} has no field {unknown[0]!r}; known: {known}")
    return kind(**{key: _tuples(field) for key, field in value.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _to_bytes(image_BHW3: Tensor) -> Tensor:
    return image_BHW3.add(0.5).clamp(0, 255).to(torch.uint8)
