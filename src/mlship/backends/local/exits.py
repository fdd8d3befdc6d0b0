"""Notices the end of a process at once, whether it is our child or one adopted from a supervisor before us.

Where the kernel has pidfds the event loop wakes up on them; elsewhere, and when descriptors run out, the process is
looked at every fifth of a second. One that a zygote forked is the zygote's child, and the zygote says on its line how
it ended (``mlship.forks``); when the zygote is gone, too, its end is that of an adopted one. A child of ours is reaped
here and nowhere else. Before that, while its zombie still keeps the number of the group from being used again, what is
left of its group is killed: a replica that ends ends whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable

from mlship import forks
from mlship.backends.local import pids

POLL = 0.2
_REAP_AGAIN = 0.02
_SAYS_WITHIN = 1.0


class ExitWatch:
    """Calls ``on_exit(code, signal)`` once when the process ends; both are None when nobody told.

    Args:
        line: what is said about the process; closed here.
        told: the line's other end is a zygote's, too, which says how the process ended.
        on_word: called with what the line says of its start.
    """

    def __init__(
        self,
        pid: int,
        born: str,
        on_exit: Callable[[int | None, int | None], None],
        *,
        line: socket.socket | None = None,
        told: bool = False,
        on_word: Callable[[forks.Underway | forks.Ready], None] = lambda word: None,
    ) -> None:
        self._pid = pid
        self._born = born
        self._on_exit = on_exit
        self._told = told
        self._on_word = on_word
        self._said: forks.Ended | None = None
        self._gone = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor: int | None = None
        self._line = line
        if line is not None:
            self._loop.add_reader(line, self._listen)
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
        self._hang_up()

    def _hang_up(self) -> None:
        if self._line is not None:
            self._loop.remove_reader(self._line)
            self._line.close()
            self._line = None

    def _listen(self) -> None:
        """What is said about the process."""
        assert self._line is not None
        try:
            word = forks.decode(self._line.recv(forks.LARGEST))
        except (OSError, ValueError):
            word = None
        if isinstance(word, forks.Underway | forks.Ready):
            self._on_word(word)
            return
        self._hang_up()
        if isinstance(word, forks.Ended):
            self._said = word
        if self._gone:
            self._report_said()

    def _report_said(self) -> None:
        self.close()
        said = self._said or forks.Ended(None, None)
        self._on_exit(said.code, said.signal)

    def _look_again(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        if pids.born(self._pid) == self._born:
            self._look_again(POLL)
        else:
            self._ended()

    def _ended(self) -> None:
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        if self._said is not None:
            self._report_said()
        elif self._line is not None and self._told:
            self._gone = True
            self._timer = self._loop.call_later(_SAYS_WITHIN, self._report_said)
        else:
            self._take_leave()

    def _take_leave(self) -> None:
        """Of a child, or of one that nobody tells us about."""
        self.close()
        ours = _is_child(self._pid)
        if ours:
            pids.signal_group(self._pid, signal.SIGKILL)
        status = _reap(self._pid) if ours else (None, None)
        if status is None:
            self._timer = self._loop.call_later(_REAP_AGAIN, self._take_leave)
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
