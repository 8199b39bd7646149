"""What a report is made of: the files of a run folder, checked, with nothing executed and nothing assumed complete."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from cli.report.words import findings
from human.errors import PosesynError

_RECORD_FORMAT = 1


def gather(folder: Path, pictures: int = 24) -> dict[str, Any]:
    """One run as JSON-ready values.

    Args:
        folder: a run folder, or the parent of some (then the one whose table is newest).
        pictures: refreshes whose pictures are taken along: the first, the last, and others evenly between them.

    Raises:
        PosesynError: there is no run, or its table is damaged. A damaged record of one refresh is left out and named.
    """
    folder = run_folder(folder)
    rows = _json(folder / "epochs.json")
    if not isinstance(rows, list) or not all(isinstance(r, dict) and "epoch" in r for r in rows):
        raise PosesynError(f"{folder / 'epochs.json'} is not a table of epochs: restore it, or train again")
    refreshes, damaged = [], []
    for path in sorted((folder / "record").glob("refresh_*.json")):
        try:
            entry = _json(path)
            if entry["format"] != _RECORD_FORMAT:
                raise PosesynError(f"{path} has format {entry['format']}, this posesyn reads {_RECORD_FORMAT}")
            refreshes.append(entry)
        except (PosesynError, KeyError, TypeError) as error:
            damaged.append(f"{path.name}: {error}")
    for number in evenly(len(refreshes), pictures):
        sheet = folder / "record" / f"refresh_{refreshes[number]['refresh']:03d}.jpg"
        if sheet.is_file():
            coded = base64.b64encode(sheet.read_bytes()).decode()
            refreshes[number]["sheet"] = f"data:image/jpeg;base64,{coded}"
    quality, why = _quality(folder / "quality.json")
    damaged += [why] if why else []
    config = folder / "config.yaml"
    run = {
        "name": f"{folder.parent.name}/{folder.name}",
        "folder": str(folder),
        "rows": rows,
        "refreshes": refreshes,
        "quality": quality,
        "damaged": damaged,
        "config": config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
    }
    return {**run, "findings": findings(run)}


def _quality(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Figures of each engine and generation (callbacks.Quality, ``posesyn quality``), and what is wrong with them."""
    if not path.is_file():
        return [], ""
    try:
        found = _json(path)
        rows = found["rows"] if isinstance(found, dict) else found
        # Those of all generations together, which the command gives too, are no point of a curve.
        return [{**row, "engine": str(row["engine"])} for row in rows if row["generation"] is not None], ""
    except (PosesynError, KeyError, TypeError) as error:
        return [], f"{path.name}: {error}"


def run_folder(folder: Path) -> Path:
    """``folder``, or the newest run below it."""
    if not folder.is_dir():
        raise PosesynError(f"report: there is no folder {folder}: give a run folder, such as runs/quickstart/version_0")
    if (folder / "epochs.json").is_file():
        return folder.resolve()
    below = sorted(folder.glob("**/epochs.json"), key=lambda p: p.stat().st_mtime)
    if not below:
        raise PosesynError(
            f"report: {folder} holds no epochs.json: callbacks.EpochTable writes it after the first epoch; list it in "
            "the run's config"
        )
    return below[-1].parent.resolve()


def evenly(count: int, wanted: int) -> list[int]:
    """``wanted`` of ``range(count)``, with both ends."""
    if wanted >= count:
        return list(range(count))
    if wanted < 2:
        return [count - 1][:wanted]
    return sorted({round(i * (count - 1) / (wanted - 1)) for i in range(wanted)})


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PosesynError(f"{path} cannot be read ({error}): restore it, or delete it") from error
