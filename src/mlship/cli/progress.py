"""One line on a terminal that says what is being waited for; elsewhere a line for each new state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from mlship import client
from mlship.storage import limits
from mlship.storage import progress as transfers

_WORTH_SHOWING = 8 * 1024 * 1024


class Line:
    """A status line on ``stream``. On a terminal it is overwritten and vanishes at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._last = self._state = ""

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal and self._last:
            self._write("\r\x1b[K")

    def show(self, text: str, *, state: str = "") -> None:
        """Show ``text`` instead of what was shown.

        Args:
            state: what it is about, for where lines are not overwritten; else what stands before its first colon.
        """
        state = state or text.split(":")[0]
        if self._terminal and text != self._last:
            self._write(f"\r\x1b[K{text[:110]}")
        elif not self._terminal and state != self._state:
            self._write(f"waiting  {text}\n")
        self._last, self._state = text, state

    def transfer(self, seen: transfers.Progress) -> None:
        """Show a download or copy, if it is large enough that anybody has to wait for it."""
        if max(seen.done_bytes, seen.total_bytes or 0) >= _WORTH_SHOWING:
            self.show(transfer(seen))

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def phase(service: Mapping[str, Any]) -> str:
    """What a service is waiting for, from its status."""
    ready = client.condition(service, "Ready")
    if ready.get("status") == "True":
        return "Ready"
    return f"{ready.get('reason') or 'Pending'}: {ready.get('message') or 'waiting for the control plane'}"


def transfer(seen: transfers.Progress) -> str:
    """A download or copy: how much, of how much, how fast."""
    rate = f", {limits.show(seen.rate)}/s" if seen.rate else ""
    if not seen.total_bytes:
        return f"{seen.phase}: {limits.show(seen.done_bytes)}{rate}"
    share = seen.done_bytes / seen.total_bytes
    bar = "#" * round(20 * share)
    return f"{seen.phase}: [{bar:<20}] {share:4.0%} of {limits.show(seen.total_bytes)}{rate}"
