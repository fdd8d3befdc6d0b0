"""What the kernel shows of a forked process: its command line and the marks in its environment, as if it were started.

``/proc/PID/cmdline`` and ``/proc/PID/environ`` are two pieces of a process's own memory, filled when a program is
executed. A fork executes nothing, so a replica would look like its zygote, and a control plane that looks for the
processes of its home by the mark in their environment would not find it. A zygote is therefore started with room in
both pieces (``forks.ROOM``): one variable and one argument that mean nothing. A child overwrites exactly these, and
nothing else there, since libraries may have kept pointers to what stands beside.

The addresses are the kernel's own (fields 48 to 51 of ``/proc/self/stat``) and are believed only after what lies there
was compared with what the kernel shows. Where that fails ``find`` raises, and a zygote that cannot give its children
a guise does not fork.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

from mlship import forks

_PROC = pathlib.Path("/proc/self")
_ARG_START, _ARG_END, _ENV_START, _ENV_END = 45, 46, 47, 48


@dataclasses.dataclass(frozen=True, slots=True)
class Guise:
    """Where to write: the whole command line, and the room in the environment. Addresses and sizes in bytes."""

    title_at: int
    title_size: int
    marks_at: int
    marks_size: int

    def wear(self, title: Sequence[str], marks: Mapping[str, str]) -> None:
        """Show ``title`` as the command line and ``marks`` in the environment.

        Raises:
            ValueError: the marks do not fit; a title that does not is cut off.
        """
        shown = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in marks.items())
        if len(shown) > self.marks_size:
            raise ValueError(f"marks of {len(shown)} bytes, and there is room for {self.marks_size}")
        line = b"".join(os.fsencode(part) + b"\0" for part in title)[: self.title_size - 1]
        _write(self.marks_at, shown, self.marks_size)
        _write(self.title_at, line, self.title_size)


def find() -> Guise:
    """Where this process may write, which must have been started with room.

    Raises:
        OSError: this system does not show it, or shows something else than lies there.
    """
    fields = (_PROC / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    arg_start, arg_end, env_start, env_end = (int(fields[at]) for at in (_ARG_START, _ARG_END, _ENV_START, _ENV_END))
    if not (0 < arg_start < arg_end <= env_start < env_end):
        raise OSError("the kernel does not tell where the command line and the environment lie")
    shown = (_PROC / "cmdline").read_bytes(), (_PROC / "environ").read_bytes()
    held = ctypes.string_at(arg_start, arg_end - arg_start), ctypes.string_at(env_start, env_end - env_start)
    if shown != held:
        raise OSError("the command line or the environment lies somewhere else than the kernel says")
    variable = os.fsencode(forks.ROOM) + b"=" + b" " * forks.ROOM_BYTES + b"\0"
    at = held[1].find(variable)
    if at < 0:
        raise OSError(f"there is no room in the environment: {forks.ROOM} is missing")
    return Guise(arg_start, arg_end - arg_start, env_start + at, len(variable))


def _write(at: int, content: bytes, size: int) -> None:
    ctypes.memmove(at, content.ljust(size, b"\0"), size)
