"""What a test needs from packages: fetched on first use, as a user's run does."""

from __future__ import annotations

import pytest

from human.assets import fetch
from human.errors import PosesynError


def need(asset: str) -> None:
    """The asset is in the cache afterwards; skips the test where it cannot be had (no network, no package index)."""
    try:
        fetch(asset)
    except PosesynError as error:
        pytest.skip(str(error))
