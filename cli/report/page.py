"""The page: one file with its data, style and script inside."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any


def page(runs: list[dict[str, Any]]) -> str:
    """HTML of what :func:`cli.report.gather.gather` returned."""
    here = files("cli.report")
    title = html.escape(", ".join(run["name"] for run in runs))
    parts = {
        "TITLE": title,
        "STYLE": (here / "page.css").read_text(encoding="utf-8"),
        "SCRIPT": (here / "charts.js").read_text(encoding="utf-8") + (here / "page.js").read_text(encoding="utf-8"),
        "DATA": _inside_script(json.dumps(_without_nan(runs), allow_nan=False)),
    }
    text = (here / "page.html").read_text(encoding="utf-8")
    # One pass, so that nothing inside the data is taken for a placeholder.
    pieces = text.split("@@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def _inside_script(text: str) -> str:
    """JSON that cannot end the script element that holds it, whatever the run's names are."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null instead."""
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))) else value
