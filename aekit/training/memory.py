"""Keep the memory that a training step frees, for the next step to use."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt, from malloc.h."""
_KEPT = 2**30
_LARGEST = 2**25
"""The most that glibc accepts for its mmap threshold."""


def keep_freed_memory() -> None:
    """Have glibc keep up to 1 GB of freed memory in the process, and take tensors of up to 32 MB from it.

    Left alone it gives a step's tensors back to the system and gets them again, page by page and zeroed, each step:
    that takes longer than adding or clipping what is in them. Does nothing where malloc is another.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT)
