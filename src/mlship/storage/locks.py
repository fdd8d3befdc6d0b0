"""Locks between processes, on files: flock, which the kernel lets go when the holder dies, SIGKILL included.

A lock file may be removed by its holder, so whoever gets the lock checks that the path still names the file it locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import time
from collections.abc import Callable, Iterator

from mlship import errors

_POLL_SECONDS = 0.05


def try_lock(path: pathlib.Path) -> int | None:
    """The descriptor of the locked file, created when missing, or None when somebody else holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if _names(path, descriptor):
            return descriptor
        os.close(descriptor)


@contextlib.contextmanager
def held(
    path: pathlib.Path,
    *,
    patience: float,
    pulse: Callable[[], object] = lambda: None,
    check: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock at ``path``.

    Args:
        patience: seconds to wait for a holder that shows no sign of life.
        pulse: a value that changes while the holder makes progress; each change starts the patience anew.
        check: called while waiting; raises to stop.

    Raises ``errors.BackendError`` (reason DeadlineExceeded) when the patience is over.
    """
    descriptor = try_lock(path)
    if descriptor is None:
        descriptor = _wait(path, patience=patience, pulse=pulse, check=check, clock=clock, sleep=sleep)
    try:
        yield
    finally:
        os.close(descriptor)


def _wait(
    path: pathlib.Path,
    *,
    patience: float,
    pulse: Callable[[], object],
    check: Callable[[], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> int:
    last, since = pulse(), clock()
    while (descriptor := try_lock(path)) is None:
        check()
        sleep(_POLL_SECONDS)
        if (beat := pulse()) != last:
            last, since = beat, clock()
        elif clock() - since > patience:
            raise errors.BackendError(
                f"Another process has held the lock {path} for {patience:.0f} s without progress.",
                hint=f"See who holds it with `fuser {path}`.",
                reason=errors.Reason.DEADLINE,
            )
    return descriptor


def _names(path: pathlib.Path, descriptor: int) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
