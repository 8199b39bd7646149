"""Everything an engine decided about its scenes, as tensors: what is left is to draw."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from human.record import Record
from synth.lighting import Lighting
from synth.occluders import Occluder
from synth.outfit import Outfit
from synth.paint import Paint
from synth.sensor import Sensor


@dataclass(frozen=True)
class Person(Record):
    """B posed and dressed people: ``betas`` (B,10), ``body_pose`` (B,23,3), ``global_orient`` (B,3) rotation vectors,
    ``transl`` (B,3) metres in the camera frame.
    """

    betas: Tensor
    body_pose: Tensor
    global_orient: Tensor
    transl: Tensor
    outfit: Outfit
    paint: Paint


@dataclass(frozen=True)
class Shot(Record):
    """B pictures to draw.

    * ``person`` is who the labels are about; ``other`` a bystander, whose ``place`` (B,) int8 is 0 for nobody, 1 behind
      the person, 2 in front
    * ``intrinsics`` (B,3,3) pixels; ``background`` (B,H,W,3) uint8; ``atlas`` (B,T,T,4) uint8 for a person who wears
      the appearance of a real one, or None
    * ``seed`` (B,) int64 of the scene
    """

    person: Person
    other: Person
    place: Tensor
    intrinsics: Tensor
    lighting: Lighting
    background: Tensor
    occluder: Occluder
    sensor: Sensor
    seed: Tensor
    atlas: Tensor | None = None
