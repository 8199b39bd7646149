"""The tests' own folders: helper modules are imported as `tests.…` and shadow no installed package."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parent


def test_every_folder_with_modules_is_a_package() -> None:
    """Without `__init__.py` pytest puts the folder on `sys.path`: `tests/datasets/rich.py` then replaced `rich`."""
    bare = sorted({str(file.parent) for file in TESTS.rglob("*.py") if not (file.parent / "__init__.py").exists()})
    assert not bare, f"add an __init__.py to {bare}"
    assert not [entry for entry in sys.path if Path(entry or ".").resolve().is_relative_to(TESTS)]
