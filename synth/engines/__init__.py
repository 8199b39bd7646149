"""Image engines; importing this package registers the built-in ones."""

from synth.engines.base import ENGINES, Engine, ImageEngine
from synth.engines.rendered import RenderedEngine

__all__ = ["ENGINES", "Engine", "ImageEngine", "RenderedEngine"]
