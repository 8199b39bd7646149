"""Checks from a config: by registered name, with their options."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from human.errors import PosesynError
from synth.checks.base import CHECKS, Check


def make_check(name: str, options: Mapping[str, Any] | None = None) -> Check:
    """The check ``name``; :class:`PosesynError` names what is wrong with the options."""
    kind = CHECKS.get(name)
    try:
        inspect.signature(kind).bind(**(options or {}))
    except TypeError as error:
        raise PosesynError(f"options of the check {name!r}: {error}; it takes {inspect.signature(kind)}") from None
    return kind(**(options or {}))


def make_checks(checks: Iterable[Mapping[str, Any] | str] | None) -> list[Check]:
    """A chain of checks, in order.

    Args:
        checks: ``{"name": ..., "options": {...}}`` (options may be left out) or the name alone, as a config has them.

    Raises:
        PosesynError: an entry is something else, or no check has that name or takes those options.
    """
    made = []
    for number, entry in enumerate(checks or ()):
        if isinstance(entry, str):
            entry = {"name": entry}
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str) or set(entry) - {"name", "options"}:
            raise PosesynError(f"checks[{number}] must be {{name: ..., options: {{...}}}}, got {entry!r}")
        options = entry.get("options") or {}
        if not isinstance(options, Mapping):
            raise PosesynError(f"checks[{number}] ({entry['name']}): options must be a mapping, got {options!r}")
        made.append(make_check(entry["name"], options))
    return made
