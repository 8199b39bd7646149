"""How the process deals with freed memory."""

from __future__ import annotations

import ctypes
from functools import cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # <malloc.h>


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep large freed blocks for reuse; False where there is no glibc.

    By default each activation of a training step on the CPU, and each tensor of a picture's size, is mapped anew and
    its pages are zeroed by the kernel: a quarter of a step's time, a tenth of drawing's. The process stays as large as
    it was at its largest.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_TOP_PAD, 1 << 26))
