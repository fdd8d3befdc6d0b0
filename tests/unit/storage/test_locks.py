from __future__ import annotations

import fcntl
import os
import pathlib
import subprocess
import sys

import pytest

from mlship import errors
from mlship.storage import locks

HOLDER = """
import sys, pathlib
from mlship.storage import locks
with locks.held(pathlib.Path(sys.argv[1]), patience=5):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_holder_at_a_time_even_within_a_process(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lock"
    with locks.held(path, patience=1):
        assert locks.try_lock(path) is None
    descriptor = locks.try_lock(path)
    assert descriptor is not None
    os.close(descriptor)


def test_a_killed_holder_lets_go(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert locks.try_lock(path) is None
        child.kill()
        child.wait(10)
        with locks.held(path, patience=5):
            pass


def test_patience_ends_but_every_sign_of_life_renews_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lock"
    now, beats = [0.0], iter([*range(20), *[20] * 1000])
    descriptor = locks.try_lock(path)
    assert descriptor is not None

    def sleep(_: float) -> None:
        now[0] += 1.0

    waiting = locks.held(path, patience=10, pulse=lambda: next(beats), clock=lambda: now[0], sleep=sleep)
    with pytest.raises(errors.BackendError, match="without progress") as caught, waiting:
        pass
    os.close(descriptor)
    assert caught.value.reason is errors.Reason.DEADLINE
    assert now[0] > 20 + 10


def test_a_waiter_may_be_stopped(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lock"
    descriptor = locks.try_lock(path)
    assert descriptor is not None

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), locks.held(path, patience=10, check=stop):
        pass
    os.close(descriptor)


def test_a_lock_file_that_its_holder_removed_meanwhile_is_not_the_lock(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole, removals = tmp_path / "lock", fcntl.flock, [1]

    def removed_meanwhile(descriptor: int, operation: int) -> None:
        if removals:
            removals.pop()
            path.unlink()
        whole(descriptor, operation)

    monkeypatch.setattr(locks.fcntl, "flock", removed_meanwhile)
    descriptor = locks.try_lock(path)
    assert descriptor is not None
    assert os.fstat(descriptor).st_ino == path.stat().st_ino
    assert locks.try_lock(path) is None
    os.close(descriptor)
