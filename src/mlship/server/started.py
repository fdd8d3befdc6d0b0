"""How long a start took, by phase, and who is told when it is over. One line in the log: ``started``.

``how`` is ``cold`` for a program that was executed and ``forked`` for a child of a zygote. The phases follow each
other: ``wait`` for the zygote and ``fork``, or ``import``, until the server's own code runs; ``listening`` until
connections are accepted; ``load``, which begins with it, until the model has answered its example row. Times are on the
monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable

_STARTED = 19


def _nobody() -> None:
    return None


@dataclasses.dataclass(slots=True)
class Start:
    """A start under way. ``begun``: when it was asked for; ``on_ready`` is called once, when the models are loaded."""

    how: str
    begun: float
    on_ready: Callable[[], None] = _nobody
    phases: dict[str, float] = dataclasses.field(default_factory=dict)

    def over(self, phase: str) -> None:
        """The phase ends now; it began where the one before it ended."""
        spent = sum(self.phases.values())
        self.phases[phase] = max(0.0, time.monotonic() - self.begun - spent)

    def fields(self) -> dict[str, object]:
        """For the log: ``how``, the whole, and every phase, in seconds."""
        rounded = {name: round(seconds, 4) for name, seconds in self.phases.items()}
        return {"how": self.how, "seconds": round(sum(self.phases.values()), 4), **rounded}


def cold() -> Start:
    """The start of this process, which was executed for it."""
    return Start("cold", time.monotonic() - _age())


def _age() -> float:
    """Seconds since this process was started, to a hundredth; 0 where the system does not tell."""
    with contextlib.suppress(OSError, AttributeError, ValueError, IndexError):
        text = pathlib.Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        ticks = int(text.rpartition(")")[2].split()[_STARTED])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    return 0.0
