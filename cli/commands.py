"""Which kind of run a command line asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml


def names_own_data(args: Sequence[str]) -> bool:
    """Whether the command line, or a config it names, says which class its data is of (``data.class_path``).

    Estimators are trained with ``PoseDataModule``, and their configs hold its arguments right under ``data``. Whoever
    trains something else names both classes.
    """
    configs = []
    for at, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if not equals:
            value = args[at + 1] if at + 1 < len(args) else ""
        if name == "--data.class_path" or (name == "--data" and "{" not in value and not _is_config(value)):
            return True
        if name in ("--config", "-c", "--data"):
            configs.append((name, value))
    return any(_has_class(value, under="" if name == "--data" else "data") for name, value in configs)


def _is_config(value: str) -> bool:
    return value.endswith((".yaml", ".yml", ".json"))


def _has_class(value: str, under: str) -> bool:
    try:
        path = Path(value)
        content = yaml.safe_load(path.read_text(encoding="utf-8") if path.is_file() else value)
    except (OSError, ValueError, yaml.YAMLError):
        return False  # the parser says what is wrong with it
    found = content.get(under) if under and isinstance(content, dict) else content
    return isinstance(found, dict) and "class_path" in found
