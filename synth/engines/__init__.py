"""Image engines; importing this package registers the built-in ones."""

from synth.engines.base import ENGINES, Engine
from synth.engines.rendered import RenderedEngine

__all__ = ["ENGINES", "Engine", "RenderedEngine"]
