"""Files of a download, as the manifest of assets names them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Member:
    """One file inside a wheel, npm package or hub repository; ``size`` in bytes.

    Of a hub's file size (0) and sha256 ("") may be unknown; then its presence is all that is verified. A hub's path may
    hold ``*``: whatever files there are of this form, at least one.
    """

    path: str
    size: int = 0
    sha256: str = ""

    @property
    def pattern(self) -> bool:
        return "*" in self.path


@cache
def sha256_of(file: Path, mtime_ns: int) -> str:
    """Hex digest; ``mtime_ns`` only keys the memory: an unchanged file is hashed once per process."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
