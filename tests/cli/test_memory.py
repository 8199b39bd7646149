"""Freed memory stays with the process: no page of a large block is mapped twice."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys, numpy as np
from cli.memory import keep_freed_memory
assert sys.argv[1] == "0" or keep_freed_memory()
np.ones(1 << 22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(1 << 23)  # 64 MB, beyond what glibc keeps by itself
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has these settings")
def test_large_blocks_are_reused() -> None:
    def faults(keep: str) -> int:
        done = subprocess.run([sys.executable, "-c", _FAULTS, keep], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("1") < 0.5 * faults("0")
