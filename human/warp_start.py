"""Warp, started quietly: what it says of a machine without a GPU is left out, what goes wrong is not."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import warp as wp

_NO_DRIVER = b"Could not find or load the NVIDIA CUDA driver"


@cache
def start_warp() -> None:
    """``wp.init`` without a word about versions and kernel loads, and without a warning where there is no CUDA driver.

    For modules of kernels, before they define any.
    """
    wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)
    with _without_line(_NO_DRIVER):
        wp.init()


@contextmanager
def _without_line(part: bytes) -> Iterator[None]:
    """Leaves lines with ``part`` out of standard error, to which Warp's library writes whatever its log level.

    Where there is a CUDA driver nothing is touched: such a line is not written.
    """
    if not sys.platform.startswith("linux") or _has_driver():
        yield
        return
    try:
        real = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as said:
        sys.stderr.flush()
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            said.seek(0)
            for line in said.read().splitlines(keepends=True):
                if part not in line:
                    os.write(2, line)


def _has_driver() -> bool:
    for name in ("libcuda.so", "libcuda.so.1"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
