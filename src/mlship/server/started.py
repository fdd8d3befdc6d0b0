"""How long a start took, by phase, and who is told of it. At its end one line in the log: ``started``.

``how`` is ``cold`` for a program that was executed and ``forked`` for a child of a zygote. The phases follow each
other: ``wait`` for the zygote and ``fork``, or ``import``, until the server's own code runs; ``listening`` until
connections are accepted; ``load``, which begins with it, until the model is there; ``warm-up`` until it has answered.
Times are on the monotonic clock, which all processes of a machine share. Whoever started this process hears of each
phase on its line (``mlship.forks``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import socket
import time
from collections.abc import Callable

from mlship import errors, forks

_STARTED = 19

Tell = Callable[[forks.Underway | forks.Ready], None]


def _nobody(word: forks.Underway | forks.Ready) -> None:
    return None


@dataclasses.dataclass(slots=True)
class Start:
    """A start under way. ``begun``: when it was asked for; ``tell`` is told after each phase, and at the end."""

    how: str
    begun: float
    tell: Tell = _nobody
    phases: dict[str, float] = dataclasses.field(default_factory=dict)

    def over(self, phase: str, *, last: tuple[str, float] | None = None) -> None:
        """The phase ends now; it began where the one before it ended.

        Args:
            last: the name of its last part, which is a phase of its own, and the seconds that one took.
        """
        spent = sum(self.phases.values())
        seconds = max(0.0, time.monotonic() - self.begun - spent)
        if last is not None:
            part = min(max(last[1], 0.0), seconds)
            self.phases |= {phase: seconds - part, last[0]: part}
        else:
            self.phases[phase] = seconds
        self.tell(forks.Underway(self.how, self._rounded()))

    def ready(self) -> None:
        """The models are loaded."""
        self.tell(forks.Ready(self.how, self._rounded()))

    def fields(self) -> dict[str, object]:
        """For the log: ``how``, the whole, and every phase, in seconds."""
        return {"how": self.how, "seconds": round(sum(self.phases.values()), 4), **self._rounded()}

    def _rounded(self) -> dict[str, float]:
        return {name: round(seconds, 4) for name, seconds in self.phases.items()}


def cold(descriptor: int | None = None) -> Start:
    """The start of this process, which was executed for it; ``descriptor``: its end of a line, if it was given one.

    Raises SpecError when that is none.
    """
    tell = _nobody if descriptor is None else on_line(_inherited(descriptor))
    return Start("cold", time.monotonic() - _age(), tell=tell)


def on_line(line: socket.socket) -> Tell:
    """Tells whoever holds the other end of ``line``, which nobody may; closes it when everything is said."""

    def tell(word: forks.Underway | forks.Ready) -> None:
        with contextlib.suppress(OSError):
            line.send(forks.encode(word), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        if isinstance(word, forks.Ready):
            line.close()

    return tell


def _inherited(descriptor: int) -> socket.socket:
    try:
        line = socket.socket(fileno=descriptor)
    except OSError as error:
        raise errors.SpecError(
            f"--ready-fd {descriptor} is no open socket: {error.strerror}.", hint="Leave the flag out."
        ) from error
    line.set_inheritable(False)
    return line


def _age() -> float:
    """Seconds since this process was started, to a hundredth; 0 where the system does not tell."""
    with contextlib.suppress(OSError, AttributeError, ValueError, IndexError):
        text = pathlib.Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        ticks = int(text.rpartition(")")[2].split()[_STARTED])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    return 0.0
