"""Several data sets under their protocols: one table on the terminal, and the same as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from metrics.evaluation import Evaluation, evaluate
from metrics.protocols import Protocol
from metrics.tables import Line, lines_of, number, published_lines, terminal_table, write_tables
from metrics.truth import Predictions, Truth


@dataclass(frozen=True)
class Measured:
    """A data set, what is predicted of it, and the protocols that say how they are compared."""

    truth: Truth
    protocols: list[Protocol]
    predictions: Predictions


def measure(
    sets: Mapping[str, Measured], folder: Path, facts: Mapping[str, Any], console: Console, explain: bool = False
) -> list[Line]:
    """Evaluate each set (by the name its table has), print the table, write ``folder``/benchmark.{json,csv,md,tex}."""
    lines: list[Line] = []
    notes: list[str] = []
    evaluations: dict[str, list[Evaluation]] = {}
    with Progress(console=console, transient=True) as progress:
        for name, given in sets.items():
            truth, predictions = given.truth, given.predictions
            if not given.protocols:
                notes.append(f"{name}: no protocol is known for this split; `posesyn bench --list` shows all")
            for protocol in given.protocols:
                task = progress.add_task(f"{name}: {protocol.name}", total=len(truth))
                made = evaluate(protocol, predictions, truth, partial(progress.advance, task))
                evaluations.setdefault(name, []).append(made)
                lines += lines_of(name, made)
                notes += [f"{name}, {protocol.name}: {note}" for note in made.notes]
                progress.remove_task(task)
    console.print(terminal_table(lines, "benchmark"))
    for line in published_lines(lines):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    for note in notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
    if explain:
        _explain(evaluations, console)
    breakdowns = {n: {m.protocol.name: m.breakdown() for m in members} for n, members in evaluations.items()}
    paths = write_tables(folder, lines, facts, notes, breakdowns)
    console.print(f"written: {', '.join(map(str, paths))}", soft_wrap=True, highlight=False)
    return lines


def _explain(evaluations: Mapping[str, list[Evaluation]], console: Console) -> None:
    """Each protocol's definition, and how far a figure lies from that of the set's first protocol."""
    for name, members in evaluations.items():
        console.print(f"\n[bold]{name}[/bold]", highlight=False)
        first: dict[str, tuple[float, str]] = {}
        for evaluation in members:
            console.print(evaluation.protocol.describe(), highlight=False, soft_wrap=True, markup=False)
            for figure in evaluation.figures(resamples=0):
                base, where = first.setdefault(figure.metric, (figure.value, evaluation.protocol.name))
                moved = f" ({figure.value - base:+.2f} against {where})" if where != evaluation.protocol.name else ""
                console.print(f"    {figure.metric} {number(figure.value)} {figure.unit}{moved}", highlight=False)
