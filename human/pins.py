"""Which commit of a hub's repository is read: the manifest's, or the user's own.

``POSESYN_PINS=wan_animate=COMMIT,sd14=COMMIT`` names 40 hexadecimal digits for assets of kind "hub": those of which no
public document tells the commit, so that the manifest can name a branch only, or those of which another one is wanted.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from human.errors import PosesynError

log = logging.getLogger(__name__)
VARIABLE = "POSESYN_PINS"


def is_commit(revision: str) -> bool:
    """Whether it names one state of a repository for good: a branch or a tag moves."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def own_pins(known: Iterable[str]) -> dict[str, str]:
    """The user's commits by asset.

    Raises:
        PosesynError: what the variable says is no commit, or of no asset in ``known``.
    """
    names, found = list(known), {}
    for entry in os.environ.get(VARIABLE, "").replace(",", " ").split():
        name, _, commit = entry.partition("=")
        if name not in names or not is_commit(commit):
            raise PosesynError(
                f"{VARIABLE}: {entry!r} is not NAME=COMMIT with 40 hexadecimal digits and one of {', '.join(names)}"
            )
        found[name] = commit
    return found


@cache
def tell_unpinned(name: str, repo: str, revision: str, folder: Path | None = None) -> None:
    """One warning a process that what is read may change; ``folder``: the snapshot, whose name is its commit."""
    if is_commit(revision):
        return
    here = folder.name if folder is not None and is_commit(folder.name) else ""
    log.warning(
        "asset %r is not pinned: it is what %s calls %r%s; another day that may be other weights. "
        "Keep it with %s=%s=%s",
        name, repo, revision, f", here {here}" if here else "", VARIABLE, name, here or "COMMIT",
    )  # fmt: skip
