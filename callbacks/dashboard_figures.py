"""Names and numbers of a dashboard, from what the refresh, the epoch table and the record know (docs/dashboards.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_STAGES, _PARTS = "stages", ("checks", "synthesis")


def refresh_figures(entry: Mapping[str, Any]) -> dict[str, float]:
    """An entry of the refresh's history: ``refresh/KEY``; its stages are ``stages/NAME``, what its parts say
    ``checks/NAME`` and ``synthesis/NAME``.
    """
    out: dict[str, Any] = {"refresh/number": entry["refresh"], "refresh/failed": float("failed" in entry)}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            section = key if key in (_STAGES, *_PARTS) else f"refresh/{key}"
            out.update({f"{section}/{slug(name)}": v for name, v in value.items()})
        elif key not in ("refresh", "failed"):
            out[f"refresh/{key}"] = value
    if entry.get("made"):
        out["refresh/pass_rate"] = entry["passed"] / entry["made"]
    before, after = entry.get("challenge_error"), entry.get("challenge_error_after")
    if before and after is not None:
        out["refresh/challenge_error_change"] = after / before - 1
    return numbers(out)


def record_figures(entry: Mapping[str, Any]) -> dict[str, float]:
    """What :class:`callbacks.Record` kept of a refresh: ``errors/…`` of everyone, ``joints/NAME`` of the challenges,
    ``groups/NAME/…`` of each kind of pose.
    """
    out: dict[str, Any] = {"refresh/number": entry["refresh"]}
    for name, value in zip(("lower_quartile", "median", "upper_quartile"), entry["quartiles"] or (), strict=False):
        out[f"errors/{name}"] = value
    out.update({f"joints/{name}": error for name, error in entry["joints"].items()})
    for row in entry["groups"]:
        name = f"groups/{slug(row['group'])}"
        out[f"{name}/error"] = row["error"]
        if row["share"] and row["share_of_challenges"] is not None:
            out[f"{name}/times_as_frequent"] = row["share_of_challenges"] / row["share"]
    return numbers(out)


class Overlap:
    """How much the mined sets of refreshes have in common; remembers the first, the last, and everyone ever mined."""

    def __init__(self) -> None:
        self.first: list[int] = []
        self.last: list[int] = []
        self.ever: list[int] = []

    def add(self, mined: Sequence[int]) -> dict[str, float]:
        """``mined/…`` of one more refresh."""
        now, ever = set(mined), set(self.ever)
        out: dict[str, float] = {"mined/people": len(now), "mined/ever": len(ever | now)}
        if self.last and now:
            out["mined/overlap_previous"] = len(now & set(self.last)) / min(len(now), len(self.last))
            out["mined/overlap_first"] = len(now & set(self.first)) / min(len(now), len(self.first))
            out["mined/new"] = len(now - ever) / len(now)
        if now:
            self.first, self.last, self.ever = self.first or sorted(now), sorted(now), sorted(ever | now)
        return numbers(out)

    def state(self) -> dict[str, list[int]]:
        return {"first": self.first, "last": self.last, "ever": self.ever}

    def load(self, state: Mapping[str, Sequence[int]]) -> None:
        self.first, self.last, self.ever = (list(state[name]) for name in ("first", "last", "ever"))


def row_figures(row: Mapping[str, Any]) -> dict[str, float]:
    """A row of :class:`callbacks.EpochTable`: ``batches/…`` that were trained on, ``time/…``, and what came of the
    refresh that they draw from. Of the row before the first step: the scores.
    """
    out: dict[str, Any] = {}
    if row["epoch"] == "start":
        for name, scores in row["scores"].items():
            out.update({f"val/{name}/{key}": value for key, value in scores.items()})
        return numbers(out)
    seconds = row["seconds"]
    out["epoch"] = row["epoch"]
    out.update({f"batches/share/{slug(name)}": share for name, share in row["fractions"].items()})
    out.update({"batches/pictures": row["pictures"], "batches/unreadable": row["skipped"]})
    out["batches/pool_age"] = row["pool_age"]
    out.update({f"time/{name}": value for name, value in seconds.items()})
    train = seconds.get("train")
    if train:
        out["time/wait_share"] = seconds["wait"] / train
        out["time/pictures_per_second"] = row["pictures"] / train
    if "refresh" in row:
        out["time/refresh"] = row["refresh"].get("seconds")
        out.update(refresh_figures(row["refresh"]))
    return numbers(out)


def slug(name: str) -> str:
    """A name without blanks, as it stands in a metric's."""
    return "_".join(str(name).split())


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those that are finite numbers."""
    return {
        key: float(value) for key, value in values.items() if isinstance(value, int | float) and math.isfinite(value)
    }
