"""Who may be the control plane, and who may talk to it."""

from __future__ import annotations

import os
import pathlib
import socket
import stat
import subprocess
import sys

import pytest

from mlship import errors
from mlship.control import listeners


def test_the_lock_names_who_holds_it(tmp_path: pathlib.Path):
    path = tmp_path / "home" / "control.pid"
    with listeners.lock(path):
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(listeners.Locked, match=f"pid {os.getpid()}"), listeners.lock(path):
            pass
    with listeners.lock(path):
        pass


def test_a_killed_holder_leaves_no_lock(tmp_path: pathlib.Path):
    path = tmp_path / "control.pid"
    code = (
        "import pathlib, sys, time\nfrom mlship.control import listeners\n"
        "with listeners.lock(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(listeners.Locked, match=f"pid {holder.pid}"), listeners.lock(path):
        pass
    holder.kill()
    holder.wait(10)
    holder.stdout.close()
    with listeners.lock(path):
        pass


def test_a_lock_that_cannot_be_made(tmp_path: pathlib.Path):
    (tmp_path / "file").touch()
    with pytest.raises(errors.BackendError, match="MLSHIP_HOME"), listeners.lock(tmp_path / "file" / "control.pid"):
        pass


def test_the_socket_is_private_from_its_first_moment_and_replaces_a_stale_one(tmp_path: pathlib.Path):
    path = tmp_path / "c.sock"
    for _ in range(2):
        listener = listeners.unix_socket(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        listener.close()


def test_a_socket_that_cannot_be_made(tmp_path: pathlib.Path):
    with pytest.raises(errors.BackendError, match="control socket"):
        listeners.unix_socket(tmp_path / "missing" / "c.sock")
    with pytest.raises(errors.BackendError, match="shorter path"):
        listeners.unix_socket(tmp_path / ("x" * 120))


def test_a_taken_port_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(errors.BackendError, match="--api-port"):
        listeners.loopback(taken.getsockname()[1])


def test_the_token_is_made_once_and_private(tmp_path: pathlib.Path):
    path = tmp_path / "token"
    first = listeners.token(path)
    assert listeners.token(path) == first
    assert len(first) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_token_for_everybody_is_made_private(tmp_path: pathlib.Path):
    path = tmp_path / "token"
    path.write_text("mine\n")
    path.chmod(0o644)
    assert listeners.token(path) == "mine"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_empty_token_guards_nothing(tmp_path: pathlib.Path):
    (tmp_path / "token").touch()
    with pytest.raises(errors.BackendError, match="empty"):
        listeners.token(tmp_path / "token")
    with pytest.raises(errors.BackendError, match="cannot be used"):
        listeners.token(tmp_path / "missing" / "token")
