"""The process's own memory: how much it is, how much it may be, and how what is free is given back to the system.

Linux's figures: ``statm`` is read in some microseconds and counts anonymous pages, those included that a forked process
still shares with its parent; ``smaps_rollup`` knows them apart and takes milliseconds. ``Meter`` reads the second now
and then and the first always.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import pathlib
import sys
import time

_PAGE = mmap.PAGESIZE
_STATM = "/proc/self/statm"
_ROLLUP = pathlib.Path("/proc/self/smaps_rollup")
_CGROUP = pathlib.Path("/sys/fs/cgroup")
_SHARE = 0.7
# A look at everything may take this part of the time at most, and a much smaller one where it finds little.
_THAW_SHARE = 0.02
_WORTH = 4 * 1024 * 1024
_LONGEST_PAUSE = 3600.0


class Meter:
    """Measures this process. ``read`` may be called from any thread."""

    def __init__(self) -> None:
        self._shared = 0
        self.calibrate()

    def read(self) -> int:
        """The private bytes of this process, now."""
        return max(0, _anonymous() - self._shared)

    def calibrate(self) -> None:
        """Find out anew how much of the anonymous memory is still a parent's as well. Takes milliseconds."""
        anonymous = _anonymous()
        private = _private()
        self._shared = 0 if private is None else max(0, anonymous - private)


def _anonymous() -> int:
    with open(_STATM, "rb", buffering=0) as file:  # noqa: PTH123 - read for every load, and this is the cheap way
        fields = file.read(128).split()
    return (int(fields[1]) - int(fields[2])) * _PAGE


def _private() -> int | None:
    try:
        lines = _ROLLUP.read_text().splitlines()
    except OSError:  # Some sandboxes have none: then nothing is known to be shared.
        return None
    counted = ("Private_Clean:", "Private_Dirty:", "Anonymous:")
    found = {
        key: int(rest.split()[0]) * 1024 for line in lines for key, _, rest in [line.partition(" ")] if key in counted
    }
    if len(found) != len(counted):
        return None
    # Private pages of mapped files can be dropped and read again: only what is anonymous counts.
    return min(found["Anonymous:"], found["Private_Clean:"] + found["Private_Dirty:"])


def limit() -> int:
    """The bytes that this process may have at most: its control group's limit, or the machine's memory."""
    found = [_machine()]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (_CGROUP / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            found.append(int(text))
    return min(found)


def _machine() -> int:
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo has no MemTotal")


def default_budget() -> int:
    """The budget where none is given: a share of ``limit``, the rest is for requests and for loading."""
    return int(limit() * _SHARE)


class Trimmer:
    """Gives back what unloaded models have left. Not for the event loop's thread: it may take milliseconds.

    Loaded models are kept out of the collector's sight (``gc.freeze``), which keeps its pauses short. Those that are
    garbage in cycles are found only when everything is looked at. Nothing else runs meanwhile, for a tenth of a second
    or more, so it is done where memory does not come back by itself, not often, and each time that it was of no use
    twice as long is waited for the next.
    """

    def __init__(self) -> None:
        self._not_before = 0.0
        self._fruitless = 0
        # Another C library than glibc has none.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def trim(self) -> None:
        """Give back what is free already."""
        if self._trim is not None:
            self._trim(0)

    def thaw(self) -> bool:
        """Look for cycles among everything, and give back; False when that was done a moment ago."""
        begun = time.monotonic()
        if begun < self._not_before:
            return False
        before = _anonymous()
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        ended = time.monotonic()
        self.trim()
        self._fruitless = 0 if before - _anonymous() >= _WORTH else self._fruitless + 1
        self._not_before = ended + pause(ended - begun, fruitless=self._fruitless)
        return True


def pause(took: float, *, fruitless: int) -> float:
    """Seconds until the next look at everything, after one of ``took`` seconds, the last ``fruitless`` for little."""
    return min(took / _THAW_SHARE * 2.0 ** min(fruitless, 30), _LONGEST_PAUSE)


def modules() -> int:
    """How many modules have been imported: a load that makes it more has brought libraries along."""
    return len(sys.modules)


def on_disk(path: pathlib.Path) -> int:
    """The bytes of a file, or of the files of a folder. What cannot be read counts nothing: loading it will say so."""
    try:
        if path.is_file():
            return path.stat().st_size
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    except OSError:
        return 0
