"""A process that runs one model for the server that started it: ``python -m mlship.server.process_worker``.

It gets a connected socket by its number, and everything else over it (``process_child``). It ends when the server
does: the socket says so while it waits, and on Linux the kernel ends it in the middle of a call. The signals that ask
the server to end are not for it: what is under way is finished first, and then the server closes the socket.

Environment: the thread counts of numeric libraries are set, unless they are set already, before any is imported.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code: 0 when the server said so, 65 when the model cannot be loaded."""
    parser = argparse.ArgumentParser(prog="python -m mlship.server.process_worker", allow_abbrev=False)
    parser.add_argument("--socket", type=int, required=True, help="number of the inherited socket")
    parser.add_argument("--parent", type=int, required=True, help="process id of the server")
    parser.add_argument("--threads", type=int, required=True, help="threads that numeric libraries may use")
    chosen = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _not_for_us)
    if not _end_with(chosen.parent):
        return 0
    for name in _THREADS:
        os.environ.setdefault(name, str(chosen.threads))
    # Only now: the libraries read their thread counts when they are imported.
    from mlship.server import process_child

    return process_child.serve(socket.socket(fileno=chosen.socket))


def _not_for_us(number: int, frame: object) -> None:
    """Not SIG_IGN: programs that the model starts would ignore the signal too."""


def _end_with(parent: int) -> bool:
    """Let the kernel end this process with its server; whether the server is still there."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main())
