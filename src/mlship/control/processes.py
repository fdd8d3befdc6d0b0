"""What replicas take of the machine: processor and memory of each process with all its descendants.

Blocking, for a thread. The processor's time of a process is what it took since the read before; one that was not there
then has taken all it has. Memory is the proportional set size where the system tells it: pages that forked processes
share are counted once among them, as they lie in memory once.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping

import psutil


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """Cores and bytes; ``cores`` None: this was the first look."""

    cores: float | None
    memory: float


class Reader:
    """Reads again and again; remembers the processor times of the read before."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._seconds: dict[tuple[int, float], float] = {}
        self._roots: frozenset[int] = frozenset()

    def read(self, roots: Iterable[int], now: float) -> Mapping[int, Usage]:
        """The usage under each of these processes; one that is gone is left out. ``now`` is Unix seconds."""
        wanted = frozenset(roots)
        children = _children()
        passed = 0.0 if self._at is None else now - self._at
        seconds: dict[tuple[int, float], float] = {}
        found: dict[int, Usage] = {}
        for root in wanted:
            taken, memory, there = 0.0, 0.0, False
            for pid in _tree(root, children):
                one = _of(pid)
                if one is None:
                    continue
                there = there or pid == root
                key, total, size = one
                seconds[key] = total
                memory += size
                taken += max(total - self._seconds.get(key, 0.0), 0.0)
            if there:
                known = root in self._roots and passed > 0.0
                found[root] = Usage(taken / passed if known else None, memory)
        self._at, self._seconds, self._roots = now, seconds, frozenset(found)
        return found


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for one in psutil.process_iter(["ppid"]):
        if one.info["ppid"]:
            found.setdefault(one.info["ppid"], []).append(one.pid)
    return found


def _tree(root: int, children: Mapping[int, list[int]]) -> list[int]:
    found = [root]
    for pid in found:
        found += [child for child in children.get(pid, ()) if child not in found]
    return found


def _of(pid: int) -> tuple[tuple[int, float], float, float] | None:
    """Identity, seconds of processor, bytes."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            identity = (pid, process.create_time())
            memory = process.memory_info().rss
        # Where it is not ours to look into, what it has resident is the next best.
        with contextlib.suppress(psutil.AccessDenied):
            memory = getattr(process.memory_full_info(), "pss", memory) or memory
    except psutil.NoSuchProcess:
        return None
    return identity, times.user + times.system, float(memory)
