"""Fills the holes that importing has left in the C library's heap, before a process forks.

An allocation takes the piece of free memory that fits best. After importing there are thousands of them, all over the
heap, so a child that allocates writes to a page here and a page there, and each page it writes to is copied for it
alone. With the holes filled it allocates at the heap's end, side by side, on pages that nobody shares: a megabyte less
for each replica of scikit-learn. The memory in the holes was held before and is held after; nothing grows.

For glibc (2.33 and newer). Elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
from typing import Any

_LARGEST, _SMALLEST, _SHRINK = 1 << 16, 24, 0.8
_MOST = 100_000


class _Heap(ctypes.Structure):
    """``struct mallinfo2``."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks"),
            "keepcost",
        )
    ]


def fill() -> int:
    """Fill them; how many bytes of holes there were, 0 where it cannot be done. To be called with one thread only."""
    library = _library()
    if library is None:
        return 0
    before = _holes(library)
    size, left = float(_LARGEST), _MOST
    while size >= _SMALLEST and left > 0:
        left -= 1
        if _holes(library) < size or not _take(library, int(size)):
            size *= _SHRINK
    return before


def _take(library: Any, size: int) -> bool:
    """Take a piece of ``size`` bytes for ever, if it comes out of a hole."""
    end = library.sbrk(0) - library.mallinfo2().keepcost
    piece = library.malloc(size)
    if piece and piece < end:
        return True
    library.free(piece)
    return False


def _holes(library: Any) -> int:
    """Free bytes of the heap that are not at its end."""
    found = library.mallinfo2()
    return int(found.fordblks - found.keepcost)


def _library() -> Any:
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _Heap
    except (OSError, AttributeError):
        return None
    library.malloc.restype = library.sbrk.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.sbrk.argtypes = [ctypes.c_ssize_t]
    return library
