"""A synthesiser from a config, by registered name; importing this module registers the built-in ones."""

from __future__ import annotations

import inspect
from typing import Any

import synth.alternatives
import synth.msm.generate  # noqa: F401  # registers, as the line before
from human.errors import PosesynError
from synth.synthesis import SYNTHESISERS, Synthesiser
from synth.variation import VariationConfig

__all__ = ["SYNTHESISERS", "make_synthesiser"]


def make_synthesiser(
    name: str, options: dict[str, Any] | None = None, variation: VariationConfig | None = None
) -> Synthesiser:
    """Synthesiser ``name``.

    Args:
        options: its own arguments.
        variation: settings of "variation", to which every other one falls back.

    Raises:
        PosesynError: no such synthesiser, or one without such an option.
    """
    make, given = SYNTHESISERS.get(name), options or {}
    known = inspect.signature(make).parameters
    if wrong := [key for key in given if key not in known or key == "variation"]:
        names = ", ".join(key for key in known if key != "variation")
        raise PosesynError(f"synthesiser {name!r} has no option {wrong[0]!r}; it has: {names or 'none'}")
    return make(variation=variation, **given)
