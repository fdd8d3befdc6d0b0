"""What a fetch tells its caller while it works, and where the caller may stop it.

A ``Meter`` is carried through the phases of one fetch. Every chunk of bytes goes through ``advance``, so this is the
one place that throttles the reports and the one place where cancellation is noticed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Literal

from mlship import errors

Phase = Literal["download", "copy", "unpack", "verify"]


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a fetch. ``rate`` is bytes a second since the phase began, what was resumed not counted."""

    done_bytes: int
    total_bytes: int | None
    rate: float
    phase: Phase


class Meter:
    """Counts bytes and reports at most every ``every`` seconds, and once at the start and the end of each phase."""

    def __init__(
        self,
        report: Callable[[Progress], None],
        cancelled: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        every: float = 0.1,
    ) -> None:
        self._report = report
        self._sign: Callable[[], None] = lambda: None
        self._cancelled = cancelled
        self._clock = clock
        self._every = every
        self._phase: Phase = "verify"
        self._total: int | None = None
        self._done = 0
        self._from = 0
        self._began = self._last = clock()

    def beat(self, sign: Callable[[], None]) -> None:
        """Call ``sign`` with every report from now on: a sign of life for those who wait for this fetch."""
        self._sign = sign

    def start(self, phase: Phase, total: int | None, *, done: int = 0) -> None:
        """Begin a phase; ``done`` bytes were there before. Raises like ``check``."""
        self.check()
        self._phase, self._total, self._done, self._from = phase, total, done, done
        self._began = self._clock()
        self._emit(self._began)

    def advance(self, count: int) -> None:
        """``count`` more bytes. Raises like ``check``."""
        self.check()
        self._done += count
        now = self._clock()
        if now - self._last >= self._every:
            self._emit(now)

    def finish(self) -> None:
        """End the phase with a last report."""
        self._emit(self._clock())

    def check(self) -> None:
        """Raise ``errors.NotReady`` (reason Cancelled) when the caller has asked to stop."""
        if self._cancelled():
            raise errors.NotReady("The fetch was cancelled.", reason=errors.Reason.CANCELLED)

    def _emit(self, now: float) -> None:
        self._last = now
        self._sign()
        elapsed = now - self._began
        rate = (self._done - self._from) / elapsed if elapsed > 0 else 0.0
        self._report(Progress(self._done, self._total, rate, self._phase))
