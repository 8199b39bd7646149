"""An engine from a config: by registered name, with its backgrounds by name."""

from __future__ import annotations

from typing import Any

from synth.backgrounds import load_background_bank
from synth.engines.base import ENGINES, Engine


def make_engine(name: str, size: int, backgrounds: str = "free", options: dict[str, Any] | None = None) -> Engine:
    """Engine ``name`` for pictures of ``size`` px.

    Args:
        backgrounds: a background bank by name: "free" (photographs, fetched on first use) or "procedural" (needs no
            files).
        options: further arguments of the engine.
    """
    return ENGINES.get(name)(size=size, backgrounds=load_background_bank(backgrounds), **(options or {}))  # type: ignore[call-arg]
