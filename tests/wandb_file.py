"""What a W&B run left on disk: the records of its ``.wandb`` file, a log in LevelDB's format."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK, _HEAD = 32768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(folder: Path) -> list[Record]:
    """Of the only run below ``folder``, which was finished: its end may be written a moment later."""
    (path,) = folder.glob("**/*.wandb")
    for _ in range(600):
        content = path.read_bytes()
        assert content[:4] in (b":W&B", b"")
        out = [Record.FromString(raw) for raw in _whole(content)]
        if out and out[-1].WhichOneof("record_type") == "exit":
            return out
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def _whole(content: bytes) -> Iterator[bytes]:
    at, parts = _HEAD, b""
    while at + _HEAD <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _HEAD:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + _HEAD])
        if kind == 0:  # the rest of a block that nothing fits in
            at += left
            continue
        parts += content[at + _HEAD : at + _HEAD + length]
        at += _HEAD + length
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""


def history(folder: Path) -> list[dict[str, Any]]:
    """Rows that were logged, in order."""
    rows = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    return rows


def artifacts(folder: Path) -> list[dict[str, Any]]:
    """``name``, ``type``, ``aliases``, ``metadata`` and ``files`` (path -> where its content is) of those logged."""
    return [
        {
            "name": record.artifact.name,
            "type": record.artifact.type,
            "aliases": list(record.artifact.aliases),
            "metadata": json.loads(record.artifact.metadata or "{}"),
            "files": {c.path: c.local_path or c.ref for c in record.artifact.manifest.contents},
        }
        for record in records(folder)
        if record.WhichOneof("record_type") == "artifact"
    ]
