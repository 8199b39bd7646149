"""A workspace's definition, read and checked, and carried to W&B's own classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from human.errors import PosesynError

#: Where the definition that comes with posesyn lies.
PACKAGED = Path(__file__).with_name("workspace.yaml")
_X = {"step": "trainer/global_step", "epoch": "epoch", "refresh": "refresh/number"}
_KINDS = {"lines": list, "match": str, "bars": list, "pictures": list, "text": str}
_OPTIONS = {"title", "x", "stacked", "when"}


def read_definition(path: Path) -> dict[str, Any]:
    """``name`` and ``sections`` of a definition; :class:`PosesynError` says which panel is wrong."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise PosesynError(f"{path} is not a workspace definition: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("sections"), list):
        raise PosesynError(f"{path} is not a workspace definition: it needs `name` and a list of `sections`")
    for section in found["sections"]:
        if not isinstance(section, dict) or "name" not in section or not isinstance(section.get("panels"), list):
            raise PosesynError(f"{path}: a section needs `name` and a list of `panels`, got {section!r}")
        for panel in section["panels"]:
            _check(panel, f"{path}, section {section['name']!r}")
    return found


def _check(panel: Any, where: str) -> None:
    kinds = [k for k in _KINDS if isinstance(panel, dict) and k in panel]
    if len(kinds) != 1 or not isinstance(panel[kinds[0]], _KINDS[kinds[0]]):
        raise PosesynError(f"{where}: a panel has one of {', '.join(_KINDS)}, got {panel!r}")
    if unknown := set(panel) - _OPTIONS - set(_KINDS):
        raise PosesynError(f"{where}: panel {panel.get('title')!r} has the unknown {', '.join(sorted(unknown))}")
    if panel.get("x", "step") not in _X:
        raise PosesynError(f"{where}: panel {panel.get('title')!r} has x={panel['x']!r}; choose of {', '.join(_X)}")
    try:
        re.compile(panel.get("match", ""))
        if re.search(r"\(\?<?[=!]", panel.get("match", "")):
            raise re.error("W&B's has no look-ahead and look-behind")
    except re.error as error:
        raise PosesynError(f"{where}: {panel['match']!r} is not a regular expression ({error})") from error


def panels(definition: dict[str, Any]) -> list[dict[str, Any]]:
    """All panels, one after the other."""
    return [panel for section in definition["sections"] for panel in section["panels"]]


def workspace(definition: dict[str, Any], entity: str, project: str, engines: list[str]) -> Any:
    """The definition as a ``wandb_workspaces`` workspace; nothing is sent."""
    try:
        from wandb_workspaces import workspaces as ws
    except ImportError as error:
        raise PosesynError(
            "posesyn dashboard needs the package wandb-workspaces: pip install 'posesyn[dashboard]'"
        ) from error
    sections = []
    for number, section in enumerate(definition["sections"]):
        wide = any("pictures" in panel for panel in section["panels"])  # grids are read at half of the width at least
        layout = ws.SectionLayoutSettings(columns=2 if wide else 3, rows=2)
        made = [_panel(p, engines) for p in section["panels"]]
        sections.append(ws.Section(name=section["name"], panels=made, is_open=number < 3, layout_settings=layout))
    return ws.Workspace(entity=entity, project=project, name=str(definition.get("name", "posesyn")), sections=sections)


def _panel(panel: dict[str, Any], engines: list[str]) -> Any:
    from wandb_workspaces.reports import v2 as wr

    title = panel.get("title")
    if "text" in panel:
        return wr.MarkdownPanel(markdown=panel["text"])
    if "bars" in panel:
        return wr.BarPlot(title=title, metrics=panel["bars"])
    if "pictures" in panel:
        keys = [
            key.replace("{engine}", e) for key in panel["pictures"] for e in (engines if "{engine}" in key else [""])
        ]
        return wr.MediaBrowser(title=title, media_keys=keys, num_columns=1)
    options: dict[str, Any] = {"plot_type": "stacked-area"} if panel.get("stacked") else {}
    options |= {"metric_regex": f"^{panel['match']}$"} if "match" in panel else {"y": panel["lines"]}
    return wr.LinePlot(title=title, x=_X[panel.get("x", "step")], **options)
