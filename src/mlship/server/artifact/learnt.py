"""What was learnt of a file stays known while it is the same file: a model that comes back is not examined again.

In a process of many models one that left for want of memory comes back when it is used, and whoever uses it waits.
What a look at its bytes said, and what its methods answered to the example row, is the same as the last time. A
``Stamp`` tells that the file is; ``Learnt`` keeps so many things and forgets those that nobody asked for longest.
"""

from __future__ import annotations

import collections
import pathlib
import stat
import threading
import time
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

Stamp = tuple[int, int, int, int, int]
# A file that was written less than this ago may be written again within one tick of its file system's clock, and look
# as it does now. Some file systems count whole seconds.
_SETTLED_NS = 2_000_000_000
_MOST = 4096


def stamp(path: pathlib.Path) -> Stamp | None:
    """What changes with the bytes of a file; None where that cannot be told: a folder, or a file written just now."""
    try:
        found = path.stat()
    except OSError:  # Whoever reads it says why it cannot be read.
        return None
    if not stat.S_ISREG(found.st_mode) or abs(time.time_ns() - found.st_ctime_ns) < _SETTLED_NS:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Learnt(Generic[V]):
    """So many values by key, those used last. May be used from any thread."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._values: collections.OrderedDict[Hashable, V] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        """What was kept under ``key``."""
        with self._lock:
            if (value := self._values.get(key)) is not None:
                self._values.move_to_end(key)
            return value

    def keep(self, key: Hashable, value: V) -> V:
        """Keep ``value``, and give it back."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._values)
