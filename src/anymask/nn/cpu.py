"""Making a CPU faster where that is a matter of settings."""

from __future__ import annotations

import ctypes
import platform

# Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def tune_cpu() -> bool:
    """Keep freed memory for the next large activation instead of giving it back to the kernel.

    By default glibc maps every large block anew and the kernel clears each of its pages; for the
    feature maps of a segmentation model that can cost more than the arithmetic. Call this once,
    before the first model runs. It holds for the whole process, and the process keeps its peak
    memory until it ends.

    Returns:
        True when the settings were applied; False where they do not exist (other systems than
        Linux with glibc) or were refused.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 256 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)
