"""Image engines; importing this package registers the built-in ones."""

from synth.engines.animate import AnimateEngine
from synth.engines.animatediff import AnimateDiffEngine
from synth.engines.base import ENGINES, Engine, ImageEngine
from synth.engines.controlnet import ControlNetEngine
from synth.engines.rendered import RenderedEngine

__all__ = [
    "ENGINES",
    "AnimateDiffEngine",
    "AnimateEngine",
    "ControlNetEngine",
    "Engine",
    "ImageEngine",
    "RenderedEngine",
]
