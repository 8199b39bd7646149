"""Fixtures of the runs with callbacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import write_data


@pytest.fixture(scope="module")
def data(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a tiny labelled set, read through a cache of the module's own."""
    return write_data(tmp_path_factory.mktemp("lspet"))
