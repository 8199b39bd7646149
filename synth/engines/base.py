"""The contract of an image engine that is cheap enough to run at every training step."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from human.batch import PoseBatch
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
    def render(self, spec: SceneSpec) -> PoseBatch:
        """One fully labelled picture per scene, in order.

        Labels are exact. Of ``key`` only the seed is filled: the caller knows source, generation and index.
        Raises :class:`human.errors.PosesynError` naming the scene that cannot be drawn.
        """

    def config_hash(self) -> str:
        """sha256 (hex) of name and configuration: equal hashes and equal scenes mean equal bytes."""
        text = json.dumps({"engine": self.name, **self.config()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


ENGINES: Registry[type[Engine]] = Registry("engine")
