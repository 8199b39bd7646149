"""An engine from a config: by registered name, with its backgrounds by name."""

from __future__ import annotations

from typing import Any

from human.errors import PosesynError
from synth.backgrounds import load_background_bank
from synth.engines.base import ENGINES, Engine, ImageEngine


def make_engine(name: str, size: int, backgrounds: str = "free", options: dict[str, Any] | None = None) -> Engine:
    """Engine ``name``, which renders scenes, for pictures of ``size`` px.

    Args:
        backgrounds: a background bank by name: "free" (photographs, fetched on first use) or "procedural" (needs no
            files).
        options: further arguments of the engine.
    """
    engine = make_image_engine(name, size, backgrounds, options)
    if not isinstance(engine, Engine):
        raise PosesynError(
            f"the engine {name!r} is too slow to make every training picture anew: name it in the refresh callback, "
            "whose samples a datamodules.sources.PoolSource feeds to the training, or use 'rendered' here"
        )
    return engine


def make_image_engine(
    name: str, size: int, backgrounds: str = "free", options: dict[str, Any] | None = None
) -> ImageEngine:
    """Engine ``name`` of any kind, for the pool; ``backgrounds`` is for those that render."""
    kind = ENGINES.get(name)
    bank = {"backgrounds": load_background_bank(backgrounds)} if issubclass(kind, Engine) else {}
    return kind(size=size, **bank, **(options or {}))  # type: ignore[call-arg]
