"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

_HELD = """
import sys, numpy as np
from human.memory import keep_freed_memory
assert sys.argv[1] == "0" or keep_freed_memory()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = resident()
block = np.ones(1 << 24)  # 128 MB, beyond what glibc keeps by itself
del block
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has these settings")
def test_large_blocks_are_kept_for_reuse() -> None:
    def held(keep: str) -> int:
        command = [sys.executable, "-c", _HELD, keep]
        root = Path(__file__).resolve().parents[2]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout)

    assert held("1") > 100e6
    assert held("0") < 30e6
