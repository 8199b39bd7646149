"""The report's first paragraph: whether the loop helps, and what the estimator fails on, in sentences with figures."""

from __future__ import annotations

from statistics import median
from typing import Any

#: Scores that speak first, best last is low.
_MAIN = (("pa_mpjpe", "PA-MPJPE", " mm", True), ("mpjpe", "MPJPE", " mm", True), ("pck_torso", "PCK@.2", "", False))
_LIFT = 1.4  # a group is called hard where its share of the challenges is so many times its share of the people
_HARDLY = 0.01  # relative changes below this are no news
_FEWEST = 3  # people of the group


def findings(run: dict[str, Any]) -> list[dict[str, str]]:
    """``kind`` (good, bad or plain) and ``text`` of each sentence, most important first."""
    out = [*_scores(run["rows"]), *_challenges(run["rows"]), *_hard_groups(run["refreshes"]), *_costs(run["rows"])]
    failed = [r["refresh"]["failed"] for r in run["rows"] if r.get("refresh", {}).get("failed")]
    if failed:
        out.append(_say("bad", f"{_count(len(failed), 'refresh')} failed, the last with: {failed[-1]}"))
    if run["damaged"]:
        out.append(
            _say("bad", f"{_count(len(run['damaged']), 'record')} could not be read: {'; '.join(run['damaged'][:3])}")
        )
    return out


def _scores(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    scored = [r for r in rows if r.get("scores")]
    out = []
    for name in scored[-1]["scores"] if scored else []:
        mine = [r for r in scored if name in r["scores"]]
        for key, title, unit, low in _MAIN:
            if key not in mine[-1]["scores"][name] or key not in mine[0]["scores"][name] or len(mine) < 2:
                continue
            before, after = mine[0]["scores"][name][key], mine[-1]["scores"][name][key]
            gain = (before - after if low else after - before) / before if before else 0.0
            kind = "plain" if abs(gain) < _HARDLY else "good" if gain > 0 else "bad"
            change = f" ({100 * (after - before) / before:+.1f} %)" if before else ""
            digits = 1 if unit else 3
            now = f"{after:.{digits}f}{unit} {_when(mine[-1])}{change}"
            out.append(_say(kind, f"{name}: {title} {before:.{digits}f} {_when(mine[0])}, {now}."))
    return out


def _when(row: dict[str, Any]) -> str:
    return "before training" if row["epoch"] == "start" else f"after {_count(row['epoch'] + 1, 'epoch')}"


def _count(number: int, what: str) -> str:
    plural = {"refresh": "refreshes"}.get(what, f"{what}s")
    return f"{number} {what if number == 1 else plural}"


def _challenges(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    seen = {r["refresh"]["refresh"]: r["refresh"] for r in rows if r.get("refresh")}
    pairs = [(r["challenge_error"], r.get("challenge_error_after")) for r in seen.values() if r.get("challenge_error")]
    pairs = [(before, after) for before, after in pairs if after]
    if not pairs:
        return []
    fell = sum(after < before for before, after in pairs)
    change = median(after / before - 1 for before, after in pairs)
    text = (
        f"The mined people are predicted better after training on what was made for them after {fell} of "
        f"{_count(len(pairs), 'refresh')} (median change of their error {100 * change:+.1f} %)."
    )
    return [_say("good" if 2 * fell > len(pairs) else "bad", text)]


def _hard_groups(refreshes: list[dict[str, Any]]) -> list[dict[str, str]]:
    if not refreshes:
        return []
    last = hard_groups(refreshes[-1]["groups"])
    if not last:
        return [_say("plain", "No kind of pose stands out among the challenges of the last refresh.")]
    first = {row["group"]: row for row in refreshes[0]["groups"]}
    words = []
    for row in last[:4]:
        ratio = row["share_of_challenges"] / row["share"]
        then = first.get(row["group"], {}).get("error")
        trend = f", mean error {then:.0f} px at first, {row['error']:.0f} now" if then and len(refreshes) > 1 else ""
        words.append(f"{row['group']} ({ratio:.1f} times as frequent among the challenges{trend})")
    return [_say("plain", "It fails most on people who are: " + "; ".join(words) + ".")]


def hard_groups(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups that are over-represented among the challenges, most first."""
    known = [r for r in table if r["share"] and r["share_of_challenges"] and r["people"] >= _FEWEST]
    ratio = {r["group"]: r["share_of_challenges"] / r["share"] for r in known}
    return sorted((r for r in known if ratio[r["group"]] >= _LIFT), key=lambda r: -ratio[r["group"]])


def _costs(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    epochs = [r for r in rows if "train" in r.get("seconds", {})]
    train = sum(r["seconds"]["train"] for r in epochs)
    if not train:
        return []
    wait = sum(r["seconds"].get("wait", 0.0) for r in epochs) / train
    seen = {r["refresh"]["refresh"]: r["refresh"]["seconds"] for r in epochs if r.get("refresh")}
    pictures = sum(r.get("pictures", 0) for r in epochs)
    rate = f", {pictures / train:.0f} pictures a second" if pictures else ""
    return [
        _say(
            "plain",
            f"Training took {_duration(train)}{rate}; it waited for data {100 * wait:.0f} % of that. "
            f"{_count(len(seen), 'refresh')} took {_duration(sum(seen.values()))}.",
        )
    ]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _say(kind: str, text: str) -> dict[str, str]:
    return {"kind": kind, "text": text}
