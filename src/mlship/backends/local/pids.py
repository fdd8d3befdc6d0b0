"""Processes of this machine: who a pid really is, which carry our mark, and signals to groups.

A pid alone is no identity: the kernel uses it again. A pid and the moment it was born (``born``) are, across restarts
of the control plane and of the machine. Every process we start carries ``MLSHIP_REPLICA=<home>/<key>`` in its
environment, which its own children inherit, so that ``marked`` finds those whose record was never written. Reads /proc
where there is one, else asks psutil.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
from collections.abc import Iterator, Mapping

import psutil

MARK = "MLSHIP_REPLICA"
_PROC = pathlib.Path("/proc")
_STATE, _STARTED = 0, 19
_DEAD = frozenset("ZXx")


@dataclasses.dataclass(frozen=True, slots=True)
class Marked:
    """A process with our mark. ``leader``: it leads its session, as every process does that a supervisor started."""

    pid: int
    key: str
    born: str
    leader: bool
    group: int
    environ: Mapping[str, str] = dataclasses.field(repr=False)


def born(pid: int) -> str | None:
    """When the process ``pid`` was born, as text to compare; None when it is gone or only waits to be reaped."""
    if not (_PROC / "self/stat").exists():
        return _born_by_psutil(pid)
    try:
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STATE] in _DEAD else f"{_boot()}/{fields[_STARTED]}"


def _born_by_psutil(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def _boot() -> str:
    """The identity of this boot: ticks since boot say nothing without it."""
    with contextlib.suppress(OSError):
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def marked(home: str) -> Iterator[Marked]:
    """Every live process of this user with the mark of ``home``."""
    for pid in psutil.pids():
        environ = _environ(pid)
        owner, _, key = environ.get(MARK, "").partition("/")
        if owner != home or not key or (since := born(pid)) is None:
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            group = os.getpgid(pid)
            yield Marked(pid, key, since, leader=os.getsid(pid) == pid, group=group, environ=environ)


def _environ(pid: int) -> Mapping[str, str]:
    try:
        if not (_PROC / "self/environ").exists():
            return psutil.Process(pid).environ()
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except (OSError, psutil.Error):
        return {}  # gone, or another user's: not one of ours
    if MARK.encode() not in raw:
        return {}
    pairs = (entry.partition("=") for entry in os.fsdecode(raw).split("\0"))
    return {name: value for name, _, value in pairs}


def signal_group(group: int, number: signal.Signals) -> None:
    """Signal every process of a group; none left is fine, and so are members that end at this moment."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def kill_marked(home: str, key: str) -> int:
    """Kill every process that carries the mark of ``home`` and ``key``; returns how many there were."""
    found = [process.pid for process in marked(home) if process.key == key]
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(found)
