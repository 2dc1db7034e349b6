"""Memory that was freed, given back to the system.

Rules: nothing depends on it. Where the C library has no such call (not glibc), nothing is done.
"""

import ctypes
import sys


def give_back() -> None:
    """Return freed memory to the system, that which lies between what is still in use too.

    Millions of small strings come and go while cells are labelled, and small pieces live on between the blocks of a
    pass. glibc keeps what was freed, in places where a block does not fit, so that the next blocks come on top.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
