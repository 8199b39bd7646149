"""The contract of an image engine that is cheap enough to run at every training step.

Rendering has two halves. ``stage`` decides everything (clothes, light, camera noise, ...) with numpy's counter-based
generators, on the CPU, from the scene's seed; ``draw`` makes the pictures from those decisions and nothing else, on
whatever device they lie. So a loader's worker may do both, or stage only and leave drawing to the training device.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from human.batch import PoseBatch
from human.record import Record
from human.registry import Registry
from synth.scene import SceneSpec


class Engine(ABC):
    """Turns scenes into labelled pictures; a pure function of the scenes and of :meth:`config`."""

    name: ClassVar[str]
    size: int  # side of the pictures, pixels

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything that decides what is drawn, as JSON-ready values."""

    @abstractmethod
    def stage(self, spec: SceneSpec) -> Record:
        """Every decision about every scene, as CPU tensors with a row per scene.

        Raises :class:`human.errors.PosesynError` naming the scene that cannot be drawn.
        """

    @abstractmethod
    def draw(self, shot: Record) -> PoseBatch:
        """One fully labelled picture per row of what :meth:`stage` returned, on the device the tensors lie on.

        The same shot gives the same pixels within 1/255 on any device, and the same bytes on the CPU in any batch.
        Labels are exact. Of ``key`` only the seed is filled: the caller knows source, generation and index.
        """

    def render(self, spec: SceneSpec) -> PoseBatch:
        """Stage and draw."""
        return self.draw(self.stage(spec))

    def config_hash(self) -> str:
        """sha256 (hex) of name and configuration: equal hashes and equal scenes mean equal bytes."""
        text = json.dumps({"engine": self.name, **self.config()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


ENGINES: Registry[type[Engine]] = Registry("engine")
