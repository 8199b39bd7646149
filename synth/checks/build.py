"""Checks from a config: by registered name, with their options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from human.registry import make, make_all
from synth.checks.base import CHECKS, Check


def make_check(name: str, options: Mapping[str, Any] | None = None) -> Check:
    """The check ``name``; :class:`PosesynError` names what is wrong with the options."""
    return make(CHECKS, name, options)


def make_checks(checks: Iterable[Mapping[str, Any] | str] | None) -> list[Check]:
    """A chain of checks, in order.

    Args:
        checks: ``{"name": ..., "options": {...}}`` (options may be left out) or the name alone, as a config has them.

    Raises:
        PosesynError: an entry is something else, or no check has that name or takes those options.
    """
    return make_all(CHECKS, checks, "checks")
