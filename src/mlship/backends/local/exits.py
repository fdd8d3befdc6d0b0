"""Notices the end of a process at once, whether it is our child or one adopted from a supervisor before us.

Where the kernel has pidfds the event loop wakes up on them; elsewhere, and when descriptors run out, the process is
looked at every fifth of a second. A child is reaped here and nowhere else. Before that, while its zombie still keeps
the number of the group from being used again, what is left of its group is killed: a replica that ends ends whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Callable

from mlship.backends.local import pids

POLL = 0.2
_REAP_AGAIN = 0.02


class ExitWatch:
    """Calls ``on_exit(code, signal)`` once when the process ends; both are None when it was not our child."""

    def __init__(self, pid: int, born: str, on_exit: Callable[[int | None, int | None], None]) -> None:
        self._pid = pid
        self._born = born
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor: int | None = None
        try:
            self._descriptor = os.pidfd_open(pid)
        except (AttributeError, OSError) as error:
            gone = isinstance(error, OSError) and error.errno == errno.ESRCH
            self._look_again(0.0 if gone else POLL)
            return
        if pids.born(pid) in (born, None):
            self._loop.add_reader(self._descriptor, self._ended)
        else:  # the number already belongs to somebody else
            self._look_again(0.0)

    def close(self) -> None:
        """Stop watching and leave the process alone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _look_again(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        if pids.born(self._pid) == self._born:
            self._look_again(POLL)
        else:
            self._ended()

    def _ended(self) -> None:
        self.close()
        ours = _is_child(self._pid)
        if ours:
            pids.signal_group(self._pid, signal.SIGKILL)
        status = _reap(self._pid) if ours else (None, None)
        if status is None:
            self._timer = self._loop.call_later(_REAP_AGAIN, self._ended)
        else:
            self._on_exit(*status)


def _is_child(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    return False


def _reap(pid: int) -> tuple[int | None, int | None] | None:
    """(exit code, None) or (None, signal); None when it cannot be reaped yet."""
    reaped, status = os.waitpid(pid, os.WNOHANG)
    if reaped == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (None, -code)
