"""Tables of evaluations: on the terminal, and as JSON, CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from metrics.evaluation import Evaluation, Figure
from metrics.protocols.base import Protocol

_TITLES = {"mpjpe": "MPJPE", "pa_mpjpe": "PA-MPJPE", "pve": "PVE", "pa_pve": "PA-PVE", "pck": "PCK", "pck3d": "3DPCK",
           "auc3d": "AUC", "n_mpjpe": "N-MPJPE", "mpjae": "MPJAE", "pa_mpjae": "PA-MPJAE", "accel": "Accel",
           "ap": "AP", "w_mpjpe": "W-MPJPE", "wa_mpjpe": "WA-MPJPE", "rte": "RTE",
           "jitter": "Jitter", "foot_sliding": "FS", "pve_t_sc": "PVE-T-SC", "fg_accuracy": "FG acc", "fg_f1": "FG F1",
           "parts_accuracy": "Parts acc", "parts_f1": "Parts F1", "iou": "mIOU", "ap_50": "AP50",
           "ap_75": "AP75", "ap_m": "AP M", "ap_l": "AP L", "ar": "AR"}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One figure of a table."""

    dataset: str
    protocol: Protocol
    figure: Figure

    @property
    def title(self) -> str:
        name, _, number = self.figure.metric.partition("@")
        return _TITLES.get(name, name) + (f"@{number}" if number else "")

    def record(self) -> dict[str, Any]:
        """Plain values, NaN as None."""
        facts = {k: _plain(v) for k, v in asdict(self.figure).items()}
        published = [asdict(p) for p in self.protocol.published if p.metric == self.figure.metric]
        return {
            "dataset": self.dataset,
            "split": self.protocol.split,
            "protocol": self.protocol.name,
            "hash": self.protocol.hash,
            **facts,
            "published": published,
        }

    def published(self) -> str:
        return "; ".join(f"{p.method} {p.value:g}" for p in self.protocol.published if p.metric == self.figure.metric)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def lines_of(dataset: str, evaluation: Evaluation) -> list[Line]:
    return [Line(dataset, evaluation.protocol, figure) for figure in evaluation.figures()]


def terminal_table(lines: Sequence[Line], title: str) -> Table:
    """For ``rich``: a row per figure, a section per data set."""
    table = Table(title=title, header_style="bold")
    table.add_column("protocol", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for name in ("value", "95 %", "persons", "missing"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = ""
    for line in lines:
        f = line.figure
        if line.dataset != shown:
            table.add_section()
            table.add_row(f"[bold]{line.dataset}[/bold]")
            shown = line.dataset
        half = "" if math.isnan(f.low) else f"±{number((f.high - f.low) / 2)}"
        metric = f"{line.title} {f.unit}".strip()
        table.add_row(
            f" {line.protocol.name}", metric, number(f.value), half, str(f.count), str(f.missing or "")
        )  # fmt: skip
    return table


def published_lines(lines: Sequence[Line]) -> list[str]:
    """What papers give under the same protocols: a line for each protocol and metric that has any."""
    told = {(n.protocol.name, n.title): n.published() for n in lines}
    return [f"published, {protocol}, {title}: {text}" for (protocol, title), text in told.items() if text]


_HEADERS = ("data", "protocol", "hash", "metric", "unit", "value", "low", "high", "persons", "missing", "published")


def _cells(line: Line) -> list[str]:
    f = line.figure
    return [line.dataset, line.protocol.name, line.protocol.hash, line.title, f.unit, number(f.value), number(f.low),
            number(f.high), str(f.count), str(f.missing), line.published()]  # fmt: skip


def write_tables(
    folder: Path,
    lines: Sequence[Line],
    facts: Mapping[str, Any],
    notes: Sequence[str],
    breakdowns: Mapping[str, Any] | None = None,
) -> list[Path]:
    """``benchmark.json``, ``.csv``, ``.md`` and ``.tex``; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    protocols = {line.protocol.name: line.protocol for line in lines}
    content = {
        "facts": dict(facts),
        "figures": [line.record() for line in lines],
        "breakdowns": dict(breakdowns or {}),
        "notes": notes,
        "protocols": {n: p.describe().splitlines() for n, p in protocols.items()},
    }
    rows = [_cells(line) for line in lines]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([_HEADERS, *rows])
    texts = {
        "json": json.dumps(content, indent=1),
        "csv": stream.getvalue(),
        "md": markdown(rows, protocols.values(), list(notes)),
        "tex": latex(rows),
    }
    paths = []
    for ending, text in texts.items():
        path = folder / f"benchmark.{ending}"
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
        paths.append(path)
    return paths


def markdown(rows: Sequence[Sequence[str]], protocols: Iterable[Protocol], notes: Sequence[str]) -> str:
    head = f"| {' | '.join(_HEADERS)} |\n|{'---|' * len(_HEADERS)}\n"
    body = "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)
    lines = [f"* {note}\n" for note in notes]
    definitions = "".join(f"{p.describe()}\n\n" for p in protocols)
    return head + body + ("\n" + "".join(lines) if lines else "") + f"\n```\n{definitions.rstrip()}\n```\n"


_LATEX = {
    "%": r"\%",
    "_": r"\_",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "^": r"\^{}",
    "~": r"\~{}",
    "{": r"\{",
    "}": r"\}",
}


def latex(rows: Sequence[Sequence[str]]) -> str:
    """A ``tabular`` with ``booktabs``: data, protocol, metric, value and half the interval."""
    out = [r"\begin{tabular}{lllr}", r"\toprule", r"data & protocol & metric & value \\", r"\midrule"]
    for data, protocol, _, metric, unit, value, low, high, *_ in rows:
        spread = "" if "-" in (low, high) else rf" $\pm$ {(float(high) - float(low)) / 2:.2f}"
        cells = [data, protocol, f"{metric} ({unit})" if unit else metric]
        escaped = ["".join(_LATEX.get(c, c) for c in cell) for cell in cells]
        out.append(" & ".join([*escaped, value + spread]) + r" \\")
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}", ""])
