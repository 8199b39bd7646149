"""``posesyn dashboard``: the workspace of docs/dashboards.md in a W&B project.

    posesyn dashboard --entity my-team --project posesyn
    posesyn dashboard --out workspace.json

The first makes it online and prints its address; it needs `wandb login`. The second writes what would be sent, and
asks nothing of any network. ``--definition FILE`` takes a definition of your own instead of the one that comes along.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.dashboard.build import PACKAGED, panels, read_definition, workspace
from human.errors import PosesynError


def run(argv: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="posesyn dashboard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entity", default="", help="user or team of W&B")
    parser.add_argument("--project", default="posesyn", help="its project [posesyn]")
    parser.add_argument("--definition", type=Path, default=PACKAGED, metavar="FILE", help="a definition of your own")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the workspace here instead of sending it")
    args = parser.parse_args(argv)
    definition = read_definition(args.definition)
    made = workspace(definition, args.entity, args.project, _engines())
    if args.out is not None:
        text = made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=1)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text, encoding="utf-8")
        print(f"{args.out}: {len(definition['sections'])} sections, {len(panels(definition))} panels")
        return
    if not args.entity:
        raise PosesynError("dashboard: name your W&B user or team with --entity, or write a file with --out")
    print(_save(made))


def _engines() -> list[str]:
    from synth.engines import ENGINES

    return list(ENGINES)


def _save(made: Any) -> str:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        made.save()
        return str(made.url)
    except Exception as error:  # of wandb, of requests, of its GraphQL client
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PosesynError(
            f"dashboard: {made.entity}/{made.project} cannot be reached or changed at W&B ({reason}): log in with "
            "`wandb login` where there is a network, or write a file with --out"
        ) from error
