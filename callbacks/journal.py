"""What a training run took in after which epoch, written down before it takes effect.

How soon samples come that other processes make depends on those processes' speed. A run that is killed and resumed
looks here first, and takes in the same generations after the same epochs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from human.errors import PosesynError
from synth.fleet.folder import write_whole


class Journal:
    """Decisions by the number of epochs done. One holds only for a run that came to it with the same things pending."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def noted(self, epoch: int, pending: list[str]) -> dict[str, Any] | None:
        """What was decided after ``epoch`` with these pending."""
        entry = self.read().get(str(epoch))
        return entry if entry is not None and entry["pending"] == pending else None

    def note(self, epoch: int, pending: list[str], **decided: list[str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entries = {**self.read(), str(epoch): {"pending": pending, **decided}}
        write_whole(self.path, json.dumps(entries).encode())

    def read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise PosesynError(f"{self.path} cannot be read ({error}): delete it") from error
