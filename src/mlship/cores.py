"""How many processors this process may use, and what share of them one replica of several should take.

The number of processors of the machine says little in a container: the scheduler's affinity and the cgroup's quota
(``cpu.max``; ``cfs_quota`` in the first version of cgroups) are what a process really gets. Read by the model server
for its own pools of threads, and by the control plane that shares a machine out among replicas.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib

_CGROUPS = pathlib.Path("/sys/fs/cgroup")
_OWN = pathlib.Path("/proc/self/cgroup")
_NO_LIMIT = math.inf


def available(cgroups: pathlib.Path = _CGROUPS, own: pathlib.Path = _OWN) -> int:
    """Whole processors this process may use, at least 1: the lesser of its affinity and its cgroup's quota."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        allowed = os.cpu_count() or 1
    limit = quota(cgroups, own)
    return max(1, allowed if limit == _NO_LIMIT else min(allowed, math.ceil(limit)))


def quota(cgroups: pathlib.Path, own: pathlib.Path) -> float:
    """Processors that the cgroup grants, its parents considered; infinite where nothing limits them."""
    limits = [_NO_LIMIT]
    for folder in _folders(cgroups, own):
        limits += [_second(folder / "cpu.max"), _first(folder)]
    return min(limits)


def share(processors: int, replicas: int) -> int:
    """Processors for each of ``replicas`` on a machine of ``processors``, at least 1."""
    return max(1, processors // max(1, replicas))


def _folders(cgroups: pathlib.Path, own: pathlib.Path) -> list[pathlib.Path]:
    """The folders of the cgroups we are in and of all above them."""
    found = {cgroups, cgroups / "cpu"}
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text(encoding="utf-8", errors="replace").splitlines():
            _, controllers, path = line.split(":", 2)
            root = cgroups if not controllers else cgroups / "cpu"
            if controllers and "cpu" not in controllers.split(","):
                continue
            parts = pathlib.PurePosixPath(path).parts[1:]
            found.update(root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1))
    return sorted(found)


def _second(path: pathlib.Path) -> float:
    """The quota of a cgroup of the second version: ``max 100000`` or ``150000 100000``."""
    with contextlib.suppress(OSError, ValueError):
        granted, period = path.read_text(encoding="ascii").split()
        if granted != "max" and int(period) > 0:
            return int(granted) / int(period)
    return _NO_LIMIT


def _first(folder: pathlib.Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        granted = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
        if granted > 0 and period > 0:
            return granted / period
    return _NO_LIMIT
