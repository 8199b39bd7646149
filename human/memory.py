"""How the C library treats memory that was freed."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST = 1 << 25  # glibc takes no larger threshold for mapping


@cache
def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for the next ones, where the C library is glibc.

    Otherwise every tensor of a picture's size is new memory from the system, zeroed page by page when it is first
    written: a tenth of the time of drawing. The process stays as large as it was at its largest.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_TRIM_THRESHOLD, 1 << 30)
