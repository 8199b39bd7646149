"""``docs/datasets.md`` and ``docs/protocols.md`` from the readers and protocols themselves.

python scripts/dataset_pages.py [--check]
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

from datamodules.readers import READERS
from datamodules.readers.indexed import IndexedReader
from metrics.protocols import PROTOCOLS, protocols_of

DOCS = Path(__file__).resolve().parents[1] / "docs"
_DATASETS = """# Data sets

Made by `scripts/dataset_pages.py` from the readers. A reader takes `root` (the folder that the archives unpack
to) and `split`; its index is built once, kept as Parquet in the cache, and opened as memory maps; it is made again when
a label file changes. `posesyn doctor` says which sets are on this machine (`POSESYN_DATA`: folders that hold them).
"""
_PROTOCOLS = """# Protocols

Made by `scripts/dataset_pages.py` from `metrics/protocols`. The digits in brackets are the hash of the definition: two
figures with one hash were computed in one way.
"""


def datasets() -> str:
    """A section for each reader: what it reads, from where, under which licence."""
    parts = [_DATASETS]
    for name in READERS:
        reader = READERS.get(name)
        text = inspect.cleandoc(inspect.getmodule(reader).__doc__ or "")  # type: ignore[union-attr]
        lines = [f"## {name}\n", text, ""]
        if issubclass(reader, IndexedReader):
            lines += [f"* splits: {', '.join(f'`{s}`' for s in reader.splits)}", f"* get it: {reader.where}"]
        lines += [f"* licence: {reader.licence}", f"* joints: `{reader.skeleton}`"]
        if reader.body:
            lines.append(f"* body: `{reader.body}`")
        members = protocols_of(name)
        if members:
            lines.append(f"* protocols: {', '.join(f'`{p.name}`' for p in members)}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def protocols() -> str:
    """Every protocol as `posesyn bench --list` prints it, with the figures of papers."""
    parts = [_PROTOCOLS]
    for name in PROTOCOLS:
        protocol = PROTOCOLS.get(name)
        parts.append(f"## {name}\n\n```\n{protocol.describe()}\n```\n")
        if protocol.published:
            rows = [f"| {p.method} | {p.metric} | {p.value:g} | {p.source} |" for p in protocol.published]
            parts.append("| method | metric | value | source |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


PAGES = {"datasets.md": datasets, "protocols.md": protocols}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the pages are up to date")
    args = parser.parse_args()
    for file, make in PAGES.items():
        path, text = DOCS / file, make()
        if args.check:
            if not path.is_file() or path.read_text() != text:
                raise SystemExit(f"{path} is out of date: run python scripts/dataset_pages.py")
        else:
            path.write_text(text)


if __name__ == "__main__":
    main()
